# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Deadlines and the arithmetic of an item's time budget."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from stl_conveyor.cell.description import NS_PER_SECOND, CellDescription


def sorting_deadline(
    capture_ns: int, cell: CellDescription, belt_speed: float | None = None
) -> int:
    """Return the instant (ns, clock of the capture) by which an item's diverter must be commanded.

    One deadline per item, that of the first diverter, because until the answer is there the
    item may belong to any lane.

    Examples:
        >>> from stl_conveyor import CellDescription, share_path, sorting_deadline
        >>> cell = CellDescription.load(share_path('config/cell.yaml'))
        >>> sorting_deadline(1_000_000_000, cell)
        1780000000
        >>> sorting_deadline(1_000_000_000, cell, belt_speed=0.2)
        2680000000

    Args:
        belt_speed: As measured (m/s); None = that of the description.
    """
    if belt_speed is None:
        return capture_ns + cell.decision_time_ns
    travel = (cell.first_diverter_x - cell.camera.x) / belt_speed
    return capture_ns + round((travel - cell.diverter.lead_time) * NS_PER_SECOND)


def longest_decision_ns(cell: CellDescription) -> int:
    """Return the most time (ns) from capture to deadline that an honest deadline leaves."""
    return sorting_deadline(0, cell, cell.belt.speed * (1.0 - cell.belt.speed_tolerance))


def stroke_time_ns(
    capture_ns: int, deadline_ns: int, cell: CellDescription, lane_name: str
) -> int:
    """Return when (ns, clock of the capture) the diverter of a lane must be commanded.

    The deadline is that of the first diverter and was made with the speed of the belt as it was
    at the capture: so it says how long the item takes to any other diverter.

    Raises:
        ConfigError: For a lane without a diverter.
    """
    lead_ns = round(cell.diverter.lead_time * NS_PER_SECOND)
    first = cell.first_diverter_x - cell.camera.x
    travel_ns = deadline_ns - capture_ns + lead_ns
    ratio = (cell.lane(lane_name).diverter_x - cell.camera.x) / first
    return capture_ns + round(travel_ns * ratio) - lead_ns


def latest_send_ns(deadline_ns: int, guard_ns: int, reserve_ns: int) -> int:
    """Return the last instant (ns) at which sending a packet can still change the outcome.

    The actuator acts `guard_ns` before the deadline, and `reserve_ns` pass between sending a
    packet and having the answer that it contributes to.
    """
    return deadline_ns - guard_ns - reserve_ns


def wait_for_answer_ns(latest_send_ns: int) -> int:
    """Return how long (ns) a local answer is awaited before the edge is asked without it.

    Half of the time in which bytes are of use: a local answer comes long before, and the other
    half is enough for the bytes of a token on all but the slowest links.

    Examples:
        >>> wait_for_answer_ns(600_000_000)
        300000000

    Args:
        latest_send_ns: Time left until the last byte can change the outcome.
    """
    return latest_send_ns // 2


class DelayEstimator:
    """A high quantile of recent delays, all in ns.

    Only the newest `capacity` samples no older than `horizon_ns` count. Who sends nothing because
    of the estimate measures nothing either, and would keep it for as long as that: see `Trials`
    and `measure_anew`. Samples that are negative or above `maximum_ns` are left out: they come
    from clock jumps. One alone would keep everything from being sent until it is forgotten.
    """

    def __init__(
        self,
        *,
        initial_ns: int,
        maximum_ns: int,
        quantile: float = 0.9,
        capacity: int = 32,
        horizon_ns: int = 30_000_000_000,
    ) -> None:
        """Start from `initial_ns`, which holds until there are samples."""
        if not 0 <= initial_ns <= maximum_ns:
            raise ValueError(f'initial_ns {initial_ns} is not within 0..{maximum_ns}')
        if not 0.0 <= quantile <= 1.0 or capacity < 1:
            raise ValueError('quantile must be within 0..1 and capacity at least 1')
        self.initial_ns = initial_ns
        self._maximum_ns = maximum_ns
        self._quantile = quantile
        self._horizon_ns = horizon_ns
        self._samples: deque[tuple[int, int]] = deque(maxlen=capacity)
        self._anew_ns: int | None = None

    def measure_anew(self, now_ns: int) -> None:
        """Have the first delay that begins from now on replace all that were measured before."""
        self._anew_ns = now_ns

    def add(self, delay_ns: int, now_ns: int) -> None:
        """Take in one measured delay, which has just ended, if it can be one."""
        if not 0 <= delay_ns <= self._maximum_ns:
            return
        if self._anew_ns is not None and now_ns - delay_ns >= self._anew_ns:
            self._samples.clear()
            self._anew_ns = None
        self._samples.append((now_ns, delay_ns))

    def estimate_ns(self, now_ns: int) -> int:
        """Return the quantile of the samples that still count, or the initial value."""
        samples = self._samples
        while samples and not 0 <= now_ns - samples[0][0] <= self._horizon_ns:
            samples.popleft()
        if not samples:
            return self.initial_ns
        delays = sorted(delay for _, delay in samples)
        return delays[min(len(delays) - 1, math.floor(self._quantile * len(delays)))]


class Trials:
    """Say when to begin something though measured delays say that it is of no use.

    What nobody begins is not measured either: a link or an edge that has stood still for seconds
    would be believed to be slow for as long as its delays are remembered. So one thing is tried
    after a second, the next one after two more, and so on up to `longest_ns`; a link that is
    slow indeed is not kept busy by that. All times are ns of a clock that never runs backwards.

    Examples:
        >>> trials = Trials()
        >>> [s for s in range(20) if trials.begins(s * 1_000_000_000)]
        [1, 3, 7, 15]
    """

    def __init__(
        self,
        *delays: DelayEstimator,
        first_ns: int = 1_000_000_000,
        longest_ns: int = 16_000_000_000,
    ) -> None:
        """Have refused nothing yet; the time to reserve is the sum of some delays."""
        self._delays = delays
        self._first_ns = first_ns
        self._longest_ns = longest_ns
        self._since_ns: int | None = None  # of the last trial, or the first refusal
        self._wait_ns = first_ns

    def begins(self, now_ns: int) -> bool:
        """Return whether what the delays forbid is begun all the same, as a trial."""
        if self._since_ns is None:
            self._since_ns = now_ns
        if now_ns - self._since_ns < self._wait_ns:
            return False
        self._since_ns = now_ns
        self._wait_ns = min(2 * self._wait_ns, self._longest_ns)
        return True

    def reserve_ns(self, now_ns: int) -> int:
        """Return the time to reserve, as measured."""
        return sum(delay.estimate_ns(now_ns) for delay in self._delays)

    @property
    def unmeasured_ns(self) -> int:
        """Return the time to reserve while nothing is measured."""
        return sum(delay.initial_ns for delay in self._delays)

    def is_trial(self, now_ns: int, in_time: Callable[[int], bool]) -> bool:
        """Return whether something that comes too late by the delays is begun, to measure anew.

        Args:
            now_ns: When it would begin.
            in_time: Returns whether it comes in time if so much (ns) is reserved.
        """
        if in_time(self.reserve_ns(now_ns)):
            self.end()
            return False
        if not in_time(self.unmeasured_ns) or not self.begins(now_ns):
            return False
        for delay in self._delays:
            delay.measure_anew(now_ns)
        return True

    def end(self) -> None:
        """Take in that the delays forbid nothing now."""
        self._since_ns = None
        self._wait_ns = self._first_ns
