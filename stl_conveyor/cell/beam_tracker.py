# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The items between light barrier and camera, each by the position of the belt."""

from __future__ import annotations

from collections import deque

from stl_conveyor.cell.light_barrier import BEAM_MERGE, LightBarrier
from stl_conveyor.cell.odometry import Belt


class BeamTracker:
    """Knows where the belt must be for each item that broke the beam to be under the camera.

    Times become positions as soon as the belt tells where it was then, and stay positions however
    long it stands. Where the belt has lost its position, what was on it is forgotten, and counted.

    Attributes:
        expected: Positions of the belt (m), the next one first.
    """

    def __init__(self, belt: Belt, way: float, capacity: int = 64) -> None:
        """Expect nothing.

        Args:
            way: Metres from the light barrier to the middle of the camera's picture.
            capacity: Most items that are expected at a time; beyond, the oldest are forgotten.
        """
        self._belt = belt
        self._way = way
        self.expected: deque[float] = deque(maxlen=capacity)
        self._times: deque[tuple[int, bool | None]] = deque(maxlen=4 * capacity)
        self._barrier = LightBarrier()
        self._broken = False
        self._stretch = belt.stretch
        self._passed: float | None = None  # place of the belt where the last one passed
        self.bounces = 0  # of those that passed; of one item come its edges, a hole, a relay

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is in the beam, or has been just now."""
        return not self._times and not self._broken and self._barrier.is_free

    def begin_inside(self, now_ns: int) -> None:
        """Take in that something was in the beam before anybody looked: it makes no item."""
        self._broken = True
        self._barrier.begin_inside(self._belt.position(now_ns) or 0.0)

    def changed(self, time_ns: int, broken: bool) -> None:
        """Take in that the beam was broken, or became free, at a time (ns)."""
        self._times.append((time_ns, broken))

    def passed(self, time_ns: int) -> None:
        """Take in that the middle of an item was in the beam at a time (ns)."""
        self._times.append((time_ns, None))

    def look(self, now_ns: int) -> int:
        """Bring everything up to now; return how many items were lost, because the belt was."""
        lost = self._lose()
        settled_ns = self._belt.settled_ns(now_ns)
        if settled_ns is None:
            return lost
        while self._times and self._times[0][0] <= settled_ns:
            time_ns, broken = self._times.popleft()
            place = self._belt.position(time_ns)
            if place is None:  # the belt tells nothing of that time any more
                lost += broken is None
            elif broken is None:
                self._pass(place)
            else:
                self._see(place, self._broken)
                self._see(place, True)
                self._broken = broken
        place = self._belt.position(settled_ns)
        if place is not None:
            self._see(place, self._broken)
        return lost

    def _pass(self, place: float) -> None:
        if self._passed is not None and abs(place - self._passed) < BEAM_MERGE:
            self.bounces += 1
            return
        self._passed = place
        self.expected.append(place + self._way)

    def _see(self, place: float, broken: bool) -> None:
        middle = self._barrier.update(place, broken)
        if middle is not None:
            self.expected.append(middle + self._way)

    def _lose(self) -> int:
        if self._stretch == self._belt.stretch:
            return 0
        self._stretch = self._belt.stretch
        lost = len(self.expected) + (not self._barrier.is_free)
        self.expected.clear()
        self._barrier = LightBarrier()
        if self._broken:
            self._barrier.begin_inside(0.0)
        return lost
