# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How well a classifier's first score says how often it is right."""

from __future__ import annotations

import numpy as np

BINS = 15


def reliability(
    probabilities: np.ndarray, classes: np.ndarray, bins: int = BINS
) -> list[tuple[float, float, int]]:
    """Return (mean score, share right, images) of each bin of scores that is not empty.

    Args:
        probabilities: f32[N, C].
        classes: i64[N], the true ones.
        bins: Of equal width (Guo et al., ICML 2017).
    """
    return reliability_of(probabilities.max(1), probabilities.argmax(1) == classes, bins)


def reliability_of(
    score: np.ndarray, right: np.ndarray, bins: int = BINS
) -> list[tuple[float, float, int]]:
    """Return the same from scores f64[N], 0..1, and whether each was right, bool[N]."""
    index = np.minimum((score * bins).astype(int), bins - 1)
    return [
        (float(score[index == k].mean()), float(right[index == k].mean()), int((index == k).sum()))
        for k in range(bins)
        if (index == k).any()
    ]


def expected_calibration_error(
    probabilities: np.ndarray, classes: np.ndarray, bins: int = BINS
) -> float:
    """Return the expected calibration error of the top class (Guo et al., ICML 2017).

    It is the mean distance of score and share right over the bins of `reliability`.

    Args:
        probabilities: f32[N, C].
        classes: i64[N], the true ones.
        bins: Of equal width.
    """
    return float(
        sum(
            abs(score - right) * count
            for score, right, count in reliability(probabilities, classes, bins)
        )
        / len(classes)
    )
