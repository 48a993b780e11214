# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""When each diverter moves out and back, and whether it confirmed that it did."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

ItemT = TypeVar('ItemT')


@dataclass(frozen=True)
class Stroke(Generic[ItemT]):
    """One push for one item; times in ns of the schedule's clock.

    Attributes:
        serial: Rises from 1 with every stroke of the schedule.
        latest_ns: The last time at which it still is useful.
    """

    item: ItemT
    lane: str
    due_ns: int
    serial: int
    latest_ns: int


@dataclass(frozen=True)
class Window:
    """When a stroke is due, and until when it still is useful; times in ns."""

    due_ns: int
    latest_ns: int


@dataclass(frozen=True)
class Extend(Generic[ItemT]):
    """Move the diverter out now; `lateness_ns` after its time. `held`: it is out already."""

    stroke: Stroke[ItemT]
    lateness_ns: int
    held: bool


@dataclass(frozen=True)
class Retract:
    """Move the diverter of a lane back now."""

    lane: str


@dataclass(frozen=True)
class Silent(Generic[ItemT]):
    """The diverter did not confirm a stroke in time."""

    stroke: Stroke[ItemT]
    lateness_ns: int


@dataclass(frozen=True)
class TooLate(Generic[ItemT]):
    """The item has gone past its diverter: a stroke now would hit another one."""

    stroke: Stroke[ItemT]
    lateness_ns: int


@dataclass(frozen=True)
class Confirmation(Generic[ItemT]):
    """The diverter confirmed a stroke `delay_ns` after it was commanded."""

    stroke: Stroke[ItemT]
    lateness_ns: int
    delay_ns: int


Action = Extend[ItemT] | Retract | Silent[ItemT] | TooLate[ItemT]


@dataclass
class _Commanded(Generic[ItemT]):
    stroke: Stroke[ItemT]
    commanded_ns: int
    lateness_ns: int


@dataclass
class _Lane(Generic[ItemT]):
    retract_ns: int | None = None
    open: list[_Commanded[ItemT]] = field(default_factory=list)


class StrokeSchedule(Generic[ItemT]):
    """The strokes of all diverters of a cell.

    A stroke holds its diverter out for `hold_ns`; one that begins while the diverter is still out
    prolongs it. A stroke that is not confirmed within `confirm_ns` of its command is silent. One
    that is held has no time: it is not made until `replan` gives it one. Times are handed in, so
    that any clock serves; it must not run backwards.
    """

    def __init__(self, *, hold_ns: int, confirm_ns: int, max_late_ns: int) -> None:
        """Start with all diverters back.

        Args:
            confirm_ns: 0 = confirmations are not awaited.
            max_late_ns: Strokes later than this are not made.
        """
        if hold_ns <= 0 or confirm_ns < 0 or max_late_ns < 0:
            raise ValueError('hold_ns must be positive, confirm_ns and max_late_ns not negative')
        self._hold_ns = hold_ns
        self._confirm_ns = confirm_ns
        self._max_late_ns = max_late_ns
        self._queue: list[tuple[int, int, Stroke[ItemT]]] = []
        self._held: list[Stroke[ItemT]] = []
        self._lanes: dict[str, _Lane[ItemT]] = {}
        self._serial = 0

    @property
    def waiting(self) -> int:
        """Return the number of strokes that were not begun yet."""
        return len(self._queue) + len(self._held)

    @property
    def held(self) -> int:
        """Return how many of those have no time."""
        return len(self._held)

    def waiting_strokes(self) -> list[Stroke[ItemT]]:
        """Return the strokes that were not begun yet, in the order in which they were planned."""
        strokes = [stroke for _, _, stroke in self._queue] + self._held
        return sorted(strokes, key=lambda stroke: stroke.serial)

    def is_out(self, lane: str) -> bool:
        """Return whether the diverter of a lane was commanded out and not back yet."""
        return lane in self._lanes and self._lanes[lane].retract_ns is not None

    def add(self, item: ItemT, lane: str, due_ns: int) -> Stroke[ItemT]:
        """Plan a stroke."""
        self._serial += 1
        stroke = Stroke(item, lane, due_ns, self._serial, due_ns + self._max_late_ns)
        heapq.heappush(self._queue, (due_ns, stroke.serial, stroke))
        return stroke

    def replan(self, when: Callable[[Stroke[ItemT]], Window | int | None]) -> None:
        """Give every stroke that was not begun the time that a function says.

        Args:
            when: Returns a window; or a time, after which the stroke is useful for `max_late_ns`;
                or None: it is held.
        """
        queue, held = [], []
        for stroke in self.waiting_strokes():
            window = when(stroke)
            if window is None:
                held.append(stroke)
                continue
            if not isinstance(window, Window):
                window = Window(window, window + self._max_late_ns)
            stroke = replace(stroke, due_ns=window.due_ns, latest_ns=window.latest_ns)
            queue.append((stroke.due_ns, stroke.serial, stroke))
        heapq.heapify(queue)
        self._queue, self._held = queue, held

    def drop(self, stroke: Stroke[ItemT]) -> bool:
        """Forget a stroke that was not begun yet; return whether it was there."""
        before = self.waiting
        self._held = [each for each in self._held if each.serial != stroke.serial]
        self._queue = [entry for entry in self._queue if entry[1] != stroke.serial]
        heapq.heapify(self._queue)
        return self.waiting < before

    def next_ns(self) -> int | None:
        """Return when the next action is due, or None."""
        times = [self._queue[0][0]] if self._queue else []
        for lane in self._lanes.values():
            if lane.retract_ns is not None:
                times.append(lane.retract_ns)
            times += [each.commanded_ns + self._confirm_ns for each in lane.open]
        return min(times, default=None)

    def step(self, now_ns: int) -> Action[ItemT] | None:
        """Return the most urgent action that is due, or None; call it until it returns None.

        A stroke goes first, then what moves back, then what stayed silent.
        """
        if self._queue and self._queue[0][0] <= now_ns:
            stroke = heapq.heappop(self._queue)[2]
            lateness_ns = now_ns - stroke.due_ns
            if now_ns > stroke.latest_ns:
                return TooLate(stroke, lateness_ns)
            lane = self._lanes.setdefault(stroke.lane, _Lane())
            held = lane.retract_ns is not None  # also when it should have gone back by now
            lane.retract_ns = now_ns + self._hold_ns
            if self._confirm_ns:
                lane.open.append(_Commanded(stroke, now_ns, lateness_ns))
            return Extend(stroke, lateness_ns, held)
        for name, lane in self._lanes.items():
            if lane.retract_ns is not None and lane.retract_ns <= now_ns:
                lane.retract_ns = None
                return Retract(name)
        for lane in self._lanes.values():
            if lane.open and lane.open[0].commanded_ns + self._confirm_ns <= now_ns:
                silent = lane.open.pop(0)
                return Silent(silent.stroke, silent.lateness_ns)
        return None

    def confirm(
        self, lane: str, now_ns: int, serial: int | None = None
    ) -> Confirmation[ItemT] | None:
        """Take in that a diverter was seen out; return the stroke that this confirms, if any.

        Args:
            serial: Of the stroke, where the diverter says which; else the oldest open one.
        """
        for each in self._lanes[lane].open if lane in self._lanes else ():
            if serial is None or each.stroke.serial == serial:
                self._lanes[lane].open.remove(each)
                return Confirmation(
                    each.stroke, each.lateness_ns, max(0, now_ns - each.commanded_ns)
                )
        return None

    def withdraw(self, stroke: Stroke[ItemT]) -> bool:
        """Forget a stroke that failed; return whether it was still waiting for confirmation."""
        lane = self._lanes.get(stroke.lane)
        before = 0 if lane is None else len(lane.open)
        if lane is not None:
            lane.open = [each for each in lane.open if each.stroke.serial != stroke.serial]
        return lane is not None and len(lane.open) < before
