# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How a belt moves in a situation, and what a counter makes of it. Needs no ROS."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Stretch:
    """The belt runs at a speed (m/s; negative: backwards) for some seconds."""

    seconds: float
    speed: float


class Motion:
    """The true position of a belt: one speed after the other, the last one for ever."""

    def __init__(self, stretches: Sequence[Stretch], after: float) -> None:
        """Begin at time 0 and position 0; run at the speed `after` (m/s) in the end."""
        self._starts, self._places, self._speeds = [0.0], [0.0], []
        for stretch in stretches:
            self._speeds.append(stretch.speed)
            self._starts.append(self._starts[-1] + stretch.seconds)
            self._places.append(self._places[-1] + stretch.speed * stretch.seconds)
        self._speeds.append(after)

    def speed(self, time: float) -> float:
        """Return the speed (m/s) at a time (s)."""
        return self._speeds[self._index(time)]

    def position(self, time: float) -> float:
        """Return how far (m) the belt has moved until a time (s)."""
        index = self._index(time)
        return self._places[index] + self._speeds[index] * (time - self._starts[index])

    def time_at(self, position: float) -> float:
        """Return when (s) the belt first is at a position (m) that lies ahead."""
        for index, speed in enumerate(self._speeds):
            last = index + 1 == len(self._speeds)
            if speed > 0 and (last or self._places[index + 1] >= position):
                if position >= self._places[index]:
                    return self._starts[index] + (position - self._places[index]) / speed
        raise ValueError(f'the belt never comes to {position} m')

    def _index(self, time: float) -> int:
        return max(0, bisect_right(self._starts, time) - 1)


def stops(at: float, stand: float, speed: float, *more: tuple[float, float]) -> Motion:
    """Return a belt that runs, stands from `at` for `stand` seconds, and goes on.

    Args:
        more: (seconds until the next stop, seconds of that stop), after the first one.
    """
    stretches = [Stretch(at, speed), Stretch(stand, 0.0)]
    for run, pause in more:
        stretches += [Stretch(run, speed), Stretch(pause, 0.0)]
    return Motion(stretches, speed)


def ramp(seconds: float, begin: float, end: float, steps: int = 200) -> list[Stretch]:
    """Return a change of speed from `begin` to `end` (m/s), as so many steps."""
    return [
        Stretch(seconds / steps, begin + (end - begin) * (step + 0.5) / steps)
        for step in range(steps)
    ]


def soft_stop(at: float, down: float, stand: float, up: float, speed: float) -> Motion:
    """Return a belt that slows down from `at` on, stands, and starts again, all in seconds."""
    return Motion(
        [Stretch(at, speed), *ramp(down, speed, 0.0), Stretch(stand, 0.0), *ramp(up, 0.0, speed)],
        speed,
    )


@dataclass(frozen=True)
class Counter:
    """What reports a position: from where it counts, and when it starts again.

    Attributes:
        start: What it shows (m) where the belt's position is 0.
        span: Metres after which it starts again; 0 = never.
        signed: It starts again at minus half of the span.
        step: Metres of one count; 0 = any position is shown.
    """

    start: float = 0.0
    span: float = 0.0
    signed: bool = False
    step: float = 0.0

    def shown(self, position: float) -> float:
        """Return what is shown (m) when the belt is at a position (m)."""
        value = self.start + position
        if self.step:
            value = round(value / self.step) * self.step
        if not self.span:
            return value
        low = -self.span / 2 if self.signed else 0.0
        return (value - low) % self.span + low
