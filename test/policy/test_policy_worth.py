# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What an offload is worth: by accuracy without costs, by the fall in cost with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stl_conveyor.cell.description import CellDescription, Costs, Lane, Strangers
from stl_conveyor.decision.calibration_record import CalibrationRecord, CellDecider
from stl_conveyor.errors import BadProbabilities, CalibrationError
from stl_conveyor.policy import PolicyInput, RewardEstimator, make_policy
from stl_conveyor.policy.worth import AccuracyWorth, CostWorth
from stl_conveyor.resources import share_path

LABELS = ('bolt', 'screw', 'nut', 'ring')
SHIPPED = CellDescription.load(share_path('config/cell.yaml'))


def cell_of(*groups, **costs):
    """Return a cell with a lane for each group of classes."""
    lanes = tuple(
        Lane(name, SHIPPED.lanes[k].diverter_x, group)
        for k, (name, group) in enumerate(zip('ABC', groups))
    )
    return replace(SHIPPED, lanes=lanes, costs=Costs(**costs))


def confused(pair, share):
    """Return probabilities of an item that is one of two classes, the first with `share`."""
    found = np.full(4, 1e-4)
    found[[LABELS.index(name) for name in pair]] = share, 1 - share
    return found / found.sum()


def record(count=1200, seed=0):
    """Return items of which the device confuses bolt with screw, and nut with ring."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 4, count)
    sure = rng.random(count) < 0.4
    trust = np.where(sure, 0.98, rng.uniform(0.5, 0.7, count))
    told = np.where(rng.random(count) < trust, classes, classes ^ 1)
    local = np.full((count, 4), 1e-3)
    rows = np.arange(count)
    local[rows, told], local[rows, told ^ 1] = trust, 1 - trust
    local /= local.sum(axis=1, keepdims=True)
    edge = np.full((2, count, 4), 0.02)
    edge[0, rows, told], edge[0, rows, classes] = 0.5, 0.44  # the short prefix helps little
    edge[1, rows, classes] = 0.94
    edge /= edge.sum(axis=2, keepdims=True)
    return CalibrationRecord(
        classes, rng.random(count) < 0.3, np.array([64, 512]), local, edge, None, None
    )


def worth_of(cell, **keywords):
    return CostWorth(CellDecider(cell, LABELS, record(**keywords)))


def test_confusion_within_a_lane_buys_nothing():
    together = worth_of(cell_of(('bolt', 'screw'), ('nut', 'ring')))
    apart = worth_of(cell_of(('bolt', 'nut'), ('screw', 'ring')))
    doubtful = confused(('bolt', 'screw'), 0.55)
    assert together.of(doubtful) == pytest.approx(0.0, abs=0.02)
    assert apart.of(doubtful) > 0.25
    assert apart.of(doubtful) > apart.of(confused(('bolt', 'screw'), 0.99)) + 0.2


def test_policy_sends_what_is_confused_across_lanes_and_nothing_else():
    worth = worth_of(cell_of(('bolt', 'screw'), ('nut',), ('ring',)))
    policy = make_policy(
        'mdp', rate='1/50', depth=1, rewards=worth.distribution, budgets=worth.budgets
    )
    within, across = (
        policy.decide(PolicyInput(worth.of(confused(pair, 0.55)), level=1))
        for pair in (('bolt', 'screw'), ('nut', 'ring'))
    )
    assert across.offload and not within.offload


def test_dear_mistakes_make_an_offload_worth_more():
    cheap = worth_of(cell_of(('bolt', 'nut'), ('screw', 'ring'), reject=10.0))
    dear = cell_of(('bolt', 'nut'), ('screw', 'ring'), reject=10.0)
    lanes = tuple(
        replace(lane, costs=tuple((name, 5.0) for name in LABELS if name not in lane.classes))
        for lane in dear.lanes
    )
    doubtful = confused(('bolt', 'screw'), 0.55)
    ratio = worth_of(replace(dear, lanes=lanes)).of(doubtful) / cheap.of(doubtful)
    assert ratio == pytest.approx(5.0, rel=0.15)


def test_budgets_are_in_the_same_unit_and_short_prefixes_bring_less():
    worth = worth_of(cell_of(('bolt', 'nut'), ('screw', 'ring')))
    assert (worth.budgets.shares * worth.budgets.nominal_bytes).tolist() == [64, 512]
    best = worth.budgets.rewards.argmax()
    short, whole = worth.budgets.gains[best]
    assert short < 0.3 * whole
    assert whole == pytest.approx(worth.budgets.rewards[best], abs=0.1)
    mean = worth.budgets.weights @ worth.budgets.gains[:, 1]
    assert mean == pytest.approx(worth.falls[1].mean(), abs=0.02)


def test_worth_is_calibrated_on_items_that_it_was_not_learned_from():
    cell = cell_of(('bolt', 'nut'), ('screw', 'ring'))
    worth = worth_of(cell)
    fresh = record(seed=5, count=4000)
    other = CostWorth(CellDecider(cell, LABELS, fresh))
    told = worth.of_all(fresh.local)
    high = told > np.median(told)
    for part in (high, ~high):
        assert told[part].mean() == pytest.approx(other.falls[1][part].mean(), abs=0.05)


def test_costs_without_calibration_items_are_refused_with_the_remedy():
    decider = CellDecider(cell_of(LABELS[:2], LABELS[2:]), LABELS)
    with pytest.raises(CalibrationError, match=r'decision\.npz'):
        CostWorth(decider)


def test_vectors_that_nobody_can_have_sent_are_refused():
    worth = worth_of(cell_of(LABELS[:2], LABELS[2:]))
    for bad in (np.full(4, np.nan), np.ones(3), np.array([-1.0, 1.0, 1.0, 0.0])):
        with pytest.raises(BadProbabilities):
            worth.of(bad)


def test_stranger_to_the_device_is_worth_a_token_unless_the_cell_rejects_none():
    rewards = RewardEstimator.load(share_path('models/items/reward.json'))
    sure = np.eye(rewards.classes)[0]
    best = rewards.distribution.values[-1]
    assert AccuracyWorth(rewards, Strangers()).of(sure, sure, 0.99) >= best
    off = AccuracyWorth(rewards, Strangers(rejects=0.0))
    assert off.of(sure, sure, 0.99) == rewards.expected_reward(sure, sure)


def test_stream_suffices_when_the_lane_is_sure_whatever_the_class():
    decider = CellDecider(cell_of(('bolt', 'screw'), ('nut', 'ring')), LABELS, record())
    within, across = (confused(pair, 0.5)[None] for pair in (('bolt', 'screw'), ('screw', 'nut')))
    own = np.array([0.2])
    assert decider.suffices(within, own, 512, 0.97).all()
    assert not decider.suffices(across, own, 512, 0.97).any()
    assert not decider.suffices(within, np.array([0.999]), 512, 0.97).any()  # a stranger
    assert not decider.suffices(within, own, 512, 1.01).any()  # never, as its edge has it
