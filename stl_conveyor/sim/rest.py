# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""When an item counts as at rest, and where; the same rule in every simulator."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stl_conveyor.cell.description import CellDescription

REST_TIME = 0.25  # s within the rest radius of one place: the item is at rest
REST_RADIUS = 0.002  # m
ON_BELT = -0.02  # z (m) above which an item is still on the belt
FALLEN = -1.0  # z (m) below which it fell through everything
GIVE_UP_TIME = 12.0  # s beyond the way along the belt: what rests nowhere counts as lost


class RestWatch:
    """Follows one item until it lies still below the belt.

    cell: CellDescription. born: when the item was let go, seconds.
    """

    def __init__(self, cell: CellDescription, born: float) -> None:
        """Begin to watch."""
        self._latest = born + GIVE_UP_TIME + (cell.belt.end - cell.belt.start) / cell.belt.speed
        self._place = (0.0, 0.0, 0.0)
        self._since = born

    def at_rest(self, now: float, place: Sequence[float]) -> bool:
        """Take in where the item is (m) at a time (s); return whether it is at rest."""
        if place[2] > ON_BELT or math.dist(place, self._place) > REST_RADIUS:
            self._place, self._since = (place[0], place[1], place[2]), now
        return now - self._since > REST_TIME or now > self._latest or place[2] < FALLEN
