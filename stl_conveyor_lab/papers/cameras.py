# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Several cameras on one network: a bucket each, one for all, or both.

N cameras see one item per time unit each, in turn. The network carries N·r tokens per time unit
and bursts of N·b in every arrangement:

* *isolated*: each camera has a bucket (r, b);
* *shared*: one bucket (N·r, N·b) that all draw from;
* *hierarchical*: the shared bucket, and for each camera one of (share·r, b) beside it, so that no
  camera takes more than ``share`` times its part for long. An offload needs a token in both.

Thresholds come from the i.i.d. MDP of each bucket; with two buckets, the higher one counts: a
token must be worth it in either.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.errors import ConfigError
from stl_conveyor.policy.base import Distribution
from stl_conveyor.policy.mdp import solve_mdp
from stl_conveyor_lab.papers.scenarios import Sequences
from stl_conveyor_lab.papers.simulate import IntegerBucket

ARRANGEMENTS = ('isolated', 'hierarchical', 'shared')


@dataclass(frozen=True, eq=False)
class _Level:
    """One level of the hierarchy: the integer bucket and its thresholds."""

    bucket: IntegerBucket
    thresholds: NDArray[Any]


def _level(rate: Fraction, depth: Fraction, rewards: Distribution) -> _Level:
    """Make a bucket that gains ``rate`` tokens with every item that it serves."""
    bucket = IntegerBucket.of(rate, depth)
    solution = solve_mdp(rate, depth, rewards, Distribution.of([1.0]))
    asked = np.where(np.arange(bucket.full + 1) >= bucket.cost, solution.thresholds, np.inf)
    return _Level(bucket, asked)


def play_cameras(
    rewards_of_items: NDArray[Any],
    rate: Fraction,
    depth: Fraction,
    rewards: Distribution,
    arrangement: str,
    share: Fraction = Fraction(2),
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Play N cameras.

    Returns the mean reward per item [N, S] and the share of items offloaded [N, S].

    Args:
        rewards_of_items: Float [T, N, S]: expected reward of each camera's item in each time unit.
        rate, depth: R and b of one camera's part.
        rewards: Distribution of the expected rewards.
        share: Of the hierarchical arrangement, 1 or more.

    Raises:
        ConfigError: For an arrangement that does not exist.
    """
    if arrangement not in ARRANGEMENTS:
        raise ConfigError(f'no arrangement {arrangement!r}; choose one of {ARRANGEMENTS}')
    n_items, n_cameras, n_sequences = rewards_of_items.shape
    own = common = None
    if arrangement == 'isolated':
        own = _level(rate, depth, rewards)
    elif arrangement == 'hierarchical':
        if share < 1:
            raise ConfigError(f'share {share} of a camera must be at least 1')
        own = _level(min(share * rate, Fraction(1)), depth, rewards)
    if arrangement != 'isolated':
        # Between two items of any camera 1/N time units pass: N r / N = r tokens.
        common = _level(rate, depth * n_cameras, rewards)
    own_tokens = np.full((n_cameras, n_sequences), own.bucket.full if own else 0)
    common_tokens = np.full(n_sequences, common.bucket.full if common else 0)
    total = np.zeros((n_cameras, n_sequences))
    count = np.zeros((n_cameras, n_sequences))
    for t in range(n_items):
        for camera in range(n_cameras):
            reward = rewards_of_items[t, camera]
            asked = np.zeros(n_sequences)
            if own:
                asked = np.maximum(asked, own.thresholds[own_tokens[camera]])
            if common:
                asked = np.maximum(asked, common.thresholds[common_tokens])
            offload = reward >= asked
            total[camera] += offload * reward
            count[camera] += offload
            if own:
                bucket = own.bucket
                own_tokens[camera] = np.minimum(
                    own_tokens[camera] - bucket.cost * offload + bucket.gain, bucket.full
                )
            if common:
                bucket = common.bucket
                common_tokens = np.minimum(
                    common_tokens - bucket.cost * offload + bucket.gain, bucket.full
                )
    return total / n_items, count / n_items


def merged(rewards_of_items: NDArray[Any]) -> Sequences:
    """Merge the items of N cameras [T, N, S] into one sequence, in turn.

    One interval is the time between items of any two cameras; with a bucket of (r, N·b), r per
    item, the bounds of ``policy.bounds`` apply to the shared arrangement.
    """
    n_items, n_cameras, n_sequences = rewards_of_items.shape
    joined = rewards_of_items.reshape(n_items * n_cameras, n_sequences).astype(np.float32)
    return Sequences(joined, np.ones(joined.shape, dtype=np.int16))
