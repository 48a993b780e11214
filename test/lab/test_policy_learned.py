# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The policy networks that ship."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('onnxruntime')

from stl_conveyor.policy import Distribution, make_policy  # noqa: E402
from stl_conveyor.policy.mdp import solve_mdp  # noqa: E402
from stl_conveyor_lab.papers.learned import play_network, token_values_along  # noqa: E402
from stl_conveyor_lab.papers.scenarios import (  # noqa: E402
    CorrelatedRewards,
    Scenario,
    Sequences,
    TwoStateArrivals,
)
from stl_conveyor_lab.papers.simulate import (  # noqa: E402
    IntegerBucket,
    play_policy,
    play_tables,
    play_thresholds,
)

NETWORK = str(Path(__file__).resolve().parents[2] / 'models' / 'policy' / 'adaptive.onnx')
# A reward distribution, buckets and processes that the training has not seen in this form.
POOL = np.sort(np.random.default_rng(9).beta(0.5, 1.5, 900))
REWARDS = Distribution.of(POOL)


@pytest.mark.parametrize(
    ('scenario', 'rate', 'depth'),
    [
        (Scenario(CorrelatedRewards(0.15, 0.05)), '1/7', 5),
        (Scenario(CorrelatedRewards(0.3, 0.02)), '2/9', 3),
        (Scenario(None, TwoStateArrivals(4, 0.01, 0.004)), '1/9', 6),
    ],
)
def test_one_network_beats_each_bucket_s_own_mdp(scenario, rate, depth):
    """Without retraining the network earns more than the i.i.d. optimum made for the bucket."""
    rate, depth = Fraction(rate), Fraction(depth)
    sequences = scenario.draw(POOL, 4000, 12, np.random.default_rng(1))
    bucket = IntegerBucket.of(rate, depth)
    total, _ = play_thresholds(
        sequences, bucket, token_values_along(NETWORK, sequences, rate, depth, REWARDS)
    )
    solution = solve_mdp(rate, depth, REWARDS, scenario.intervals)
    mdp, _ = play_tables(sequences, [bucket], [solution.thresholds])
    gain = total / 4000 - mdp[0]
    assert gain.mean() - 2 * gain.std() / np.sqrt(len(gain)) > 0.001


def test_the_shipped_network_in_the_node_s_form():
    """Item by item, through the node's bucket, the decisions are those of the simulation."""
    scenario = Scenario(CorrelatedRewards(0.1, 0.05), TwoStateArrivals.published(3, 0.05))
    sequences = scenario.draw(POOL, 500, 1, np.random.default_rng(2))
    rate, depth = Fraction(1, 4), Fraction(4)
    worth = token_values_along(NETWORK, sequences, rate, depth, REWARDS)
    _, decisions = play_thresholds(sequences, IntegerBucket.of(rate, depth), worth)
    policy = make_policy('adaptive', rate=rate, depth=depth, rewards=REWARDS, model=NETWORK)
    played = play_policy(sequences, rate, depth, policy)
    assert (played != decisions[:, 0]).sum() <= 1
    assert played.sum() > 50


def test_many_sequences_and_buckets_at_once():
    """In blocks over all sequences and buckets the decisions are those of the node, one by one."""
    scenario = Scenario(CorrelatedRewards(0.2, 0.02), TwoStateArrivals.published(6, 0.05))
    sequences = scenario.draw(POOL, 240, 5, np.random.default_rng(6))
    buckets = [
        (Fraction(1, 10), Fraction(20)),
        (Fraction(1, 4), Fraction(9, 2)),
        (Fraction(1, 4), Fraction(1)),
    ]
    gains, decisions = play_network(NETWORK, sequences, buckets, REWARDS, chunk=64)
    np.testing.assert_allclose(gains, (decisions * sequences.rewards).mean(axis=1), rtol=1e-5)
    for (rate, depth), decided, gain in zip(buckets, decisions, gains):
        policy = make_policy('adaptive', rate=rate, depth=depth, rewards=REWARDS, model=NETWORK)
        for column in range(5):
            np.testing.assert_array_equal(
                play_policy(sequences, rate, depth, policy, column), decided[:, column]
            )
        total, same = play_thresholds(
            sequences,
            IntegerBucket.of(rate, depth),
            token_values_along(NETWORK, sequences, rate, depth, REWARDS),
        )
        np.testing.assert_array_equal(same, decided)
        np.testing.assert_allclose(total / 240, gain)
    later, _ = play_network(NETWORK, sequences, buckets, REWARDS, skip=40)
    np.testing.assert_allclose(
        later, (decisions * sequences.rewards)[:, 40:].mean(axis=1), rtol=1e-5
    )


def test_the_shipped_network_follows_a_process_that_changes():
    """The process changes twice and nobody says so; the network earns more in each part."""
    rate, depth = Fraction(1, 10), Fraction(4)
    parts = (
        Scenario(CorrelatedRewards(0.1, 0.05)),
        Scenario(None, TwoStateArrivals.published(6, 0.01)),
        Scenario(CorrelatedRewards(0.4, 0.01)),
    )
    generator = np.random.default_rng(4)
    drawn = [scenario.draw(POOL, 1500, 96, generator) for scenario in parts]
    sequences = Sequences(
        np.concatenate([one.rewards for one in drawn]),
        np.concatenate([one.intervals for one in drawn]),
    )
    bucket = IntegerBucket.of(rate, depth)
    worth = token_values_along(NETWORK, sequences, rate, depth, REWARDS)
    _, adaptive = play_thresholds(sequences, bucket, worth)
    intervals = Distribution.of(sequences.intervals.ravel())
    table = solve_mdp(rate, depth, REWARDS, intervals).thresholds[bucket.cost :]
    _, fixed = play_thresholds(sequences, bucket, np.broadcast_to(table, worth.shape))
    earned = (adaptive.astype(float) - fixed) * sequences.rewards
    for part in np.split(earned, 3):
        gain = part.mean(axis=0)
        assert gain.mean() - 2 * gain.std() / np.sqrt(gain.size) > 0
    assert earned.mean() > 0.005
    # Short intervals bring few tokens: the network asks for more than during long ones.
    short = sequences.intervals[1500:3000] == 1
    steady = np.concatenate([np.zeros((1, 96), bool), short[1:] & short[:-1]])
    level = bucket.full // 2 - bucket.cost
    asked = worth[1500:3000, :, level]
    assert asked[steady].mean() > 1.1 * asked[~steady & ~short].mean()
