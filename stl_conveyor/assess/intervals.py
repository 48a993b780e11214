# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Intervals of shares, and of their differences."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: 97.5 % point of the normal distribution.
Z95 = 1.96


def wilson(right: int, count: int, z: float = Z95) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson, JASA 1927).

    Examples:
        >>> [round(end, 3) for end in wilson(0, 20)], wilson(0, 20)[0] >= 0
        ([0.0, 0.161], True)
    """
    p, scale = right / count, 1 + z * z / count
    centre = p + z * z / (2 * count)
    half = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count**2))
    # Rounding must not put an end a hair outside, to be printed as -0.000.
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def paired_difference(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Return how much larger a share is than another on the same items, and its 95 % interval.

    The interval is Newcombe's for paired proportions (Statistics in Medicine 1998, method 10),
    which holds its level also where the two hardly ever differ.

    Args:
        a: bool[N].
        b: bool[N].
    """
    count = len(a)
    p, q = float(a.mean()), float(b.mean())
    both, first = int((a & b).sum()), int((a & ~b).sum())
    second, neither = int((~a & b).sum()), int((~a & ~b).sum())
    p_low, p_high = wilson(int(a.sum()), count)
    q_low, q_high = wilson(int(b.sum()), count)
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    phi = 0.0
    if product:
        surplus = both * neither - first * second
        phi = (max(surplus - count / 2, 0) if surplus > 0 else surplus) / math.sqrt(product)
    below = math.sqrt((p - p_low) ** 2 - 2 * phi * (p - p_low) * (q_high - q) + (q_high - q) ** 2)
    above = math.sqrt((p_high - p) ** 2 - 2 * phi * (p_high - p) * (q - q_low) + (q - q_low) ** 2)
    return p - q, p - q - below, p - q + above


@dataclass(frozen=True)
class Share:
    """A share of right answers with its 95 % interval."""

    accuracy: float
    low: float
    high: float

    @classmethod
    def of(cls, right: np.ndarray) -> Share:
        """Return that of bool[N] (Wilson)."""
        low, high = wilson(int(right.sum()), len(right))
        return cls(round(float(right.mean()), 4), round(low, 4), round(high, 4))

    def __str__(self) -> str:
        return f'{self.accuracy:.3f} [{self.low:.3f}, {self.high:.3f}]'
