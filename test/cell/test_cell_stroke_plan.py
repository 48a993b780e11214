# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Items meet their diverter by the way of the belt: one stroke, in place, on a belt that runs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moving_belt import (
    LEAD_NS,
    MS,
    PERIOD_NS,
    SECOND,
    SPEED,
    USEFUL_WAY,
    WAY,
    Counter,
    Line,
    MovingBelt,
    expected_place,
    reports_of,
)

from stl_conveyor.cell.belt_history import BeltHistory
from stl_conveyor.cell.stroke_plan import Hold, Miss, Passage, StrokePlan
from stl_conveyor.cell.strokes import Extend, Window

SILENCE_NS = 3 * PERIOD_NS
HOUR = 3600.0
CAPTURE = 1 * SECOND


def only(told):
    (one,) = told
    return one


@pytest.mark.parametrize('stand', [2.0, 58.0, 62.0, 120.0, HOUR])
@pytest.mark.parametrize('after', [0.3, 0.7])
def test_item_is_pushed_in_its_place_however_long_the_belt_stands(stand, after):
    belt = MovingBelt.of((SPEED, 1.0 + after), (0.0, stand), (SPEED, 3.0))
    stroke = only(Line(belt, CAPTURE).run(reports_of(belt, Counter())))
    assert stroke.what is Extend
    assert stroke.moved == pytest.approx(expected_place(SPEED), abs=0.002)


@pytest.mark.parametrize('back', [0.05, 0.2, 0.5])
def test_item_that_was_jogged_back_is_pushed_once_and_in_its_place(back):
    belt = MovingBelt.of((SPEED, 1.5), (0.0, 0.5), (-0.1, 10 * back), (0.0, 0.3), (SPEED, 4.0))
    stroke = only(Line(belt, CAPTURE).run(reports_of(belt, Counter())))
    assert stroke.what is Extend
    assert stroke.moved == pytest.approx(expected_place(SPEED), abs=0.002)


def test_item_that_was_pushed_is_not_pushed_again_when_the_belt_brings_it_back():
    belt = MovingBelt.of((SPEED, 2.2), (-SPEED, 0.8), (SPEED, 3.0))
    assert only(Line(belt, CAPTURE).run(reports_of(belt, Counter()))).what is Extend


@pytest.mark.parametrize('told', [False, True])
@pytest.mark.parametrize(
    'bits, step', [(8, 0.005), (12, 0.001), (16, 0.0001), (16, 0.001), (32, 0.0001)]
)
@pytest.mark.parametrize('signed', [False, True])
@pytest.mark.parametrize('stand', [0.0, 5.0])
def test_counter_of_any_length_may_start_again_under_an_item(told, bits, step, signed, stand):
    length = step * 2**bits
    end = length / 2 if signed else length
    counter = Counter(length, end - 0.55, step, signed)  # it does 0.15 m after the capture
    belt = MovingBelt.of((SPEED, 1.5), (0.0, stand), (SPEED, 4.0))
    line = Line(belt, CAPTURE, length=length if told else 0.0)
    stroke = only(line.run(reports_of(belt, counter)))
    assert stroke.what is Extend
    assert stroke.moved == pytest.approx(expected_place(SPEED), abs=0.002 + step)


@pytest.mark.parametrize('speed', [None, 0.0])
@pytest.mark.parametrize('told', [False, True])
def test_counter_of_which_no_speed_is_known_may_start_again_under_an_item(speed, told):
    length, step = 6.5536, 0.0001
    belt = MovingBelt.of((SPEED, 1.6), (0.0, 5.0), (SPEED, 4.0))
    line = Line(belt, CAPTURE, length=length if told else 0.0)
    counter = Counter(length, length - 0.55, step)
    stroke = only(line.run((t, p, speed, o) for t, p, _, o in reports_of(belt, counter)))
    assert stroke.what is Extend
    assert stroke.moved == pytest.approx(expected_place(SPEED), abs=0.002 + step)


def restarted(belt, gone_ns, back_ns, origin=0, settling_ns=0):
    """Yield the reports of a counter whose reader is gone for a while and then counts anew."""
    for time_ns, position, speed, _ in reports_of(belt, Counter(start=0.7)):
        if time_ns < gone_ns:
            yield time_ns, position, speed, origin
        elif time_ns >= back_ns:
            anew = belt.place(time_ns) - belt.place(back_ns)
            told = None if time_ns < back_ns + settling_ns else speed
            yield time_ns, anew, told, origin + 1 if origin else 0


@pytest.mark.parametrize('origin', [0, 7])
@pytest.mark.parametrize('settling', [0, 500 * MS])
@pytest.mark.parametrize(
    'stand, gone, back', [(8.0, 3.0, 5.0), (120.0, 2.0, 100.0), (HOUR, 2.0, 3500.0)]
)
def test_reader_that_was_started_again_during_a_stand_loses_nothing(
    origin, settling, stand, gone, back
):
    belt = MovingBelt.of((SPEED, 1.4), (0.0, stand), (SPEED, 4.0))
    gone_ns, back_ns = round(gone * SECOND), round(back * SECOND)
    line = Line(belt, CAPTURE)
    stroke = only(line.run(restarted(belt, gone_ns, back_ns, origin, settling)))
    assert stroke.what is Extend
    assert stroke.moved == pytest.approx(expected_place(SPEED), abs=0.002)


@pytest.mark.parametrize('origin', [0, 7])
@pytest.mark.parametrize('settling', [0, 500 * MS])
def test_item_is_lost_by_name_if_the_belt_moved_and_nobody_counted(origin, settling):
    belt = MovingBelt.of((SPEED, 1.4), (0.0, 2.0), (SPEED, 4.0))
    line = Line(belt, CAPTURE)
    end = only(
        line.run(restarted(belt, round(2.0 * SECOND), round(3.6 * SECOND), origin, settling))
    )
    assert end.what is Miss.LOST


@pytest.mark.parametrize('resumed, end', [(0.0, Extend), (0.02, Extend), (0.2, Miss.PAST)])
def test_counter_that_went_on_unseen_tells_where_the_item_is_now(resumed, end):
    """`resumed`: m that the belt brought the item beyond its command's place in the silence."""
    before = expected_place(SPEED) - 0.1
    unseen = (0.1 + resumed) / SPEED
    belt = MovingBelt.of((SPEED, 1.0 + before / SPEED), (0.0, 2.0), (SPEED, unseen + 3.0))
    resumes_ns = belt.times[2]
    gone = range(
        (resumes_ns - SECOND) // PERIOD_NS, -(-(resumes_ns + round(unseen * SECOND)) // PERIOD_NS)
    )
    told = only(Line(belt, CAPTURE).run(reports_of(belt, Counter(), lost=lambda n: n in gone)))
    assert told.what is end
    if end is Extend:
        assert expected_place(SPEED) - 0.002 <= told.moved <= expected_place(SPEED) + USEFUL_WAY


def test_no_stroke_while_nothing_is_reported_and_the_belt_may_stand_or_run():
    belt = MovingBelt.of((SPEED, 6.0))
    line = Line(belt, CAPTURE)
    assert line.run(reports_of(belt, Counter(), until_ns=round(1.5 * SECOND))) == []
    line.schedule.add('item', 'A', CAPTURE + 780 * MS)
    line.passages[1] = Passage(CAPTURE, WAY, LEAD_NS, CAPTURE + 780 * MS)
    line._wake_until(3600 * SECOND)
    line._act(3600 * SECOND)
    assert line.told == [] and line.schedule.held == 1
    assert line.plan.hold(3600 * SECOND) is Hold.UNKNOWN


legs = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, SPEED, SPEED, 0.3, 0.5, -0.1, -0.3]),
        st.sampled_from([0.05, 0.1, 0.23, 0.5, 1.07, 3.0]),
    ),
    min_size=1,
    max_size=8,
)
counters = st.sampled_from(
    [(0.0, 0.0), (0.0, 0.001), (6.5536, 0.0001), (4.096, 0.001), (1.7, 0.0), (65.536, 0.001)]
)


@settings(max_examples=100)
@given(
    legs, counters, st.booleans(), st.integers(0, 2**30), st.floats(0.0, 6.0), st.integers(0, 49)
)
def test_one_stroke_on_a_belt_that_runs_whatever_it_does_before(
    plan, counter, told, losses, start, phase
):
    length, step = counter
    belt = MovingBelt.of((SPEED, 1.0), (SPEED, 0.2), *plan, (SPEED, 12.0))
    capture_ns = CAPTURE + phase * MS
    line = Line(belt, capture_ns, length=length if told else 0.0)

    def lost(n):
        """Lose no two reports that follow each other: the belt is never unknown for that."""
        dropped = [bool(losses >> (k % 30) & 1) for k in (n, n - 1)]
        return n > 4 and n % 30 != 0 and dropped == [True, False]

    end = only(line.run(reports_of(belt, Counter(length, start, step), lost=lost)))
    now_ns, speed = end.time_ns, belt.speed(end.time_ns)
    assert end.what is Extend
    assert now_ns - end.heard_ns <= SILENCE_NS
    if speed <= 0:  # it has stopped since the newest report
        assert belt.since_change_ns(now_ns) <= now_ns - end.heard_ns
    latest = expected_place(speed) + USEFUL_WAY
    assert end.moved <= latest + 0.002 or belt.since_change_ns(now_ns) <= SILENCE_NS
    # A counter of a length that is not told may start again in the very moment of a stop.
    unsure = 0.02 if length and not told else 0.0
    if belt.since_change_ns(now_ns) > 350 * MS and speed > 0:
        assert end.moved == pytest.approx(expected_place(speed), abs=0.002 + step + unsure)


@settings(max_examples=100)
@given(
    legs,
    counters,
    st.lists(st.tuples(st.integers(0, 200), st.integers(3, 60)), max_size=4),
    st.booleans(),
)
def test_silence_holds_and_never_adds_a_stroke(plan, counter, silences, told):
    length, step = counter
    belt = MovingBelt.of((SPEED, 1.2), *plan, (SPEED, 12.0))
    gone = {n for begin, count in silences for n in range(begin + 22, begin + 22 + count)}
    line = Line(belt, CAPTURE, length=length if told else 0.0)
    end = only(line.run(reports_of(belt, Counter(length, 0.3, step), lost=gone.__contains__)))
    if end.what is Extend:
        assert end.time_ns - end.heard_ns <= SILENCE_NS + MS
        speed = belt.speed(end.time_ns)
        steady = belt.since_change_ns(end.time_ns) > 350 * MS
        if steady and speed > 0:
            assert end.moved <= expected_place(speed) + USEFUL_WAY + 0.002 + step
    else:
        assert end.what in (Miss.PAST, Miss.LOST) and gone


@pytest.mark.parametrize('lie', [0.4, 400.0, float('nan'), float('inf'), -3.0, 0.0])
def test_speed_that_is_no_speed_of_the_belt_moves_nothing(lie):
    """A drive may report the speed that it was set to, in units of its own, or none."""
    belt = MovingBelt.of((SPEED, 1.0 + 0.7), (0.0, 20.0), (SPEED, 4.0))
    reports = ((t, p, lie, o) for t, p, _, o in reports_of(belt, Counter()))
    stroke = only(Line(belt, CAPTURE).run(reports))
    assert stroke.what is Extend and belt.speed(stroke.time_ns) > 0
    assert abs(stroke.moved - expected_place(SPEED)) < 0.045


@pytest.mark.parametrize('ahead', [0.5, 2.0, 3600.0])
def test_report_with_a_stamp_of_the_future_costs_no_item(ahead):
    belt = MovingBelt.of((SPEED, 1.4), (0.0, 3.0), (SPEED, 4.0))

    def reports():
        for n, (time_ns, *rest) in enumerate(reports_of(belt, Counter())):
            yield (time_ns, *rest)
            if n == 34:  # while it stands
                line.history.add(time_ns + round(ahead * SECOND), rest[0], 0.0)

    line = Line(belt, CAPTURE)
    stroke = only(line.run(reports()))
    assert stroke.what is Extend
    assert stroke.moved == pytest.approx(expected_place(SPEED), abs=0.002)


def test_before_anybody_reports_items_are_expected_by_time_unless_told_otherwise():
    passage = Passage(CAPTURE, WAY, LEAD_NS, due_ns=CAPTURE + 780 * MS)
    plan = StrokePlan(BeltHistory(), useful_way=USEFUL_WAY, max_late_ns=100 * MS)
    assert plan.when(passage, CAPTURE) == Window(CAPTURE + 780 * MS, CAPTURE + 880 * MS)
    assert plan.hold(CAPTURE) is None
    plan.is_reported = True
    assert plan.when(passage, CAPTURE) is plan.hold(CAPTURE) is Hold.UNKNOWN
    plan.belt.add(CAPTURE + 500 * MS, 1.0, SPEED)
    assert plan.when(passage, CAPTURE + 500 * MS) is Miss.LOST
