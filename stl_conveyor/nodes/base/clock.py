# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Times of messages, and the clock by which a node schedules."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from builtin_interfaces.msg import Time
from rclpy.clock import Clock, ClockType, JumpThreshold, ROSClock
from rclpy.duration import Duration
from rclpy.node import Node

from stl_conveyor.cell.clock_jumps import ClockJumps

_NS = 1_000_000_000
_LARGEST = 2**31 * _NS - 1
_READING_NS = 5_000_000  # within which two clocks that are read one after the other are compared
_LEAST_JUMP = Duration(nanoseconds=100_000_000)  # of /clock, to be looked at at once
_TOGETHER_NS = 200_000  # two clocks were read at one time
_READINGS = 5  # for that, at most


def to_ns(stamp: Time) -> int:
    """Return a message's time in nanoseconds; any content of the fields is a number."""
    return stamp.sec * _NS + stamp.nanosec


def to_stamp(time_ns: int) -> Time:
    """Return nanoseconds as a message's time, clipped to what the message can hold."""
    time_ns = min(max(time_ns, -_LARGEST), _LARGEST)
    return Time(sec=time_ns // _NS, nanosec=time_ns % _NS)


def clock_ns(clock: Clock) -> int:
    """Return what `clock.now().nanoseconds` does, in a tenth of its time.

    What takes the time there is to make the object around the number. Without simulated time the
    clocks of rclpy are those of the system.
    """
    if isinstance(clock, ROSClock):
        if not clock.ros_time_is_active:
            return time.time_ns()
    elif isinstance(clock, Clock) and clock.clock_type is ClockType.STEADY_TIME:
        return time.monotonic_ns()
    return clock.now().nanoseconds


class ScheduleClock:
    """The clock by which deadlines are kept, in ns; it never runs backwards.

    In real time it is the steady clock, so that a jump of the system's clock moves no deadline.
    With use_sim_time it is ROS time, because the belt moves in simulated time; after a jump back
    it goes on from where it was. Any thread may ask.
    """

    def __init__(self, node: Node) -> None:
        """Follow the node's clock."""
        self._node = node
        self._simulated = bool(node.get_parameter('use_sim_time').value)
        self._clock = (
            node.get_clock() if self._simulated else Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._lock = threading.Lock()  # of what follows
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
        if not self._simulated:
            return clock_ns(self._clock)
        with self._lock:
            # Read in the lock: a time that another thread has overtaken would look like a jump.
            now_ns = clock_ns(self._clock) + self._offset_ns
            if now_ns < self._latest_ns:
                self._offset_ns += self._latest_ns - now_ns
                now_ns = self._latest_ns
            self._latest_ns = now_ns
            return now_ns

    def ros_now_ns(self) -> int:
        """Return the present ROS time, in which the stamps of messages are written."""
        return clock_ns(self._node.get_clock())

    def from_ros_ns(self, time_ns: int) -> int:
        """Return a ROS time on this clock, as both run now."""
        if self._simulated:
            self.now_ns()  # takes a jump in
            with self._lock:
                return time_ns + self._offset_ns
        for _ in range(_READINGS):
            before_ns = self.now_ns()
            ros_ns = self.ros_now_ns()
            if self.now_ns() - before_ns < _TOGETHER_NS:
                break  # else the thread was interrupted between the two clocks
        return before_ns + time_ns - ros_ns


class ClockWatch:
    """Notices that ROS time was set, which is that of the system or of /clock.

    rclpy tells of steps of /clock alone; those of the system's clock show against the steady one.
    Somebody must call `check` often, at the latest before a stamp is compared with the present.
    """

    def __init__(self, node: Node, steady_clock: Clock, on_jump: Callable[[int], None]) -> None:
        """Watch from now on.

        Args:
            on_jump: Called with the nanoseconds by which the clock was set, negative = back.
        """
        self._clock = node.get_clock()
        self._steady_clock = steady_clock
        self._on_jump = on_jump
        self._jumps = ClockJumps(simulated=bool(node.get_parameter('use_sim_time').value))
        self._handle = self._clock.create_jump_callback(
            JumpThreshold(
                min_forward=_LEAST_JUMP,
                min_backward=Duration(nanoseconds=-1),
                on_clock_change=False,
            ),
            post_callback=lambda _: self.check(),
        )
        self.check()

    def check(self) -> None:
        """Compare the clocks, and call if one was set."""
        steady_ns = clock_ns(self._steady_clock)
        now_ns = clock_ns(self._clock)
        if clock_ns(self._steady_clock) - steady_ns > _READING_NS:
            return  # this thread was made to wait in between; the next reading tells
        jump_ns = self._jumps.observe(now_ns, steady_ns)
        if jump_ns:
            self._on_jump(jump_ns)

    def close(self) -> None:
        """Watch no more."""
        self._handle.unregister()
