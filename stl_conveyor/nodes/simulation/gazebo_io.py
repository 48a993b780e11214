# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Inputs and outputs of a cell in Gazebo: the light barrier comes in, pushers go out."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import JointState, LaserScan
from std_msgs.msg import Float64, Header

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.cell.light_barrier import SteadyLightBarrier
from stl_conveyor.cell.strokes import StrokeSchedule
from stl_conveyor.hardware.diverter import DiverterEvents
from stl_conveyor.msg import SortOutcome
from stl_conveyor.nodes.base.clock import to_ns, to_stamp
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.items import configured_path, item_key
from stl_conveyor.nodes.base.outside_input import StampSettings
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.settings import parameter
from stl_conveyor.nodes.device.actuator_outputs import Push, StrokeOutput
from stl_conveyor.sim.beam_scan import something_in_beam
from stl_conveyor.sim.gazebo.world import pusher_name
from stl_conveyor.sim.layout import HOLD_TIME, PUSH_TIME, PUSHER_HOME, PUSHER_OUT

SCAN_PERIOD = 0.02  # s between two looks at the light barrier
IDLE_PERIOD = 0.2  # s between two looks at the pushers
MOVING_PERIOD = 0.01  # s between two looks while one is not where it was commanded,
HURRY = 1.0  # s for which that is awaited with patience


@dataclass(frozen=True)
class GazeboIoSettings(StampSettings):
    """Parameters of gazebo_io."""

    # A machine that simulates is busy, and /clock comes behind what is stamped by it.
    stamp_tolerance: float = parameter(
        1.0,
        'Seconds by which a stamp of Gazebo may be ahead of /clock, which comes by another way; '
        'what is further ahead is refused.',
        minimum=0.0,
        maximum=10.0,
    )
    cell_file: str = parameter('', 'Description of the cell (YAML); empty = config/cell.yaml.')
    frame_id: str = parameter('break_beam_link', 'Frame of the light barrier.')
    least_height: float = parameter(
        0.0008,
        'Metres above the belt from which something breaks the light barrier.',
        minimum=0.0001,
        maximum=0.1,
    )
    command_delay: float = parameter(
        0.01,
        'Seconds of simulated time from a command until the pusher begins to move.',
        minimum=0.0,
        maximum=1.0,
    )
    confirm_timeout: float = parameter(
        0.5,
        'Seconds within which joint_states must show the pusher out. 0 = it is not awaited.',
        minimum=0.0,
        maximum=10.0,
    )
    max_late: float = parameter(
        0.05,
        'Seconds past its time at which a stroke is not made any more.',
        minimum=0.0,
        maximum=10.0,
    )
    repeat_period: float = parameter(
        0.05,
        "Seconds between repetitions of every pusher's position: one command alone can be "
        'lost while Gazebo and the bridge find each other.',
        minimum=0.01,
        maximum=10.0,
    )


class GazeboPushers:
    """The cell's pushers as joints in Gazebo; see stl_conveyor.hardware.diverter.

    Gazebo may tell of each joint 500 times a second. Their messages are looked at once in
    MOVING_PERIOD or IDLE_PERIOD, and of a joint that is where it was commanded only the latest is
    taken apart.
    """

    connects = False

    def __init__(
        self,
        node: ConveyorNode,
        events: DiverterEvents,
        cell: CellDescription,
        repeat_period: float,
    ) -> None:
        """Join the graph."""
        self._events = events
        self._stroke = cell.diverter.stroke
        self._targets = {lane.name: 0.0 for lane in cell.lanes}
        self._joints = {pusher_name(lane.name): lane.name for lane in cell.lanes}
        self._marks = {lane: f'{name}\0'.encode() for name, lane in self._joints.items()}
        self._out: dict[str, bool] = {}
        self._numbers = itertools.count()
        self._hurry_until = float('-inf')  # monotonic s
        self._publishers = {
            lane.name: node.publish_on('cmd_pos', cell=pusher_name(lane.name))
            for lane in cell.lanes
        }
        self._looks = node.listen_outside(
            'joint_states',
            self._on_joint_states,
            unstamped=True,  # no place follows from it, only that a pusher is out
            remedy='see that the bridge passes it',
            alike=self._named,
            period=IDLE_PERIOD,
        )
        node.every(repeat_period, self._repeat)

    def extend(self, lane: str, serial: int, late: float = 0.0) -> None:
        """Command a pusher out."""
        self._command(lane, self._stroke)

    def retract(self, lane: str) -> None:
        """Command a pusher back."""
        self._command(lane, 0.0)

    def is_out(self, lane: str) -> bool | None:
        """Return what joint_states said last."""
        return self._out.get(lane)

    def remedy(self, lane: str) -> str:
        """Return what to check when a pusher stays silent."""
        return (
            f'check that the bridge passes {pusher_name(lane)}/cmd_pos and joint_states, and '
            'that the simulation is not paused'
        )

    def close(self) -> None:
        """Command everything back."""
        for lane in self._targets:
            self._command(lane, 0.0)

    def _command(self, lane: str, position: float) -> None:
        self._targets[lane] = position
        self._publishers[lane].publish(Float64(data=position))
        self._hurry_until = time.monotonic() + HURRY
        self._looks.every(MOVING_PERIOD)

    def _repeat(self) -> None:
        for lane, position in self._targets.items():
            self._publishers[lane].publish(Float64(data=position))

    def _named(self, serialized: bytes) -> Hashable | None:
        """Return the lanes whose pushers a serialised JointState names; None if there is none.

        Where one of them is awaited, no two messages are alike: it may go out and back between
        two looks of a busy machine.
        """
        lanes = frozenset(lane for lane, mark in self._marks.items() if mark in serialized)
        if any((self._targets[lane] > 0.0) is not self._out.get(lane, False) for lane in lanes):
            return lanes, next(self._numbers)
        return lanes or None

    def _on_joint_states(self, message: JointState, time_ns: int) -> None:
        for joint, position in zip(message.name, message.position):
            lane = self._joints.get(joint.rsplit('/', 1)[-1])
            if lane is not None:
                out = position >= PUSHER_OUT * self._stroke
                if out and not self._out.get(lane):
                    self._events.confirmed(lane, None)
                self._out[lane] = out
        arrived = all(
            (target > 0.0) is bool(self._out.get(lane)) for lane, target in self._targets.items()
        )
        if arrived or time.monotonic() > self._hurry_until:
            self._looks.every(IDLE_PERIOD)


class GazeboIo(ConveyorNode):
    """Stands for the wiring between the cell's controller and its field devices."""

    NAME = 'gazebo_io'
    SETTINGS = GazeboIoSettings

    def configure(self) -> None:
        """Read the cell."""
        settings = self.settings
        self.cell = CellDescription.load(configured_path(settings.cell_file, 'config/cell.yaml'))
        diverter = self.cell.diverter
        # The pusher meets the item's centre line lead_time after its time.
        way = self.cell.belt.width / 2 + PUSHER_HOME
        self._wait_ns = round(
            1e9
            * max(
                0.0,
                diverter.lead_time - way * PUSH_TIME / diverter.stroke - settings.command_delay,
            )
        )

    def activate(self) -> None:
        """Connect both sides."""
        settings = self.settings
        self._barrier = SteadyLightBarrier(self.cell.belt.speed)
        self._beam = self.publish_on('break_beam')
        schedule: StrokeSchedule[Push] = StrokeSchedule(
            hold_ns=round(1e9 * (PUSH_TIME + HOLD_TIME)),
            confirm_ns=round(1e9 * settings.confirm_timeout),
            max_late_ns=round(1e9 * settings.max_late),
        )
        self._output = StrokeOutput(
            self,
            schedule,
            lambda events: GazeboPushers(self, events, self.cell, settings.repeat_period),
        )
        numbers = itertools.count()
        self.listen_outside(
            'break_beam/scan',
            self._on_scan,
            remedy='see that the bridge passes it',
            alike=lambda _: next(numbers),  # every one counts; many are taken at once
            period=SCAN_PERIOD,
        )
        self.listen('sort_outcome', self._on_outcome)

    def deactivate(self) -> None:
        """Move everything back."""
        self._output.finish()

    def _on_scan(self, message: LaserScan, stamp_ns: int) -> None:
        broken = something_in_beam(
            self.cell,
            np.asarray(message.ranges, np.float32),
            message.angle_min,
            message.angle_increment,
            self.settings.least_height,
        )
        middle = self._barrier.update(stamp_ns / 1e9, broken)
        if middle is not None:
            self.tick('items')
            self._beam.publish(
                Header(stamp=to_stamp(round(middle * 1e9)), frame_id=self.settings.frame_id)
            )

    def _on_outcome(self, outcome: SortOutcome) -> None:
        if outcome.lane in (lane.name for lane in self.cell.lanes):
            fire_ns = self.cell.fire_time_ns(to_ns(outcome.header.stamp), outcome.lane)
            self._output.push(
                Push(
                    item_key(outcome),
                    outcome.header,
                    outcome.lane,
                    self.schedule_clock.from_ros_ns(fire_ns + self._wait_ns),
                )
            )
        elif outcome.lane != self.cell.reject_lane:
            self.warn(
                'unknown_lane',
                f'item {outcome.item_id} is to go to {outcome.lane!r}, '
                'which the cell does not have',
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run_node(GazeboIo, arguments)


if __name__ == '__main__':
    sys.exit(main())
