# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Start the cell in Gazebo: the simulator, its bridges, both sides, and the link between them.

`world` is a description of a cell (YAML), from which Gazebo's world and the bridges are made, or a
world of your own (SDF) with the names of worlds/cell.sdf. Takes every argument of cell.launch.py;
this lists them: `ros2 launch stl_conveyor gazebo.launch.py --show-args`
"""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.deploy.launching import cell_with, flag, shared
from stl_conveyor.nodes.base.topics import DEVICE, EDGE, GAZEBO
from stl_conveyor.resources import share_path
from stl_conveyor.sim.gazebo.world import BEAM_FRAME, BEAM_HEIGHT, OPTICAL_FRAME, WORLD
from stl_conveyor.sim.gazebo_world import shipped_files, write_files

NODES = GAZEBO + DEVICE + EDGE + ('link_emulator', 'cell_monitor')
SERVICES = {
    f'/world/{WORLD}/create': ('spawn_entity', 'ros_gz_interfaces/srv/SpawnEntity'),
    f'/world/{WORLD}/remove': ('delete_entity', 'ros_gz_interfaces/srv/DeleteEntity'),
}


def make_gazebo(context):
    """Return Gazebo, its bridges and the frames of the cell."""

    def text(name):
        return LaunchConfiguration(name).perform(context)

    def on(name):
        return text(name).lower() == 'true'

    world, files = text('world'), shipped_files()
    description = share_path('config/cell.yaml')
    if world.endswith('.sdf'):
        files['cell.sdf'] = Path(world)
    elif world:
        description = world
        files = write_files(
            CellDescription.load(world), Path(tempfile.mkdtemp(prefix='stl_conveyor_world_'))
        )
    cell = CellDescription.load(description)

    def bridge(name, config_file, services):
        return Node(
            package='ros_gz_bridge',
            executable='parameter_bridge',
            name=name,
            namespace=text('namespace'),
            arguments=[f'{gz}@{kind}' for gz, (_, kind) in services.items()],
            remappings=[(gz, ros) for gz, (ros, _) in services.items()],
            parameters=[{'config_file': str(files[config_file]), 'use_sim_time': True}],
            respawn=on('use_respawn'),
            respawn_delay=2.0,
            output='screen',
            ros_arguments=['--log-level', text('log_level')],
        )

    def frame(parent, child, x, y, z, roll, pitch, yaw):
        numbers = {'x': x, 'y': y, 'z': z, 'roll': roll, 'pitch': pitch, 'yaw': yaw}
        return Node(
            package='tf2_ros',
            executable='static_transform_publisher',
            name=f'{child}_frame',
            namespace=text('namespace'),
            output='log',
            arguments=[word for key, value in numbers.items() for word in (f'--{key}', str(value))]
            + ['--frame-id', parent, '--child-frame-id', child],
        )

    arguments = [
        '-r',
        *(['-s', '--headless-rendering'] if on('headless') else []),
        str(files['cell.sdf']),
    ]
    down = math.pi / 2
    return [
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(
                PathJoinSubstitution(
                    [FindPackageShare('ros_gz_sim'), 'launch', 'gz_sim.launch.py']
                )
            ),
            launch_arguments={'gz_args': ' '.join(arguments), 'on_exit_shutdown': 'true'}.items(),
        ),
        bridge('gazebo_bridge', 'gazebo_bridge.yaml', SERVICES),
        # Commands must not wait behind images.
        bridge('gazebo_camera_bridge', 'gazebo_camera_bridge.yaml', {}),
        frame(WORLD, 'camera_link', cell.camera.x, 0, cell.camera.height, 0, down, 0),
        frame('camera_link', OPTICAL_FRAME, 0, 0, 0, -down, 0, -down),
        frame(WORLD, BEAM_FRAME, cell.break_beam.x, 0, BEAM_HEIGHT, 0, down, 0),
    ]


def cell_file(context):
    """Keep a world of one's own from the nodes, which read descriptions."""
    world = LaunchConfiguration('world').perform(context)
    context.launch_configurations['cell_description'] = '' if world.endswith('.sdf') else world


def generate_launch_description():
    """Return the description that `ros2 launch` runs."""
    files = [shared('config', 'sim.yaml'), os.pathsep, shared('config', 'gazebo.yaml')]
    return cell_with(
        NODES,
        files,
        emulate_link=True,
        before=[
            DeclareLaunchArgument(
                'world',
                default_value='',
                description='Description of the cell (YAML), or a world (SDF) with the names of '
                'worlds/cell.sdf; empty: what the package ships.',
            ),
            DeclareLaunchArgument(
                'namespace',
                default_value='',
                description='Namespace of the cell; two cells differ by it alone.',
            ),
            flag('use_sim_time', True, 'Follow /clock, which Gazebo gives.'),
            flag('headless', True, 'Run the server alone, rendering without a display.'),
            flag('use_respawn', True, 'Start a node again when its process ends.'),
            DeclareLaunchArgument(
                'log_level',
                default_value='info',
                description='Least severe level that is logged.',
                choices=['debug', 'info', 'warn', 'error', 'fatal'],
            ),
            flag('use_rviz', False, 'Show camera image and frames in RViz.'),
            OpaqueFunction(function=make_gazebo),
            OpaqueFunction(function=cell_file),
            Node(
                package='rviz2',
                executable='rviz2',
                name='rviz2',
                output='log',
                arguments=['-d', shared('rviz', 'cell.rviz')],
                parameters=[{'use_sim_time': True}],
                remappings=[('/tf', 'tf'), ('/tf_static', 'tf_static')],
                namespace=LaunchConfiguration('namespace'),
                condition=IfCondition(LaunchConfiguration('use_rviz')),
            ),
        ],
        given={
            'world': LaunchConfiguration('cell_description'),
            'trigger': 'beam',
            'use_sim_time': LaunchConfiguration('use_sim_time'),
        },
    )
