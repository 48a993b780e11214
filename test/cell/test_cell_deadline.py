# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Time-budget arithmetic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.cell.deadline import DelayEstimator, Trials, latest_send_ns

MS = 1_000_000


def test_latest_send_leaves_room_for_answer_and_guard():
    assert latest_send_ns(1000 * MS, 20 * MS, 90 * MS) == 890 * MS


def test_estimate_is_a_high_quantile_of_recent_delays():
    delay = DelayEstimator(initial_ns=50 * MS, maximum_ns=1000 * MS, quantile=0.9)
    assert delay.estimate_ns(0) == 50 * MS
    for i in range(10):
        delay.add((i + 1) * MS, i)
    assert delay.estimate_ns(10) == 10 * MS


def test_estimate_forgets_old_samples_so_that_nothing_locks_up():
    delay = DelayEstimator(initial_ns=50 * MS, maximum_ns=1000 * MS, horizon_ns=1000 * MS)
    delay.add(1000 * MS, 0)
    assert delay.estimate_ns(1) == 1000 * MS
    assert delay.estimate_ns(1001 * MS) == 50 * MS


def test_a_delay_that_is_measured_anew_takes_the_place_of_all_before():
    delay = DelayEstimator(initial_ns=50 * MS, maximum_ns=5000 * MS)
    for i in range(32):
        delay.add(3000 * MS, (10_000 + i) * MS)
    delay.measure_anew(11_000 * MS)
    assert delay.estimate_ns(11_000 * MS) == 3000 * MS  # a trial that is lost changes nothing
    delay.add(2500 * MS, 11_010 * MS)  # it began before
    assert delay.estimate_ns(11_010 * MS) == 3000 * MS
    delay.add(20 * MS, 11_030 * MS)
    assert delay.estimate_ns(11_030 * MS) == 20 * MS
    delay.add(30 * MS, 11_040 * MS)
    assert delay.estimate_ns(11_040 * MS) == 30 * MS


def test_what_is_tried_becomes_rare_while_it_is_in_vain():
    trials = Trials(first_ns=1000 * MS, longest_ns=8000 * MS)
    tried = [at for at in range(0, 40_000, 250) if trials.begins(at * MS)]
    assert tried == [1000, 3000, 7000, 15_000, 23_000, 31_000, 39_000]
    trials.end()
    assert [at for at in range(40_000, 45_000, 250) if trials.begins(at * MS)] == [41_000, 43_000]


def test_a_trial_measures_all_delays_anew_where_only_they_forbid_it():
    delays = [DelayEstimator(initial_ns=ms * MS, maximum_ns=5000 * MS) for ms in (50, 0)]
    for delay in delays:
        delay.add(2000 * MS, 0)
    trials = Trials(*delays, first_ns=1000 * MS)
    assert (trials.reserve_ns(0), trials.unmeasured_ns) == (4000 * MS, 50 * MS)

    def tried(at, left):
        return trials.is_trial(at * MS, lambda reserve_ns: reserve_ns <= left * MS)

    assert not tried(0, 500) and tried(1000, 500)
    assert not tried(4000, 40)  # it would be too late whatever is measured
    for delay in delays:
        delay.add(100 * MS, 1100 * MS)
    assert trials.reserve_ns(1100 * MS) == 200 * MS
    assert not tried(1100, 500)  # that needs no trial


def test_what_comes_seldom_is_tried_each_time():
    trials = Trials(first_ns=1000 * MS, longest_ns=8000 * MS)
    assert [at for at in range(0, 50, 10) if trials.begins(at * 1000 * MS)] == [10, 20, 30, 40]


def test_a_clock_set_forward_is_no_delay():
    delay = DelayEstimator(initial_ns=50 * MS, maximum_ns=1000 * MS)
    delay.add(3_600_000 * MS, 3_600_000 * MS)
    assert delay.estimate_ns(3_600_000 * MS) == 50 * MS
    delay.add(20 * MS, 3_600_020 * MS)
    assert delay.estimate_ns(3_600_020 * MS) == 20 * MS


def test_a_clock_set_back_empties_the_estimate():
    delay = DelayEstimator(initial_ns=50 * MS, maximum_ns=1000 * MS)
    delay.add(200 * MS, 10_000 * MS)
    assert delay.estimate_ns(5 * MS) == 50 * MS


@given(st.lists(st.tuples(st.integers(-(10**12), 10**12), st.integers(0, 10**12))))
def test_estimate_stays_within_its_bounds(samples):
    delay = DelayEstimator(initial_ns=50 * MS, maximum_ns=1000 * MS, capacity=8)
    for value, now in samples:
        delay.add(value, now)
        assert 0 <= delay.estimate_ns(now) <= 1000 * MS
