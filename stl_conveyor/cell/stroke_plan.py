# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""When an item meets its diverter: by the way that the belt has gone, or else by time.

A pusher moves when its item is there and the belt brings it: never on a belt that stands, runs
backwards or is not known. There a stroke is held, for as long as that takes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from stl_conveyor.cell.belt_history import NEVER_NS, STANDSTILL, BeltHistory, BeltPlace
from stl_conveyor.cell.strokes import Window


class Hold(enum.Enum):
    """Why a stroke is held."""

    STANDS = 'stands'
    REVERSED = 'reversed'
    UNKNOWN = 'unknown'  # nobody has reported the belt lately, or yet


class Miss(enum.Enum):
    """Why a stroke cannot be made any more."""

    PAST = 'past'  # the item has gone past its diverter
    LOST = 'lost'  # the belt has moved unseen: nobody knows where the item is


@dataclass
class Passage:
    """The way of an item to its diverter.

    Attributes:
        capture_ns: When it was under the camera.
        way: Metres from there to the diverter.
        lead_ns: From a command until the pusher meets the item.
        due_ns: When the command is due on a belt of which nothing is measured.
        place: Of the belt at the capture; None = not known yet.
        final: Whether the place lies between two reports, so that no other report changes it.
    """

    capture_ns: int
    way: float
    lead_ns: int
    due_ns: int
    place: BeltPlace | None = None
    final: bool = False


class StrokePlan:
    """Plans strokes by the belt, as far as it is reported.

    While nobody reports the belt, and `is_reported` does not say that somebody will, items are
    expected by time. From the first report on a stroke needs a belt whose position is known.
    """

    def __init__(
        self, belt: BeltHistory, *, useful_way: float, max_late_ns: int, is_reported: bool = False
    ) -> None:
        """Follow a belt.

        Args:
            useful_way: Metres by which an item may be past its place at a command.
            max_late_ns: The same as a time, where items are expected by time.
            is_reported: Whether the belt's position is reported by somebody; may be set later.
        """
        self.belt = belt
        self.is_reported = is_reported
        self._useful_way = useful_way
        self._max_late_ns = max_late_ns

    @property
    def follows(self) -> bool:
        """Return whether items are expected by the belt's position."""
        return self.is_reported or self.belt.has_spoken

    def hold(self, now_ns: int) -> Hold | None:
        """Return why no pusher may move now; None = one may."""
        if not self.follows:
            return None
        if not self.belt.is_known(now_ns):
            return Hold.UNKNOWN
        speed = self.belt.speed()
        if speed < -STANDSTILL:
            return Hold.REVERSED
        return Hold.STANDS if speed < STANDSTILL else None

    def when(self, passage: Passage, now_ns: int) -> Window | Hold | Miss:
        """Return when an item's stroke is due; or why it is held, or cannot be made."""
        if not self.follows:
            return Window(passage.due_ns, passage.due_ns + self._max_late_ns)
        self._find(passage, now_ns)
        hold = self.hold(now_ns)
        if hold is Hold.UNKNOWN:
            return hold
        if passage.place is None:
            return Miss.LOST if self._is_lost(passage) else Hold.UNKNOWN
        moved = self.belt.way_since(passage.place, now_ns)
        if moved is None:
            same = passage.place.stretch == self.belt.stretch
            return Hold.UNKNOWN if same else Miss.LOST
        met = moved
        if hold is None:
            met = self.belt.expected_way(passage.place, now_ns + passage.lead_ns)
        if met - passage.way > self._useful_way and hold is not Hold.REVERSED:
            return Miss.PAST
        if hold is not None:
            return hold
        due_ns = self.belt.arrival_from_ns(passage.place, passage.way, now_ns) - passage.lead_ns
        if due_ns >= NEVER_NS - passage.lead_ns:
            return Hold.STANDS  # before the diverter, if it goes on to slow down as it does
        return Window(due_ns, due_ns + round(self._useful_way / self.belt.speed() * 1e9))

    def decide_by_ns(self, passage: Passage, planned_ns: int, guard_ns: int, now_ns: int) -> int:
        """Return by when an item must be decided, which was planned for a time.

        A belt that has become faster than it was at the capture brings it earlier; on a slower one
        the plan stays, and so it does for less than half the guard.

        Args:
            passage: To the first diverter.
            guard_ns: Before its command.
        """
        if not self.follows:
            return planned_ns
        plan = self.when(passage, now_ns)
        if plan is Miss.PAST:
            return now_ns
        if not isinstance(plan, Window):
            return planned_ns
        by_ns = plan.due_ns - guard_ns
        return by_ns if by_ns < planned_ns - guard_ns // 2 else planned_ns

    def _find(self, passage: Passage, now_ns: int) -> None:
        """Look up where the belt was at the capture, until a report behind it has come."""
        if passage.final:
            return
        place = self.belt.place(passage.capture_ns, now_ns)
        if place is not None:
            passage.place = place
            passage.final = self.belt.covers(passage.capture_ns)

    def _is_lost(self, passage: Passage) -> bool:
        latest_ns = self.belt.latest_ns
        return latest_ns is not None and passage.capture_ns <= latest_ns
