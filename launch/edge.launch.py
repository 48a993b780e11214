# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""
Start the side with the strong classifier, on a server near the belt.

Takes every argument of cell.launch.py; this lists them:
`ros2 launch stl_conveyor edge.launch.py --show-args`
"""
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

NODES = ('edge_classifier',)


def generate_launch_description():
    """Return the description that `ros2 launch` runs."""
    share = FindPackageShare('stl_conveyor')
    return LaunchDescription([
        DeclareLaunchArgument(
            'params_file', default_value=PathJoinSubstitution([share, 'config', 'edge.yaml']),
            description='Parameter file for all nodes started here.'),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(
                PathJoinSubstitution([share, 'launch', 'cell.launch.py'])),
            launch_arguments={
                'params_file': LaunchConfiguration('params_file'),
                'nodes': ' '.join(NODES),
                'emulate_link': 'false',
            }.items()),
    ])
