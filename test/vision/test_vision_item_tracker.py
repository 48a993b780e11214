# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Each part that passes under a free-running camera is one item, at the right time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from belt_film import SCALE, SHAPE, SPEED, Part, film, steady, stopping, worn
from hypothesis import given, settings
from hypothesis import strategies as st

from stl_conveyor.errors import BadImage, ConfigError
from stl_conveyor.vision.item_detector import Detection, Detections, Region, Travel
from stl_conveyor.vision.item_tracker import ItemTracker
from stl_conveyor.vision.passage_trigger import PassageTrigger

TOLERANCE = 0.002  # m
LEAST = 2 * 10**18  # ns; as large as the stamps of today


def passages(frames, *, travel=Travel.DOWN, rate=30.0, belt=None, scale=SCALE, region=Region()):
    """Return the items of a film as seconds since its start, and the items."""
    tracker = ItemTracker(travel, SPEED, scale, region=region)
    found = []
    for number, image in enumerate(frames):
        time_ns = LEAST + round(number / rate * 1e9)
        place = None if belt is None else belt[number]
        found += tracker.update(image, time_ns, place)
    return [(item.time_ns - LEAST) / 1e9 for item in found], found


def due(part, ways, rate=30.0):
    """Return when (s) the middle of a part is at the middle of the image."""
    return float(np.interp(-part.start, ways, np.arange(len(ways)) / rate))


def check(parts, ways, *, rate=30.0, **options):
    measured = options.pop('belt_way', None)
    times, found = passages(
        film(parts, ways, **options),
        travel=options.get('travel', Travel.DOWN),
        rate=rate,
        belt=measured,
    )
    expected = sorted(due(part, ways, rate) for part in parts)
    assert len(times) == len(expected)
    for time, right in zip(sorted(times), expected):
        assert abs(time - right) * SPEED < TOLERANCE
    return found


@pytest.mark.film
@pytest.mark.parametrize('travel', Travel)
@pytest.mark.parametrize('rate', [15.0, 31.0, 120.0])
def test_each_part_is_one_item_at_its_time(travel, rate):
    parts = [Part(-0.10), Part(-0.21, aside=0.02), Part(-0.28, length=0.02, width=0.02)]
    found = check(parts, steady(0.9, rate), rate=rate, travel=travel)
    for item in found:
        middle = travel.along((SHAPE[0] - 1) / 2, (SHAPE[1] - 1) / 2)
        offset = travel.along(item.row, item.column) - middle
        assert abs(offset) < SPEED * SCALE / rate / 2 + 3  # the frame nearest to the middle
        level = item.image[round(item.row), round(item.column), 0]
        assert level > 150


@pytest.mark.film
@pytest.mark.parametrize('millimetres', (20, 50, 80, 110, 140))
@pytest.mark.parametrize('rate', [30.0, 60.0])
def test_parts_of_all_lengths_even_longer_than_the_image(millimetres, rate):
    length = millimetres / 1000
    parts = [Part(-0.10 - length / 2, length=length), Part(-0.16 - 3 * length / 2, length=length)]
    check(parts, steady(0.5 + 6 * length, rate), rate=rate)


@pytest.mark.film
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    count=st.integers(1, 6),
    rough=st.floats(0, 6),
    smooth=st.floats(0, 18),
    belt=st.floats(50, 150),
    speed=st.floats(0.2, 0.7),
)
def test_any_belt_with_texture_gives_as_many_items_as_parts(
    seed, count, rough, smooth, belt, speed
):
    rng = np.random.default_rng(seed)
    parts, place = [], -0.10
    for _ in range(count):
        length = float(rng.uniform(0.02, 0.09))
        place -= length / 2
        parts.append(
            Part(
                place,
                length=length,
                width=float(rng.uniform(0.012, 0.05)),
                aside=float(rng.uniform(-0.04, 0.04)),
                grey=belt + float(rng.choice([-45, 60, 90])),
            )
        )
        place -= length / 2 + float(rng.uniform(0.005, 0.10))
    ways = steady((0.15 - place) / speed, speed=speed)
    marks = worn(seed, rough, smooth)
    times, _ = passages(film(parts, ways, belt=belt, marks=marks, seed=seed))
    expected = sorted(due(part, ways) for part in parts)
    assert len(times) == count
    for time, right in zip(sorted(times), expected):
        assert abs(time - right) * speed < TOLERANCE


@pytest.mark.film
@pytest.mark.parametrize('seed', range(6))
def test_an_empty_belt_gives_nothing_whatever_its_marks(seed):
    marks = worn(seed, 5.0, 25.0)
    times, _ = passages(film([], steady(3.0), belt=100.0, marks=marks, seed=seed))
    assert times == []


@pytest.mark.parametrize('apart', [0.005, 0.010])
def test_parts_that_lie_close_are_two(apart):
    behind = [Part(-0.10), Part(-0.13 - apart)]
    beside = [Part(-0.20, aside=-0.015 - apart / 2), Part(-0.20, aside=0.015 + apart / 2)]
    found = check(behind + beside, steady(0.9))
    assert len({item.time_ns for item in found}) == 4  # a stamp names an item


@pytest.mark.film
@pytest.mark.parametrize('measured, marks', [(False, None), (True, worn(3, 3.0, 12.0))])
@pytest.mark.parametrize('place', [-0.03, -0.006, 0.0, 0.0002, 0.006])
def test_a_stopped_belt_makes_one_item_and_that_when_it_passes(place, marks, measured):
    ways = steady(1.0)
    part = Part(place - ways[12])  # where it stands
    stop = stopping(12, 40, ways)
    way = stop if measured else None
    standing = film([part], stop[: 12 + 40], marks=marks)
    times, _ = passages(standing, belt=way)
    if abs(place) > 0.001:
        assert len(times) == (place > 0)
    times, _ = passages(film([part, Part(part.start - 0.15)], stop, marks=marks), belt=way)
    assert len(times) == 2


@pytest.mark.parametrize('measured', [False, True])
def test_a_belt_that_is_jogged_back_makes_no_second_item(measured):
    forwards = steady(0.5)
    back = [forwards[-1] - 0.004 * number for number in range(1, 31)]
    ways = [*forwards, *back, *(back[-1] + way for way in steady(1.0))]
    parts = [Part(-0.10), Part(-0.18), Part(-0.26)]
    times, _ = passages(
        film(parts, ways, marks=worn(1, 3.0, 10.0)), belt=ways if measured else None
    )
    assert len(times) == len(parts)


@pytest.mark.film
@pytest.mark.parametrize(
    'light',
    [
        lambda number: (1.0, 40.0 if number > 14 else 0.0),
        lambda number: (1.4 if number > 14 else 1.0, 0.0),
        lambda number: (0.6 if number > 20 else 1.0, 0.0),
        lambda number: (1.0, -65.0 if number < 3 else 0.0),
        lambda number: (1.0, 40.0 if number == 17 else 0.0),
        lambda number: (1.0, min(60.0, 1.0 * number)),
        lambda number: (1.0 + 0.1 * math.sin(number / 9), 0.0),
    ],
    ids=['up', 'brighter', 'darker', 'exposure settles', 'flicker', 'drift', 'swell'],
)
def test_light_that_changes_loses_and_makes_no_item(light):
    parts = [Part(-0.25 - 0.09 * number, grey=150.0) for number in range(5)]
    for marks in (None, worn(2, 3.0, 8.0)):
        times, _ = passages(film(parts, steady(2.0), marks=marks, light=light))
        assert len(times) == len(parts)
        assert passages(film([], steady(1.0), marks=marks, light=light))[0] == []


def test_what_stands_at_the_start_is_an_item_if_it_has_not_passed():
    ways = stopping(0, 20, steady(0.6))
    assert len(passages(film([Part(-0.03)], ways))[0]) == 1
    assert passages(film([Part(0.015)], ways))[0] == []


def test_a_belt_that_runs_the_other_way_brings_no_item():
    assert passages(film([Part(0.10)], [-way for way in steady(0.7)]))[0] == []


def test_pictures_that_are_missing_do_not_matter_while_a_part_is_seen_before_the_middle():
    ways = steady(1.2)
    part = Part(-0.10), Part(-0.30)
    tracker = ItemTracker(Travel.DOWN, SPEED, SCALE)
    times = []
    for number, image in enumerate(film(part, ways, marks=worn(5, 3.0, 8.0))):
        if number % 7 in (2, 3):
            continue
        for item in tracker.update(image, LEAST + round(number / 30 * 1e9)):
            times.append((item.time_ns - LEAST) / 1e9)
    assert [abs(t - due(p, ways)) * SPEED < TOLERANCE for t, p in zip(times, part)] == [True] * 2
    assert len(times) == 2


def test_a_frame_that_comes_twice_or_late_is_left_out_and_a_clock_set_back_is_not():
    ways = steady(0.6)
    tracker = ItemTracker(Travel.DOWN, SPEED, SCALE)
    frames = list(film([Part(-0.10)], ways))
    count = 0
    for number, image in enumerate(frames):
        time_ns = LEAST + round(number / 30 * 1e9)
        count += len(tracker.update(image, time_ns))
        count += len(tracker.update(frames[max(0, number - 2)], time_ns - 60_000_000))
        count += len(tracker.update(image, time_ns))
    assert count == 1
    for number, image in enumerate(frames):
        count += len(tracker.update(image, LEAST - 3600 * 10**9 + round(number / 30 * 1e9)))
    assert count == 2


def test_small_dirt_and_scratches_are_no_items():
    dirt = [Part(-0.10, length=0.005, width=0.005), Part(-0.2, length=0.06, width=0.002)]
    assert passages(film(dirt, steady(1.0)))[0] == []


def test_only_the_region_of_interest_is_looked_at():
    parts = [Part(-0.10, aside=-0.05), Part(-0.16, aside=0.03)]
    frames = list(film(parts, steady(0.8)))
    region = Region(x_offset=120)
    times, found = passages(frames, region=region)
    assert len(times) == 1
    assert abs(found[0].column - (159.5 + 60)) < 3
    assert abs(times[0] - due(parts[1], steady(0.8))) * SPEED < TOLERANCE
    with pytest.raises(ConfigError, match='320 x 240'):
        passages(frames, region=Region(x_offset=300, width=40))
    with pytest.raises(BadImage, match='too small'):
        passages(frames, region=Region(width=8))


def test_a_finer_image_gives_the_same_items():
    frames = [
        np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)
        for image in film([Part(-0.10), Part(-0.17)], steady(0.7))
    ]
    tracker = ItemTracker(Travel.DOWN, SPEED, 2 * SCALE, min_area=1600)
    times = []
    for number, image in enumerate(frames):
        for item in tracker.update(image, round(number / 30 * 1e9)):
            times.append(item.time_ns / 1e9)
    right = [due(part, steady(0.7)) for part in (Part(-0.10), Part(-0.17))]
    assert [abs(a - b) * SPEED < TOLERANCE for a, b in zip(times, right)] == [True, True]
    assert len(times) == 2


def test_six_parts_in_a_row_with_the_same_gap_are_six():
    """The row fits at every pitch; the belt does not jump by one."""
    parts = [Part(-0.1 - 0.029 * number, length=0.024) for number in range(6)]
    check(parts, steady(0.9, 30.0))


def coloured(ways, belt, part, level=lambda number: 1.0, side=32):
    """Yield frames of a square part of one colour on a belt of another; it begins 0.1 m behind."""
    rng = np.random.default_rng(4)
    for number, way in enumerate(ways):
        view = np.tile(np.array(belt, float), (*SHAPE, 1))
        middle = round((SHAPE[0] - 1) / 2 + (way - 0.1) * SCALE)
        rows = slice(max(0, middle - side // 2), max(0, middle + side // 2))
        view[rows, 140 : 140 + side] = part
        view = level(number) * view + rng.normal(0.0, 1.0, (*SHAPE, 1))
        yield np.clip(np.rint(view), 0, 255).astype(np.uint8)


@pytest.mark.parametrize('level', [lambda number: 1.0, lambda number: 1.0 if number < 3 else 1.6])
def test_a_part_as_dark_as_the_belt_is_found_by_its_colour(level):
    ways = steady(0.6, 30.0)
    times, _ = passages(coloured(ways, (68, 67, 62), (63, 64, 68), level))
    (time,) = times
    assert abs(time - due(Part(-0.1), ways)) * SPEED < TOLERANCE


def test_a_shadow_has_the_colour_of_the_belt_and_is_no_part():
    belt = np.array((68, 67, 58), float)
    times, _ = passages(coloured(steady(0.6, 30.0), belt, 0.8 * belt))
    assert times == []


def test_a_scratch_at_a_part_does_not_move_its_middle():
    ways = steady(0.6, 30.0)
    frames = []
    for frame, way in zip(film([Part(-0.1, length=0.02, width=0.02)], ways), ways):
        middle = round((SHAPE[0] - 1) / 2 + (way - 0.1) * SCALE)
        view = frame.copy()
        for across in (178, 184):  # two of them beside each other, along the belt
            begin, end = max(0, middle - 10), max(0, middle + 60)
            view[begin:end, across : across + 3] = 130
        frames.append(view)
    times, (item,) = passages(frames)
    assert abs(times[0] - due(Part(-0.1), ways)) * SPEED < TOLERANCE
    assert abs(item.column - (SHAPE[1] - 1) / 2) < 0.002 * SCALE


@pytest.mark.parametrize('axis', ['along', 'across'])
def test_parts_between_which_lies_but_a_shadow_are_two(axis):
    """Two lit parts are 5 mm apart, and the shadow of one reaches the other nearly."""
    ways, length, shadow = steady(0.8, 30.0), 0.024, 0.0042
    if axis == 'along':
        parts = [Part(-0.1, length=length), Part(-0.129, length=length)]
        dark = [Part(-0.117 + shadow / 2, length=shadow, grey=25.0)]
    else:
        parts = [Part(-0.1, width=length, aside=side) for side in (-0.0145, 0.0145)]
        dark = [Part(-0.1, width=shadow, aside=-0.0025 + shadow / 2, grey=25.0)]
    times, found = passages(film([*dark, *parts], ways))
    assert len(times) == 2
    for time, part in zip(sorted(times), parts):
        assert abs(time - due(part, ways)) * SPEED < TOLERANCE
    columns = sorted((item.column - (SHAPE[1] - 1) / 2) / SCALE for item in found)
    assert columns == pytest.approx(sorted(part.aside for part in parts), abs=TOLERANCE)


def stained(ways, radius, rail):
    """Yield frames of a belt with a dark stain beside a rail that is so many pixels wide.

    The sensor's noise is large in the dark, where the curve of a display is steep.
    """
    rng = np.random.default_rng(6)
    rows, columns = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    for way in ways:
        middle = (SHAPE[0] - 1) / 2 + (way - 0.1) * SCALE
        away = np.hypot(rows - middle, columns - rail - 20) / radius
        light = ((55.0 - 50.0 * np.exp(-(away**4))) / 255.0) ** 2.2
        light += np.sqrt(9e-6 + 0.00045 * light) * rng.normal(0.0, 1.0, SHAPE)
        view = 255.0 * np.clip(light, 0.0, 1.0) ** (1 / 2.2)
        view[:, :rail] = 150.0
        yield np.repeat(view.astype(np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize('radius', [25.0, 34.0])
def test_a_dark_stain_at_a_rail_is_no_item_whatever_the_noise_in_it(radius):
    assert passages(stained(steady(0.7, 15.0), radius, 40), rate=15.0)[0] == []


def seen(row, column, height, width):
    """Return an item of so many pixels in a picture in which the belt runs up."""
    front, rear = -(row - height / 2), -(row + height / 2)
    left, right = column - width / 2, column + width / 2
    return Detection(row, column, height * width, rear, front, left, right)


def passed(pictures, step):
    """Return what passes the middle; the belt moves so many pixels between two pictures."""
    trigger = PassageTrigger(Travel.UP, 15.0 * step)
    found = []
    for number, items in enumerate(pictures):
        detections = Detections(items, step if number else None, (-239.0, 0.0))
        found += trigger.passed(detections, (240, 320), LEAST + number * 10**9 // 15)
    return found


def test_what_stands_beside_the_belt_is_no_item_though_it_repeats_as_fast_as_the_belt_runs():
    # The belt brings each of the two to where the other one, or itself, is seen.
    assert passed([[seen(125, 7, 40, 14), seen(178, 7, 40, 14)]] * 12, 53.0) == []


@pytest.mark.parametrize('pieces', [1, 2, 3])
def test_a_part_that_falls_into_pieces_in_the_middle_is_one_item(pieces):
    def picture(row, count):
        return [seen(row + 6 * (number % 2), 140 + 28 * number, 24, 20) for number in range(count)]

    whole = [[seen(row, 168, 30, 76)] for row in (220, 180, 140)]
    broken = [picture(row, pieces) for row in (97, 57, 17)]
    (item,) = passed([*whole, *broken], 40.0)
    assert abs(item.row - 100) < 6 and abs(item.column - 168) < 30


def test_two_parts_that_looked_like_one_at_first_are_two():
    together = [[seen(220, 168, 30, 76)], [seen(200, 168, 30, 76)]]
    apart = [[seen(row, 145, 28, 30), seen(row, 191, 28, 30)] for row in range(180, 20, -20)]
    assert len(passed([*together, *apart], 20.0)) == 2


def test_a_part_of_which_one_end_comes_and_goes_is_measured_whole():
    def picture(row, is_dim):
        return [seen(row + 20, 150, 40, 20) if is_dim else seen(row, 150, 80, 20)]

    rows = range(190, 20, -40)
    (item,) = passed([picture(row, number == 2) for number, row in enumerate(rows)], 40.0)
    assert abs(item.row - 110) < 2
