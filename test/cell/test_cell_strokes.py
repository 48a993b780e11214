# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Strokes come in time whatever the wake-ups, once each, and silence is noticed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stl_conveyor.cell.strokes import Extend, Retract, Silent, StrokeSchedule, TooLate

MS = 1_000_000
HOLD, CONFIRM, MAX_LATE = 200 * MS, 500 * MS, 100 * MS
LANES = ('A', 'B', 'C')

plans = st.lists(st.tuples(st.sampled_from(LANES), st.integers(0, 5_000)), min_size=1, max_size=30)


def make_schedule(**changes):
    return StrokeSchedule(
        **{'hold_ns': HOLD, 'confirm_ns': CONFIRM, 'max_late_ns': MAX_LATE, **changes}
    )


def run(schedule, jitter=lambda: 0, confirm=lambda stroke: None, until=10**13):
    """Wake up when asked, `jitter` later; return (time, action) of everything that happened."""
    seen, now = [], 0
    while (due := schedule.next_ns()) is not None and due < until:
        now = max(now, due + jitter())
        while (action := schedule.step(now)) is not None:
            seen.append((now, action))
            if isinstance(action, Extend) and confirm(action.stroke) is not None:
                assert schedule.confirm(action.stroke.lane, now + 30 * MS)
    return seen


@given(plans)
def test_every_stroke_is_made_at_its_time_and_confirmed_or_silent_once(plan):
    schedule = make_schedule()
    for index, (lane, due) in enumerate(plan):
        schedule.add(index, lane, due * MS)
    seen = run(schedule, confirm=lambda stroke: True if stroke.item % 2 else None)
    made = [(now, a) for now, a in seen if isinstance(a, Extend)]
    assert sorted(a.stroke.item for _, a in made) == list(range(len(plan)))
    assert all(now == a.stroke.due_ns and a.lateness_ns == 0 for now, a in made)
    silent = [a.stroke.item for _, a in seen if isinstance(a, Silent)]
    # A confirmation is that of the oldest open stroke of the lane: as many are silent, and
    # none of them twice.
    assert len(silent) == len(set(silent)) == sum(1 for i in range(len(plan)) if not i % 2)


@given(plans)
@example([('A', 0), ('A', 200)])  # the second when the first has just gone back
def test_a_diverter_is_out_from_each_stroke_until_hold_after_the_last(plan):
    schedule = make_schedule(confirm_ns=0)
    for index, (lane, due) in enumerate(plan):
        schedule.add(index, lane, due * MS)
    out = dict.fromkeys(LANES, False)
    retracted = []
    for now, action in run(schedule):
        if isinstance(action, Extend):
            assert action.held == out[action.stroke.lane]
            out[action.stroke.lane] = True
        else:
            assert isinstance(action, Retract) and out[action.lane]
            out[action.lane] = False
            retracted.append((action.lane, now))
    assert not any(out.values())
    for lane, due in plan:
        later = [r for name, r in retracted if name == lane and r >= due * MS]
        assert later and min(later) >= due * MS + HOLD


def test_lateness_is_that_of_the_wake_up_and_does_not_add_up():
    rng = np.random.default_rng(1)
    schedule = make_schedule()
    for index in range(1000):
        schedule.add(index, LANES[index % 3], index * 100 * MS)
    wake_up = rng.exponential(0.3 * MS, 100_000).astype(int)
    source = iter(wake_up)
    seen = run(schedule, jitter=lambda: int(next(source)), confirm=lambda stroke: True)
    late = np.array([a.lateness_ns for _, a in seen if isinstance(a, Extend)])
    assert len(late) == 1000
    assert np.percentile(late, 50) <= np.percentile(wake_up, 55)
    assert late.max() <= wake_up.max()
    assert abs(late[:500].mean() - late[500:].mean()) < 0.1 * MS, 'no drift'


def test_a_stroke_that_would_hit_another_item_is_not_made():
    schedule = make_schedule()
    schedule.add('early', 'A', 0)
    schedule.add('late', 'A', 0)
    assert isinstance(schedule.step(MAX_LATE), Extend)
    action = schedule.step(MAX_LATE + 1)
    assert isinstance(action, TooLate) and action.lateness_ns == MAX_LATE + 1


def test_confirmation_by_number_takes_that_stroke_and_a_failed_one_is_not_awaited():
    schedule = make_schedule()
    first, second = schedule.add('x', 'A', 0), schedule.add('y', 'A', 0)
    schedule.step(0), schedule.step(0)
    confirmation = schedule.confirm('A', 7 * MS, second.serial)
    assert confirmation.stroke.item == 'y' and confirmation.delay_ns == 7 * MS
    assert schedule.confirm('A', 8 * MS, second.serial) is None
    assert schedule.confirm('B', 8 * MS) is None
    assert schedule.withdraw(first) and not schedule.withdraw(first)
    assert schedule.confirm('A', 9 * MS) is None


@pytest.mark.parametrize('changes', [{'hold_ns': 0}, {'confirm_ns': -1}, {'max_late_ns': -1}])
def test_times_that_cannot_be_are_refused(changes):
    with pytest.raises(ValueError):
        make_schedule(**changes)


@given(plans, st.integers(0, 3_000))
def test_replanned_strokes_are_made_at_their_new_times(plan, delay):
    schedule = make_schedule(confirm_ns=0)
    for index, (lane, due) in enumerate(plan):
        schedule.add(index, lane, due * MS)
    schedule.replan(lambda stroke: stroke.due_ns + delay * MS)
    made = {a.stroke.item: now for now, a in run(schedule) if isinstance(a, Extend)}
    assert made == {index: (due + delay) * MS for index, (_, due) in enumerate(plan)}
