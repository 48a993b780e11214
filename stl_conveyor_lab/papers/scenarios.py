# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Sequences of items with correlated rewards and varying arrivals, many at a time.

The three published scenarios (Qiu et al., "Adaptive Edge Offloading for Image Classification
Under Rate Limit", IEEE TCAD 2022):

1. *Correlated rewards* ("location reset"): items are sorted by metric; each item is drawn
   uniformly from the share ``spread`` of them that begins at a location L (round the end);
   before each item L is drawn anew with probability ``reset``.
2. *Two-state arrivals*: intervals of 1 and of ``slow_interval`` time units; the stay in a state
   is geometric, with a probability of leaving it per time unit.
3. Both at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.errors import ConfigError
from stl_conveyor.policy.base import Distribution


@dataclass(frozen=True, eq=False)
class Sequences:
    """S sequences of T items.

    Attributes:
        rewards: float32 [T, S], expected reward (metric) of each item.
        intervals: int16 [T, S], time units from each item to the next.
    """

    rewards: NDArray[Any]
    intervals: NDArray[Any]


@dataclass(frozen=True, eq=False)
class HiddenStates:
    """What drove S sequences of T items, for bounds and for training.

    Attributes:
        locations: float32 [T, S], rank at which each item's window begins, 0..1.
        arrivals: int8 [T, S], 0 where the interval after the item is the short one.
    """

    locations: NDArray[Any]
    arrivals: NDArray[Any]


@dataclass(frozen=True)
class CorrelatedRewards:
    """Scenario 1: ``spread`` (sp) 0..1 and ``reset`` (rprob) 0..1; spread 1 is i.i.d."""

    spread: float = 0.1
    reset: float = 0.01

    def __post_init__(self):
        if not (0 <= self.spread <= 1 and 0 <= self.reset <= 1):
            raise ConfigError(f'spread {self.spread} and reset {self.reset} must be in 0..1')

    def ranks(
        self, n_items: int, n_sequences: int, generator: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the places in the sorted pool and the locations, float32 [T, S] in 0..1."""
        shape = (n_items, n_sequences)
        fresh = generator.random(shape) < self.reset
        fresh[0] = True
        location = generator.random(shape, dtype=np.float32)
        latest = np.where(fresh, np.arange(n_items, dtype=np.int32)[:, None], 0)
        np.maximum.accumulate(latest, axis=0, out=latest)
        location = np.take_along_axis(location, latest, axis=0)
        ranks = location + np.float32(self.spread) * generator.random(shape, dtype=np.float32)
        np.mod(ranks, np.float32(1), out=ranks)
        return ranks, location


@dataclass(frozen=True)
class TwoStateArrivals:
    """Scenario 2: the interval is 1 in the fast state and ``slow_interval`` in the slow one.

    Attributes:
        leave_fast, leave_slow: Probability of leaving the state, per time unit.
    """

    slow_interval: int = 3
    leave_fast: float = 0.001
    leave_slow: float = 0.0005

    def __post_init__(self):
        if self.slow_interval < 1:
            raise ConfigError('the slow interval must be at least 1 time unit')
        if not (0 < self.leave_fast <= 1 and 0 < self.leave_slow <= 1):
            raise ConfigError('the probabilities of leaving a state must be above 0, at most 1')

    @classmethod
    def published(cls, slow_interval: int, leave_fast: float = 0.001) -> TwoStateArrivals:
        """Return the published settings: time spent in the slow state grows with its interval."""
        ratio = {3: 0.5, 6: 0.25}[slow_interval]
        return cls(slow_interval, leave_fast, leave_fast * ratio)

    @property
    def leave_per_item(self) -> tuple[float, float]:
        """Probability that the state changes from one item to the next, fast and slow."""
        return self.leave_fast, 1.0 - (1.0 - self.leave_slow) ** self.slow_interval

    @property
    def fast_share(self) -> float:
        """Share of the items that arrive in the fast state."""
        leave, back = self.leave_per_item
        return back / (leave + back)

    @property
    def distribution(self) -> Distribution:
        """Distribution of the interval over items."""
        share = self.fast_share
        return Distribution.of([1.0, float(self.slow_interval)], [share, 1 - share])

    def intervals(
        self, n_items: int, n_sequences: int, generator: np.random.Generator
    ) -> NDArray[Any]:
        """Return the intervals after each item, int16 [T, S]."""
        leave = np.array(self.leave_per_item)
        state = (generator.random(n_sequences) >= self.fast_share).astype(np.int8)
        states = np.empty((n_items, n_sequences), dtype=np.int8)
        for row in states:
            row[:] = state
            state ^= generator.random(n_sequences) < leave[state]
        return np.where(states == 0, 1, self.slow_interval).astype(np.int16)


@dataclass(frozen=True)
class Scenario:
    """What drives the rewards and the arrivals; None is i.i.d. rewards, or a steady interval."""

    rewards: CorrelatedRewards | None = None
    arrivals: TwoStateArrivals | None = None

    @property
    def intervals(self) -> Distribution:
        """Distribution of the interval over items, in time units."""
        return Distribution.of([1.0]) if self.arrivals is None else self.arrivals.distribution

    def draw(
        self, pool: NDArray[Any], n_items: int, n_sequences: int, generator: np.random.Generator
    ) -> Sequences:
        """Draw sequences of items.

        Args:
            pool: float64 [K], metrics of items, sorted.
            n_items: Length of a sequence, T.
            n_sequences: Number of sequences, S.
            generator: Source of all randomness.

        Returns:
            The sequences.
        """
        return self.draw_with_states(pool, n_items, n_sequences, generator)[0]

    def draw_with_states(
        self, pool: NDArray[Any], n_items: int, n_sequences: int, generator: np.random.Generator
    ) -> tuple[Sequences, HiddenStates]:
        """Draw the sequences of ``draw``, and return with them the hidden states behind them.

        Args:
            pool: float64 [K], metrics of items, sorted.
            n_items: Length of a sequence, T.
            n_sequences: Number of sequences, S.
            generator: Source of all randomness.

        Returns:
            The sequences and their hidden states.
        """
        source = self.rewards or CorrelatedRewards(spread=1.0, reset=0.0)
        place, locations = source.ranks(n_items, n_sequences, generator)
        index = np.minimum((place * pool.size).astype(np.int32), pool.size - 1)
        if self.arrivals is None:
            intervals = np.ones((n_items, n_sequences), dtype=np.int16)
        else:
            intervals = self.arrivals.intervals(n_items, n_sequences, generator)
        return (
            Sequences(np.asarray(pool, dtype=np.float32)[index], intervals),
            HiddenStates(locations, (intervals != 1).astype(np.int8)),
        )


def load_trace(path: str | Path) -> tuple[Sequences, NDArray[Any]]:
    """Read a recorded sequence: CSV with columns time, metric and the decisions of policies.

    Returns the sequence (S = 1; the interval after the last item is taken as 1) and the recorded
    decisions, bool [T, number of policies].

    Raises:
        ConfigError: For anything else.
    """
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()[1:]
        if not lines:
            raise ValueError('it has no items')
        table = np.loadtxt(lines, delimiter=',', ndmin=2)
        times = table[:, 0]
        intervals = np.append(np.diff(times), 1)
        if (intervals != np.round(intervals)).any() or intervals.min() < 1:
            raise ValueError('arrival times must be rising whole numbers')
        return (
            Sequences(table[:, 1:2].astype(np.float32), intervals[:, None].astype(np.int16)),
            table[:, 2:] > 0.5,
        )
    except (OSError, ValueError, IndexError) as error:
        raise ConfigError(
            f'{path} is no trace ({error}); columns: time, metric, then decisions of policies'
        ) from error
