# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Stages share the time that was asked for, and what takes long looks at its part of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies

from stl_conveyor_lab.train.time_plan import UNLIMITED, Allowance, TimePlan

SHARES = {'images': 0.1, 'strong': 0.3, 'codec': 0.6}


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_blocks_end_with_the_time_but_not_before_the_least(clock):
    allowance = Allowance(10.0, clock)

    def reached(allowance, **least):
        found = []
        for part in allowance.blocks(100, 8, **least):
            found.append(part)
            clock.now += 3.0
        return found

    assert reached(allowance)[-1] == slice(24, 32)
    assert allowance.is_over and allowance.seconds_left == 0
    assert reached(allowance, least=20)[-1] == slice(16, 24)
    assert [part.stop for part in reached(UNLIMITED)][-2:] == [96, 100]


def test_what_is_afforded_lies_between_the_least_and_all(clock):
    allowance = Allowance(10.0, clock)
    assert allowance.affords(0.1, 50) == 50
    assert allowance.affords(1.0, 50) == 10
    assert allowance.affords(1.0, 50, least=30) == 30
    assert allowance.affords(100.0, 50) == 1
    assert allowance.affords(100.0, 5, least=30) == 5
    assert UNLIMITED.affords(1e9, 50) == 50


def test_parts_are_of_what_is_left_when_they_begin(clock):
    allowance = Allowance(10.0, clock)
    clock.now += 4.0
    assert allowance.part(0.5).seconds_left == pytest.approx(3.0)
    assert allowance.but(2.0).seconds_left == pytest.approx(4.0)
    assert allowance.but(60.0).is_over
    for endless in (UNLIMITED.part(0.1), UNLIMITED.but(math.inf), UNLIMITED.but(3.0)):
        assert not endless.limited and not endless.is_over


def test_work_is_timed_by_the_clock_of_the_allowance(clock):
    def work():
        clock.now += 2.5

    assert Allowance(1.0, clock).timed(work) == pytest.approx(2.5)


@given(strategies.lists(strategies.floats(0.0, 3.0), min_size=3, max_size=3))
def test_whatever_a_stage_overruns_or_saves_the_others_share_the_rest(of_its_time):
    clock = Clock()
    plan = TimePlan(10.0, SHARES, clock=clock)
    for stage, used in zip(SHARES, of_its_time):
        allowance = plan.begin(stage)
        later = sum(share for name, share in SHARES.items() if name not in plan.taken)
        assert allowance.seconds_left == pytest.approx(
            plan.seconds_left() * SHARES[stage] / later, abs=1e-6
        )
        clock.now += used * allowance.seconds_left
        plan.end(stage)
    assert plan.seconds_left() == pytest.approx(600 - min(600, sum(plan.taken.values())), abs=1e-6)


def test_stages_that_end_on_time_end_the_whole_on_time(clock):
    plan = TimePlan(10.0, SHARES, spent=60.0, clock=clock, begun=clock.now - 12.0)
    assert plan.seconds_spent() == pytest.approx(72.0)
    for stage in SHARES:
        clock.now += plan.begin(stage).seconds_left
        plan.end(stage)
    assert plan.seconds_spent() == pytest.approx(600.0)
    assert plan.seconds_left() == pytest.approx(0.0)


def test_a_stage_that_was_done_before_leaves_its_part_to_the_others(clock):
    plan = TimePlan(10.0, SHARES, clock=clock)
    plan.end('images', 5.0)
    assert plan.taken == {'images': 5.0}
    assert plan.begin('strong').seconds_left == pytest.approx(600 / 3)


def test_without_a_limit_every_stage_takes_what_it_needs(clock):
    plan = TimePlan(0.0, SHARES, clock=clock)
    assert not plan.limited and plan.planned('strong') == 0
    assert not plan.begin('strong').limited and plan.seconds_left() == math.inf
