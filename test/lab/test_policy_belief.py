# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The policy that infers the hidden state."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from stl_conveyor.policy import Distribution
from stl_conveyor.policy.mdp import solve_mdp
from stl_conveyor_lab.papers.belief import BeliefFilter, play_belief
from stl_conveyor_lab.papers.bounds import clairvoyant, solve_oracle
from stl_conveyor_lab.papers.scenarios import CorrelatedRewards, Scenario, TwoStateArrivals
from stl_conveyor_lab.papers.simulate import IntegerBucket, play_tables

POOL = np.sort(np.random.default_rng(9).beta(0.4, 1.2, 800))


def test_filter_finds_the_location():
    """After items from one window, the location is known to lie where all of them fit."""
    scenario = Scenario(CorrelatedRewards(0.2, 0.001))
    belief = BeliefFilter(scenario, POOL, 100, 1)
    for rank in (0.31, 0.45, 0.4, 0.35):
        belief.see(POOL[[int(rank * POOL.size)]].astype(np.float32), None)
    assert belief.location.sum() == pytest.approx(1.0, abs=1e-4)
    # 0.45 - 0.2 <= L <= 0.31
    assert belief.location[24:32].sum() > 0.95
    belief.see(POOL[[int(0.9 * POOL.size)]].astype(np.float32), None)
    assert belief.location[69:91].sum() > 0.95


def test_filter_wraps_round_the_end():
    """A location near the end explains items at both ends of the pool."""
    belief = BeliefFilter(Scenario(CorrelatedRewards(0.2, 0.001)), POOL, 100, 1)
    for rank in (0.97, 0.05):
        belief.see(POOL[[int(rank * POOL.size)]].astype(np.float32), None)
    assert belief.location[84:98].sum() > 0.95


def test_filter_of_the_arrivals():
    """The last interval tells the state up to the chance that it changed."""
    arrivals = TwoStateArrivals(3, 0.1, 0.05)
    belief = BeliefFilter(Scenario(None, arrivals), POOL, 1, 2)
    np.testing.assert_allclose(belief.arrivals[0], arrivals.fast_share, rtol=1e-5)
    belief.see(np.float32([0.1, 0.1]), np.int16([1, 3]))
    np.testing.assert_allclose(belief.arrivals[0], [0.9, 1 - 0.95**3], rtol=1e-5)


@pytest.mark.parametrize(
    'scenario',
    [
        Scenario(CorrelatedRewards(0.1, 0.1)),
        Scenario(None, TwoStateArrivals.published(6, 0.02)),
        Scenario(CorrelatedRewards(0.1, 0.05), TwoStateArrivals.published(3, 0.02)),
    ],
)
def test_belief_lies_between_the_mdp_and_the_bounds(scenario):
    """Inferring the state earns more than ignoring it, and less than knowing all."""
    rate, depth = Fraction(1, 5), Fraction(3)
    bucket = IntegerBucket.of(rate, depth)
    sequences = scenario.draw(POOL, 2500, 24, np.random.default_rng(3))
    solution = solve_mdp(rate, depth, Distribution.of(POOL), scenario.intervals)
    mdp = play_tables(sequences, [bucket], [solution.thresholds])[0][0]
    told = solve_oracle(scenario, POOL, bucket, locations=50, tolerance=1e-4)
    earned, decisions = play_belief(scenario, POOL, sequences, [bucket], [told])
    gain = earned[0] - mdp
    assert gain.mean() - 2 * gain.std() / np.sqrt(len(gain)) > 0.002
    assert (earned[0] <= clairvoyant(sequences, bucket) + 1e-6).all()
    later, _ = play_belief(scenario, POOL, sequences, [bucket], [told], skip=500)
    np.testing.assert_allclose(
        later, (decisions * sequences.rewards)[:, 500:].mean(axis=1), rtol=1e-5
    )
    # The bucket is never overdrawn.
    level = np.full(24, bucket.full)
    for offload, interval in zip(decisions[0], sequences.intervals):
        level = level - bucket.cost * offload
        assert level.min() >= 0
        level = np.minimum(level + bucket.gain * interval, bucket.full)
