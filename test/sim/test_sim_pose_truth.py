# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Which item a capture shows, where items come to rest, and when one passes the light barrier."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.cell.light_barrier import BEAM_MERGE, SteadyLightBarrier
from stl_conveyor.resources import share_path
from stl_conveyor.sim.arrivals import plan_items
from stl_conveyor.sim.beam_scan import something_in_beam
from stl_conveyor.sim.gazebo.world import BEAM_HEIGHT, BEAM_RAYS, beam_angle
from stl_conveyor.sim.layout import bin_extent, lane_at
from stl_conveyor.sim.pose_truth import ItemRested, ItemSeen, PoseTruth
from stl_conveyor.sim.rest import GIVE_UP_TIME, REST_TIME, RestWatch

CELL = CellDescription.load(share_path('config/cell.yaml'))
PLAN = plan_items(4, 2, CELL.classes)
PERIOD_NS = 16_666_667
SPEED = CELL.belt.speed


def ride(truth, name, begin_ns, start=-0.45, until=0.3):
    """Send poses of an item on the belt; return the events and the last time."""
    events, x, now_ns = [], start, begin_ns
    while x < until:
        events += truth.pose(name, now_ns, x, 0.0, 0.004)
        now_ns += PERIOD_NS
        x += SPEED * PERIOD_NS / 1e9
    return events, now_ns


def crossing_ns(begin_ns, start=-0.45):
    return begin_ns + round((CELL.camera.x - start) / SPEED * 1e9)


def lie(truth, name, begin_ns, place, seconds=0.5):
    """Send poses of an item that lies still; return what follows."""
    return [
        event
        for k in range(int(seconds * 1e9 / PERIOD_NS))
        for event in truth.pose(name, begin_ns + k * PERIOD_NS, *place)
    ]


def middle_of(lane):
    (x0, x1), (y0, y1) = bin_extent(CELL, lane)
    return ((x0 + x1) / 2, (y0 + y1) / 2, -0.11)


@pytest.mark.parametrize('lane', [*CELL.lanes, None])
def test_captured_item_is_judged_by_the_bin_it_lies_in(lane):
    truth = PoseTruth(CELL)
    truth.feed('item_0', PLAN[0], 0)
    ride(truth, 'item_0', 0, until=0.05)
    stamp_ns = crossing_ns(0) + 3_000_000
    assert truth.capture(stamp_ns) == ItemSeen(PLAN[0], stamp_ns, captured=True)
    events, now_ns = ride(truth, 'item_0', crossing_ns(0) + 200_000_000, start=0.08)
    assert not events
    (rested,) = lie(truth, 'item_0', now_ns, middle_of(lane))
    name = lane.name if lane else CELL.reject_lane
    assert rested == ItemRested(PLAN[0], 'item_0', name, stamp_ns)
    assert truth.names == ()


@given(st.floats(0.16, 0.4), st.floats(-0.015, 0.015), st.integers(0, 2))
def test_a_capture_belongs_to_the_nearest_item(gap, jitter, which):
    truth = PoseTruth(CELL)
    begins = [round(k * gap / SPEED * 1e9) for k in range(3)]
    for k, begin_ns in enumerate(begins):
        truth.feed(f'item_{k}', PLAN[k], begin_ns)
        ride(truth, f'item_{k}', begin_ns, until=0.1)
    seen = truth.capture(crossing_ns(begins[which]) + round(jitter / SPEED * 1e9))
    assert seen.item is PLAN[which]


def test_a_capture_may_come_before_the_pose():
    truth = PoseTruth(CELL)
    truth.feed('item_0', PLAN[0], 0)
    ride(truth, 'item_0', 0, until=-0.02)
    assert truth.capture(crossing_ns(0)).item is PLAN[0]


def test_one_item_is_captured_once_and_nothing_is_nothing():
    truth = PoseTruth(CELL)
    assert truth.capture(5) is None
    truth.feed('item_0', PLAN[0], 0)
    assert truth.capture(crossing_ns(0)) is None  # no pose yet
    ride(truth, 'item_0', 0, until=0.05)
    assert truth.capture(crossing_ns(0) + 400_000_000) is None
    assert truth.capture(crossing_ns(0)) is not None
    assert truth.capture(crossing_ns(0)) is None


def test_an_item_that_no_capture_shows_passed_the_camera_when_its_poses_say():
    truth = PoseTruth(CELL)
    truth.feed('item_0', PLAN[0], 0)
    events, now_ns = ride(truth, 'item_0', 0)
    (seen,) = events
    assert not seen.captured and seen.item is PLAN[0]
    assert seen.stamp_ns == pytest.approx(crossing_ns(0), abs=1e6)
    assert truth.capture(crossing_ns(0)) is None  # too late
    (rested,) = lie(truth, 'item_0', now_ns, middle_of(None))
    assert rested.stamp_ns == seen.stamp_ns


def test_an_item_that_never_reaches_the_camera_has_no_stamp():
    truth = PoseTruth(CELL)
    truth.feed('item_3', PLAN[3], 0)
    ride(truth, 'item_3', 0, until=-0.2)
    (rested,) = lie(truth, 'item_3', 10**9, (-0.3, 0.3, -0.39))
    assert (rested.lane, rested.stamp_ns) == ('lost', None)


def test_poses_of_others_and_of_earlier_times_are_ignored():
    truth = PoseTruth(CELL)
    truth.feed('item_0', PLAN[0], 10**9)
    assert not lie(truth, 'item_0', 0, middle_of(None))
    assert not truth.was_seen('item_0')
    assert not lie(truth, 'belt', 2 * 10**9, middle_of(None))
    ride(truth, 'item_0', 2 * 10**9, until=-0.3)
    assert truth.was_seen('item_0')
    truth.forget('item_0')
    assert truth.names == () and not truth.was_seen('item_0')


def test_rest_takes_its_time_and_is_given_up_in_the_end():
    watch = RestWatch(CELL, 0.0)
    place = (0.4, -0.2, -0.11)
    assert not watch.at_rest(1.0, place)
    assert not watch.at_rest(1.0 + REST_TIME, place)
    assert watch.at_rest(1.001 + REST_TIME, place)
    assert not RestWatch(CELL, 0.0).at_rest(9.0, (0, 0, 0.01))  # stuck on the belt
    way = (CELL.belt.end - CELL.belt.start) / SPEED
    assert RestWatch(CELL, 0.0).at_rest(way + GIVE_UP_TIME + 0.1, (0, 0, 0.01))
    assert RestWatch(CELL, 0.0).at_rest(1.0, (0, 0, -2.0))  # fell through


def test_only_bins_are_lanes():
    assert lane_at(CELL, 0.0, 0.0, 0.004) == 'lost'
    assert lane_at(CELL, -0.4, -0.2, -0.11) == 'lost'
    for lane in (*CELL.lanes, None):
        assert lane_at(CELL, *middle_of(lane)) == (lane.name if lane else CELL.reject_lane)


@given(st.floats(0.004, 0.05), st.floats(0.0, 0.011))
def test_light_barrier_finds_the_middle_of_an_item_with_a_hole(length, hole):
    barrier, found = SteadyLightBarrier(SPEED), []
    middle = 1.0
    for k in range(2000):
        now = 0.5 + k * 0.001
        off = abs(now - middle) * SPEED
        broken = off <= length / 2 and not off < min(hole, length / 2) / 2
        if (stamp := barrier.update(now, broken)) is not None:
            found.append(stamp)
    assert found == [pytest.approx(middle, abs=0.0011)]


def test_light_barrier_tells_two_items_apart():
    barrier, gap = SteadyLightBarrier(SPEED), 2 * BEAM_MERGE / SPEED
    found = []
    for k in range(600):
        now = k * 0.001
        broken = now < 0.05 or 0.05 + gap < now < 0.1 + gap
        stamp = barrier.update(now, broken)
        found += [stamp] if stamp is not None else []
    assert found == [pytest.approx(0.025, abs=0.002), pytest.approx(0.075 + gap, abs=0.002)]


def scan(height=0.0, y=0.0, width=0.016):
    """Return what the fan of rays meets: the belt, and an item of a height (m) on it."""
    angles = np.linspace(-beam_angle(CELL), beam_angle(CELL), BEAM_RAYS)
    top = np.where(abs((BEAM_HEIGHT - height) * np.tan(angles) - y) < width / 2, height, 0.0)
    return (BEAM_HEIGHT - top) / np.cos(angles)


def broken(ranges):
    angle = beam_angle(CELL)
    return something_in_beam(
        CELL, ranges.astype(np.float32), -angle, 2 * angle / (BEAM_RAYS - 1), 0.0008
    )


def test_the_thinnest_part_breaks_the_beam_wherever_it_lies():
    assert not broken(scan())
    for y in np.linspace(-0.05, 0.05, 21):
        assert broken(scan(0.0016, y)), y
    # What the renderer errs by, at its coarsest: half a texel of 0.35 degrees to either side.
    angles = np.linspace(-beam_angle(CELL), beam_angle(CELL), BEAM_RAYS)
    for error in (-0.003, 0.003):
        assert not broken(BEAM_HEIGHT / np.cos(angles + error))


def test_rays_that_meet_nothing_or_are_no_numbers_are_no_item():
    for value in (np.inf, np.nan, -np.inf):
        assert not broken(np.full(BEAM_RAYS, value))
    assert not broken(scan() + 0.1)
