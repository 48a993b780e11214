# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""An item's arrival follows the belt through changes of speed, stops, and silence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.cell.belt_history import BeltHistory

SECOND = 10**9
MS = 1_000_000


def drive(history, plan, start_ns=0, period_ns=50 * MS):
    """Report a belt that runs at (speed, seconds) in turn; return time and position at the end."""
    time_ns, position = start_ns, 0.0
    history.add(time_ns, position, plan[0][0])
    for speed, seconds in plan:
        for _ in range(round(seconds * SECOND / period_ns)):
            time_ns += period_ns
            position += speed * period_ns / SECOND
            history.add(time_ns, position, speed)
    return time_ns, position


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.2, 0.4, 0.6]), st.floats(0.1, 2.0)),
        min_size=1,
        max_size=6,
    ),
    st.floats(0.1, 0.9),
)
def test_way_is_that_of_the_belt_and_arrival_agrees_with_it(plan, way):
    history = BeltHistory()
    now_ns, position = drive(history, plan)
    assert history.moved_since(0, now_ns) == pytest.approx(position)
    arrival_ns = history.arrival_ns(0, way, now_ns)
    speed = plan[-1][0]
    if speed:
        assert (arrival_ns - now_ns) / SECOND == pytest.approx((way - position) / speed, abs=1e-6)
    else:
        assert arrival_ns >= now_ns


def test_item_waits_while_the_belt_stands():
    history = BeltHistory()
    now_ns, _ = drive(history, [(0.4, 0.5)])
    running = history.arrival_ns(0, 0.36, now_ns)
    assert running == pytest.approx(0.9 * SECOND, abs=MS)
    stopped_ns, _ = drive(history, [(0.4, 0.5), (0.0, 3.0)])
    assert history.arrival_ns(0, 0.36, stopped_ns) == stopped_ns + 2 * SECOND
    history = BeltHistory()
    on_ns, _ = drive(history, [(0.4, 0.5), (0.0, 3.0), (0.4, 0.1)])
    assert history.arrival_ns(0, 0.36, on_ns) == pytest.approx(3.9 * SECOND, abs=MS)


def test_what_is_not_reported_is_not_known():
    history = BeltHistory()
    assert history.arrival_ns(0, 0.36, 0) is None
    now_ns, position = drive(history, [(0.4, 1.0)], start_ns=10 * SECOND)
    assert history.moved_since(9 * SECOND, now_ns) is None  # before the first report
    assert history.moved_since(10 * SECOND, now_ns + 2 * SECOND) is None  # silent since
    history.add(now_ns, position + 5.0, 0.4)  # not newer: left out
    assert history.moved_since(10 * SECOND, now_ns) == pytest.approx(position)
    history.add(now_ns + 50 * MS, 1000.0, 0.4)  # the camera was restarted
    assert history.moved_since(10 * SECOND, now_ns + 50 * MS) is None
