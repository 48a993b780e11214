# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The clock of schedules, asked by several threads, over jumps and at rest."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')

from rclpy.clock import Clock, ClockType  # noqa: E402
from rclpy.time import Time  # noqa: E402

from stl_conveyor.nodes.base.clock import ScheduleClock, clock_ns  # noqa: E402

MS = 1_000_000


class StandInNode:
    """A node with use_sim_time whose clock says what it is told; `read` runs inside each look."""

    def __init__(self):
        self.time_ns = 0
        self.read = lambda: None

    def get_parameter(self, name):
        return SimpleNamespace(value=name == 'use_sim_time')

    def get_clock(self):
        return self

    def now(self):
        time_ns = self.time_ns
        self.read()
        return SimpleNamespace(nanoseconds=time_ns)


def test_a_thread_that_is_overtaken_does_not_set_the_clock_forward():
    node = StandInNode()
    clock = ScheduleClock(node)
    slow_has_read, others = threading.Event(), []

    def overtaken():
        """Let another thread look at a later time, as far as it gets, before this look ends."""
        node.read = lambda: None
        slow_has_read.set()
        others[0].join(timeout=0.2)  # it waits for this one, or is through by then

    def overtake():
        assert slow_has_read.wait(10)
        node.time_ns = 20 * MS
        clock.now_ns()

    others.append(threading.Thread(target=overtake))
    node.read = overtaken
    others[0].start()
    clock.now_ns()
    others[0].join(10)
    assert clock.now_ns() == 20 * MS
    assert clock.from_ros_ns(50 * MS) == 50 * MS


def test_after_a_jump_back_it_goes_on_and_translates():
    node = StandInNode()
    clock = ScheduleClock(node)
    node.time_ns = 900 * MS
    assert clock.now_ns() == 900 * MS
    node.time_ns = 100 * MS
    assert clock.from_ros_ns(150 * MS) == 950 * MS
    assert clock.now_ns() == 900 * MS
    node.time_ns = 160 * MS
    assert clock.now_ns() == 960 * MS


def test_a_clock_is_read_as_rclpy_reads_it():
    for kind in (ClockType.STEADY_TIME, ClockType.SYSTEM_TIME, ClockType.ROS_TIME):
        clock = Clock(clock_type=kind)
        before_ns, read_ns = clock.now().nanoseconds, clock_ns(clock)
        assert before_ns <= read_ns <= clock.now().nanoseconds


def test_simulated_time_is_read_from_the_clock():
    clock = Clock(clock_type=ClockType.ROS_TIME)
    clock._set_ros_time_is_active(True)
    clock.set_ros_time_override(Time(nanoseconds=123 * MS, clock_type=ClockType.ROS_TIME))
    assert clock_ns(clock) == 123 * MS
