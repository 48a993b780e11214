# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A policy that knows how the items come about, and infers the state that it cannot see.

It knows the scenario (spread and reset of the location, arrival states), not the location nor
the state. A Bayes filter keeps their probabilities, the belief state; the value of a token is the
mean, under them, of its value to the oracle (``bounds.solve_oracle``). Items do not depend on
decisions, so nothing is lost by not exploring; what is lost is that the mean forgets that doubt
will last. This is the yardstick between the learned policies, which must find the scenario out,
and the bound.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor_lab.papers.bounds import HiddenStateSolution
from stl_conveyor_lab.papers.scenarios import CorrelatedRewards, Scenario, Sequences
from stl_conveyor_lab.papers.simulate import IntegerBucket


class _Location:
    """Bayes filter of the location; one column for each sequence.

    Attributes:
        count: Bins of the location.
        size: Of the pool that items are drawn from.
    """

    def __init__(self, spread: float, reset: float, count: int, size: int):
        self.reset, self.count = reset, count
        rank = (np.arange(size) + 0.5) / size
        centre = ((np.arange(count) + 0.5) / count).astype(np.float32)
        ahead = np.mod(rank[None, :] - centre[:, None], 1.0).astype(np.float32)
        half = 0.5 / count
        # The bin of a location counts by the part of it from which the item can have come.
        inside = np.clip((spread - ahead) / (2 * half) + 0.5, 0.0, 1.0)
        inside += np.clip((ahead - 1.0) / (2 * half) + 0.5, 0.0, 1.0)
        self._likelihood = np.maximum(inside, 1e-9).T.copy()

    def start(self, n_sequences: int) -> NDArray[Any]:
        return np.full((self.count, n_sequences), 1.0 / self.count, dtype=np.float32)

    def update(self, belief: NDArray[Any], place: NDArray[Any]) -> NDArray[Any]:
        """Move on by one item at this place in the pool [S]; belief [K, S]."""
        belief = (1 - self.reset) * belief + self.reset / self.count
        belief *= self._likelihood[place].T
        return belief / belief.sum(axis=0)


class BeliefFilter:
    """Belief state along S sequences: probabilities of the hidden state.

    Attributes:
        pool: [K] sorted metrics that the items are drawn from.
        locations: Bins of the location; 1 where the rewards are i.i.d.
    """

    def __init__(self, scenario: Scenario, pool: NDArray[Any], locations: int, n_sequences: int):
        source = scenario.rewards or CorrelatedRewards(1.0, 0.0)
        self._pool = pool
        self._where = _Location(source.spread, source.reset, locations, pool.size)
        self.location = self._where.start(n_sequences)
        self._change = None
        self.arrivals = np.ones((1, n_sequences), dtype=np.float32)
        if scenario.arrivals is not None:
            leave, back = scenario.arrivals.leave_per_item
            share = scenario.arrivals.fast_share
            self._change = np.array([[1 - leave, leave], [back, 1 - back]], dtype=np.float32)
            self.arrivals = np.repeat(
                np.array([[share], [1 - share]], dtype=np.float32), n_sequences, axis=1
            )

    def see(self, rewards: NDArray[Any], intervals: NDArray[Any] | None) -> None:
        """Take in the next items: their metrics [S], and the intervals before them [S]."""
        if len(self.location) > 1:
            place = np.searchsorted(self._pool, rewards.astype(np.float64) - 1e-7)
            place = np.minimum(place, self._pool.size - 1)
            self.location = self._where.update(self.location, place)
        if self._change is not None and intervals is not None:
            self.arrivals = self._change[(intervals != 1).astype(int)].T

    def mean(self, marginal: NDArray[Any], level: NDArray[Any]) -> NDArray[Any]:
        """Mean [S] of a table [K, A, levels] at the levels [S]."""
        at = marginal[:, :, level]
        return np.einsum('ks,as,kas->s', self.location, self.arrivals, at)


def play_belief(
    scenario: Scenario,
    pool: NDArray[Any],
    sequences: Sequences,
    buckets: list[IntegerBucket],
    solutions: list[HiddenStateSolution],
    skip: int = 0,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Play the policy over all sequences, one solution of ``solve_oracle`` for each bucket.

    The first ``skip`` items are played and not counted.
    Returns the mean reward per item [C, S] and the decisions, bool [C, T, S].
    """
    n_items, n_sequences = sequences.rewards.shape
    belief = BeliefFilter(scenario, pool, len(solutions[0].marginal), n_sequences)
    tables = [solution.marginal.astype(np.float32) for solution in solutions]
    levels = [np.full(n_sequences, bucket.full) for bucket in buckets]
    total = np.zeros((len(buckets), n_sequences))
    decisions = np.zeros((len(buckets), n_items, n_sequences), dtype=bool)
    for t in range(n_items):
        rewards = sequences.rewards[t]
        belief.see(rewards, sequences.intervals[t - 1] if t else None)
        for c, bucket in enumerate(buckets):
            level = levels[c]
            asked = belief.mean(tables[c], np.maximum(level - bucket.cost, 0))
            decisions[c, t] = bucket.offer(level, rewards, asked, sequences.intervals[t])
            if t >= skip:
                total[c] += decisions[c, t] * rewards
    return total / (n_items - skip), decisions
