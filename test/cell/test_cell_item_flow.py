# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Frames of a free-running camera are told from the items that a belt can bring."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.cell.item_flow import SHORTEST_PITCH, ItemFlow

SECOND = 10**9
SPEED = 0.4
PADDLE = 0.09


def flagged(times, speed=SPEED):
    """Return the time (s) of the first item at which too many are reported; None = never."""
    flow = ItemFlow(PADDLE)
    for time in times:
        if flow.add(round(time * SECOND), speed * time):
            return time
    return None


@pytest.mark.parametrize('rate', [6, 10, 15, 30, 60, 120])
@pytest.mark.parametrize('jitter', [0.0, 0.2])
def test_a_camera_that_runs_free_is_found_out_within_two_seconds(rate, jitter):
    times = [(n + jitter * (n % 3 - 1)) / rate for n in range(1, 10 * rate)]
    assert flagged(times) <= 2.0


def test_frames_of_a_standing_belt_are_no_items():
    assert flagged([n / 30 for n in range(90)], speed=0.0) <= 2.0


@given(
    st.lists(st.integers(1, 5), min_size=10, max_size=60),
    st.floats(0.0, 0.05),
    st.floats(0.3, 1.0),
)
def test_bursts_of_a_triggered_camera_are_items(sizes, gap, pause):
    times, now = [], 0.0
    for size in sizes:
        for _ in range(size):
            now += max(gap, 1e-4)
            times.append(now)
        now += pause
    assert flagged(times) is None


@given(st.lists(st.floats(SHORTEST_PITCH, 1.0), min_size=20, max_size=200))
def test_parts_that_lie_as_they_fall_are_items(pitches):
    pitches = [pitch * (1 + index % 2 * 3) for index, pitch in enumerate(pitches)]  # uneven
    times, place = [], 0.0
    for pitch in pitches:
        place += pitch
        times.append(place / SPEED)
    assert flagged(times) is None


@pytest.mark.parametrize('pitch', [PADDLE, 0.2])
def test_parts_from_an_indexed_feeder_are_items(pitch):
    assert flagged([n * pitch * 1.001 / SPEED for n in range(300)]) is None


def test_the_count_is_that_of_the_last_two_seconds():
    flow = ItemFlow(PADDLE)
    for n in range(10):
        flow.add(n * SECOND, n * SPEED)
    assert flow.count(9 * SECOND) == 3
    assert flow.count(12 * SECOND) == 0
