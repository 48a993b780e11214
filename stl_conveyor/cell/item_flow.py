# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Tell items that a belt brings from frames of a camera that runs free."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

WINDOW_NS = 2_000_000_000
ENOUGH_NS = 1_000_000_000  # of evenly spaced items, before that is taken for the beat of a camera
SHORTEST_PITCH = 0.02  # m from item to item; nothing shorter can be singled out on a belt
BURST = 10  # items that may come at once beyond that, such as those that a driver had held back
BEAT = (0.5, 1.6)  # within which parts of their mean the intervals of a camera lie
BEATS = 5


class ItemFlow:
    """Counts the items of the last two seconds against the way of the belt.

    More than one item in 20 mm of belt is more than a belt can bring. Items that come as evenly as
    frames, each nearer to the next than a paddle is wide, are no items either: nobody lays parts
    so, and no diverter could tell them apart.
    """

    def __init__(self, paddle_width: float) -> None:
        """Have seen nothing.

        Args:
            paddle_width: Of the diverters, in metres along the belt.
        """
        self._pitch = paddle_width
        self._items: deque[tuple[int, float]] = deque()  # time (ns), belt position (m)

    def add(self, time_ns: int, position: float) -> bool:
        """Take in an item, and return whether too many come.

        Args:
            time_ns: When it was captured.
            position: Of the belt at that time (m).
        """
        items = self._items
        if items and time_ns < items[-1][0]:
            items.clear()
        items.append((time_ns, position))
        while items[0][0] < time_ns - WINDOW_NS:
            items.popleft()
        return self._too_many() or self._even()

    def count(self, now_ns: int) -> int:
        """Return how many items the last two seconds brought."""
        return sum(0 <= now_ns - time_ns <= WINDOW_NS for time_ns, _ in self._items)

    def _too_many(self) -> bool:
        (first_ns, first), (last_ns, last) = self._items[0], self._items[-1]
        # Few items say little about how fast the belt runs: its way is taken for the whole window.
        speed = abs(last - first) / max(last_ns - first_ns, 1)
        return len(self._items) > BURST + speed * WINDOW_NS / SHORTEST_PITCH

    def _even(self) -> bool:
        (first_ns, first), (last_ns, last) = self._items[0], self._items[-1]
        beats = len(self._items) - 1
        if beats < BEATS or last_ns - first_ns < ENOUGH_NS:
            return False
        if abs(last - first) / beats >= self._pitch:
            return False
        mean = (last_ns - first_ns) / beats
        low, high = BEAT
        return all(
            low * mean <= after - before <= high * mean
            for (before, _), (after, _) in pairwise(self._items)
        )
