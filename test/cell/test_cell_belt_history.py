# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""An item's arrival follows the belt through changes of speed, stops, and silence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.cell.belt_history import NEVER_NS, BeltHistory

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
    history = BeltHistory()
    stopped_ns, _ = drive(history, [(0.4, 0.5), (0.0, 3.0)])
    assert history.arrival_ns(0, 0.36, stopped_ns) == NEVER_NS
    history = BeltHistory()
    back_ns, _ = drive(history, [(0.4, 0.5), (-0.1, 1.0)])
    assert history.arrival_ns(0, 0.36, back_ns) == NEVER_NS
    history = BeltHistory()
    on_ns, _ = drive(history, [(0.4, 0.5), (0.0, 3.0), (0.4, 0.1)])
    assert history.arrival_ns(0, 0.36, on_ns) == pytest.approx(3.9 * SECOND, abs=MS)


def test_what_is_not_reported_is_not_known():
    history = BeltHistory()
    assert history.arrival_ns(0, 0.36, 0) is None and not history.has_spoken
    now_ns, position = drive(history, [(0.4, 1.0)], start_ns=10 * SECOND)
    assert history.moved_since(9 * SECOND, now_ns) is None  # before the first report
    assert history.arrival_ns(9 * SECOND, 0.36, now_ns) == NEVER_NS
    assert history.moved_since(10 * SECOND, now_ns + 140 * MS) == pytest.approx(0.456)
    for silent_ns in (160 * MS, 2 * SECOND):  # three reports are missing
        assert history.moved_since(10 * SECOND, now_ns + silent_ns) is None
        assert history.arrival_ns(10 * SECOND, 0.36, now_ns + silent_ns) == NEVER_NS
    assert not history.add(now_ns, position + 5.0, 0.4)  # not newer: left out
    assert history.moved_since(10 * SECOND, now_ns) == pytest.approx(position)


def test_how_long_a_report_counts_follows_from_how_often_they_come():
    history = BeltHistory()
    assert history.silence_ns == 100 * MS
    drive(history, [(0.4, 3.0)], period_ns=200 * MS)
    assert history.silence_ns == 600 * MS
    history = BeltHistory()
    drive(history, [(0.4, 9.0)], period_ns=900 * MS)
    assert history.silence_ns == SECOND


def test_the_past_is_forgotten_by_way_and_not_by_time():
    history = BeltHistory(kept_way=1.0)
    now_ns, _ = drive(history, [(0.4, 1.0), (0.0, 7200.0), (0.4, 1.0)])
    assert history.moved_since(500 * MS, now_ns) == pytest.approx(0.6)
    assert len(history._reports) < 100
    now_ns, _ = drive(BeltHistory(), [(0.4, 1.0)])
    history = BeltHistory(kept_way=1.0)
    now_ns, position = drive(history, [(0.4, 10.0)])
    assert history.place(5 * SECOND, now_ns) is None  # 2 m ago
    assert history.place(8 * SECOND, now_ns).position == pytest.approx(3.2)


def test_jogging_for_hours_needs_no_more_memory():
    history = BeltHistory(kept_way=10.0**6, capacity=500)
    drive(history, [(0.1, 1.0), (-0.1, 1.0)] * 100)
    assert len(history._reports) == 500


@pytest.mark.parametrize('position', [float('nan'), float('inf'), -float('inf'), 1e300])
def test_position_that_is_none_is_refused(position):
    history = BeltHistory()
    now_ns, _ = drive(history, [(0.4, 1.0)])
    assert not history.add(now_ns + 50 * MS, position, 0.4)
    assert history.moved_since(0, now_ns) == pytest.approx(0.4)


@given(
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1) | st.integers(0, 10**10),
            st.floats(allow_nan=True, allow_infinity=True),
            st.none() | st.floats(allow_nan=True, allow_infinity=True, width=32),
            st.integers(0, 2**32 - 1),
        ),
        max_size=30,
    ),
    st.sampled_from([0.0, 0.1, 6.5536]),
)
def test_no_report_however_absurd_is_an_error(reports, length):
    history = BeltHistory(counter_length=length)
    for time_ns, position, speed, origin in reports:
        history.add(time_ns, position, speed, origin=origin)
        for now_ns in (0, time_ns, time_ns + SECOND):
            history.arrival_ns(time_ns, 0.36, now_ns)
            history.time_at(0.5, now_ns)
        assert abs(history.speed()) < float('inf')


def test_clock_that_was_set_back_costs_the_past_but_not_the_place():
    history = BeltHistory()
    now_ns, position = drive(history, [(0.4, 1.0)], start_ns=100 * SECOND)
    place = history.place(now_ns, now_ns)
    for n in range(1, 11):
        history.add(5 * SECOND + n * 50 * MS, position + 0.02 * n, 0.4)
    now_ns = 5 * SECOND + 500 * MS
    assert history.way_since(place, now_ns) == pytest.approx(0.2)


def test_time_at_a_position_is_that_of_the_belt():
    history = BeltHistory()
    now_ns, _ = drive(history, [(0.4, 1.0), (0.0, 3.0), (0.4, 1.0)])
    for position, seconds in ((0.2, 0.5), (0.6, 4.5), (0.9, 5.25)):
        assert history.time_at(position, now_ns) == pytest.approx(seconds * SECOND, abs=MS)
    drive(history, [(0.0, 0.2)], start_ns=now_ns)
    assert history.time_at(2.0, now_ns + 200 * MS) is None


@pytest.mark.parametrize('length', [-1.0, float('nan'), float('inf')])
def test_length_that_is_none_is_refused(length):
    with pytest.raises(ValueError, match='counter_length'):
        BeltHistory(counter_length=length)
