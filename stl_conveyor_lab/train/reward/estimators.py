# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Fit the reward estimators that need no training of a network: temperature, curves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.policy.regression import distribution_of_estimates, kernel_regression
from stl_conveyor.policy.reward import (
    EntropyReward,
    PosteriorReward,
    checked_probabilities,
    doubts,
    tempered_entropy,
)

_SMALLEST = 1e-7


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
