# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Movement of a belt from its encoder's steps: speed, place, stop, slip, and clocks set back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stl_conveyor.cell.odometry import BeltState, MeasuredBelt, SteadyBelt

SECOND = 10**9
SCALE = 0.001  # m per step
START = 1_700_000_000 * SECOND


def make_belt(**changes):
    return MeasuredBelt(SCALE, **{'expected_speed': 0.4, 'tolerance': 0.25, **changes})


def turn(belt, speed, seconds, count=0, start_ns=START, jitter=lambda i: 0):
    """Feed the steps of a belt that runs; return count and time at the end."""
    steps = int(seconds * abs(speed) / SCALE + 1e-9)
    direction = 1 if speed > 0 else -1
    for index in range(1, steps + 1):
        belt.step(
            count + direction * index,
            start_ns + round(index * SCALE / abs(speed) * SECOND) + jitter(index),
        )
    return count + direction * steps, start_ns + round(seconds * SECOND)


@settings(max_examples=40)
@given(st.floats(0.02, 1.0), st.integers(0, 2**31), st.floats(0.0, 0.3))
def test_speed_is_that_of_the_belt_whatever_the_jitter(speed, seed, part):
    """Time stamps may be late by a part of a step, as an interrupt is."""
    import random

    source = random.Random(seed)
    belt = make_belt(expected_speed=speed)
    step_ns = SCALE / speed * SECOND
    count, now_ns = turn(belt, speed, 1.0, jitter=lambda i: int(part * step_ns * source.random()))
    motion = belt.motion(now_ns)
    # A window of 0.3 s holds n steps; a time is wrong by at most `part` of one.
    steps_in_window = max(1, int(0.3 * speed / SCALE) - 1)
    assert motion.state is BeltState.RUNNING
    assert motion.speed == pytest.approx(speed, rel=part / steps_in_window + 1e-6)
    assert belt.position(now_ns) == pytest.approx(speed * 1.0, abs=2 * SCALE)


@settings(max_examples=40)
@given(st.floats(0.05, 1.0), st.floats(0.0, 0.4))
def test_position_and_time_are_inverse(speed, back):
    belt = make_belt(expected_speed=speed)
    _, now_ns = turn(belt, speed, 1.0)
    then_ns = now_ns - round(back * SECOND)
    assert abs(belt.time_at(belt.position(then_ns), now_ns) - then_ns) <= SCALE / speed * SECOND


def test_belt_that_stops_is_noticed_and_its_place_stays():
    belt = make_belt()
    count, now_ns = turn(belt, 0.4, 1.0)
    place = belt.position(now_ns)
    speeds = [belt.motion(now_ns + ms * 1_000_000).speed for ms in range(0, 1000, 10)]
    assert speeds == sorted(speeds, reverse=True) and speeds[-1] == 0.0
    assert belt.motion(now_ns + 490_000_000).state is BeltState.OFF_SPEED
    assert belt.motion(now_ns + 510_000_000).state is BeltState.STOPPED
    assert belt.position(now_ns + 60 * SECOND) == pytest.approx(place, abs=1.01 * SCALE)
    assert belt.time_at(place + 0.1, now_ns + 600 * SECOND) > now_ns + 60 * SECOND
    count, now_ns = turn(belt, 0.4, 1.0, count, now_ns + 60 * SECOND)
    assert belt.motion(now_ns).state is BeltState.RUNNING
    assert belt.position(now_ns) == pytest.approx(0.8, abs=2 * SCALE)


@pytest.mark.parametrize(
    'speed, state',
    [
        (0.4, BeltState.RUNNING),
        (0.31, BeltState.RUNNING),
        (0.29, BeltState.OFF_SPEED),
        (0.49, BeltState.RUNNING),
        (0.51, BeltState.OFF_SPEED),
        (-0.4, BeltState.REVERSED),
    ],
)
def test_slip_and_reversal_are_told(speed, state):
    belt = make_belt()
    _, now_ns = turn(belt, speed, 1.0)
    motion = belt.motion(now_ns)
    assert motion.state is state and motion.speed == pytest.approx(speed, rel=0.01)


def test_without_a_step_the_belt_is_unknown_and_then_stands():
    belt = make_belt()
    assert belt.motion(START).state is BeltState.UNKNOWN
    assert belt.motion(START).speed == 0.4
    assert belt.motion(START + SECOND).state is BeltState.STOPPED
    assert belt.time_at(1.0, START) is None and belt.position(START) == 0.0


def test_clock_that_is_set_back_costs_the_past_only():
    belt = make_belt()
    count, _ = turn(belt, 0.4, 1.0)
    count, now_ns = turn(belt, 0.4, 1.0, count, START - 3600 * SECOND)
    assert belt.motion(now_ns).state is BeltState.RUNNING
    assert belt.position(now_ns) == pytest.approx(0.8, abs=2 * SCALE)


def test_steady_belt_is_exact_far_from_the_epoch():
    belt = SteadyBelt(0.4, START)
    origin = belt.position(START)
    for seconds in (0.3, 100.0, 7 * 86400.0):
        time_ns = START + round(seconds * SECOND)
        assert belt.time_at(belt.position(time_ns), START) == pytest.approx(time_ns, abs=1)
    assert belt.time_at(origin + 0.12, START) == START + 300_000_000
    assert belt.motion(START).speed == 0.4


@pytest.mark.parametrize('changes', [{'expected_speed': 0.0}, {'tolerance': 1.0}])
def test_values_that_cannot_be_are_refused(changes):
    with pytest.raises(ValueError):
        make_belt(**changes)
