# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Items are found in the image, each once, whatever way the belt runs."""

from __future__ import annotations

import numpy as np
import pytest

from stl_conveyor.vision.item_detector import ItemDetector, PassageTrigger, Travel

SPEED = 800.0  # pixels per second
SHAPE = (240, 320)


def belt(rng, items=(), size=(40, 60)):
    """Return a noisy frame with bright rectangles around points (row, column)."""
    image = rng.normal(70, 3, (*SHAPE, 3))
    for row, column in items:
        first, last = round(row - size[0] / 2), round(row + size[0] / 2)
        left, right = round(column - size[1] / 2), round(column + size[1] / 2)
        image[max(0, first) : max(0, last), max(0, left) : max(0, right)] = 170
    return np.clip(image, 0, 255).astype(np.uint8)


def test_finds_place_and_size():
    rng = np.random.default_rng(0)
    detector = ItemDetector(Travel.UP)
    assert detector.detect(belt(rng)) == ()
    assert detector.detect(belt(rng)) == ()
    (item,) = detector.detect(belt(rng, [(100, 200)]))
    assert abs(item.row - 100) < 3 and abs(item.column - 200) < 3
    assert 0.8 * 2400 < item.area < 1.2 * 2400


def test_tells_items_apart_and_orders_them_along_the_belt():
    rng = np.random.default_rng(0)
    places = [(60, 100), (180, 150)]
    for travel, first in ((Travel.UP, 60), (Travel.DOWN, 180)):
        detector = ItemDetector(travel)
        detector.detect(belt(rng))
        items = detector.detect(belt(rng, places))
        assert [round(item.row / 20) for item in items] == [first / 20, (240 - first) / 20]


def test_follows_the_light_but_not_the_items():
    rng = np.random.default_rng(0)
    detector = ItemDetector(Travel.UP)
    for step in range(60):
        frame = belt(rng, [(120, 160)] if step > 5 else [])
        frame = np.clip(frame.astype(int) + step, 0, 255).astype(np.uint8)
        items = detector.detect(frame)
        assert len(items) == (step > 5), step


def test_small_dirt_is_no_item():
    rng = np.random.default_rng(0)
    detector = ItemDetector(Travel.UP, min_area=400)
    detector.detect(belt(rng))
    assert detector.detect(belt(rng, [(100, 100)], size=(10, 10))) == ()


@pytest.mark.parametrize('travel', Travel)
@pytest.mark.parametrize('rate', [15.0, 31.0, 120.0])
def test_each_item_is_reported_once_near_the_middle(travel, rate):
    rng = np.random.default_rng(1)
    detector, trigger = ItemDetector(travel), PassageTrigger(travel, SPEED)
    detector.detect(belt(rng))
    starts = [-100.0, -420.0, -560.0]  # pixels before the middle at time 0
    reported = []
    for frame in range(int(rate * 1.3)):
        time_ns = round(frame / rate * 1e9)
        middle = ((SHAPE[0] - 1) / 2, (SHAPE[1] - 1) / 2)
        places = [travel.shifted(*middle, start + SPEED * time_ns / 1e9) for start in starts]
        visible = [p for p in places if -60 < p[0] < SHAPE[0] + 60 and -60 < p[1] < SHAPE[1] + 60]
        items = detector.detect(belt(rng, visible, size=(40, 40)))
        for item in trigger.passed(items, SHAPE, time_ns):
            offset = travel.along(item.row, item.column) - travel.along(*middle)
            reported.append(offset)
            assert 0 <= offset <= SPEED / rate + 5
    assert len(reported) == len(starts)


def test_goes_on_after_the_clock_was_set_back():
    trigger = PassageTrigger(Travel.DOWN, SPEED)
    from stl_conveyor.vision.item_detector import Detection

    item = Detection(130.0, 160.0, 1000)
    assert trigger.passed((item,), SHAPE, 10**10) == (item,)
    assert trigger.passed((item,), SHAPE, 10**9) == (item,)


def test_an_item_on_a_belt_that_stops_is_reported_once_where_the_belt_is_measured():
    trigger = PassageTrigger(Travel.DOWN, SPEED)
    from stl_conveyor.vision.item_detector import Detection

    item = Detection(130.0, 160.0, 1000)
    assert trigger.passed((item,), SHAPE, 10**10, 700.0) == (item,)
    for seconds in (11, 15, 60):  # it lies there
        assert trigger.passed((item,), SHAPE, seconds * 10**9, 700.0) == ()
    moved = Detection(180.0, 160.0, 1000)
    assert trigger.passed((moved,), SHAPE, 61 * 10**9, 750.0) == ()
    assert trigger.passed((item,), SHAPE, 62 * 10**9, 900.0) == (item,)  # the next one
