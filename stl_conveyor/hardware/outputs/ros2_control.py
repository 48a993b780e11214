# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Joints that a ros2_control controller moves; `joint_states` tells where they are."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stl_conveyor.errors import ConfigError, HardwareError, MissingDependency
from stl_conveyor.hardware.diverter import DiverterEvents
from stl_conveyor.hardware.output import DirectOutput, Graph, Site
from stl_conveyor.parameters import parameter

POSITIONS = 'diverter_controller/commands'
TRAJECTORY = 'diverter_controller/joint_trajectory'
IDLE_PERIOD = 0.1  # s between two looks at the joints
MOVING_PERIOD = 0.01  # s between two looks while one is not where it was commanded,
HURRY = 2.0  # s, but not for longer than that after a command


@dataclass(frozen=True)
class JointSettings:
    """Parameters of the output ros2_control."""

    controller_kind: str = parameter(
        'forward',
        'What the ros2_control controller is: a forward command controller (positions '
        'on diverter_controller/commands) or a joint trajectory controller, with output '
        'ros2_control.',
        choices=('forward', 'trajectory'),
    )
    joints: tuple[str, ...] = parameter(
        ('diverter_a', 'diverter_b', 'diverter_c'),
        "Joint of each lane's diverter, in the order of the controller.",
    )
    joint_extended: float = parameter(
        0.15, 'Position (m or rad) of a joint that is out.', minimum=-10.0, maximum=10.0
    )
    joint_retracted: float = parameter(
        0.0, 'Position (m or rad) of a joint that is back.', minimum=-10.0, maximum=10.0
    )
    joint_tolerance: float = parameter(
        0.01,
        'How near to joint_extended (m or rad) a joint counts as out.',
        minimum=0.0001,
        maximum=1.0,
    )
    joint_travel_time: float = parameter(
        0.1, 'Seconds that a trajectory gives a joint for its way.', minimum=0.001, maximum=10.0
    )


class JointDiverters:
    """One joint per lane.

    A forward command controller takes the positions of all its joints on
    `diverter_controller/commands`, a joint trajectory controller a trajectory on
    `diverter_controller/joint_trajectory`; remap these names for a controller of another name.

    `joint_states` may be that of a whole robot, a thousand times a second: it is looked at once in
    MOVING_PERIOD or IDLE_PERIOD, and only the latest message that names a joint of ours is taken
    apart.
    """

    connects = False

    def __init__(
        self,
        joints: Mapping[str, str],
        events: DiverterEvents,
        graph: Graph,
        settings: JointSettings,
    ) -> None:
        """Join the graph.

        Args:
            joints: Name of the joint by lane, in the order of the controller.

        Raises:
            MissingDependency: If trajectory_msgs is needed and not installed.
        """
        self._joints = dict(joints)
        self._events = events
        self._settings = settings
        self._targets = dict.fromkeys(joints, settings.joint_retracted)
        self._positions: dict[str, float] = {}
        self._marks = {lane: joint.encode() + b'\0' for lane, joint in joints.items()}
        trajectory = settings.controller_kind == 'trajectory'
        to_message = _trajectories(list(joints.values()), settings) if trajectory else None
        self._topic = TRAJECTORY if trajectory else POSITIONS
        self._publisher = graph.publish_on(self._topic)
        self._to_message = to_message or self._to_positions
        self._lanes = {joint: lane for lane, joint in joints.items()}
        self._hurry_until = float('-inf')  # monotonic s
        self._looks = graph.listen_outside(
            'joint_states',
            self._on_state,
            concerns=lambda message: not self._lanes.keys().isdisjoint(message.name),
            unstamped=True,  # no place follows from it, only that a joint is out
            remedy='spawn the joint_state_broadcaster',
            alike=self._named,
            period=IDLE_PERIOD,
        )

    def extend(self, lane: str, serial: int, late: float = 0.0) -> None:
        """Command the joint of a lane out.

        Raises:
            HardwareError: If no controller listens.
        """
        held = self._commanded_out(lane)
        self._targets[lane] = self._settings.joint_extended
        if not self._publisher.get_subscription_count():
            raise HardwareError(f'no controller listens on {self._topic}; {self.remedy(lane)}')
        self._publish()
        self._hurry()
        if held and self.is_out(lane):  # from the stroke before, so nothing will change
            self._events.confirmed(lane, serial)

    def retract(self, lane: str) -> None:
        """Command the joint of a lane back."""
        self._targets[lane] = self._settings.joint_retracted
        self._publish()
        self._hurry()

    def is_out(self, lane: str) -> bool | None:
        """Return whether the joint was out when it last said where it is; None before."""
        position = self._positions.get(lane)
        return None if position is None else self._is_extended(position)

    def remedy(self, lane: str) -> str:
        """Return what to check when the joint of a lane does not get there."""
        return (
            f'check with `ros2 control list_controllers` that the controller is active, and '
            f'that joint {self._joints[lane]} is in joint_states'
        )

    def close(self) -> None:
        """Command all joints back."""
        self._targets = dict.fromkeys(self._targets, self._settings.joint_retracted)
        self._publish()

    def _publish(self) -> None:
        self._publisher.publish(self._to_message(list(self._targets.values())))

    def _to_positions(self, positions: list[float]) -> Any:
        return self._publisher.msg_type(data=positions)

    def _commanded_out(self, lane: str) -> bool:
        return self._targets[lane] == self._settings.joint_extended

    def _named(self, data: bytes) -> frozenset[str] | None:
        """Return the lanes whose joints a serialised JointState names; None if there is none."""
        return frozenset(lane for lane, mark in self._marks.items() if mark in data) or None

    def _hurry(self) -> None:
        self._hurry_until = time.monotonic() + HURRY
        self._looks.every(MOVING_PERIOD)

    def _rest(self) -> None:
        arrived = all(
            self._commanded_out(lane) == bool(self.is_out(lane)) for lane in self._targets
        )
        if arrived or time.monotonic() > self._hurry_until:
            self._looks.every(IDLE_PERIOD)

    def _is_extended(self, position: float) -> bool:
        settings = self._settings
        return abs(position - settings.joint_extended) <= settings.joint_tolerance

    def _on_state(self, message: Any, time_ns: int) -> None:
        for joint, position in zip(message.name, message.position):  # there may be none
            lane = self._lanes.get(joint)
            if lane is None:
                continue
            was_out = self.is_out(lane)
            if not math.isfinite(position):  # a broadcaster's word for: not known yet
                self._positions.pop(lane, None)
                continue
            self._positions[lane] = position
            if self._commanded_out(lane) and self._is_extended(position) and not was_out:
                self._events.confirmed(lane, None)
        self._rest()


def _trajectories(joints: list[str], settings: JointSettings) -> Callable[[list[float]], Any]:
    """Return what makes a JointTrajectory of the joints' positions.

    Raises:
        MissingDependency: If trajectory_msgs is not installed.
    """
    try:
        from builtin_interfaces.msg import Duration
        from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
    except ImportError as error:
        raise MissingDependency(
            'trajectories need trajectory_msgs: apt install ros-$ROS_DISTRO-trajectory-msgs'
        ) from error
    seconds, nanoseconds = divmod(round(settings.joint_travel_time * 1e9), 10**9)
    travel = Duration(sec=seconds, nanosec=nanoseconds)

    def to_message(positions: list[float]) -> Any:
        point = JointTrajectoryPoint(positions=positions, time_from_start=travel)
        return JointTrajectory(joint_names=joints, points=[point])

    return to_message


def check(settings: JointSettings) -> None:
    """Refuse a joint that two lanes share.

    Raises:
        ConfigError: Naming the parameter.
    """
    if len(set(settings.joints)) < len(settings.joints):
        raise ConfigError(f'joints: {list(settings.joints)} names a joint twice')


def open_diverters(settings: JointSettings, site: Site) -> JointDiverters:
    """Join the graph.

    Raises:
        ConfigError: If there is none.
    """
    if site.graph is None:
        raise ConfigError('output: ros2_control needs a running node, whose graph it joins')
    return JointDiverters(
        dict(zip(site.lanes, settings.joints)), site.events, site.graph, settings
    )


OUTPUT = DirectOutput(
    settings=JointSettings,
    check=check,
    open=open_diverters,
    per_lane=('joints',),
    needs_graph=True,
)
