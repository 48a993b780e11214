# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The time that a training was asked to take, and how its stages share it.

A stage gets an Allowance: its part of what the whole has left when the stage begins, so that what
one stage saves or overruns is shared by all that come after it. Whatever takes long within a stage
looks at its allowance: loops end when it is over and go on with what they have, and what has no
loop to end asks how many images it affords.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence


class Allowance:
    """Time that a piece of work may take. Without a limit it never ends."""

    def __init__(
        self, seconds: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin now.

        Args:
            seconds: From now on.
            clock: Tells seconds.
        """
        self._clock, self._end = clock, clock() + seconds

    @property
    def limited(self) -> bool:
        """Return whether it ends at all."""
        return math.isfinite(self._end)

    @property
    def seconds_left(self) -> float:
        """Return what is left, 0 when it is over."""
        return max(0.0, self._end - self._clock())

    @property
    def is_over(self) -> bool:
        """Return whether nothing is left."""
        return self.seconds_left <= 0

    def part(self, share: float) -> Allowance:
        """Return an allowance of this share of what is left, from now on."""
        return Allowance(share * self.seconds_left, self._clock)

    def but(self, seconds: float) -> Allowance:
        """Return an allowance that ends so many seconds before this one."""
        left = self.seconds_left - seconds if self.limited else math.inf
        return Allowance(max(0.0, left), self._clock)

    def affords(self, each: float, most: int, least: int = 1) -> int:
        """Return how many pieces of `each` seconds fit, from `least` to `most`."""
        if not self.limited or each * most <= self.seconds_left:
            return most
        return max(min(least, most), int(self.seconds_left / each))

    def blocks(self, count: int, size: int, least: int = 1) -> Iterator[slice]:
        """Yield slices of up to `size` of `count` places while time is left.

        Args:
            count: Of places.
            size: Of a slice.
            least: Places that are covered even when the time is over.
        """
        for begin in range(0, count, size):
            if begin >= least and self.is_over:
                return
            yield slice(begin, min(begin + size, count))

    def timed(self, work: Callable[[], object]) -> float:
        """Do a piece of work; return the seconds that it took."""
        begun = self._clock()
        work()
        return self._clock() - begun


#: Time without an end, for whoever runs a recipe as it is.
UNLIMITED = Allowance()


class TimePlan:
    """The stages of one training and the time that was asked for all of them together."""

    def __init__(
        self,
        minutes: float,
        shares: Mapping[str, float],
        spent: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        begun: float | None = None,
    ) -> None:
        """Begin.

        Args:
            minutes: Of the whole; 0: no limit.
            shares: Part of the whole time of each stage, in their order.
            spent: Seconds of the whole that went before, in an interrupted run.
            clock: Tells seconds.
            begun: When the run began by this clock; None: now.
        """
        self.minutes = minutes
        self._shares, self._clock = dict(shares), clock
        self._begun = (clock() if begun is None else begun) - spent
        self._over: set[str] = set()
        self._stage, self._stage_begun = '', 0.0
        self.taken: dict[str, float] = {}

    @property
    def stages(self) -> Sequence[str]:
        """Return the names of all stages."""
        return tuple(self._shares)

    @property
    def limited(self) -> bool:
        """Return whether a time was asked for."""
        return self.minutes > 0

    def planned(self, stage: str) -> float:
        """Return the minutes that a stage was to take when the whole began; 0: no limit."""
        return self.minutes * self._shares[stage] / sum(self._shares.values())

    def seconds_left(self) -> float:
        """Return what is left of the whole."""
        if not self.limited:
            return math.inf
        return max(0.0, 60 * self.minutes - (self._clock() - self._begun))

    def seconds_spent(self) -> float:
        """Return how long the whole has taken so far."""
        return self._clock() - self._begun

    def stage_spent(self) -> float:
        """Return how long the stage that runs has taken so far, in seconds."""
        return self._clock() - self._stage_begun

    def begin(self, stage: str) -> Allowance:
        """Begin a stage; return what it may take of what is left."""
        self._stage, self._stage_begun = stage, self._clock()
        if not self.limited:
            return Allowance(math.inf, self._clock)
        to_come = sum(share for name, share in self._shares.items() if name not in self._over)
        return Allowance(self.seconds_left() * self._shares[stage] / to_come, self._clock)

    def end(self, stage: str, seconds: float | None = None) -> None:
        """End a stage, or count one as done before that took so many seconds."""
        self.taken[stage] = self.stage_spent() if seconds is None else seconds
        self._over.add(stage)
