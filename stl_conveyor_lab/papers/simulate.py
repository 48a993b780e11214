# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Play sequences of items through token buckets: many sequences, many buckets at a time.

This is the published problem in its integer form, the same that ``TokenBucket`` holds exactly
(a test plays both side by side): n <- min(M, n - P*a + Q*I), r = Q/P, b = M/P.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.policy.base import Policy
from stl_conveyor.policy.play import play
from stl_conveyor.policy.token_bucket import exact_fraction
from stl_conveyor_lab.papers.scenarios import Sequences


@dataclass(frozen=True)
class IntegerBucket:
    """r = Q/P and b = M/P as integers: ``cost`` is P, ``gain`` is Q, ``full`` is M."""

    cost: int
    gain: int
    full: int

    @classmethod
    def of(cls, rate: Fraction, depth: Fraction) -> IntegerBucket:
        """Make one from r and b."""
        rate, depth = exact_fraction(rate), exact_fraction(depth)
        steps = lcm(rate.denominator, depth.denominator)
        return cls(cost=steps, gain=int(rate * steps), full=int(depth * steps))

    def offer(
        self,
        level: NDArray[Any],
        reward: NDArray[Any],
        asked: NDArray[Any],
        interval: NDArray[Any],
    ) -> NDArray[Any]:
        """Offload where the reward is what is asked for and a token is there, all [S]; bool [S].

        Moves ``level`` on, in place, to the next item.
        """
        offload = (reward >= asked) & (level >= self.cost)
        level -= self.cost * offload
        level += self.gain * interval
        np.minimum(level, self.full, out=level)
        return offload


def level_positions(bucket: IntegerBucket, knots: NDArray[Any] | None) -> NDArray[Any]:
    """Read the value of a token at the levels P..M from the outputs.

    The result is a matrix [M + 1 - P, outputs]. knots [K] lie on the relative level
    (n - P) / (M - P); None is one output for each level.
    """
    n_levels = bucket.full + 1 - bucket.cost
    if knots is None:
        return np.eye(n_levels, dtype=np.float32)
    relative = np.linspace(0, 1, n_levels) if n_levels > 1 else np.zeros(1)
    return np.stack(
        [np.interp(relative, knots, row) for row in np.eye(len(knots))], axis=1
    ).astype(np.float32)


class KnotReader:
    """Read outputs at one level each, instead of at all levels.

    Attributes:
        positions: From ``level_positions``: each row weighs one knot, or two that follow each
            other.
    """

    def __init__(self, positions: NDArray[Any]):
        self._low = (positions > 0).argmax(axis=1)
        self._high = np.minimum(self._low + 1, positions.shape[1] - 1)
        self._part = 1 - positions[np.arange(len(positions)), self._low]

    def at(self, outputs: NDArray[Any], place: NDArray[Any]) -> NDArray[Any]:
        """Return token values [S] at row ``place`` [S] of the positions, from outputs [S, K]."""
        flat, begin = outputs.ravel(), np.arange(0, outputs.size, outputs.shape[1])
        part = self._part[place]
        return (1 - part) * flat[begin + self._low[place]] + part * flat[begin + self._high[place]]


def play_tables(
    sequences: Sequences, buckets: list[IntegerBucket], tables: list[NDArray[Any]], skip: int = 0
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Play threshold tables, one for each bucket, over all sequences.

    Args:
        sequences: What is played.
        buckets: C of them.
        tables: Thresholds by level of each bucket, float64 [M + 1] each.
        skip: Items at the beginning that are not counted.

    Returns:
        The mean reward per item and the share offloaded, each float64 [C, S].
    """
    n_items, n_sequences = sequences.rewards.shape
    cost = np.array([[bucket.cost] for bucket in buckets], dtype=np.int32)
    gain = np.array([[bucket.gain] for bucket in buckets], dtype=np.int32)
    full = np.array([[bucket.full] for bucket in buckets], dtype=np.int32)
    sizes = [bucket.full + 1 for bucket in buckets]
    start = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)[:, None]
    # Below one token the threshold is out of reach.
    flat = np.concatenate(
        [
            np.where(np.arange(size) >= bucket.cost, table, np.inf)
            for size, bucket, table in zip(sizes, buckets, tables)
        ]
    ).astype(np.float32)
    level = np.broadcast_to(full, (len(buckets), n_sequences)).copy()
    total = np.zeros(level.shape)
    count = np.zeros(level.shape, dtype=np.int64)
    steady = bool((sequences.intervals == 1).all())
    for t, (reward, interval) in enumerate(zip(sequences.rewards, sequences.intervals)):
        offload = reward >= flat[level + start]
        if t >= skip:
            total += offload * reward
            count += offload
        level -= cost * offload
        level += gain if steady else gain * interval
        np.minimum(level, full, out=level)
    return total / (n_items - skip), count / (n_items - skip)


def play_thresholds(
    sequences: Sequences, bucket: IntegerBucket, thresholds: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Play thresholds that may differ for each item.

    Args:
        sequences: What is played.
        bucket: The bucket of all of them.
        thresholds: [T, S, M + 1 - P], from one token upwards.

    Returns:
        The total reward float64 [S] and the decisions bool [T, S].
    """
    n_items, n_sequences = sequences.rewards.shape
    level = np.full(n_sequences, bucket.full)
    decisions = np.zeros((n_items, n_sequences), dtype=bool)
    total = np.zeros(n_sequences)
    each = np.arange(n_sequences)
    for t in range(n_items):
        asked = thresholds[t, each, np.maximum(level - bucket.cost, 0)]
        decisions[t] = bucket.offer(level, sequences.rewards[t], asked, sequences.intervals[t])
        total += decisions[t] * sequences.rewards[t]
    return total, decisions


def play_policy(
    sequences: Sequences, rate: Fraction, depth: Fraction, policy: Policy, column: int = 0
) -> NDArray[Any]:
    """Play a policy of the node over one of the sequences; returns the decisions, bool [T]."""
    return play(sequences.rewards[:, column], sequences.intervals[:, column], rate, depth, policy)
