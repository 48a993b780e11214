# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""
Start nodes of one cell; the launch files for simulation, device and edge include this one.

The argument `nodes` names which. Nodes are lifecycle nodes that configure and activate themselves
and try again where that fails; with `autostart:=false` they wait for a lifecycle manager.
"""
import os

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, SetParameter
from launch_ros.substitutions import FindPackageShare

PACKAGE = 'stl_conveyor'
YES_OR_NO = ['true', 'false', 'True', 'False']
NODES = ('cell_simulator', 'camera', 'local_classifier', 'offload_policy', 'encoder',
         'link_emulator', 'edge_classifier', 'actuator', 'cell_monitor')

# Which nodes take which launch argument as a parameter.
PARAMETERS = {
    'models_dir': ('local_classifier', 'offload_policy', 'encoder', 'edge_classifier'),
    'cell_file': ('cell_simulator', 'camera', 'actuator', 'cell_monitor'),
}

# Where no emulator stands between the two sides, the device uses the names of the edge, which may
# serve several cells and keeps its own.
DEVICE_REMAPPINGS = (
    ('features_tx', 'features_rx'),
    ('feedback_rx', 'feedback_tx'),
    ('edge_classification', 'edge_classification_tx'),
)


def make_nodes(context):
    """Return the actions for the nodes that the arguments ask for."""
    def text(name):
        return LaunchConfiguration(name).perform(context)

    def flag(name):
        return text(name).lower() == 'true'

    names = text('nodes').split()
    unknown = sorted(set(names) - set(NODES))
    if unknown:
        raise RuntimeError(
            f'argument nodes: there is no {", ".join(unknown)}; choose from {", ".join(NODES)}')

    asked = {'models_dir': text('models_dir'), 'cell_file': text('world')}
    graphics = (os.environ.get('MUJOCO_GL') or 'egl') if flag('headless') else 'glfw'
    return [LifecycleNode(
        package=PACKAGE, executable=name, name=name, namespace=text('namespace'),
        parameters=[
            text('params_file'),
            # What was not asked for stays as the parameter file has it.
            {'autostart': flag('autostart'),
             **{key: value for key, value in asked.items() if value and name in PARAMETERS[key]}},
        ],
        remappings=[] if flag('emulate_link') else DEVICE_REMAPPINGS,
        respawn=flag('use_respawn'), respawn_delay=2.0, output='screen',
        ros_arguments=['--log-level', text('log_level')],
        additional_env={'MUJOCO_GL': graphics, 'PYTHONUNBUFFERED': '1'},
    ) for name in names]


def generate_launch_description():
    """Return the description that `ros2 launch` runs."""
    share = FindPackageShare(PACKAGE)
    return LaunchDescription([
        DeclareLaunchArgument(
            'namespace', default_value='',
            description='Namespace of the cell; two cells differ by it alone.'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='false', choices=YES_OR_NO,
            description='Follow /clock instead of the system clock.'),
        DeclareLaunchArgument(
            'params_file', default_value=PathJoinSubstitution([share, 'config', 'sim.yaml']),
            description='Parameter file for all nodes started here.'),
        DeclareLaunchArgument(
            'autostart', default_value='true', choices=YES_OR_NO,
            description='Configure and activate the nodes as soon as they are up.'),
        DeclareLaunchArgument(
            'use_respawn', default_value='true', choices=YES_OR_NO,
            description='Start a node again when its process ends.'),
        DeclareLaunchArgument(
            'headless', default_value='true', choices=YES_OR_NO,
            description='Render without a display; false renders through the desktop (GLFW).'),
        DeclareLaunchArgument(
            'world', default_value='',
            description='Description of the cell (YAML); empty keeps that of the parameter file.'),
        DeclareLaunchArgument(
            'log_level', default_value='info',
            description='Least severe level that is logged.',
            choices=['debug', 'info', 'warn', 'error', 'fatal']),
        DeclareLaunchArgument(
            'models_dir', default_value='',
            description='Model folder; empty keeps that of the parameter file.'),
        DeclareLaunchArgument(
            'nodes', default_value=' '.join(NODES),
            description='Names of the nodes to start, separated by spaces.'),
        DeclareLaunchArgument(
            'emulate_link', default_value='true', choices=YES_OR_NO,
            description='Whether link_emulator stands between encoder and edge; without it '
                        'their topics are connected directly.'),
        SetParameter('use_sim_time', LaunchConfiguration('use_sim_time')),
        OpaqueFunction(function=make_nodes),
    ])
