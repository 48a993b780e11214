# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Arrival processes: seeded, spaced and correlated as published."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.errors import ConfigError
from stl_conveyor.sim.arrivals import (
    ARRIVALS,
    ArrivalSettings,
    location_reset,
    markov_modulated,
    periodic,
    plan_items,
    poisson,
)

CLASSES = ('nut', 'bolt', 'washer')


def intervals(times, count):
    return np.diff(list(islice(times, count + 1)))


@given(st.sampled_from(ARRIVALS), st.integers(0, 2**40), st.integers(1, 60))
def test_same_seed_same_plan(process, seed, count):
    settings = ArrivalSettings(process=process)
    plan = plan_items(count, seed, CLASSES, settings)
    assert plan == plan_items(count, seed, CLASSES, settings)
    assert [item.serial for item in plan] == list(range(1, count + 1))
    assert all(b.arrival - a.arrival >= 1 for a, b in zip(plan, plan[1:]))
    for item in plan:
        assert item.class_id in CLASSES
        assert 0 <= item.difficulty <= 1
        assert -math.pi <= item.yaw < math.pi
        assert abs(item.lateral_offset) <= settings.lateral_range
        assert 0 <= item.appearance_seed < 2**32


def test_a_longer_plan_begins_with_the_shorter_one():
    assert plan_items(50, 3, CLASSES)[:20] == plan_items(20, 3, CLASSES)


def test_another_seed_gives_other_items():
    assert plan_items(20, 1, CLASSES) != plan_items(20, 2, CLASSES)


def test_the_arrival_process_changes_times_only():
    a = plan_items(40, 5, CLASSES, ArrivalSettings(process='periodic'))
    b = plan_items(40, 5, CLASSES, ArrivalSettings(process='poisson'))
    assert [i.arrival for i in a] != [i.arrival for i in b]
    assert [(i.class_id, i.yaw, i.difficulty) for i in a] == [
        (i.class_id, i.yaw, i.difficulty) for i in b
    ]


def test_periodic():
    assert list(islice(periodic(3), 4)) == [0, 3, 6, 9]


def test_poisson_is_memoryless_with_its_mean():
    gaps = intervals(poisson(np.random.default_rng(1), 2.5), 40000)
    assert gaps.min() == 1
    assert gaps.mean() == pytest.approx(2.5, rel=0.02)
    # memoryless: what is left of the gaps longer than 2 is spread like the gaps themselves
    assert (gaps[gaps > 2] - 2).mean() == pytest.approx(2.5, rel=0.03)


def test_markov_stays_are_geometric():
    gaps = intervals(markov_modulated(np.random.default_rng(2), (1, 3), (0.02, 0.01)), 60000)
    assert set(gaps) == {1, 3}
    edges = np.flatnonzero(np.diff(gaps))
    stays = np.add.reduceat(gaps, np.concatenate(([0], edges + 1)))  # time units, alternating
    # a stay lasts until the first interval with a departure in it
    for stay, (interval, leave) in zip((stays[0::2], stays[1::2]), ((1, 0.02), (3, 0.01))):
        assert stay.mean() == pytest.approx(interval / (1 - (1 - leave) ** interval), rel=0.15)


def test_location_reset_keeps_near_its_location():
    draws = list(islice(location_reset(np.random.default_rng(3), 1000, 0.1, 0.0), 500))
    start = min(draws) if max(draws) - min(draws) <= 100 else None
    assert start is not None or {d > 900 for d in draws} == {True, False}  # wraps around
    assert len(set(draws)) > 50


def test_location_reset_covers_all_difficulties():
    draws = np.array(list(islice(location_reset(np.random.default_rng(4), 100, 0.1, 0.2), 30000)))
    assert np.bincount(draws, minlength=100).min() > 150
    correlation = np.corrcoef(
        np.cos(draws[:-1] * math.tau / 100), np.cos(draws[1:] * math.tau / 100)
    )[0, 1]
    assert correlation == pytest.approx(0.8, abs=0.1)  # the chance that no reset came between


def test_correlated_plan_has_neighbours_of_like_difficulty():
    def step(process):
        plan = plan_items(2000, 7, CLASSES, ArrivalSettings(process=process))
        return np.median(np.abs(np.diff([item.difficulty for item in plan])))

    assert step('correlated') < 0.2 * step('periodic')


@pytest.mark.parametrize(
    'settings',
    [
        {'process': 'weekly'},
        {'period': 0},
        {'mean_interval': 0.5},
        {'intervals': (0, 3)},
        {'leaving': (0.1, 1.5)},
        {'spread': 2.0},
        {'reset_probability': -1.0},
        {'pool': 0},
    ],
)
def test_bad_settings_are_refused_by_name(settings):
    name = next(iter(settings))
    with pytest.raises(ConfigError, match='arrivals' if name == 'process' else name):
        ArrivalSettings(**settings)


@pytest.mark.parametrize('count, seed, classes', [(0, 1, CLASSES), (1, -1, CLASSES), (1, 1, ())])
def test_an_impossible_plan_is_refused(count, seed, classes):
    with pytest.raises(ConfigError):
        plan_items(count, seed, classes)
