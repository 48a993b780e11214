# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a learned policy sees: the last items, slow averages of the past, and the bucket's (r, b).

The node calls it item by item; the laboratory lays out whole sequences with the same functions
(stl_conveyor_lab.papers.histories), and a test holds the two together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stl_conveyor.policy.base import Distribution

# What is averaged: rank, its square, size of the last change of rank, a jump, interval.
_AVERAGED = 5
_JUMP = 0.25  # a change of rank above this share counts as a jump
_RANKS = 129
_SHORTEST = 0.05  # time units; shorter intervals count as this
_DESCRIBED = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)
_PRESENT = 1
_BUCKET = 4


class RewardScale:
    """Where a metric stands in the distribution of rewards.

    Seen through it, items of different cells look alike: ranks 0..1, and metrics in units of the
    95th percentile.

    Examples:
        >>> scale = RewardScale(Distribution.of([0.0, 0.2, 0.4, 0.6, 0.8]))
        >>> round(float(scale.rank(0.4)), 2)
        0.5
    """

    def __init__(self, rewards: Distribution) -> None:
        middle = np.cumsum(rewards.weights) - rewards.weights / 2
        self._ranks = np.linspace(0, 1, _RANKS)
        self._metrics = np.interp(self._ranks, middle, rewards.values)
        # Equal metrics at several ranks would make the rank of such a metric ambiguous.
        self._metrics += np.arange(_RANKS) * 1e-9
        self.unit = max(float(np.interp(0.95, middle, rewards.values)), 1e-3)
        self.description = (np.interp(_DESCRIBED, middle, rewards.values) / self.unit).astype(
            np.float32
        )

    def rank(self, metrics: ArrayLike) -> NDArray[np.float64]:
        """Return the places of metrics in the distribution.

        Args:
            metrics: Expected rewards, of any shape.

        Returns:
            float64 of the same shape, 0..1.
        """
        ranks: NDArray[np.float64] = np.interp(np.asarray(metrics), self._metrics, self._ranks)
        return ranks


@dataclass(frozen=True)
class HistoryFormat:
    """Layout of a learned policy's input.

    Attributes:
        window: How many items back, the present one included.
        intervals: Give the inter-arrival times of the window too.
        horizons: Time constants, in items, of the exponential averages; () for none.
        universal: The network serves every bucket and every distribution of rewards: it sees
            ranks, the distribution, r and b; else it sees metrics, for one of each.
    """

    window: int = 96
    intervals: bool = False
    horizons: tuple[int, ...] = ()
    universal: bool = False

    @property
    def size(self) -> int:
        """Return the length of the input."""
        size = self.window * (2 if self.intervals else 1) + _AVERAGED * len(self.horizons)
        return size + (_PRESENT + len(_DESCRIBED) + _BUCKET if self.universal else 0)

    def series(self, metrics: ArrayLike, scale: RewardScale) -> NDArray[np.float32]:
        """Scale the series of the window, from metrics of any shape, to about -1..1."""
        if self.universal:
            return np.asarray(2 * scale.rank(metrics) - 1, dtype=np.float32)
        return np.asarray(2 * np.asarray(metrics) - 0.5, dtype=np.float32)

    def constants(
        self, scale: RewardScale | None, rate: Fraction | float, depth: Fraction | float
    ) -> NDArray[np.float32]:
        """Describe the rewards and the bucket.

        Args:
            scale: Of the rewards; only a universal network needs it.
            rate: Tokens per time unit, r.
            depth: Most tokens kept, b.

        Returns:
            float32 [13]; empty for a network of one bucket.
        """
        if not self.universal:
            return np.zeros(0, dtype=np.float32)
        assert scale is not None
        r, b = max(float(rate), 1e-3), float(depth)
        bucket = [np.log(r) / 2, r * 2, np.log(b) / 2, 1 / b]
        return np.concatenate([scale.description, bucket]).astype(np.float32)

    def decay(self) -> NDArray[np.float32]:
        """Return the weights of the newest item in each average, float32 [horizons]."""
        return (1 / np.asarray(self.horizons, dtype=np.float32)).astype(np.float32)


def scale_intervals(intervals: ArrayLike) -> NDArray[np.float32]:
    """Scale inter-arrival times in time units for the network."""
    scaled: NDArray[np.float32] = np.log(
        np.maximum(np.asarray(intervals, dtype=np.float32), _SHORTEST)
    )
    return scaled


def averaged_features(
    rank: NDArray[Any], last: NDArray[Any], interval: NDArray[Any]
) -> NDArray[Any]:
    """Return what is averaged; each feature has mean about 0 for independent items.

    Args:
        rank: [...], ranks of items.
        last: [...], rank of the item before each.
        interval: [...], scaled inter-arrival time before each.

    Returns:
        [..., 5].
    """
    change = np.abs(rank - last)
    return np.stack(
        [
            2 * rank - 1,
            3 * rank * rank - 1,
            3 * change - 1,
            np.where(change > _JUMP, 0.5, -0.5),
            interval,
        ],
        axis=-1,
    )


class History:
    """The input of a network item by item, in one array that ``push`` brings up to date.

    Attributes:
        input: float32 [1, size], what the network sees.

    Examples:
        >>> layout = HistoryFormat(window=3)
        >>> history = History(layout, scale=None)
        >>> for metric in (0.25, 0.75):
        ...     _ = history.push(metric, 1.0, layout.constants(None, 1, 1))
        >>> history.input.tolist()
        [[0.0, 0.0, 1.0]]
    """

    def __init__(self, layout: HistoryFormat, scale: RewardScale | None) -> None:
        self._layout = layout
        self._scale = scale
        self.input = np.zeros((1, layout.size), dtype=np.float32)
        flat, place = self.input[0], layout.window
        self._series = flat[:place]
        self._gaps = flat[:0]
        if layout.intervals:
            self._gaps = flat[place : 2 * place]
            place *= 2
        size = _AVERAGED * len(layout.horizons)
        self._averages = flat[place : place + size].reshape(-1, _AVERAGED)
        self._present = place + size
        self._constants = flat[place + size + _PRESENT :]
        self._decay = layout.decay()[:, None]
        self._fresh = np.zeros(_AVERAGED, dtype=np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.input[:] = 0
        self._last = 0.5

    def push(
        self, metric: float, interarrival: float, constants: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Take in an item.

        Args:
            metric: Expected reward of the item.
            interarrival: Time units since the item before; nan if there was none.
            constants: From ``HistoryFormat.constants``.

        Returns:
            ``input``.
        """
        layout, scale = self._layout, self._scale
        rank = 0.0
        if layout.universal or layout.horizons:
            assert scale is not None
            rank = float(scale.rank(metric))
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
                2 * rank - 1,
                3 * rank * rank - 1,
                3 * change - 1,
                0.5 if change > _JUMP else -0.5,
                gap,
            )
            self._averages += self._decay * (self._fresh - self._averages)
            self._last = rank
        if layout.universal:
            assert scale is not None
            self.input[0, self._present] = metric / scale.unit
            self._constants[:] = constants
        return self.input
