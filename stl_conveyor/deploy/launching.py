# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the launch files have in common; needs launch and launch_ros."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description import LaunchDescription
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.some_substitutions_type import SomeSubstitutionsType
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from stl_conveyor.deploy.fastdds_profiles import environment, profile_xml

PACKAGE = 'stl_conveyor'
YES_OR_NO = ('true', 'false', 'True', 'False')


def flag(name: str, default: bool, description: str) -> DeclareLaunchArgument:
    """Return the declaration of an argument that is true or false."""
    return DeclareLaunchArgument(
        name, default_value=str(default).lower(), choices=list(YES_OR_NO), description=description
    )


def shared(*path: str) -> PathJoinSubstitution:
    """Return a file of the package's share folder."""
    return PathJoinSubstitution([FindPackageShare(PACKAGE), *path])


def with_profile(role: str, *, peer: str = '', number: int = 0) -> Mapping[str, str]:
    """Return the variables with which a process takes a Fast DDS profile of `fastdds_profiles`.

    The profile is written into a temporary folder that goes with this process.

    Raises:
        ConfigError: If the peer is no address, or there is no such number.
    """
    path = Path(_profile_folder().name) / f'{role}_{number}.xml'
    path.write_text(
        profile_xml(
            role, domain=int(os.environ.get('ROS_DOMAIN_ID') or 0), peer=peer, number=number
        ),
        encoding='utf-8',
    )
    return environment(path)


@functools.lru_cache(maxsize=1)
def _profile_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix='stl_conveyor_profiles_')


def cell_with(
    nodes: Sequence[str],
    params_file: SomeSubstitutionsType,
    *,
    emulate_link: bool,
    before: Sequence[LaunchDescriptionEntity] = (),
    given: Mapping[str, object] | None = None,
) -> LaunchDescription:
    """Return a description that includes cell.launch.py with some of its nodes.

    Args:
        nodes: Names of the nodes to start.
        params_file: The default of the argument of this name.
        emulate_link: Whether link_emulator stands between encoder and edge.
        before: What comes before the nodes: more arguments, more processes.
        given: More arguments of cell.launch.py with their values.
    """
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'params_file',
                default_value=params_file,
                description='Parameter file for all nodes started here.',
            ),
            *before,
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(shared('launch', 'cell.launch.py')),
                launch_arguments={
                    'params_file': LaunchConfiguration('params_file'),
                    'nodes': ' '.join(nodes),
                    'emulate_link': str(emulate_link).lower(),
                    **(given or {}),
                }.items(),
            ),
        ]
    )
