# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""From breaks of a light barrier to items: when each one's middle passed it."""

from __future__ import annotations

import math

BEAM_MERGE = 0.012  # m of light between two breaks that still is one item


class LightBarrier:
    """Joins what is seen of a beam into items.

    speed: of the belt, m/s.
    """

    def __init__(self, speed: float) -> None:
        """Begin with a free beam."""
        self._speed = speed
        self._blocked = False
        self._first = 0.0
        self._last = -math.inf

    def update(self, now: float, broken: bool) -> float | None:
        """Take in whether something is in the beam at a time (s).

        Returns when the middle of an item was in the beam, once that item is through; else None.
        """
        if broken:
            if not self._blocked:
                self._blocked, self._first = True, now
            self._last = now
        elif self._blocked and (now - self._last) * self._speed > BEAM_MERGE:
            self._blocked = False
            return (self._first + self._last) / 2
        return None
