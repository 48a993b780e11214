# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The offset of another clock lies within its bounds, and a clock that was set is believed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.cell.clock_offset import ClockOffsetEstimator

SECOND = 10**9
offsets = st.integers(-3600 * SECOND, 3600 * SECOND)
delays = st.lists(st.integers(0, 2 * SECOND), min_size=1, max_size=20)


@given(offsets, delays, delays)
def test_offset_lies_within_the_bounds(offset, down, up):
    estimator = ClockOffsetEstimator(capacity=20)
    for index, delay in enumerate(down):
        estimator.add(index + offset, index + delay, index)
    trip = min(up) + min(down)
    estimator.add_round_trip(trip, len(down))
    least = estimator.at_least_ns(len(down))
    assert least <= offset <= least + trip
    sure = estimator.disagreement_ns(len(down), assumed_round_trip_ns=0)
    assert (0 <= sure <= offset) if offset > 0 else (offset <= sure <= 0 or sure == 0)
    assert abs(sure) >= abs(offset) - trip


@given(st.lists(st.integers(0, SECOND), min_size=1, max_size=30))
def test_clocks_that_agree_are_never_accused_however_slow_the_link_becomes(delays):
    estimator = ClockOffsetEstimator()
    for index, delay in enumerate(delays):
        now_ns = index * SECOND
        estimator.add(now_ns - delay, now_ns, now_ns)
        estimator.add_round_trip(delay + 1_000_000, now_ns)
        assert estimator.disagreement_ns(now_ns, assumed_round_trip_ns=0) == 0


def test_clock_that_was_set_right_is_believed_and_the_old_is_forgotten():
    estimator = ClockOffsetEstimator(capacity=4, horizon_ns=10 * SECOND)
    assert estimator.at_least_ns(0) is None
    assert estimator.disagreement_ns(0, assumed_round_trip_ns=0) == 0
    for index in range(4):
        estimator.add((index + 30) * SECOND, index * SECOND, index * SECOND)
    assert estimator.disagreement_ns(4 * SECOND, assumed_round_trip_ns=0) == 30 * SECOND
    for index in range(4, 8):
        estimator.add(index * SECOND - 1000, index * SECOND, index * SECOND)
    assert estimator.disagreement_ns(8 * SECOND, assumed_round_trip_ns=2000) == 0
    assert estimator.at_least_ns(30 * SECOND) is None
    estimator.add_round_trip(-5, 30 * SECOND)
    estimator.add(0, 30 * SECOND, 30 * SECOND)
    assert estimator.disagreement_ns(30 * SECOND, assumed_round_trip_ns=SECOND) == -29 * SECOND
