# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A belt that stops and starts softly meets its diverters in place: to 2 mm, both ways."""

from __future__ import annotations

import random

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from moving_belt import LEAD_NS, MS, SECOND, SPEED, WAY, Counter, Line, RampedBelt, reports_of

from stl_conveyor.cell.belt_history import BeltHistory
from stl_conveyor.cell.belt_trend import Sample, Trend, deviation, trend_of
from stl_conveyor.cell.odometry import MeasuredBelt
from stl_conveyor.cell.strokes import Extend

EXACT = 0.002
READ = 0.0025  # by steps of a belt encoder; 2.3 mm is the largest of 500 just behind a soft start
STEP = 0.001  # m of a belt encoder
LEAD = LEAD_NS / SECOND


def unforeseen(belt, told, period_ns, reports):
    """Return by how much (m) changes that nobody could know yet may move the item at a stroke.

    A ramp that begins is seen by so many reports behind it, the first of which may come at once,
    and two where it stopped and started between two. Its end is foreseen where it is that
    at the usual speed, or where the belt stands.
    """
    seen_ns, met_ns = told.heard_ns - round(reports * period_ns), told.time_ns + LEAD_NS
    off = 0.0
    for leg, (time_ns, speed) in enumerate(belt.knees):
        before = belt.rate(leg - 1) if leg else 0.0
        change = abs(belt.rate(leg) - before)
        ends = before and not belt.rate(leg) and (speed == SPEED or speed == 0)
        if change and not ends and seen_ns < time_ns < met_ns:
            off += change / 2 * ((met_ns - time_ns) / SECOND) ** 2
    return off


def stroke_on(belt, capture_ns, period_ns, step=0.0, tells_speed=True):
    line = Line(belt, capture_ns)
    reports = reports_of(
        belt, Counter(step=step), until_ns=belt.end_ns + 3 * SECOND, period_ns=period_ns
    )
    told = line.run(
        (time_ns, position, speed if tells_speed else None, origin)
        for time_ns, position, speed, origin in reports
    )
    (only,) = told
    assert only.what is Extend
    assert belt.speed(only.time_ns) > 0
    met = belt.place(only.time_ns + LEAD_NS) - belt.place(capture_ns)
    return only, met - WAY


ramps = st.floats(0.2, 2.0)
# What fails is a long run: it is told as it is, not made smaller for minutes.
played = settings(deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))


@settings(played, max_examples=40)
@given(
    until=st.floats(0.6, 2.2),
    down=ramps,
    slow=st.sampled_from([0.0, 0.0, 0.1, 0.2]),
    stand=st.floats(0.0, 5.0),
    up=ramps,
    period_ms=st.sampled_from([20, 50, 100]),
)
@example(until=1.2, down=0.3, slow=0.0, stand=4.0, up=0.5, period_ms=50)
def test_item_is_met_in_place_by_a_belt_that_stops_and_starts_softly(
    until, down, slow, stand, up, period_ms
):
    belt = RampedBelt.of(SPEED, (SPEED, until), (slow, down), (slow, stand), (SPEED, up))
    period_ns = period_ms * MS
    told, off = stroke_on(belt, SECOND, period_ns)
    most = EXACT + unforeseen(belt, told, period_ns, reports=2.25)
    assert abs(off) <= most, f'{1000 * off:+.1f} mm'


@settings(played, max_examples=25)
@given(until=st.floats(0.6, 2.2), down=ramps, stand=st.floats(0.0, 5.0), up=ramps)
def test_positions_alone_tell_a_ramp_a_few_reports_later(until, down, stand, up):
    """Without a speed a ramp is known after a fifth of a second."""
    belt = RampedBelt.of(SPEED, (SPEED, until), (0.0, down), (0.0, stand), (SPEED, up))
    told, off = stroke_on(belt, SECOND, 20 * MS, step=0.0001, tells_speed=False)
    most = EXACT + unforeseen(belt, told, 20 * MS, reports=10)
    assert abs(off) <= most, f'{1000 * off:+.1f} mm'


def encoder_steps(belt, step, late_ns, seed):
    """Yield (time, count) of an encoder whose interrupts come up to so late."""
    source, time_ns, latest_ns = random.Random(seed), 0, 0
    for count in range(1, int(belt.place(belt.end_ns + 5 * SECOND) / step)):
        end_ns = belt.end_ns + 5 * SECOND
        while end_ns - time_ns > 1000:
            middle_ns = (time_ns + end_ns) // 2
            before = belt.place(middle_ns) < count * step
            time_ns, end_ns = (middle_ns, end_ns) if before else (time_ns, middle_ns)
        latest_ns = max(latest_ns, time_ns + round(late_ns * source.random()))
        yield latest_ns, count


@settings(played, max_examples=25)
@given(
    until=st.floats(0.6, 2.2),
    down=ramps,
    stand=st.floats(0.0, 5.0),
    up=ramps,
    seed=st.integers(0, 1000),
)
@example(until=1.95, down=0.4, stand=1.0, up=1.0, seed=0)
@example(until=0.816, down=0.816, stand=0.816, up=0.816, seed=665)
@example(until=0.862, down=1.345, stand=0.2195, up=0.251, seed=139)
def test_belt_encoder_is_followed_while_its_drive_changes_the_speed(until, down, stand, up, seed):
    """Interrupts come up to half a millisecond late; a ramp is seen after a quarter second."""
    belt = RampedBelt.of(SPEED, (SPEED, until), (0.0, down), (0.0, stand), (SPEED, up))
    measured = MeasuredBelt(STEP, expected_speed=SPEED, tolerance=0.25)
    line, period_ns = Line(belt, SECOND), 50 * MS

    def reports():
        now_ns = period_ns
        for time_ns, count in encoder_steps(belt, STEP, MS / 2, seed):
            while now_ns < time_ns:
                yield now_ns, measured.position(now_ns), measured.speed_now(now_ns), 0
                now_ns += period_ns
            measured.step(count, time_ns)

    (told,) = line.run(reports())
    assert told.what is Extend and belt.speed(told.time_ns) > 0
    off = belt.place(told.time_ns + LEAD_NS) - belt.place(SECOND) - WAY
    most = READ + unforeseen(belt, told, period_ns, reports=5)
    assert abs(off) <= most, f'{1000 * off:+.1f} mm'


@pytest.mark.parametrize('rate', [-0.8, -0.2, 0.2, 0.8])
@pytest.mark.parametrize('step', [0.0005, 0.001, 0.005])
def test_speed_of_a_belt_encoder_is_that_of_now(rate, step):
    """The mean that tells whether a belt slips is off by half of what changes in its time."""
    first = 0.4 if rate < 0 else 0.1
    belt = RampedBelt.of(first, (first + 0.3 * rate / abs(rate), 0.3 / abs(rate)))
    measured = MeasuredBelt(step, expected_speed=SPEED, tolerance=0.25)
    ask_ns = round(0.35 * SECOND)
    for time_ns, count in encoder_steps(belt, step, 0, 0):
        if time_ns > ask_ns:
            break
        measured.step(count, time_ns)
    assert measured.speed_now(ask_ns) == pytest.approx(belt.speed(ask_ns), abs=0.003)
    assert measured.position(ask_ns) == pytest.approx(belt.place(ask_ns), abs=0.0001)
    assert measured.speed_now(ask_ns + SECOND) == 0.0


speeds = st.floats(0.01, 1.0)
rates = st.just(0.0) | st.floats(0.05, 2.0) | st.floats(-2.0, -0.05)


@given(speeds, rates, st.none() | st.floats(0.0, 1.0), st.floats(0.001, 2.0))
def test_time_for_a_way_is_the_inverse_of_the_way(speed, rate, usual, seconds):
    trend = Trend(speed, rate).towards(usual)
    way = trend.way(seconds)
    assert trend.way(0.0) == 0.0
    found = trend.seconds_for(way)
    if found is not None:  # else it comes to stand just there
        assert trend.way(found) == pytest.approx(way, abs=1e-6)
        assert found <= seconds + 1e-6
    if trend.end == 0.0:
        stop = speed**2 / -trend.rate / 2
        assert trend.seconds_for(stop + 0.001) is None
        assert trend.way(100.0) == pytest.approx(stop)


def sampled(place, speed, times, told=True):
    newest = times[-1]
    return [Sample(t - newest, place(t), speed(t) if told else None) for t in times]


@given(speeds, rates, st.booleans())
def test_speed_and_rate_of_a_ramp_are_those_of_the_belt(speed, rate, told):
    times = [0.05 * n for n in range(5)]
    trend = trend_of(
        sampled(
            lambda t: 7.0 + speed * t + rate * t**2 / 2, lambda t: speed + rate * t, times, told
        ),
        noise=0.0,
    )
    last = speed + rate * times[-1]
    # What bends less than exact positions show makes no millimetre in the time of a stroke.
    assert trend.speed == pytest.approx(last, abs=0.01)
    assert trend.way(LEAD) == pytest.approx(last * LEAD + rate * LEAD**2 / 2, abs=0.0015)


def test_step_of_speed_is_no_ramp():
    times = [0.05 * n for n in range(6)]
    for at in (0.201, 0.21, 0.23, 0.249):
        trend = trend_of(
            sampled(lambda t: 0.4 * max(0.0, t - at), lambda t: 0.4 if t > at else 0.0, times),
            noise=0.0,
        )
        assert trend.towards(0.4) == Trend(0.4)


@pytest.mark.parametrize('told', [0.0, 0.2, 5.0])
def test_speed_that_the_positions_contradict_is_not_believed(told):
    samples = sampled(lambda t: 0.4 * t, lambda t: told, [0.05 * n for n in range(7)])
    assert trend_of(samples, noise=0.0).speed == pytest.approx(0.4)


def test_coarse_counter_that_runs_steadily_shows_no_ramp():
    step = 0.001
    samples = sampled(
        lambda t: step * (0.4 * t // step),
        lambda t: 0.0,
        [0.053 * n for n in range(6)],
        told=False,
    )
    trend = trend_of(samples, noise=step / 3)
    assert trend.rate == 0.0 and trend.speed == pytest.approx(0.4, rel=0.01)


def test_deviation_of_a_smooth_way_is_none():
    places = sampled(lambda t: 1 + 2 * t + 3 * t**2, lambda t: 0.0, [0.0, 0.04, 0.1, 0.17])
    assert deviation(places) == pytest.approx(0.0, abs=1e-12)
    places[-1] = Sample(0.0, places[-1].position + 0.5, None)
    assert deviation(places) == pytest.approx(0.5)


@pytest.mark.parametrize('rate', [0.25, 1.0, 2.0])
def test_place_between_two_reports_of_a_ramp_is_on_the_ramp(rate):
    """The item under the camera while the belt starts: a line would be off by a dt2 / 8."""
    for tells_speed in (True, False):
        history = BeltHistory()
        for n in range(12):
            t = 0.1 * n
            history.add(round(t * SECOND), rate * t**2 / 2, rate * t if tells_speed else None)
        now_ns = round(1.1 * SECOND)
        for t in (0.43, 0.55, 0.68):
            place = history.place(round(t * SECOND), now_ns)
            assert place.position == pytest.approx(rate * t**2 / 2, abs=0.0001)
            assert history.time_at(place.position, now_ns) == pytest.approx(t * SECOND, abs=2 * MS)
