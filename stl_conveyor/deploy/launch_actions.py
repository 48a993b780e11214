# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the launch files do; needs launch and launch_ros. `launching` says what arguments mean."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import launch.logging
from ament_index_python.packages import get_packages_with_prefixes
from launch.actions import (
    DeclareLaunchArgument,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.launch_context import LaunchContext
from launch.launch_description import LaunchDescription
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node, SetParameter

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.deploy.launching import (
    EXECUTABLES,
    PACKAGE,
    LaunchArgument,
    LaunchRequest,
    checked,
    composed_parameters,
    missing_packages,
    refuse_unknown,
    with_profile,
)
from stl_conveyor.errors import ConfigError
from stl_conveyor.nodes.base.priority import OWN_SESSION
from stl_conveyor.nodes.base.topics import DEVICE_REMAPPINGS
from stl_conveyor.resources import share_path
from stl_conveyor.sim.gazebo.world import still_frames

RESPAWN_DELAY = 0.5  # s; what is on the belt does not wait

# In the namespace of the cell, so that two cells have frames of their own.
TRANSFORMS = {'/tf': 'tf', '/tf_static': 'tf_static'}

Values = Mapping[str, str]


def values_of(context: LaunchContext, arguments: Sequence[LaunchArgument]) -> dict[str, str]:
    """Return the text of every argument."""
    return {
        argument.name: LaunchConfiguration(argument.name).perform(context)
        for argument in arguments
    }


def is_on(values: Values, name: str) -> bool:
    """Return whether an argument is true."""
    return values[name].lower() == 'true'


def cell_description(
    file: str,
    arguments: Sequence[LaunchArgument],
    *,
    extra: Sequence[LaunchArgument] = (),
    frames_with_rviz: bool = True,
    before: Callable[[dict[str, str]], list[LaunchDescriptionEntity]] = lambda values: [],
) -> LaunchDescription:
    """Return the description of a cell, or of a side of it.

    Args:
        file: Path of the launch file.
        arguments: Those of every launch file, with the defaults of this one.
        extra: More arguments of this file.
        frames_with_rviz: Whether `use_rviz` brings the frames of the cell, too.
        before: Returns what comes before the nodes. It gets the text of every argument, and may
            change it.
    """
    declared = (*arguments, *extra)

    def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
        # Another launch file that includes this one has arguments of its own.
        if any(Path(word).name == Path(file).name for word in sys.argv):
            refuse_unknown(context.argv, [argument.name for argument in declared])
        values = values_of(context, declared)
        first = before(values)
        request = checked(values, arguments)
        shown = _rviz(values, request, frames_with_rviz) if is_on(values, 'use_rviz') else []
        return [*first, *_nodes(values, request), *shown]

    def start_or_say(context: LaunchContext) -> list[LaunchDescriptionEntity]:
        try:
            return start(context)
        except ConfigError as error:
            raise RuntimeError(str(error)) from error

    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    argument.name,
                    default_value=argument.default,
                    description=argument.description,
                    choices=list(argument.choices) or None,
                )
                for argument in declared
            ),
            SetParameter('use_sim_time', LaunchConfiguration('use_sim_time')),
            OpaqueFunction(function=start_or_say),
        ]
    )


def frames(values: Values, cell: CellDescription) -> list[Node]:
    """Return the actions that say where camera and light barrier are in the cell.

    Args:
        values: The text of every argument.
        cell: The description, whose frame is `cell` (x along the belt, z up; REP 103).
    """
    names = ('x', 'y', 'z', 'roll', 'pitch', 'yaw')
    return [
        Node(
            package='tf2_ros',
            executable='static_transform_publisher',
            name=f'{frame.child}_frame',
            namespace=values['namespace'],
            output='log',
            arguments=[
                word
                for name, value in zip(names, (*frame.place, *frame.turn))
                for word in (f'--{name}', str(value))
            ]
            + ['--frame-id', frame.parent, '--child-frame-id', frame.child],
            remappings=list(TRANSFORMS.items()),
        )
        for frame in still_frames(cell)
    ]


def _rviz(values: Values, request: LaunchRequest, with_frames: bool) -> list[Node]:
    """Return the actions that show the cell in RViz.

    Raises:
        ConfigError: If RViz or tf2_ros is not installed.
    """
    missing = missing_packages(
        {'rviz2': 'rviz2', 'tf2_ros': 'tf2-ros'},
        get_packages_with_prefixes(),
        os.environ.get('ROS_DISTRO') or '$ROS_DISTRO',
    )
    if missing:
        raise ConfigError(f'argument use_rviz: {missing}')
    cell = CellDescription.load(request.given.get('world') or share_path('config/cell.yaml'))
    rviz = Node(
        package='rviz2',
        executable='rviz2',
        name='rviz2',
        output='log',
        arguments=['-d', str(share_path('rviz/cell.rviz'))],
        parameters=[{'use_sim_time': is_on(values, 'use_sim_time')}],
        remappings=list(TRANSFORMS.items()),
        namespace=values['namespace'],
    )
    return [*(frames(values, cell) if with_frames else []), rviz]


def _nodes(values: Values, request: LaunchRequest) -> list[LaunchDescriptionEntity]:
    """Return the actions that start the nodes."""
    graphics = (os.environ.get('MUJOCO_GL') or 'egl') if is_on(values, 'headless') else 'glfw'

    def node(
        name: str, namespace: str, environment: Mapping[str, str], **own: str
    ) -> LifecycleNode:
        parameters = {**request.parameters(name), **own}
        if name == 'cell_monitor':
            parameters.setdefault('out', launch.logging.launch_config.log_dir)
            parameters['keep_crops'] = True  # by which the strong model is asked afterwards
        if name == 'cell_simulator' and not is_on(values, 'headless'):
            parameters['viewer'] = True
        return LifecycleNode(
            package=PACKAGE,
            executable=EXECUTABLES.get(name, name),
            exec_name=name,
            name=name,
            namespace=namespace,
            parameters=[*request.params_files, parameters],
            remappings=list(DEVICE_REMAPPINGS.items()) if request.direct else [],
            # What reports the end has done its work then.
            respawn=is_on(values, 'use_respawn')
            and not (name == 'cell_monitor' and is_on(values, 'end_when_done')),
            respawn_delay=RESPAWN_DELAY,
            output='screen',
            ros_arguments=['--log-level', values['log_level']],
            additional_env={
                'MUJOCO_GL': graphics,
                'PYTHONUNBUFFERED': '1',
                OWN_SESSION: '1',
                **environment,
            },
        )

    nodes = {
        name: node(name, request.namespace, {})
        for name in request.nodes
        if name not in request.composed
    }
    # What is started here, and the node of launch itself, keeps to this machine.
    here = with_profile('local') if request.gateways else {}
    actions: list[LaunchDescriptionEntity] = [
        *(SetEnvironmentVariable(*variable) for variable in here.items()),
        *nodes.values(),
        *([_device(values, request)] if request.composed else []),
        *(
            node(gate.node, gate.namespace, gate.environment, peer=gate.peer)
            for gate in request.gateways
        ),
    ]
    if is_on(values, 'end_when_done') and 'cell_monitor' in nodes:
        actions.append(
            RegisterEventHandler(
                OnProcessExit(target_action=nodes['cell_monitor'], on_exit=_end_after_the_results)
            )
        )
    return actions


def _device(values: Values, request: LaunchRequest) -> Node:
    """Return the action that starts the nodes of the device in one process."""
    parameters = composed_parameters({name: request.parameters(name) for name in request.composed})
    # By itself it starts again at once; what launch sees end is the one that looks after it.
    respawn = is_on(values, 'use_respawn')
    return Node(
        package=PACKAGE,
        executable='device',
        exec_name='device',
        namespace=request.namespace,
        arguments=['--nodes', *request.composed, *([] if respawn else ['--no-respawn'])],
        parameters=[*request.params_files, str(parameters)],
        remappings=list(DEVICE_REMAPPINGS.items()) if request.direct else [],
        respawn=respawn,
        respawn_delay=RESPAWN_DELAY,
        output='screen',
        ros_arguments=['--log-level', values['log_level']],
        additional_env={'PYTHONUNBUFFERED': '1', OWN_SESSION: '1'},
    )


def _end_after_the_results(
    event: ProcessExited, context: LaunchContext
) -> list[LaunchDescriptionEntity]:
    """End everything when the results are written, and fail where they could not be."""
    if context.is_shutdown:
        return []
    if event.returncode:
        return [
            OpaqueFunction(function=_fail),
            Shutdown(reason='the results could not be written'),
        ]
    return [Shutdown(reason='the last item is at rest, and the results are written')]


def _fail(context: LaunchContext) -> None:
    raise RuntimeError('the results of the cell could not be written')
