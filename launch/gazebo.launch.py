# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Start the cell in Gazebo: the simulator, its bridges, both sides, and the link between them.

`world` is a description of a cell (YAML), from which Gazebo's world and the bridges are made, or a
world of your own (SDF) with the names of worlds/cell.sdf.
`ros2 launch stl_conveyor gazebo.launch.py --show-args` lists the arguments.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from ament_index_python.packages import get_packages_with_prefixes
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.deploy.launch_actions import cell_description, frames, is_on
from stl_conveyor.deploy.launching import missing_packages, temporary_folder, with_defaults
from stl_conveyor.errors import ConfigError
from stl_conveyor.nodes.base.topics import DEVICE, EDGE, GAZEBO
from stl_conveyor.resources import share_path
from stl_conveyor.sim.gazebo.world import WORLD
from stl_conveyor.sim.gazebo_world import shipped_files, write_files

NODES = GAZEBO + DEVICE + EDGE + ('link_emulator', 'cell_monitor')
SERVICES = {
    f'/world/{WORLD}/create': ('spawn_entity', 'ros_gz_interfaces/srv/SpawnEntity'),
    f'/world/{WORLD}/remove': ('delete_entity', 'ros_gz_interfaces/srv/DeleteEntity'),
}
# Package -> the part of the name of the Debian package that brings it.
NEEDED = {'ros_gz_sim': 'ros-gz', 'ros_gz_bridge': 'ros-gz', 'tf2_ros': 'tf2-ros'}
DESCRIPTIONS = {
    'world': 'Description of the cell (YAML), or a world (SDF) with the names of worlds/cell.sdf; '
    'empty: what the package ships.',
    'use_sim_time': 'Follow /clock, which Gazebo gives.',
    'headless': 'Run the server alone, rendering without a display.',
}


def make_gazebo(values):
    """Return Gazebo, its bridges and the frames of the cell.

    Args:
        values: The text of every argument. The nodes read descriptions, so a world of one's own is
            kept from them.
    """
    missing = missing_packages(
        NEEDED, get_packages_with_prefixes(), os.environ.get('ROS_DISTRO') or '$ROS_DISTRO'
    )
    if missing:
        raise ConfigError(f'gazebo.launch.py: {missing}')
    world, files = values['world'].strip(), shipped_files()
    cell = CellDescription.load(share_path('config/cell.yaml'))
    if world.endswith('.sdf'):
        if not Path(world).is_file():
            raise ConfigError(f'argument world: there is no file {world}')
        files['cell.sdf'], values['world'] = Path(world), ''
    elif world:
        try:
            cell = CellDescription.load(world)
        except ConfigError as error:
            raise ConfigError(f'argument world: {error}') from error
        files = write_files(cell, Path(temporary_folder('world').name))

    def bridge(name, config_file, services):
        return Node(
            package='ros_gz_bridge',
            executable='parameter_bridge',
            name=name,
            namespace=values['namespace'],
            arguments=[f'{gz}@{kind}' for gz, (_, kind) in services.items()],
            remappings=[(gz, ros) for gz, (ros, _) in services.items()],
            parameters=[{'config_file': str(files[config_file]), 'use_sim_time': True}],
            respawn=is_on(values, 'use_respawn'),
            respawn_delay=2.0,
            output='screen',
            ros_arguments=['--log-level', values['log_level']],
        )

    arguments = [
        '-r',
        *(['-s', '--headless-rendering'] if is_on(values, 'headless') else []),
        str(files['cell.sdf']),
    ]
    actions = [
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
        *frames(values, cell),
    ]
    return actions


def generate_launch_description():
    """Return the description that `ros2 launch` runs."""
    files = [share_path('config/sim.yaml'), share_path('config/gazebo.yaml')]
    arguments = with_defaults(
        nodes=' '.join(NODES),
        params_file=os.pathsep.join(map(str, files)),
        emulate_link=True,
        use_sim_time=True,
        trigger='beam',
    )
    return cell_description(
        __file__,
        [
            dataclasses.replace(
                argument, description=DESCRIPTIONS.get(argument.name, argument.description)
            )
            for argument in arguments
        ],
        frames_with_rviz=False,  # they are there in any case
        before=make_gazebo,
    )
