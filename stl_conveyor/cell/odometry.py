# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How far the belt has moved, and how fast it runs: by description, or by a belt encoder."""

from __future__ import annotations

import enum
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from stl_conveyor.cell.belt_history import STANDSTILL, BeltHistory
from stl_conveyor.cell.belt_trend import Sample, Trend, noise_of, thinned, trend_of

_RESOLUTION = 0.0002  # m; steps that are finer are not kept one by one
_LEAST_NOISE = 0.00003  # m, of where the belt is at a step: an interrupt comes a little late
_LATELY_NS = 150_000_000  # whose steps tell the speed of now, if there are enough
_LEAST_STEPS, _ENOUGH_STEPS = 4, 8  # that tell whether the speed changes


class BeltState(enum.Enum):
    """What a belt encoder says about a belt."""

    UNKNOWN = 'unknown'  # no step yet, and not long enough without one
    RUNNING = 'running'
    STOPPED = 'stopped'
    OFF_SPEED = 'off_speed'  # outside the tolerance: it slips, or scale or drive are wrong
    REVERSED = 'reversed'


@dataclass(frozen=True)
class BeltMotion:
    """Speed (m/s) and state of a belt at one time."""

    speed: float
    state: BeltState


class Belt(Protocol):
    """A belt's movement; times in ns of one clock, positions in metres from an origin."""

    @property
    def stretch(self) -> int:
        """Return a number that rises when positions from before have lost their meaning."""

    def motion(self, now_ns: int) -> BeltMotion:
        """Return how the belt moves."""

    def position(self, time_ns: int) -> float | None:
        """Return how far (m) the belt has moved until a time; None = that is not known."""

    def settled_ns(self, now_ns: int) -> int | None:
        """Return until when nothing that is still to come changes a position; None = no time."""

    def time_at(self, position: float, now_ns: int) -> int | None:
        """Return when (ns) the belt was or will be at a position; None = it stands before."""


class SteadyBelt:
    """A belt that runs at the speed of the cell description."""

    stretch = 0

    def __init__(self, speed: float, origin_ns: int = 0) -> None:
        """Run at `speed` (m/s); the position is 0 at `origin_ns`.

        Near its origin floating point is exact to far below a nanosecond.
        """
        self._speed = speed
        self._origin_ns = origin_ns

    def motion(self, now_ns: int) -> BeltMotion:
        """Return the speed."""
        return BeltMotion(self._speed, BeltState.RUNNING)

    def position(self, time_ns: int) -> float:
        """Return how far (m) the belt has moved since the origin."""
        return self._speed * (time_ns - self._origin_ns) / 1e9

    def settled_ns(self, now_ns: int) -> int:
        """Return the present: it always runs alike."""
        return now_ns

    def time_at(self, position: float, now_ns: int) -> int | None:
        """Return when (ns) the belt is at a position."""
        return self._origin_ns + round(position / self._speed * 1e9)


class ReportedBelt:
    """A belt whose position somebody else reports (the topic `belt_state`)."""

    def __init__(
        self, *, expected_speed: float, tolerance: float, counter_length: float = 0.0
    ) -> None:
        """Know nothing yet.

        Args:
            expected_speed: Of the description (m/s); the state tells when the belt's differs.
            tolerance: By how much it may, as a fraction.
            counter_length: See BeltHistory.
        """
        self.history = BeltHistory(counter_length=counter_length, usual_speed=expected_speed)
        self._expected = expected_speed
        self._tolerance = tolerance

    @property
    def stretch(self) -> int:
        """Return the stretch of the history."""
        return self.history.stretch

    def motion(self, now_ns: int) -> BeltMotion:
        """Return how the belt moves, by the newest report if it still counts."""
        if not self.history.is_known(now_ns):
            return BeltMotion(self._expected, BeltState.UNKNOWN)
        return _motion(self.history.speed(), self._expected, self._tolerance)

    def position(self, time_ns: int) -> float | None:
        """Return where (m) the belt was at a time; None = that is not known."""
        place = self.history.place(time_ns, time_ns)
        return None if place is None else place.position

    def settled_ns(self, now_ns: int) -> int | None:
        """Return until when the reports settle it."""
        settled_ns = self.history.settled_ns
        return None if settled_ns is None else min(settled_ns, now_ns)

    def time_at(self, position: float, now_ns: int) -> int | None:
        """Return when (ns) the belt was or will be at a position; None = it stands before."""
        return self.history.time_at(position, now_ns)


def _motion(speed: float, expected: float, tolerance: float) -> BeltMotion:
    if abs(speed) < STANDSTILL:
        return BeltMotion(0.0, BeltState.STOPPED)
    if speed < 0:
        return BeltMotion(speed, BeltState.REVERSED)
    near = abs(speed - expected) <= tolerance * expected
    return BeltMotion(speed, BeltState.RUNNING if near else BeltState.OFF_SPEED)


class MeasuredBelt:
    """A belt whose movement a belt encoder (incremental) counts.

    The speed is that over the newest steps within `window_ns`, and `speed_now` that at their end;
    while no step comes, it is at most one step in the time since the last one, so that it falls
    to nothing when the belt stops. The past is forgotten by the way of the belt: while it stands
    nothing is. Steps may come from another thread.
    """

    stretch = 0

    def __init__(
        self,
        metres_per_step: float,
        *,
        expected_speed: float,
        tolerance: float,
        window_ns: int = 300_000_000,
        stop_ns: int = 500_000_000,
        kept_way: float = 3.0,
    ) -> None:
        """Start at position 0.

        Args:
            expected_speed: Of the description (m/s); the state tells when the belt's differs.
            tolerance: By how much it may, as a fraction.
            stop_ns: How long without a step means that the belt stands.
            kept_way: How far back (m, there and back) `position` can look.
        """
        if metres_per_step <= 0 or expected_speed <= 0 or not 0 <= tolerance < 1:
            raise ValueError(
                'metres_per_step and expected_speed must be positive, tolerance within 0..1'
            )
        self._scale = metres_per_step
        self._expected = expected_speed
        self._tolerance = tolerance
        self._window_ns = window_ns
        self._stop_ns = stop_ns
        self._kept = max(2, round(kept_way / max(metres_per_step, _RESOLUTION)))
        self._steps: deque[tuple[int, int]] = deque()  # time, count
        self._known_trend: Trend | None = None  # at the newest step
        self._asked_ns: int | None = None
        self._lock = threading.Lock()

    def step(self, count: int, time_ns: int) -> None:
        """Take in that the belt encoder stands at `count` since `time_ns`."""
        with self._lock:
            steps = self._steps
            if steps and time_ns < steps[-1][0]:
                steps.clear()  # the clock was set back: the past has no order any more
            if len(steps) > 1 and abs(count - steps[-2][1]) * self._scale < _RESOLUTION:
                steps.pop()
            steps.append((time_ns, count))
            self._known_trend = None
            while len(steps) > self._kept:
                steps.popleft()

    def motion(self, now_ns: int) -> BeltMotion:
        """Return how the belt moves."""
        with self._lock:
            if self._asked_ns is None or now_ns < self._asked_ns:
                self._asked_ns = now_ns
            speed = self._speed(now_ns)
            latest_ns = self._steps[-1][0] if self._steps else self._asked_ns
            silent = now_ns - latest_ns > self._stop_ns
            enough = len(self._steps) > 1
        if silent:
            return BeltMotion(0.0, BeltState.STOPPED)
        if not enough:
            return BeltMotion(self._expected, BeltState.UNKNOWN)
        return _motion(speed, self._expected, self._tolerance)

    def speed_now(self, now_ns: int) -> float:
        """Return how fast (m/s) the belt runs now, also while a drive changes its speed.

        The mean that `motion` tells is late by half its time then. Where the belt was at a step is
        exact, so that a few of them tell the speed and its change.
        """
        with self._lock:
            if not self._steps or now_ns - self._steps[-1][0] > self._stop_ns:
                return 0.0
            waiting_ns = now_ns - self._steps[-1][0]
            trend = self._trend()
        # One step may have been made just now and not be here yet.
        return self._slowed(trend.speed_after(waiting_ns / 1e9), waiting_ns // 2)

    def position(self, time_ns: int) -> float:
        """Return how far (m) the belt has moved until a time, of the past or just ahead."""
        with self._lock:
            return self._position(time_ns)

    def settled_ns(self, now_ns: int) -> int:
        """Return the present: a step is known when it is made."""
        return now_ns

    def time_at(self, position: float, now_ns: int) -> int | None:
        """Return when (ns) the belt was or will be at a position; None = it stands before."""
        with self._lock:
            steps = self._steps
            for (after_ns, after), (before_ns, before) in self._newest_first():
                low, high = sorted((before * self._scale, after * self._scale))
                if low <= position <= high and low < high:
                    share = (position / self._scale - before) / (after - before)
                    # A step that took long is one on which the belt stood first.
                    span_ns = min(after_ns - before_ns, self._stop_ns)
                    return after_ns - round((1.0 - share) * span_ns)
            speed = self._speed(now_ns)
            if speed <= 0 or not steps:
                return None
            latest_ns, latest = steps[-1]
            return latest_ns + round((position - latest * self._scale) / speed * 1e9)

    def _newest_first(self) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Yield each two steps that follow each other, the later one first."""
        newest_first = reversed(self._steps)
        after = next(newest_first, None)
        for before in newest_first:
            if after is not None:
                yield after, before
            after = before

    def _trend(self) -> Trend:
        """Return how the belt moved at the newest step."""
        if self._known_trend is not None:
            return self._known_trend
        latest_ns = self._steps[-1][0]
        samples: list[Sample] = []
        for time_ns, count in reversed(self._steps):
            enough = len(samples) >= _ENOUGH_STEPS
            if latest_ns - time_ns > (_LATELY_NS if enough else self._window_ns):
                break
            time = (time_ns - latest_ns) / 1e9
            if not samples or time < samples[-1].time:  # an interrupt that waited comes with more
                samples.append(Sample(time, count * self._scale, None))
        trend = None
        if len(samples) >= _LEAST_STEPS:
            samples = thinned(samples)[::-1]
            trend = trend_of(samples, max(_LEAST_NOISE, noise_of(samples)))
        self._known_trend = (trend or Trend(self._speed(latest_ns))).towards(None)
        return self._known_trend

    def _speed(self, now_ns: int) -> float:
        steps = self._steps
        if len(steps) < 2:
            return 0.0
        latest_ns, latest = steps[-1]
        first_ns, first = steps[-2]
        for time_ns, count in reversed(steps):
            if latest_ns - time_ns > self._window_ns:
                break
            first_ns, first = time_ns, count
        speed = self._scale * (latest - first) / max(latest_ns - first_ns, 1) * 1e9
        return self._slowed(speed, now_ns - latest_ns)

    def _slowed(self, speed: float, waiting_ns: int) -> float:
        """Return a speed that fits to no step having come for so long."""
        if waiting_ns <= 0:
            return speed
        limit = self._scale / waiting_ns * 1e9
        return max(-limit, min(limit, speed))

    def _position(self, time_ns: int) -> float:
        steps = self._steps
        if not steps:
            return 0.0
        latest_ns, latest = steps[-1]
        if time_ns >= latest_ns:
            ahead = self._trend().way((time_ns - latest_ns) / 1e9)
            return latest * self._scale + max(-self._scale, min(self._scale, ahead))
        for (after_ns, after), (before_ns, before) in self._newest_first():
            if before_ns <= time_ns:
                share = (time_ns - before_ns) / max(after_ns - before_ns, 1)
                return self._scale * (before + share * (after - before))
        return steps[0][1] * self._scale
