# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A clock that was set is told from one that runs, fast, slowly or with halts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.cell.clock_jumps import MOST_CREDIT_NS, SIMULATED_STEP_NS, STEP_NS, ClockJumps

MS = 10**6
SECOND = 10**9
intervals = st.lists(st.integers(1, 2 * SECOND), min_size=1, max_size=50)


def run(jumps, intervals, rate=1.0, start=(1000 * SECOND, 0)):
    """Let both clocks run; return their last readings and the jumps that were seen."""
    (now_ns, steady_ns), seen = start, []
    for interval in intervals:
        steady_ns += interval
        now_ns += round(rate * interval)
        seen.append(jumps.observe(now_ns, steady_ns))
    return (now_ns, steady_ns), seen


@given(intervals, st.floats(-0.0005, 0.0005))
def test_a_clock_that_is_slewed_never_jumps(intervals, drift):
    assert not any(run(ClockJumps(), intervals, 1 + drift)[1])


@given(intervals, st.integers(-(10**6) * SECOND, 10**6 * SECOND))
def test_each_step_of_a_real_clock_is_measured(intervals, step):
    jumps = ClockJumps()
    (now_ns, steady_ns), _ = run(jumps, intervals)
    seen = jumps.observe(now_ns + step + 100 * MS, steady_ns + 100 * MS)
    assert seen == (step if abs(step) > STEP_NS else 0)
    assert not any(
        run(jumps, intervals, start=(now_ns + step + 100 * MS, steady_ns + 100 * MS))[1]
    )


@pytest.mark.parametrize('rate', [0.25, 1.0, 5.0])
def test_a_step_of_simulated_time_of_few_seconds_is_told(rate):
    jumps = ClockJumps(simulated=True)
    (now_ns, steady_ns), seen = run(jumps, [100 * MS] * 300, rate)
    assert not any(seen[100:])
    step = 3 * SECOND
    seen = jumps.observe(now_ns + step, steady_ns + 10 * MS)
    assert seen == pytest.approx(step, abs=100 * MS)
    assert jumps.observe(now_ns, steady_ns + 20 * MS) == -step


@given(st.integers(1, 100 * SECOND))
def test_every_step_back_of_simulated_time_is_told(step):
    jumps = ClockJumps(simulated=True)
    (now_ns, steady_ns), _ = run(jumps, [100 * MS] * 10)
    assert jumps.observe(now_ns - step, steady_ns + 100 * MS) == -step


@given(st.integers(1, MOST_CREDIT_NS), st.integers(1, SIMULATED_STEP_NS // 2))
def test_simulated_time_that_catches_up_after_a_halt_was_not_set(halt, more):
    jumps = ClockJumps(simulated=True)
    (now_ns, steady_ns), _ = run(jumps, [100 * MS] * 100)
    assert jumps.observe(now_ns, steady_ns + halt) == 0
    assert jumps.observe(now_ns + halt + more, steady_ns + halt + MS) == 0


def test_the_first_time_on_clock_is_no_jump():
    jumps = ClockJumps(simulated=True)
    assert jumps.observe(0, 0) == jumps.observe(0, SECOND) == 0
    assert jumps.observe(1_795_000_000 * SECOND, 2 * SECOND) == 0
