# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Whole sequences as a learned policy sees them; stl_conveyor.policy.history has it by item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.policy.history import (
    HistoryFormat,
    RewardScale,
    averaged_features,
    scale_intervals,
)
from stl_conveyor_lab.papers.scenarios import Sequences


@dataclass(frozen=True, eq=False)
class HistoryArrays:
    """Whole sequences as a learned policy sees them; the window of item t begins at column t.

    Attributes:
        series: float32 [S, T + window - 1], zeros before the first item.
        intervals: The same for the inter-arrival times, or None.
        others: float32 [S, T, extra]: averages, the present metric.
    """

    series: NDArray[Any]
    intervals: NDArray[Any] | None
    others: NDArray[Any]

    def block(self, first: int, last: int, constants: NDArray[Any]) -> NDArray[Any]:
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

    def pick(self, s: NDArray[Any], t: NDArray[Any], constants: NDArray[Any]) -> NDArray[Any]:
        """Return the inputs of items t [B] of sequences s [B], float32 [B, size]."""
        window = self.series.shape[1] - self.others.shape[1] + 1
        view = np.lib.stride_tricks.sliding_window_view
        parts = [view(self.series, window, axis=1)[s, t]]
        if self.intervals is not None:
            parts.append(view(self.intervals, window, axis=1)[s, t])
        parts.append(self.others[s, t])
        parts.append(np.broadcast_to(constants, (len(s), constants.size)))
        return np.concatenate(parts, axis=1)


def history_of(sequences: Sequences, layout: HistoryFormat, scale: RewardScale) -> HistoryArrays:
    """Lay out whole sequences."""
    rewards = sequences.rewards.T
    n_sequences, n_items = rewards.shape
    padded = np.zeros((n_sequences, n_items + layout.window - 1), dtype=np.float32)
    padded[:, layout.window - 1 :] = layout.series(rewards, scale)
    before = np.zeros((n_sequences, n_items), dtype=np.float32)
    before[:, 1:] = scale_intervals(sequences.intervals.T[:, :-1])
    gaps = None
    if layout.intervals:
        gaps = np.zeros_like(padded)
        gaps[:, layout.window - 1 :] = before
    extra = [np.zeros((n_sequences, n_items, 0), dtype=np.float32)]
    if layout.horizons:
        from scipy.signal import lfilter

        place = scale.rank(rewards)
        last = np.concatenate([np.full((n_sequences, 1), 0.5), place[:, :-1]], axis=1)
        fresh = averaged_features(place, last, before)
        for decay in layout.decay():
            average = lfilter([decay], [1, decay - 1], fresh, axis=1)
            extra.append(average.astype(np.float32))
    if layout.universal:
        extra.append((rewards[:, :, None] / scale.unit).astype(np.float32))
    return HistoryArrays(padded, gaps, np.concatenate(extra, axis=2))
