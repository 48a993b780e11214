# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Start nodes of one cell; the launch files for simulation, Gazebo, device and edge include this.

The argument `nodes` names which. Nodes are lifecycle nodes that configure and activate themselves
and try again where that fails; with `autostart:=false` they wait for a lifecycle manager.
"""

from __future__ import annotations

import os

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, SetParameter

from launch import LaunchDescription
from stl_conveyor.deploy.fastdds_profiles import NODE_ROLES
from stl_conveyor.deploy.launching import PACKAGE, flag, shared, with_profile
from stl_conveyor.errors import ConfigError
from stl_conveyor.nodes.base.topics import (
    DEVICE,
    DEVICE_REMAPPINGS,
    EDGE,
    EVERY_NODE,
    GAZEBO,
    SIMULATION,
)

NODES = EVERY_NODE + GAZEBO

# Which nodes take which launch argument as a parameter.
PARAMETERS = {
    'models_dir': ('local_classifier', 'offload_policy', 'encoder', 'edge_classifier'),
    'cell_file': (
        'cell_simulator',
        'camera',
        'offload_policy',
        'encoder',
        'link_emulator',
        'actuator',
        'cell_monitor',
        'feeder',
        'gazebo_io',
    ),
    'items': ('cell_simulator', 'feeder'),
    'seed': ('cell_simulator', 'feeder', 'link_emulator'),
    'cells': ('edge_classifier',),
    'trigger': ('camera',),
}

# Who must publish before the first item comes to a simulated cell: what belongs to the device.
AWAITED = ['capture', 'classification', 'offload_decision', 'sort_outcome']


def make_nodes(context):
    """Return the actions for the nodes that the arguments ask for."""

    def text(name):
        return LaunchConfiguration(name).perform(context)

    def on(name):
        return text(name).lower() == 'true'

    names = text('nodes').split()
    gateways = make_gateways(
        names,
        text('gateway_peer').split(),
        text('namespace'),
        text('cells').split(),
        int(text('gateway_number')),
    )
    unknown = sorted(set(names) - set(NODES))
    if unknown:
        raise RuntimeError(
            f'argument nodes: there is no {", ".join(unknown)}; choose from {", ".join(NODES)}'
        )

    asked = {
        'models_dir': text('models_dir'),
        'cell_file': text('world'),
        'trigger': text('trigger'),
        'cells': text('cells').split(),
    }
    for name in ('items', 'seed'):
        asked[name] = int(text(name)) if text(name) else None
    graphics = (os.environ.get('MUJOCO_GL') or 'egl') if on('headless') else 'glfw'

    def parameters(name):
        # What was not asked for stays as the parameter files have it.
        given = {key: value for key, value in asked.items() if value and name in PARAMETERS[key]}
        if name in ('cell_simulator', 'feeder') and set(DEVICE) <= set(names):
            given['wait_for'] = AWAITED
        return [*text('params_file').split(os.pathsep), {'autostart': on('autostart'), **given}]

    def node(name, namespace, environment):
        return LifecycleNode(
            package=PACKAGE,
            executable=name,
            name=name,
            namespace=namespace,
            parameters=parameters(name),
            remappings=([] if gateways or on('emulate_link') else list(DEVICE_REMAPPINGS.items())),
            respawn=on('use_respawn'),
            respawn_delay=2.0,
            output='screen',
            ros_arguments=['--log-level', text('log_level')],
            additional_env={'MUJOCO_GL': graphics, 'PYTHONUNBUFFERED': '1', **environment},
        )

    # What is started here, and the node of launch itself, keeps to this machine.
    here = with_profile('local') if gateways else {}
    return [
        *(SetEnvironmentVariable(*variable) for variable in here.items()),
        *(node(name, text('namespace'), {}) for name in names),
        *(node(*gateway) for gateway in gateways),
    ]


def make_gateways(names, peers, namespace, cells, number):
    """Return name, namespace and environment of each gateway of the side that is started."""
    if not peers:
        return []
    sides = [
        side
        for side, nodes in (('device_gateway', DEVICE), ('edge_gateway', EDGE))
        if set(nodes) & set(names)
    ]
    if len(sides) != 1:
        raise RuntimeError(
            'argument gateway_peer: it joins two machines; start one side here, '
            'with device.launch.py or edge.launch.py'
        )
    middleware = os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp')
    if not middleware.startswith('rmw_fastrtps'):
        raise RuntimeError(
            f'argument gateway_peer: it needs Fast DDS, and RMW_IMPLEMENTATION is {middleware}'
        )
    places = cells if cells and sides == ['edge_gateway'] else [namespace]
    if len(peers) != len(places):
        raise RuntimeError(
            f'argument gateway_peer: {len(peers)} addresses for {len(places)} '
            'cells; give the edge one for each of `cells`, in that order'
        )
    try:
        return [
            (sides[0], place, with_profile(NODE_ROLES[sides[0]], peer=peer, number=count))
            for count, (place, peer) in enumerate(zip(places, peers), start=number)
        ]
    except ConfigError as error:
        raise RuntimeError(f'argument gateway_peer: {error}') from error


def generate_launch_description():
    """Return the description that `ros2 launch` runs."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'namespace',
                default_value='',
                description='Namespace of the cell; two cells differ by it alone.',
            ),
            flag('use_sim_time', False, 'Follow /clock instead of the system clock.'),
            DeclareLaunchArgument(
                'params_file',
                default_value=shared('config', 'sim.yaml'),
                description='Parameter file for all nodes started here; several are separated as '
                'in PATH, and a later one wins.',
            ),
            flag('autostart', True, 'Configure and activate the nodes as soon as they are up.'),
            flag('use_respawn', True, 'Start a node again when its process ends.'),
            flag('headless', True, 'Render without a display; false renders through the desktop.'),
            DeclareLaunchArgument(
                'world',
                default_value='',
                description='Description of the cell (YAML); empty keeps that of the parameter '
                'file.',
            ),
            DeclareLaunchArgument(
                'log_level',
                default_value='info',
                description='Least severe level that is logged.',
                choices=['debug', 'info', 'warn', 'error', 'fatal'],
            ),
            DeclareLaunchArgument(
                'models_dir',
                default_value='',
                description='Model folder; empty keeps that of the parameter file.',
            ),
            DeclareLaunchArgument(
                'nodes',
                default_value=' '.join(SIMULATION + DEVICE + EDGE),
                description='Names of the nodes to start, separated by spaces.',
            ),
            flag(
                'emulate_link',
                True,
                'Whether link_emulator stands between encoder and edge; without it their topics '
                'are connected directly.',
            ),
            DeclareLaunchArgument(
                'cells',
                default_value='',
                description='Namespaces of the cells that the edge serves, separated by spaces; '
                'empty keeps that of the parameter file.',
            ),
            DeclareLaunchArgument(
                'items',
                default_value='',
                description='How many items a simulated cell brings; empty keeps that of the '
                'parameter file.',
            ),
            DeclareLaunchArgument(
                'seed',
                default_value='',
                description='Seed of everything random in a simulated cell; empty keeps that of '
                'the parameter file.',
            ),
            DeclareLaunchArgument(
                'trigger',
                default_value='',
                description='What makes an item of a camera frame: frame, beam, gpio or image; '
                'empty keeps that of the parameter file.',
            ),
            DeclareLaunchArgument(
                'gateway_peer',
                default_value='',
                description='Address (IPv4) of the other side, on a slow network: a gateway then '
                'carries the three topics that cross, and nothing else leaves this '
                'machine. On the edge one for each of the cells, separated by spaces; '
                'empty: no gateway, the nodes find each other.',
            ),
            DeclareLaunchArgument(
                'gateway_number',
                default_value='0',
                description='Number of the gateway, where an edge has several: that of the cell '
                'among the cells of the edge, from 0.',
            ),
            SetParameter('use_sim_time', LaunchConfiguration('use_sim_time')),
            OpaqueFunction(function=make_nodes),
        ]
    )
