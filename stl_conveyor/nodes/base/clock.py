# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Times of messages, and the clock by which a node schedules."""

from __future__ import annotations

from builtin_interfaces.msg import Time
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

_NS = 1_000_000_000
_LARGEST = 2**31 * _NS - 1
_TOGETHER_NS = 200_000  # two clocks were read at one time
_READINGS = 5  # for that, at most


def to_ns(stamp: Time) -> int:
    """Return a message's time in nanoseconds; any content of the fields is a number."""
    return stamp.sec * _NS + stamp.nanosec


def to_stamp(time_ns: int) -> Time:
    """Return nanoseconds as a message's time, clipped to what the message can hold."""
    time_ns = min(max(time_ns, -_LARGEST), _LARGEST)
    return Time(sec=time_ns // _NS, nanosec=time_ns % _NS)


class ScheduleClock:
    """The clock by which deadlines are kept, in ns; it never runs backwards.

    In real time it is the steady clock, so that a jump of the system's clock moves no deadline.
    With use_sim_time it is ROS time, because the belt moves in simulated time; after a jump back
    it goes on from where it was.
    """

    def __init__(self, node: Node) -> None:
        """Follow the node's clock."""
        self._node = node
        self._simulated = bool(node.get_parameter('use_sim_time').value)
        self._clock = (
            node.get_clock() if self._simulated else Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._offset_ns = 0
        self._latest_ns = -_LARGEST

    @property
    def simulated(self) -> bool:
        """Return whether the clock follows /clock."""
        return self._simulated

    @property
    def timer_clock(self) -> Clock:
        """Return the clock on which timers for this schedule must run."""
        return self._clock

    def now_ns(self) -> int:
        """Return the present time."""
        now_ns = self._clock.now().nanoseconds + self._offset_ns
        if now_ns < self._latest_ns:
            self._offset_ns += self._latest_ns - now_ns
            now_ns = self._latest_ns
        self._latest_ns = now_ns
        return now_ns

    def ros_now_ns(self) -> int:
        """Return the present ROS time, in which the stamps of messages are written."""
        return self._node.get_clock().now().nanoseconds

    def from_ros_ns(self, time_ns: int) -> int:
        """Return a ROS time on this clock, as both run now."""
        for _ in range(_READINGS):
            before_ns = self.now_ns()
            ros_ns = self.ros_now_ns()
            after_ns = self.now_ns()
            if after_ns - before_ns < _TOGETHER_NS:
                break  # else the thread was interrupted between the two clocks
        return before_ns + time_ns - ros_ns
