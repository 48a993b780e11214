# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Items in the light barrier: one each, with their middle where it is, however the belt moves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moving_belt import (
    MS,
    SECOND,
    SPEED,
    Counter,
    MovingBelt,
    beam_edges,
    encoder_steps,
    reports_of,
)

from stl_conveyor.cell.beam_tracker import BeamTracker
from stl_conveyor.cell.light_barrier import BEAM_MERGE, KEPT_WAY, LightBarrier, SteadyLightBarrier
from stl_conveyor.cell.odometry import MeasuredBelt, ReportedBelt, SteadyBelt

STEP, WAY = 0.001, 0.12
LOOK_NS = 32 * MS
WASHER = ((0.0, 0.004), (0.0124, 0.0164))  # rim, a hole of 8.4 mm, rim


def parts_at(place, *solids):
    return [(place + first, place + last) for first, last in solids]


def watch(belt, solids, source='encoder', lost=lambda n: False):
    """Return the places that are expected at the camera, less the way there, and the tracker."""
    events = [(t, 2, 'edge', broken) for t, broken in beam_edges(belt, solids)]
    if source == 'encoder':
        known = MeasuredBelt(STEP, expected_speed=SPEED, tolerance=0.25)
        events += [(t, 1, 'step', count) for t, count in encoder_steps(belt, STEP)]
    else:
        known = ReportedBelt(expected_speed=SPEED, tolerance=0.25)
        events += [
            (t, 1, 'report', (p, v if source == 'belt_state' else None))
            for t, p, v, _ in reports_of(belt, Counter(), lost=lost)
        ]
    # While it stands for an hour nobody need look all the time.
    looks = {t + k * LOOK_NS for t, *_ in events for k in (1, 2, 3)}
    events += [(t, 3, 'look', None) for t in looks]
    tracker = BeamTracker(known, WAY)
    for time_ns, _, what, value in sorted(events, key=lambda event: event[:2]):
        if what == 'step':
            known.step(value, time_ns)
        elif what == 'report':
            known.history.add(time_ns, *value)
        elif what == 'edge':
            tracker.changed(time_ns, value)
        tracker.look(time_ns)
    return [place - WAY for place in tracker.expected], tracker


@pytest.mark.parametrize('source', ['encoder', 'belt_state', 'positions'])
@pytest.mark.parametrize('stand', [0.0, 5.0, 120.0])
@pytest.mark.parametrize(
    'length, through',
    [(0.04, 0.035), (0.06, 0.055), (0.06, 0.005), (0.06, 0.03), (0.1, 0.099), (0.02, 0.0205)],
)
def test_middle_is_right_when_the_belt_stops_with_the_part_in_the_beam(
    source, stand, length, through
):
    front = 0.4
    belt = MovingBelt.of((SPEED, (front + through) / SPEED), (0.0, stand), (SPEED, 1.0))
    (middle,), _ = watch(belt, parts_at(front, (0.0, length)), source)
    assert middle == pytest.approx(front + length / 2, abs=0.002)


@pytest.mark.parametrize('source', ['encoder', 'belt_state', 'positions'])
@pytest.mark.parametrize('through', [0.002, 0.004, 0.005, 0.008, 0.012, 0.0125, 0.02])
def test_washer_is_one_item_wherever_the_belt_stops(source, through):
    belt = MovingBelt.of((SPEED, (0.4 + through) / SPEED), (0.0, 5.0), (SPEED, 1.0))
    (middle,), _ = watch(belt, parts_at(0.4, *WASHER), source)
    assert middle == pytest.approx(0.4082, abs=0.002)


def test_an_hour_with_a_part_in_the_beam():
    belt = MovingBelt.of((SPEED, 1.05), (0.0, 3600.0), (SPEED, 1.0))
    (middle,), tracker = watch(belt, parts_at(0.4, (0.0, 0.06)))
    assert middle == pytest.approx(0.43, abs=0.002)
    assert tracker.is_idle


jogs = st.lists(
    st.tuples(
        st.sampled_from([0.0, SPEED, 0.1, -0.1, -0.3, 0.3]),
        st.sampled_from([0.05, 0.2, 0.61, 3.0]),
    ),
    max_size=8,
)


@pytest.mark.film
@settings(max_examples=60)
@given(
    jogs,
    st.floats(0.3, 0.7),
    st.lists(st.tuples(st.floats(0.004, 0.08), st.floats(0.02, 0.2)), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from(['encoder', 'belt_state', 'positions']),
)
def test_each_part_is_one_item_however_the_belt_is_jogged(plan, place, parts, washer, source):
    solids, middles = [], []
    for length, gap in parts:
        solids.append((place, place + length))
        middles.append(place + length / 2)
        place += length + gap
    if washer:
        solids += parts_at(place, *WASHER)
        middles.append(place + 0.0082)
    belt = MovingBelt.of((SPEED, 1.3), *plan, (SPEED, 8.0))
    found, _ = watch(belt, solids, source)
    assert found == pytest.approx(middles, abs=0.003)


def test_part_that_went_back_out_of_the_beam_is_seen_when_it_comes_again():
    barrier = LightBarrier()
    assert barrier.update(1.0, True) is None and not barrier.is_free
    assert barrier.update(1.0 - 2 * BEAM_MERGE, False) is None and barrier.is_free
    for place, broken in ((1.0, True), (1.02, True)):
        barrier.update(place, broken)
    assert barrier.update(1.04, False) == pytest.approx(1.01)


def test_items_behind_the_barrier_are_forgotten_by_way():
    barrier = LightBarrier()
    for n in range(1000):
        barrier.update(n * 1.0, True)
        barrier.update(n * 1.0 + 0.5, False)
    assert len(barrier._known) <= KEPT_WAY + 1


def test_what_was_in_the_beam_before_anybody_looked_makes_no_item():
    belt = SteadyBelt(SPEED)
    tracker = BeamTracker(belt, WAY)
    tracker.begin_inside(0)
    tracker.changed(50 * MS, False)
    tracker.changed(500 * MS, True)
    tracker.changed(600 * MS, False)
    assert tracker.look(SECOND) == 0
    assert list(tracker.expected) == [pytest.approx(0.55 * SPEED + WAY)]


def test_times_of_a_belt_that_is_not_known_yet_wait_for_it():
    belt = ReportedBelt(expected_speed=SPEED, tolerance=0.25)
    tracker = BeamTracker(belt, WAY)
    tracker.passed(120 * MS)
    assert tracker.look(130 * MS) == 0 and not tracker.expected
    belt.history.add(100 * MS, 5.0, SPEED)
    assert tracker.look(130 * MS) == 0 and not tracker.expected
    belt.history.add(150 * MS, 5.02, SPEED)
    assert tracker.look(160 * MS) == 0
    assert list(tracker.expected) == [pytest.approx(5.008 + WAY)]


def test_items_are_lost_by_number_with_the_position_of_the_belt():
    belt = ReportedBelt(expected_speed=SPEED, tolerance=0.25)
    tracker = BeamTracker(belt, WAY)
    for n in range(11):
        belt.history.add(n * 50 * MS, 5.0 + 0.02 * n, SPEED, origin=1)
    tracker.passed(100 * MS)
    tracker.changed(450 * MS, True)
    assert tracker.look(500 * MS) == 0 and len(tracker.expected) == 1
    belt.history.add(3 * SECOND, 0.0, SPEED, origin=2)  # a new reader, and the belt runs
    assert tracker.look(3 * SECOND) == 2
    assert not tracker.expected


def test_clock_that_was_set_back_begins_anew_on_a_belt_of_one_speed():
    barrier = SteadyLightBarrier(SPEED)
    for _ in range(3):  # a bag that is played in a loop
        barrier.update(10.0, True)
        barrier.update(10.1, True)
        assert barrier.update(10.5, False) == pytest.approx(10.05)
