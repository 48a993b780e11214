# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""
What a learned policy sees: the last items, slow averages of the past, and the bucket's (r, b).

One definition serves training (whole sequences at a time) and the node (item by item); a test
holds the two together.
"""

from dataclasses import dataclass
from fractions import Fraction
import math

import numpy as np

from stl_conveyor.policy.base import Distribution
from stl_conveyor.policy.scenarios import Sequences

# What is averaged: rank, its square, size of the last change of rank, a jump, interval.
_AVERAGED = 5
_JUMP = 0.25  # a change of rank above this share counts as a jump
_RANKS = 129
_SHORTEST = 0.05  # time units; shorter intervals count as this
_DESCRIBED = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)
_PRESENT = 1
_BUCKET = 4


class RewardScale:
    """
    Where a metric stands in the distribution of rewards.

    Seen through it, items of different cells look alike: ranks 0..1, and metrics in units of the
    95th percentile.
    """

    def __init__(self, rewards: Distribution):
        middle = np.cumsum(rewards.weights) - rewards.weights / 2
        self._ranks = np.linspace(0, 1, _RANKS)
        self._metrics = np.interp(self._ranks, middle, rewards.values)
        # Equal metrics at several ranks would make the rank of such a metric ambiguous.
        self._metrics += np.arange(_RANKS) * 1e-9
        self.unit = max(float(np.interp(0.95, middle, rewards.values)), 1e-3)
        self.description = (
            np.interp(_DESCRIBED, middle, rewards.values) / self.unit
        ).astype(np.float32)

    def rank(self, metrics: np.ndarray) -> np.ndarray:
        """Return the places of metrics in the distribution, 0..1."""
        return np.interp(metrics, self._metrics, self._ranks)


@dataclass(frozen=True)
class HistoryFormat:
    """
    Layout of a learned policy's input.

    window     how many items back, the present one included
    intervals  give the inter-arrival times of the window too
    horizons   time constants, in items, of the exponential averages; () for none
    universal  the network serves every bucket and every distribution of rewards: it sees ranks,
               the distribution, r and b; else it sees metrics, for one of each
    """

    window: int = 96
    intervals: bool = False
    horizons: 'tuple[int, ...]' = ()
    universal: bool = False

    @property
    def size(self) -> int:
        """Length of the input."""
        size = self.window * (2 if self.intervals else 1) + _AVERAGED * len(self.horizons)
        return size + (_PRESENT + len(_DESCRIBED) + _BUCKET if self.universal else 0)

    def series(self, metrics: np.ndarray, scale: RewardScale) -> np.ndarray:
        """Scale the series of the window, from metrics of any shape, to about -1..1."""
        if self.universal:
            return (2 * scale.rank(metrics) - 1).astype(np.float32)
        return np.asarray(2 * np.asarray(metrics) - 0.5, dtype=np.float32)

    def constants(self, scale: RewardScale, rate: Fraction, depth: Fraction) -> np.ndarray:
        """Describe the rewards and the bucket, float32 [13]; empty for one bucket only."""
        if not self.universal:
            return np.zeros(0, dtype=np.float32)
        rate, depth = max(float(rate), 1e-3), float(depth)
        bucket = [np.log(rate) / 2, rate * 2, np.log(depth) / 2, 1 / depth]
        return np.concatenate([scale.description, bucket]).astype(np.float32)

    def decay(self) -> np.ndarray:
        """Weights of the newest item in each average, float32 [horizons]."""
        return (1 / np.asarray(self.horizons, dtype=np.float32)).astype(np.float32)


def scale_intervals(intervals: np.ndarray) -> np.ndarray:
    """Scale inter-arrival times in time units for the network."""
    return np.log(np.maximum(np.asarray(intervals, dtype=np.float32), _SHORTEST))


@dataclass(frozen=True, eq=False)
class HistoryArrays:
    """
    Whole sequences as a learned policy sees them; the window of item t begins at column t.

    series     float32 [S, T + window - 1], zeros before the first item
    intervals  the same for the inter-arrival times, or None
    others     float32 [S, T, extra]: averages, the present metric
    """

    series: np.ndarray
    intervals: 'np.ndarray | None'
    others: np.ndarray

    def block(self, first: int, last: int, constants: np.ndarray) -> np.ndarray:
        """Return the inputs of items first..last-1 of all sequences, float32 [items, S, size]."""
        window = self.series.shape[1] - self.others.shape[1] + 1
        span = slice(first, last + window - 1)
        view = np.lib.stride_tricks.sliding_window_view
        parts = [view(self.series[:, span], window, axis=1)]
        if self.intervals is not None:
            parts.append(view(self.intervals[:, span], window, axis=1))
        parts.append(self.others[:, first:last])
        parts.append(np.broadcast_to(constants, (*parts[0].shape[:2], constants.size)))
        size = sum(part.shape[2] for part in parts)
        rows = np.empty((last - first, len(self.series), size), dtype=np.float32)
        np.concatenate(parts, axis=2, out=rows.swapaxes(0, 1))
        return rows

    def pick(self, s: np.ndarray, t: np.ndarray, constants: np.ndarray) -> np.ndarray:
        """Return the inputs of items t [B] of sequences s [B], float32 [B, size]."""
        window = self.series.shape[1] - self.others.shape[1] + 1
        view = np.lib.stride_tricks.sliding_window_view
        parts = [view(self.series, window, axis=1)[s, t]]
        if self.intervals is not None:
            parts.append(view(self.intervals, window, axis=1)[s, t])
        parts.append(self.others[s, t])
        parts.append(np.broadcast_to(constants, (len(s), constants.size)))
        return np.concatenate(parts, axis=1)


def history_of(
    sequences: Sequences, layout: HistoryFormat, scale: RewardScale
) -> HistoryArrays:
    """Lay out whole sequences."""
    rewards = sequences.rewards.T
    n_sequences, n_items = rewards.shape
    padded = np.zeros((n_sequences, n_items + layout.window - 1), dtype=np.float32)
    padded[:, layout.window - 1:] = layout.series(rewards, scale)
    before = np.zeros((n_sequences, n_items), dtype=np.float32)
    before[:, 1:] = scale_intervals(sequences.intervals.T[:, :-1])
    gaps = None
    if layout.intervals:
        gaps = np.zeros_like(padded)
        gaps[:, layout.window - 1:] = before
    extra = [np.zeros((n_sequences, n_items, 0), dtype=np.float32)]
    if layout.horizons:
        from scipy.signal import lfilter

        place = scale.rank(rewards)
        last = np.concatenate([np.full((n_sequences, 1), 0.5), place[:, :-1]], axis=1)
        fresh = _averaged(place, last, before)
        for decay in layout.decay():
            average = lfilter([decay], [1, decay - 1], fresh, axis=1)
            extra.append(average.astype(np.float32))
    if layout.universal:
        extra.append((rewards[:, :, None] / scale.unit).astype(np.float32))
    return HistoryArrays(padded, gaps, np.concatenate(extra, axis=2))


def _averaged(rank, last, interval) -> np.ndarray:
    """Return what is averaged, [..., 5]; each has mean about 0 for independent items."""
    change = np.abs(rank - last)
    return np.stack(
        [2 * rank - 1, 3 * rank * rank - 1, 3 * change - 1,
         np.where(change > _JUMP, 0.5, -0.5), interval],
        axis=-1,
    )


class History:
    """
    The same, item by item, in one array that ``push`` brings up to date.

    input  float32 [1, size], what the network sees
    """

    def __init__(self, layout: HistoryFormat, scale: 'RewardScale | None'):
        self._layout = layout
        self._scale = scale
        self.input = np.zeros((1, layout.size), dtype=np.float32)
        flat, place = self.input[0], layout.window
        self._series, self._gaps = flat[:place], None
        if layout.intervals:
            self._gaps = flat[place: 2 * place]
            place *= 2
        size = _AVERAGED * len(layout.horizons)
        self._averages = flat[place: place + size].reshape(-1, _AVERAGED)
        self._present = place + size
        self._constants = flat[place + size + _PRESENT:]
        self._decay = layout.decay()[:, None]
        self._fresh = np.zeros(_AVERAGED, dtype=np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.input[:] = 0
        self._last = 0.5

    def push(self, metric: float, interarrival: float, constants: np.ndarray) -> np.ndarray:
        """
        Take in an item and return ``input``.

        interarrival  time units since the item before; nan if there was none
        constants     from ``HistoryFormat.constants``
        """
        layout = self._layout
        rank = 0.0
        if layout.universal or layout.horizons:
            rank = float(self._scale.rank(metric))
        self._series[:-1] = self._series[1:]
        self._series[-1] = 2 * rank - 1 if layout.universal else 2 * metric - 0.5
        gap = 0.0
        if interarrival == interarrival:
            gap = math.log(max(interarrival, _SHORTEST))
        if layout.intervals:
            self._gaps[:-1] = self._gaps[1:]
            self._gaps[-1] = gap
        if layout.horizons:
            change = abs(rank - self._last)
            self._fresh[:] = (
                2 * rank - 1, 3 * rank * rank - 1, 3 * change - 1,
                0.5 if change > _JUMP else -0.5, gap,
            )
            self._averages += self._decay * (self._fresh - self._averages)
            self._last = rank
        if layout.universal:
            self.input[0, self._present] = metric / self._scale.unit
            self._constants[:] = constants
        return self.input
