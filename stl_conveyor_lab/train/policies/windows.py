# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What all trainings of offloading policies share: histories as batches, and their values.

The network answers, from the history h of metrics (and inter-arrival times), the value of a
token at every bucket level at once:

    w(h, n) = E[V(h', n') - V(h', n'') | h],   n' after keeping the token, n'' after spending it

which is the difference of the two Q-values of the published DQN (Qiu et al., "Adaptive Edge
Offloading for Image Classification Under Rate Limit", IEEE TCAD 2022): offload when x >= w.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stl_conveyor.policy.base import Distribution
from stl_conveyor.policy.history import HistoryFormat, RewardScale
from stl_conveyor_lab.papers.histories import HistoryArrays, history_of
from stl_conveyor_lab.papers.scenarios import Sequences
from stl_conveyor_lab.papers.tasks import Task


class Windows:
    """Histories of many sequences as batches of network input."""

    def __init__(self, arrays: HistoryArrays, constants: NDArray[Any], window: int):
        self._series = torch.from_numpy(arrays.series).unfold(1, window, 1)
        self._gaps = None
        if arrays.intervals is not None:
            self._gaps = torch.from_numpy(arrays.intervals).unfold(1, window, 1)
        self._others = torch.from_numpy(arrays.others)
        self._constants = torch.from_numpy(constants)

    def __call__(self, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return the input [B, size] of items t [B] of sequences s [B]."""
        parts = [self._series[s, t]]
        if self._gaps is not None:
            parts.append(self._gaps[s, t])
        parts.append(self._others[s, t])
        parts.append(self._constants.expand(len(s), -1))
        return torch.cat(parts, dim=1)


def token_values(
    network: torch.nn.Module,
    windows: Windows,
    n_sequences: int,
    n_items: int,
    positions: NDArray[Any],
    chunk: int = 16384,
) -> NDArray[Any]:
    """Return the value of a token at every item and level, float32 [S, T, levels]."""
    result = np.empty((n_sequences * n_items, len(positions)), dtype=np.float32)
    read = torch.from_numpy(positions.T.copy())
    with torch.no_grad():
        for start in range(0, len(result), chunk):
            place = torch.arange(start, min(start + chunk, len(result)))
            s, t = torch.div(place, n_items, rounding_mode='floor'), place % n_items
            result[start : start + len(place)] = (network(windows(s, t)) @ read).numpy()
    return result.reshape(n_sequences, n_items, -1)


def windows_of(sequences: Sequences, layout: HistoryFormat, task: Task) -> Windows:
    """Lay out sequences of a task as network input."""
    scale = RewardScale(Distribution.of(task.pool))
    constants = layout.constants(scale, task.rate, task.depth)
    return Windows(history_of(sequences, layout, scale), constants, layout.window)


def unit_of(task: Task, layout: HistoryFormat) -> float:
    """Return what the network's outputs are multiplied by to give metrics."""
    return RewardScale(Distribution.of(task.pool)).unit if layout.universal else 1.0
