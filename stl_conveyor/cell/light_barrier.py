# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""From breaks of a light barrier to items: where on the belt each one's middle is.

All by the position of the belt, so that an item is as long as it is, however the belt moves.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

BEAM_MERGE = 0.012  # m of light between two breaks that still is one item
KEPT_WAY = 2.0  # m behind the barrier for which an item is known again when the belt runs back


@dataclass
class _Break:
    """What is in the beam: the part of the belt (m) that it covers."""

    first: float
    last: float
    partial: bool = False  # it was in the beam already when the first look was taken

    def covers(self, place: float) -> bool:
        return self.first - BEAM_MERGE <= place <= self.last + BEAM_MERGE


class LightBarrier:
    """Joins what is seen of a beam into items.

    An item that the belt carries back through the beam, and on again, stays the one it was.

    Examples:
        >>> from stl_conveyor.cell.light_barrier import LightBarrier
        >>> barrier = LightBarrier()
        >>> for place, broken in ((0.100, True), (0.104, True), (0.112, True), (0.116, True)):
        ...     assert barrier.update(place, broken) is None  # a washer: rim, hole, rim
        >>> round(barrier.update(0.130, False), 3)
        0.108
    """

    def __init__(self) -> None:
        """Begin with a free beam."""
        self._open: _Break | None = None
        self._known: deque[_Break] = deque()

    @property
    def is_free(self) -> bool:
        """Return whether no item is passing, as far as is known."""
        return self._open is None

    def begin_inside(self, place: float) -> None:
        """Take in that something was in the beam already at the first look.

        Where it begins is not known, so that no item is made of it.
        """
        self._open = _Break(place, place, partial=True)

    def update(self, place: float, broken: bool) -> float | None:
        """Take in whether something is in the beam while the belt is at a place (m).

        Returns where the belt was with the middle of an item in the beam, once that item is
        through; else None.
        """
        item = self._open
        if broken:
            if item is not None:
                item.first, item.last = min(item.first, place), max(item.last, place)
            elif not any(known.covers(place) for known in self._known):
                self._open = _Break(place, place)
            return None
        if item is None:
            return None
        if item.first - place > BEAM_MERGE:  # the belt has carried it back out
            self._open = None
        elif place - item.last > BEAM_MERGE:
            self._open = None
            self._known.append(item)
            while self._known[0].last < place - KEPT_WAY:
                self._known.popleft()
            return None if item.partial else (item.first + item.last) / 2
        return None


class SteadyLightBarrier:
    """A light barrier on a belt that always runs at one speed: places are times."""

    def __init__(self, speed: float) -> None:
        """Begin with a free beam; `speed` of the belt in m/s."""
        self._speed = speed
        self._barrier = LightBarrier()
        self._latest = -math.inf

    def update(self, now: float, broken: bool) -> float | None:
        """Take in whether something is in the beam at a time (s).

        A time before the one before begins anew: the clock was set back. Returns when
        the middle of an item was in the beam, once that item is through; else None.
        """
        if now < self._latest:
            self._barrier = LightBarrier()
        self._latest = now
        middle = self._barrier.update(now * self._speed, broken)
        return None if middle is None else middle / self._speed
