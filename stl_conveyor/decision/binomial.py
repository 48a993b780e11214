# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Exact tails of the binomial distribution, without SciPy, which the device does not have."""

from __future__ import annotations

import math


def at_most(count: int, trials: int, probability: float) -> float:
    """Return how likely `trials` tries succeed at most `count` times.

    Examples:
        >>> round(at_most(1, 10, 0.1), 4)
        0.7361
    """
    if count >= trials or probability <= 0.0:
        return 1.0
    if count < 0 or probability >= 1.0:
        return 0.0
    log_odds = math.log(probability) - math.log1p(-probability)
    term = trials * math.log1p(-probability)  # log of the first
    terms = [term]
    for k in range(count):
        term += math.log((trials - k) / (k + 1)) + log_odds
        terms.append(term)
    largest = max(terms)
    return min(1.0, math.exp(largest) * math.fsum(math.exp(t - largest) for t in terms))


def upper_bound(count: int, trials: int, confidence: float) -> float:
    """Return the Clopper-Pearson upper bound of a share (Biometrika 1934).

    Examples:
        >>> round(upper_bound(0, 299, 0.95), 4)  # the rule of three
        0.01
    """
    if count >= trials:
        return 1.0
    low, high = count / trials, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if at_most(count, trials, middle) > 1.0 - confidence:
            low = middle
        else:
            high = middle
    return high


def least_trials(share: float, confidence: float) -> int:
    """Return how many tries without a failure prove that failures are no more than `share`.

    Examples:
        >>> least_trials(0.01, 0.95)
        299
    """
    return math.ceil(math.log1p(-confidence) / math.log1p(-share))
