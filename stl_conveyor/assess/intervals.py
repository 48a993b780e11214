# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Intervals of shares."""

from __future__ import annotations

import math

#: 97.5 % point of the normal distribution.
Z95 = 1.96


def wilson(right: int, count: int, z: float = Z95) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson, JASA 1927)."""
    p, scale = right / count, 1 + z * z / count
    centre = p + z * z / (2 * count)
    half = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count**2))
    return (centre - half) / scale, (centre + half) / scale
