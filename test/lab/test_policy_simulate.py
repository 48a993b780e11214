# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Simulation and bounds: the same bucket everywhere, and the order that theory demands."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stl_conveyor.policy import Distribution, make_policy
from stl_conveyor.policy.mdp import solve_mdp
from stl_conveyor_lab.papers.bounds import clairvoyant, exact_gain, solve_oracle, unlimited_burst
from stl_conveyor_lab.papers.scenarios import (
    CorrelatedRewards,
    Scenario,
    Sequences,
    TwoStateArrivals,
)
from stl_conveyor_lab.papers.simulate import (
    IntegerBucket,
    play_policy,
    play_tables,
    play_thresholds,
)

POOL = np.sort(np.random.default_rng(9).beta(0.4, 1.2, 800))


@pytest.mark.parametrize(('rate', 'depth'), [('1/4', 4), ('2/5', '3/2'), ('1/10', 1)])
def test_simulation_is_the_bucket_of_the_node(rate, depth):
    """The vectorised players and the node's own policy and bucket decide alike, item by item."""
    scenario = Scenario(CorrelatedRewards(0.2, 0.05), TwoStateArrivals.published(3, 0.05))
    sequences = scenario.draw(POOL, 600, 4, np.random.default_rng(0))
    rewards = Distribution.of(POOL)
    policy = make_policy('mdp', rate=rate, depth=depth, rewards=rewards)
    bucket = IntegerBucket.of(Fraction(rate), Fraction(depth))
    table = policy.solution.thresholds
    each = np.broadcast_to(table[bucket.cost :], (600, 4, bucket.full + 1 - bucket.cost))
    total, decisions = play_thresholds(sequences, bucket, each)
    means, shares = play_tables(sequences, [bucket], [table])
    np.testing.assert_allclose(means[0], total / 600, rtol=1e-5)
    np.testing.assert_allclose(shares[0], decisions.mean(axis=0))
    means, shares = play_tables(sequences, [bucket], [table], skip=100)
    np.testing.assert_allclose(
        means[0], (decisions * sequences.rewards)[100:].mean(axis=0), rtol=1e-5
    )
    np.testing.assert_allclose(shares[0], decisions[100:].mean(axis=0))
    for column in range(4):
        played = play_policy(sequences, Fraction(rate), Fraction(depth), policy, column)
        # float32 metrics against float64 thresholds may differ on exact ties only
        assert (played != decisions[:, column]).sum() <= 1


def test_several_buckets_at_once():
    """Playing buckets together gives what each gives alone."""
    sequences = Scenario().draw(POOL, 400, 3, np.random.default_rng(1))
    buckets = [IntegerBucket.of(Fraction(1, p), Fraction(b)) for p, b in ((4, 4), (10, 1), (3, 2))]
    tables = [np.linspace(0.6, 0.2, bucket.full + 1) for bucket in buckets]
    together, _ = play_tables(sequences, buckets, tables)
    for bucket, table, row in zip(buckets, tables, together):
        np.testing.assert_allclose(play_tables(sequences, [bucket], [table])[0][0], row)


@settings(max_examples=40, deadline=None)
@given(
    rewards=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=9),
    seed=st.integers(0, 99),
    q=st.integers(0, 3),
    p=st.integers(1, 4),
    extra=st.integers(0, 5),
)
def test_clairvoyant_is_the_best_of_all(rewards, seed, q, p, extra):
    """Dynamic programming finds the best of all 2^T sets of decisions."""
    intervals = np.random.default_rng(seed).integers(1, 4, len(rewards)).astype(np.int16)
    bucket = IntegerBucket(cost=p, gain=q, full=p + extra)
    best = 0.0
    for actions in product((0, 1), repeat=len(rewards)):
        level, total = bucket.full, 0.0
        for action, reward, interval in zip(actions, rewards, intervals):
            if action and level < p:
                break
            total += action * reward
            level = min(bucket.full, level - p * action + q * interval)
        else:
            best = max(best, total)
    sequences = Sequences(np.array(rewards, np.float32)[:, None], intervals[:, None])
    assert clairvoyant(sequences, bucket)[0] * len(rewards) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize(
    'scenario',
    [
        Scenario(CorrelatedRewards(0.1, 0.1)),
        Scenario(None, TwoStateArrivals.published(6, 0.02)),
        Scenario(CorrelatedRewards(0.2, 0.05), TwoStateArrivals.published(3, 0.02)),
    ],
)
def test_order_of_the_bounds(scenario):
    """MDP <= told the hidden state <= clairvoyant <= unlimited burst."""
    rate, depth = Fraction(1, 5), Fraction(3)
    bucket = IntegerBucket.of(rate, depth)
    sequences = scenario.draw(POOL, 8000, 30, np.random.default_rng(3))
    solution = solve_mdp(rate, depth, Distribution.of(POOL), scenario.intervals)
    mdp = play_tables(sequences, [bucket], [solution.thresholds])[0].mean()
    told = solve_oracle(scenario, POOL, bucket, locations=40, tolerance=1e-5)
    known = clairvoyant(sequences, bucket).mean()
    burst = unlimited_burst(sequences, rate, depth).mean()
    noise = 0.01
    assert mdp < told.gain + noise
    assert told.gain < known + noise
    assert known <= burst + 1e-6
    assert told.gain_bounds[1] - told.gain_bounds[0] <= 1e-5


def test_solve_oracle_without_a_hidden_state():
    """For i.i.d. items nothing is hidden: the optimum is the MDP's."""
    bucket = IntegerBucket.of(Fraction(1, 5), Fraction(3))
    unit = Distribution.of([1.0])
    solution = solve_mdp(Fraction(1, 5), Fraction(3), Distribution.of(POOL), unit)
    told = solve_oracle(Scenario(), POOL, bucket)
    assert told.gain == pytest.approx(solution.gain, abs=1e-5)
    np.testing.assert_allclose(told.marginal[0, 0], solution.thresholds[bucket.cost :], atol=1e-3)


@pytest.mark.parametrize(
    'scenario',
    [
        Scenario(CorrelatedRewards(0.1, 0.1)),
        Scenario(CorrelatedRewards(0.0, 0.02)),
        Scenario(None, TwoStateArrivals.published(6, 0.05)),
        Scenario(CorrelatedRewards(0.2, 0.05), TwoStateArrivals.published(3, 0.05)),
    ],
)
def test_exact_gain_is_what_sequences_give(scenario):
    """The stationary gain of thresholds agrees with a long simulation, and with the bound."""
    bucket = IntegerBucket.of(Fraction(1, 5), Fraction(3))
    solution = solve_mdp(Fraction(1, 5), Fraction(3), Distribution.of(POOL), scenario.intervals)
    exact = exact_gain(scenario, POOL, bucket, solution.thresholds)
    sequences = scenario.draw(POOL, 10000, 60, np.random.default_rng(3))
    played = play_tables(sequences, [bucket], [solution.thresholds])[0][0]
    assert abs(played.mean() - exact) < 3 * played.std() / np.sqrt(played.size) + 2e-4
    # The optimum is at its own fixed point: no threshold does better when the state is told.
    assert exact <= solve_oracle(scenario, POOL, bucket, locations=200).gain + 1e-7


def test_exact_gain_of_independent_items_is_that_of_the_mdp():
    """For i.i.d. items the stationary gain of the optimal thresholds is the MDP's."""
    solution = solve_mdp(
        Fraction(1, 5), Fraction(3), Distribution.of(POOL), Distribution.of([1.0])
    )
    gain = exact_gain(
        Scenario(), POOL, IntegerBucket.of(Fraction(1, 5), Fraction(3)), solution.thresholds
    )
    assert gain == pytest.approx(solution.gain, abs=1e-6)


def test_told_the_location_against_brute_force():
    """Windows that wrap round the end of the pool are averaged correctly."""
    pool = np.linspace(0, 1, 10)
    scenario = Scenario(CorrelatedRewards(0.4, 1.0))
    # Redrawn before each item, the location tells only the present window, which the reward
    # tells too: the optimum is that of i.i.d. items.
    bucket = IntegerBucket.of(Fraction(1, 3), Fraction(2))
    told = solve_oracle(scenario, pool, bucket, locations=10, tolerance=1e-7)
    iid = solve_mdp(Fraction(1, 3), Fraction(2), Distribution.of(pool), Distribution.of([1.0]))
    assert told.gain == pytest.approx(iid.gain, abs=1e-5)
