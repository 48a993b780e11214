# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Calibrate probabilities by one number, fitted without a framework.

Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_SMALLEST = 1e-6
LEAST, MOST = 0.2, 5.0


def tempered(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Return p ** (1 / T), normalised.

    Args:
        probabilities: [..., C].
        temperature: T; above 1 makes them less sure.
    """
    p = np.asarray(probabilities, np.float64)
    if temperature == 1.0:
        return p
    logits = np.log(np.maximum(p, _SMALLEST)) / temperature
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: NDArray[np.float64] = weights / weights.sum(axis=-1, keepdims=True)
    return result


def log_loss(probabilities: NDArray[np.floating], classes: NDArray[np.int64]) -> float:
    """Return the mean negative log likelihood (nats) of the true classes [N]."""
    chosen = np.asarray(probabilities, np.float64)[np.arange(len(classes)), classes]
    return float(-np.log(np.maximum(chosen, _SMALLEST)).mean())


def fit_temperature(probabilities: NDArray[np.floating], classes: NDArray[np.int64]) -> float:
    """Return the temperature at which the true classes are likeliest, LEAST..MOST.

    Args:
        probabilities: [N, C].
        classes: [N], the true ones.
    """
    if not len(classes):
        return 1.0
    low, high = math.log(LEAST), math.log(MOST)
    ratio = (math.sqrt(5.0) - 1.0) / 2.0
    for _ in range(40):  # golden section; the loss has one valley
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if log_loss(tempered(probabilities, math.exp(left)), classes) < log_loss(
            tempered(probabilities, math.exp(right)), classes
        ):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2.0)
