# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""From how strange an item looks to how likely it is foreign.

An *unknown score* u says which share of the cell's own items look less strange: 1 - u is the
conformal p-value of the hypothesis "this is one of ours" (Vovk, Gammerman, Shafer, "Algorithmic
Learning in a Random World", 2005), so that own items that are drawn like the calibration items
exceed any 1 - a with probability a at most.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LEAST = 1e-9


def unknown_scores(distances: ArrayLike, own: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the unknown scores of distances.

    Args:
        distances: [...] of the items, the larger the stranger.
        own: [N] of the calibration items, ascending.

    Returns:
        float64 [...], 0..1: 1 - (1 + how many of the N are as strange) / (N + 1).
    """
    values = np.asarray(distances, np.float64)
    less = np.searchsorted(own, values, side='left')
    # What is no number is as strange as can be.
    less = np.where(np.isnan(values), len(own), less)
    result: NDArray[np.float64] = np.asarray(less / (len(own) + 1.0), np.float64)
    return result


def is_stranger(unknown: ArrayLike, rejects: float) -> NDArray[np.bool_]:
    """Return whether items are taken for strangers.

    Args:
        unknown: [...] unknown scores, 0..1.
        rejects: Share of the cell's own items that may be; 0 takes none for one.
    """
    scores = np.asarray(unknown, np.float64)
    result: NDArray[np.bool_] = np.asarray((scores > 1.0 - rejects) & (rejects > 0.0))
    return result


def foreign_probability(unknown: ArrayLike, share: float) -> NDArray[np.float64]:
    """Return at most how likely items are foreign.

    The least odds that a p-value leaves to its hypothesis are -e p ln p times the odds before
    (Sellke, Bayarri, Berger, "Calibration of p Values", The American Statistician 2001).

    Args:
        unknown: [...] unknown scores, 0..1.
        share: Of foreign items among all, as far as one knows beforehand.

    Returns:
        float64 [...], from `share` for what looks like the cell's own items to nearly 1.
    """
    p = np.clip(1.0 - np.asarray(unknown, np.float64), _LEAST, 1.0)
    likely = np.where(p < 1.0 / math.e, -math.e * p * np.log(p), 1.0)
    result: NDArray[np.float64] = share / (share + (1.0 - share) * likely)
    return result
