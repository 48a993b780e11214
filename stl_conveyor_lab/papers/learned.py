# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A policy network along whole sequences, many buckets at a time."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.policy.base import Distribution
from stl_conveyor.policy.history import HistoryFormat, RewardScale
from stl_conveyor.policy.learned import load_network
from stl_conveyor_lab.papers.histories import history_of
from stl_conveyor_lab.papers.scenarios import Sequences
from stl_conveyor_lab.papers.simulate import IntegerBucket, KnotReader, level_positions


class NetworkAlong:
    """A policy network along whole sequences: what a policy of the node sees item by item.

    ``chunk`` histories are asked about at a time.

    Raises:
        ModelFileError: For a file that is no policy network.
    """

    def __init__(self, model: str, sequences: Sequences, rewards: Distribution, chunk: int = 4096):
        self._session, about = load_network(model)
        self._layout = HistoryFormat(**about['layout'])
        self._scale = RewardScale(rewards)
        self._arrays = history_of(sequences, self._layout, self._scale)
        self._n_items, self._n_sequences = sequences.rewards.shape
        self._step = max(1, chunk // self._n_sequences)
        self.knots = np.asarray(about['knots'])
        self.unit = np.float32(self._scale.unit if self._layout.universal else 1.0)

    def blocks(
        self, buckets: list[tuple[Fraction, Fraction]]
    ) -> Iterator[tuple[int, list[NDArray[Any]]]]:
        """Yield the place of an item and the outputs from there on, float32 [items, S, outputs].

        One array for each bucket (r, b); the histories are laid out once for all of them.
        """
        described = [self._layout.constants(self._scale, *bucket) for bucket in buckets]
        for first in range(0, self._n_items, self._step):
            last = min(first + self._step, self._n_items)
            rows = self._arrays.block(first, last, described[0])
            flat = rows.reshape(-1, rows.shape[2])
            answers = []
            for constants in described:
                flat[:, flat.shape[1] - constants.size :] = constants
                answers.append(
                    self._session.run(None, {'history': flat})[0].reshape(
                        last - first, self._n_sequences, -1
                    )
                )
            yield first, answers


def token_values_along(
    model: str,
    sequences: Sequences,
    rate: Fraction,
    depth: Fraction,
    rewards: Distribution,
    chunk: int = 4096,
) -> NDArray[Any]:
    """Return the value of a token that a network gives, float32 [T, S, M + 1 - P]."""
    along = NetworkAlong(model, sequences, rewards, chunk)
    read = level_positions(IntegerBucket.of(rate, depth), along.knots) * along.unit
    result = np.empty((*sequences.rewards.shape, len(read)), dtype=np.float32)
    for first, (answers,) in along.blocks([(rate, depth)]):
        result[first : first + len(answers)] = answers @ read.T
    return result


def play_network(
    model: str,
    sequences: Sequences,
    buckets: list[tuple[Fraction, Fraction]],
    rewards: Distribution,
    skip: int = 0,
    chunk: int = 4096,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Play a network over all sequences and buckets (r, b).

    The history does not depend on decisions, so that the network is asked about whole blocks of
    items, and its outputs are read at the levels that the buckets then hold. The first ``skip``
    items are played and not counted.
    Returns the mean reward per item [C, S] and the decisions, bool [C, T, S].
    """
    along = NetworkAlong(model, sequences, rewards, chunk)
    n_items, n_sequences = sequences.rewards.shape
    whole = [IntegerBucket.of(*bucket) for bucket in buckets]
    readers = [KnotReader(level_positions(bucket, along.knots)) for bucket in whole]
    levels = [np.full(n_sequences, bucket.full) for bucket in whole]
    total = np.zeros((len(buckets), n_sequences))
    decisions = np.zeros((len(buckets), n_items, n_sequences), dtype=bool)
    for first, answers in along.blocks(buckets):
        for c, (bucket, reader, level) in enumerate(zip(whole, readers, levels)):
            for t, outputs in enumerate(answers[c], start=first):
                rewards_now = sequences.rewards[t]
                asked = along.unit * reader.at(outputs, np.maximum(level - bucket.cost, 0))
                decisions[c, t] = bucket.offer(level, rewards_now, asked, sequences.intervals[t])
                if t >= skip:
                    total[c] += decisions[c, t] * rewards_now
    return total / (n_items - skip), decisions
