# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Fit the reward estimators that need no training of a network: temperature, curves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.policy.base import Distribution
from stl_conveyor.policy.reward import (
    EntropyReward,
    PosteriorReward,
    checked_probabilities,
    doubts,
    tempered_entropy,
)

_SMALLEST = 1e-7
_DISTRIBUTION_SIZE = 256


def fit_top_choice_temperature(
    probabilities: NDArray[np.float64], correct: NDArray[np.bool_]
) -> float:
    """Find the temperature at which the top probability best predicts being right.

    Args:
        probabilities: float64 [N, C].
        correct: bool [N], whether the first choice is right.

    Returns:
        The temperature with the least log loss of the top-1 probability.
    """
    logits = np.log(np.maximum(probabilities, _SMALLEST))
    correct = np.asarray(correct, dtype=bool)

    def log_loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        top = np.clip(1.0 / np.exp(scaled).sum(axis=1), 1e-6, 1 - 1e-6)
        return -float(np.where(correct, np.log(top), np.log1p(-top)).mean())

    grid = np.linspace(-2.5, 2.5, 41)
    for _ in range(3):
        best = int(np.argmin([log_loss(point) for point in grid]))
        step = grid[1] - grid[0]
        grid = np.linspace(grid[best] - step, grid[best] + step, 21)
    best = int(np.argmin([log_loss(point) for point in grid]))
    return float(np.exp(grid[best]))


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
        return np.exp(-0.5 * (distance - distance.min(axis=1, keepdims=True)))

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


def fit_entropy_reward(
    probabilities: NDArray[np.floating],
    weak_correct: NDArray[np.bool_],
    strong_correct: NDArray[np.bool_],
) -> EntropyReward:
    """Fit the published estimator: the temperature, then the curve.

    Args:
        probabilities: float [N, C] of the weak classifier.
        weak_correct: bool [N], whether the weak classifier is right.
        strong_correct: bool [N], whether the strong one is.

    Returns:
        The estimator; its distribution is that of the items fitted on.
    """
    probabilities = checked_probabilities(probabilities)
    weak = np.asarray(weak_correct, dtype=bool)
    reward = np.asarray(strong_correct, dtype=float) - weak
    temperature = fit_top_choice_temperature(probabilities, weak)
    entropy = tempered_entropy(probabilities, temperature)
    knots = np.linspace(entropy.min(), entropy.max() + 1e-9, 65)
    values, _ = kernel_regression(entropy, reward, knots)
    estimates = np.interp(entropy, knots, values)
    return EntropyReward(
        classes=probabilities.shape[1],
        distribution=distribution_of_estimates(estimates),
        temperature=temperature,
        knots=knots,
        values=values,
    )


def fit_posterior_reward(
    probabilities: NDArray[np.float64],
    posteriors: NDArray[np.float64],
    weak_correct: NDArray[np.bool_],
    strong_correct: NDArray[np.bool_],
) -> PosteriorReward:
    """Fit the curves of entropy and of doubt.

    Args:
        probabilities: float64 [N, C] of the weak model.
        posteriors: float64 [N, C] of the weak model.
        weak_correct: bool [N], whether the weak model's first choice is right.
        strong_correct: bool [N], whether the strong one's is.

    Returns:
        The estimator; its distribution is that of the items fitted on.
    """
    entropy = fit_entropy_reward(probabilities, weak_correct, strong_correct)
    reward = np.asarray(strong_correct, dtype=float) - np.asarray(weak_correct, dtype=bool)
    doubt = doubts(checked_probabilities(probabilities), checked_probabilities(posteriors))
    knots = np.linspace(doubt.min(), doubt.max() + 1e-9, 65)
    values, _ = kernel_regression(doubt, reward, knots)
    # More doubt never means less to gain; what falls is noise.
    values = np.maximum.accumulate(values) + 1e-6 * np.arange(values.size)
    return PosteriorReward(
        classes=probabilities.shape[1],
        distribution=distribution_of_estimates(np.interp(doubt, knots, values)),
        entropy=entropy,
        knots=knots,
        values=values,
    )
