# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Where the belt was, from reports of a belt encoder that somebody else reads."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

STANDSTILL = 0.001  # m/s; what is slower does not bring an item to a diverter


class BeltHistory:
    """Reports of the belt's position, and when it will have carried an item so far.

    Times are ns of one clock that does not run backwards. What is not reported for `silence_ns` is
    not known any more.
    """

    def __init__(
        self, *, silence_ns: int = 1_000_000_000, history_ns: int = 60_000_000_000
    ) -> None:
        """Know nothing."""
        self._silence_ns = silence_ns
        self._history_ns = history_ns
        self._reports: deque[tuple[int, float]] = deque()
        self._speed = 0.0

    def add(self, time_ns: int, position: float, speed: float) -> None:
        """Take in that the belt was at a position (m) and ran at a speed (m/s)."""
        reports = self._reports
        if reports and time_ns <= reports[-1][0]:
            return
        if reports and abs(position - reports[-1][1]) > 10.0:
            reports.clear()  # another origin
        reports.append((time_ns, position))
        self._speed = speed
        while reports[0][0] < time_ns - self._history_ns:
            reports.popleft()

    def moved_since(self, time_ns: int, now_ns: int) -> float | None:
        """Return the metres that the belt moved since a time; None = that is not known."""
        reports = self._reports
        if not reports or now_ns - reports[-1][0] > self._silence_ns or time_ns < reports[0][0]:
            return None
        return self._at(now_ns) - self._at(time_ns)

    def arrival_ns(self, since_ns: int, way: float, now_ns: int) -> int | None:
        """Return when the belt will have moved `way` metres since a time.

        While it stands that is further away than its reports can be silent. None = not known.
        """
        moved = self.moved_since(since_ns, now_ns)
        if moved is None:
            return None
        if self._speed < STANDSTILL:
            return now_ns + 2 * self._silence_ns if moved < way else now_ns
        return now_ns + round((way - moved) / self._speed * 1e9)

    def _at(self, time_ns: int) -> float:
        reports = self._reports
        index = bisect_right(reports, time_ns, key=lambda report: report[0])
        if index == len(reports):
            latest_ns, latest = reports[-1]
            return latest + self._speed * (time_ns - latest_ns) / 1e9
        after_ns, after = reports[index]
        before_ns, before = reports[max(0, index - 1)]
        share = (time_ns - before_ns) / max(1, after_ns - before_ns)
        return before + share * (after - before)
