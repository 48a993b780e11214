# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How far another machine's clock is from ours, from the stamps of messages it sends."""

from __future__ import annotations

from collections import deque


class ClockOffsetEstimator:
    """Bound the offset of another clock: what it shows less what ours shows, in ns.

    A stamp that was sent is old when it arrives, so each message bounds the offset from below;
    the one that travelled fastest bounds it best. From above it is bounded by the shortest round
    trip, of which the way back is a part (RFC 5905 halves it; we keep the bounds). Old messages
    are forgotten, so that a clock that is set right is believed.
    """

    def __init__(self, *, capacity: int = 8, horizon_ns: int = 10_000_000_000) -> None:
        """Keep the newest `capacity` messages that are no older than `horizon_ns`."""
        self._stamps: deque[tuple[int, int]] = deque(maxlen=capacity)  # steady time, bound
        self._round_trips: deque[tuple[int, int]] = deque(maxlen=capacity)
        self._horizon_ns = horizon_ns

    def add(self, remote_ns: int, local_ns: int, steady_ns: int) -> None:
        """Take in a message that was stamped `remote_ns` and arrived at `local_ns`.

        Args:
            steady_ns: The same moment on a clock that is never set.
        """
        self._stamps.append((steady_ns, remote_ns - local_ns))

    def add_round_trip(self, round_trip_ns: int, steady_ns: int) -> None:
        """Take in how long a message and its answer took."""
        if round_trip_ns >= 0:
            self._round_trips.append((steady_ns, round_trip_ns))

    def at_least_ns(self, steady_ns: int) -> int | None:
        """Return the least offset that the stamps allow, or None without any."""
        self._forget(self._stamps, steady_ns)
        return max((bound for _, bound in self._stamps), default=None)

    def disagreement_ns(self, steady_ns: int, *, assumed_round_trip_ns: int) -> int:
        """Return by how much the clocks differ for sure: positive if the other one is ahead.

        Args:
            assumed_round_trip_ns: Holds where no round trip was measured lately.
        """
        least = self.at_least_ns(steady_ns)
        if least is None:
            return 0
        if least > 0:
            return least
        self._forget(self._round_trips, steady_ns)
        shortest = min((time for _, time in self._round_trips), default=assumed_round_trip_ns)
        return min(0, least + shortest)

    def _forget(self, samples: deque[tuple[int, int]], steady_ns: int) -> None:
        while samples and not 0 <= steady_ns - samples[0][0] <= self._horizon_ns:
            samples.popleft()
