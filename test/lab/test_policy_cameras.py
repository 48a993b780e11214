# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Several cameras on one network."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from stl_conveyor.errors import ConfigError
from stl_conveyor.policy import Distribution
from stl_conveyor.policy.mdp import solve_mdp
from stl_conveyor_lab.papers.bounds import clairvoyant
from stl_conveyor_lab.papers.cameras import merged, play_cameras
from stl_conveyor_lab.papers.scenarios import CorrelatedRewards, Scenario
from stl_conveyor_lab.papers.simulate import IntegerBucket, play_tables

POOL = np.sort(np.random.default_rng(9).beta(0.4, 1.2, 800))
REWARDS = Distribution.of(POOL)
RATE, DEPTH = Fraction(1, 5), Fraction(2)


def cameras(count, n_items=1500, n_sequences=16, scenario=None):
    """Draw independent cameras, [T, N, S]."""
    scenario = scenario or Scenario(CorrelatedRewards(0.1, 0.05))
    generator = np.random.default_rng(5)
    return np.stack(
        [scenario.draw(POOL, n_items, n_sequences, generator).rewards for _ in range(count)],
        axis=1,
    )


def test_one_camera_is_the_plain_problem():
    """Alone, isolated and shared are the same bucket, and that of the simulation."""
    items = cameras(1)
    isolated, _ = play_cameras(items, RATE, DEPTH, REWARDS, 'isolated')
    shared, _ = play_cameras(items, RATE, DEPTH, REWARDS, 'shared')
    np.testing.assert_array_equal(isolated, shared)
    solution = solve_mdp(RATE, DEPTH, REWARDS, Distribution.of([1.0]))
    plain, _ = play_tables(merged(items), [IntegerBucket.of(RATE, DEPTH)], [solution.thresholds])
    np.testing.assert_allclose(isolated[0], plain[0], rtol=1e-4)


def test_sharing_gains():
    """Cameras whose good items come at different times gain from each other's tokens."""
    items = cameras(4)
    gain = {
        arrangement: play_cameras(items, RATE, DEPTH, REWARDS, arrangement)[0].mean(axis=0)
        for arrangement in ('isolated', 'hierarchical', 'shared')
    }
    better = gain['shared'] - gain['isolated']
    assert better.mean() - 2 * better.std() / 4 > 0.002
    assert gain['isolated'].mean() < gain['hierarchical'].mean() < gain['shared'].mean() + 0.002
    bound = clairvoyant(merged(items), IntegerBucket.of(RATE, 4 * DEPTH))
    assert (gain['shared'] <= bound + 1e-6).all()


@pytest.mark.parametrize('arrangement', ['isolated', 'hierarchical', 'shared'])
def test_the_network_is_never_overdrawn(arrangement):
    """All together spend at most the rate and the burst of the network."""
    items = cameras(3, n_items=400)
    _, offloaded = play_cameras(items, RATE, DEPTH, REWARDS, arrangement)
    spent = offloaded.sum(axis=0) * 400
    assert (spent <= 3 * (400 * RATE + DEPTH) + 1e-6).all()


def test_a_greedy_camera_is_held_back():
    """In the hierarchy a camera with only good items cannot starve the others for long."""
    items = cameras(2, n_items=2000)
    items[:, 0] = POOL[-1]
    _, shared = play_cameras(items, RATE, DEPTH, REWARDS, 'shared')
    _, held = play_cameras(items, RATE, DEPTH, REWARDS, 'hierarchical', share=Fraction(5, 4))
    assert held[0].mean() <= 1.25 * RATE + 0.01 < shared[0].mean()
    assert held[1].mean() > shared[1].mean()


def test_unknown_arrangement():
    """What does not exist is refused by name."""
    with pytest.raises(ConfigError, match='isolated'):
        play_cameras(cameras(1, 10), RATE, DEPTH, REWARDS, 'ring')
    with pytest.raises(ConfigError, match='share'):
        play_cameras(cameras(1, 10), RATE, DEPTH, REWARDS, 'hierarchical', share=Fraction(1, 2))
