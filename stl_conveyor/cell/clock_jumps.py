# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Tell that a clock was set from that it runs, by comparison with a steady one."""

from __future__ import annotations

STEP_NS = 50_000_000  # NTP slews by 0.5 ms a second at most; what is more was set
SIMULATED_STEP_NS = 500_000_000
# By which simulated time may catch up after a halt of the machine, and has not been set.
MOST_CREDIT_NS = 2_000_000_000
LEARN = 0.2  # share of the newest measurement in the rate of simulated time


class ClockJumps:
    """Compares the readings of a clock with those of a steady clock; all times in ns.

    A real clock runs as the steady one does, so that each step of 50 ms is seen. Simulated time
    runs at a rate of its own, which is learned; it stands in pauses, and after a halt of this
    process it comes on at once by what was missed. So a step forward is told from 0.5 s on, or
    from up to 2.5 s on just after a pause; a step back always.
    """

    def __init__(self, *, simulated: bool = False) -> None:
        """Know of no reading yet.

        Args:
            simulated: Whether the clock is that of a simulation or of a recording.
        """
        self._simulated = simulated
        self._before: tuple[int, int] | None = None
        self._rate = 1.0
        self._credit_ns = 0.0

    def observe(self, now_ns: int, steady_ns: int) -> int:
        """Take in what both clocks show, and return by how much the one jumped since; 0 = not."""
        before, self._before = self._before, (now_ns, steady_ns)
        if before is None or before[0] == 0:  # 0: nothing has come on /clock
            return 0
        moved_ns, passed_ns = now_ns - before[0], steady_ns - before[1]
        if not self._simulated:
            step_ns = moved_ns - passed_ns
            return step_ns if abs(step_ns) > STEP_NS else 0
        if moved_ns < 0:
            self._credit_ns = 0.0
            return moved_ns
        credit_ns = self._credit_ns + self._rate * passed_ns - moved_ns
        if credit_ns < -SIMULATED_STEP_NS:
            self._credit_ns = 0.0
            return round(moved_ns - self._rate * passed_ns)
        self._credit_ns = min(MOST_CREDIT_NS, max(0.0, credit_ns))
        if passed_ns > 0:
            share = 1 - (1 - LEARN) ** (passed_ns / 1e9)
            self._rate += share * (min(moved_ns / passed_ns, 100.0) - self._rate)
        return 0
