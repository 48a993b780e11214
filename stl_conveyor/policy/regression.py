# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Curves through samples: what an item of a certain kind brings on average."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.policy.base import Distribution

_DISTRIBUTION_SIZE = 256


def kernel_regression(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    at: NDArray[np.float64],
    bandwidth: float | None = None,
) -> tuple[NDArray[np.float64], float]:
    """Regress by Nadaraya-Watson with a Gaussian kernel.

    Args:
        x: float64 [N], places of the samples.
        y: float64 [N], their values.
        at: float64 [K], where to regress.
        bandwidth: Of the kernel; None takes the one with the least leave-one-out error.

    Returns:
        The values float64 [K] and the bandwidth.
    """
    edges = np.linspace(x.min(), x.max() + 1e-9, 401)
    place = np.clip(np.searchsorted(edges, x, side='right') - 1, 0, 399)
    count = np.bincount(place, minlength=400).astype(float)
    total = np.bincount(place, weights=y, minlength=400)
    square = np.bincount(place, weights=y * y, minlength=400)
    centre = np.bincount(place, weights=x, minlength=400) / np.maximum(count, 1)
    used = count > 0
    count, total, square, centre = count[used], total[used], square[used], centre[used]

    def smooth(points: NDArray[np.float64], width: float) -> NDArray[np.float64]:
        distance = ((points[:, None] - centre[None, :]) / width) ** 2
        # The nearest sample always has weight one, so that gaps in x are bridged.
        weights: NDArray[np.float64] = np.exp(
            -0.5 * (distance - distance.min(axis=1, keepdims=True))
        )
        return weights

    width = bandwidth or 0.0
    if bandwidth is None:
        span = max(float(np.ptp(x)), 1e-6)
        best = np.inf
        for tried in span * np.geomspace(0.005, 0.3, 15):
            kernel = np.exp(-0.5 * ((centre[:, None] - centre[None, :]) / tried) ** 2)
            weight, moment = kernel @ count - 1.0, kernel @ total
            lonely = weight < 1e-9
            weight = np.where(lonely, 1.0, weight)
            # Sum over the samples of a bin of (y - (moment - y) / weight)^2.
            scale = 1.0 + 1.0 / weight
            mean = moment / weight
            error = scale**2 * square - 2 * scale * mean * total + count * mean**2
            error = float(np.where(lonely, square, error).sum())
            if error < best:
                best, width = error, float(tried)
    kernel = smooth(np.asarray(at, dtype=float), width)
    return (kernel @ total) / (kernel @ count), width


def distribution_of_estimates(estimates: NDArray[np.float64]) -> Distribution:
    """Summarise estimates [N] by at most 256 equally likely values."""
    ordered = np.sort(np.asarray(estimates, dtype=np.float64))
    if ordered.size > _DISTRIBUTION_SIZE:
        ordered = np.array([part.mean() for part in np.array_split(ordered, _DISTRIBUTION_SIZE)])
    return Distribution.of(ordered)
