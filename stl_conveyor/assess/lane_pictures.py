# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Pictures of the lanes: purity over reject share, and how far answers can be trusted.

A figure is matplotlib's; who draws hands pyplot in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stl_conveyor.assess.lanes import purity_curve
from stl_conveyor.assess.reliability import reliability_of


def purity_figure(pyplot: Any, sources: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Any:
    """Draw the share of wrong items in the lanes over the share of items rejected.

    Args:
        sources: By name: how likely each item belongs in the lane that it is sent to, f64[N], and
            whether it does, bool[N].
    """
    figure, axes = pyplot.subplots(figsize=(6, 4))
    for name, (probabilities, right) in sources.items():
        if not len(right):
            continue
        rejected, purity = zip(*purity_curve(np.asarray(probabilities), np.asarray(right)))
        axes.plot(100 * np.array(rejected), 100 * np.array(purity), marker='.', label=name)
    axes.set(xlabel='% of the items rejected, the most doubtful first', ylabel='% purity')
    if axes.lines:
        axes.legend()
    axes.grid(alpha=0.3)
    return figure


def reliability_figure(pyplot: Any, sources: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Any:
    """Draw the share of right answers over the probability that they told.

    Args:
        sources: By name: probabilities f64[N], and whether each was right, bool[N].
    """
    figure, axes = pyplot.subplots(figsize=(4.5, 4.5))
    axes.plot([0, 1], [0, 1], color='k', lw=1)
    for name, (scores, right) in sources.items():
        rows: Sequence[tuple[float, float, int]] = reliability_of(
            np.asarray(scores, np.float64), np.asarray(right, bool), 10
        )
        if not rows:
            continue
        told, share, count = (np.array(column) for column in zip(*rows))
        axes.plot(told, share, lw=1, alpha=0.6)
        size = np.clip(count * 400 / count.sum(), 4, 200)
        axes.scatter(told, share, s=size, label=name, alpha=0.7)
    axes.set(xlabel='probability told', ylabel='share right', xlim=(0, 1), ylim=(0, 1))
    if len(axes.lines) > 1:
        axes.legend(markerscale=0.5)
    return figure
