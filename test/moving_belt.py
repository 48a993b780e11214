# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A belt that stops, goes on and jogs as it is told, what a counter on it says, and an item on it.

Time is handed in, so that a stand of an hour takes no hour.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from stl_conveyor.cell.belt_history import BeltHistory
from stl_conveyor.cell.stroke_plan import Hold, Miss, Passage, StrokePlan
from stl_conveyor.cell.strokes import Extend, StrokeSchedule, TooLate, Window

SECOND = 10**9
MS = 1_000_000
WAY, LEAD_NS, SPEED, USEFUL_WAY = 0.36, 120 * MS, 0.4, 0.045
PERIOD_NS, GUARD_NS = 50 * MS, 40 * MS
AFTER_NS = 3 * SECOND  # for which a second stroke is looked for


@dataclass
class MovingBelt:
    """Speeds (m/s) by the time (ns) from which each holds; the last one holds for ever."""

    changes: list[tuple[int, float]]

    def __post_init__(self):
        self.times = [time_ns for time_ns, _ in self.changes]
        self.places = [0.0]
        for (begin, speed), (end, _) in zip(self.changes, self.changes[1:]):
            self.places.append(self.places[-1] + speed * (end - begin) / SECOND)

    @classmethod
    def of(cls, *legs):
        """Return a belt from (speed, seconds) one after the other; it stands at the end."""
        changes, time_ns = [], 0
        for speed, seconds in legs:
            changes.append((time_ns, speed))
            time_ns += round(seconds * SECOND)
        return cls([*changes, (time_ns, 0.0)])

    def _leg(self, time_ns):
        return max(0, bisect_right(self.times, time_ns) - 1)

    def speed(self, time_ns):
        return self.changes[self._leg(time_ns)][1]

    def place(self, time_ns):
        leg = self._leg(time_ns)
        return self.places[leg] + self.changes[leg][1] * (time_ns - self.times[leg]) / SECOND

    def since_change_ns(self, time_ns):
        return time_ns - self.times[self._leg(time_ns)]

    @property
    def end_ns(self):
        return self.times[-1]


@dataclass
class RampedBelt:
    """A belt whose drive changes its speed at steady rates: times (ns) and the speeds (m/s) then.

    Between two times the speed changes evenly; the last one holds for ever.
    """

    knees: list[tuple[int, float]]

    def __post_init__(self):
        self.times = [time_ns for time_ns, _ in self.knees]
        self.places = [0.0]
        for (begin, first), (end, last) in zip(self.knees, self.knees[1:]):
            self.places.append(self.places[-1] + (first + last) / 2 * (end - begin) / SECOND)

    @classmethod
    def of(cls, first, *legs):
        """Return a belt at the speed `first`; each leg (speed, seconds) comes to another."""
        knees, time_ns = [(0, first)], 0
        for speed, seconds in legs:
            time_ns += round(seconds * SECOND)
            knees.append((time_ns, speed))
        return cls(knees)

    def rate(self, leg):
        if leg + 1 == len(self.knees):
            return 0.0
        (begin, first), (end, last) = self.knees[leg : leg + 2]
        return (last - first) / max(1, end - begin) * SECOND

    def _leg(self, time_ns):
        return max(0, bisect_right(self.times, time_ns) - 1)

    def speed(self, time_ns):
        leg = self._leg(time_ns)
        return self.knees[leg][1] + self.rate(leg) * (time_ns - self.times[leg]) / SECOND

    def place(self, time_ns):
        leg = self._leg(time_ns)
        since = (time_ns - self.times[leg]) / SECOND
        return self.places[leg] + self.knees[leg][1] * since + self.rate(leg) * since**2 / 2

    @property
    def end_ns(self):
        return self.times[-1]


@dataclass
class Counter:
    """What a counter on the belt says: metres in whole steps, and it may start again.

    length: m after which it starts again; start: m at the beginning; step: m.
    """

    length: float = 0.0
    start: float = 0.0
    step: float = 0.0
    signed: bool = False

    def read(self, place):
        position = self.start + place
        if self.step:
            position = self.step * (position / self.step // 1)
        if self.length:
            position %= self.length
            if self.signed and position >= self.length / 2:
                position -= self.length
        return position


@dataclass
class Told:
    """What was done with one item, with when (ns) and where (m past the camera) it was then."""

    what: object
    time_ns: int
    moved: float
    heard_ns: int  # time of the newest report


@dataclass
class Line:
    """A camera, a belt with a counter, and one diverter `WAY` behind the camera; one item."""

    belt: MovingBelt
    capture_ns: int
    decided_ns: int = 740 * MS  # after the capture
    told: list[Told] = field(default_factory=list)
    length: float = 0.0

    def __post_init__(self):
        self.history = BeltHistory(counter_length=self.length, usual_speed=SPEED)
        self.plan = StrokePlan(self.history, useful_way=USEFUL_WAY, max_late_ns=112 * MS)
        self.schedule = StrokeSchedule(hold_ns=200 * MS, confirm_ns=0, max_late_ns=112 * MS)
        self.passages = {}
        self.heard_ns = -(10**18)

    def run(self, reports):
        """Take in reports (time, position, speed, origin) and do what is due, until they end."""
        passage = Passage(self.capture_ns, WAY, LEAD_NS, self.capture_ns + 780 * MS)
        push_ns = self.capture_ns + self.decided_ns
        for time_ns, position, speed, origin in reports:
            if self.told and time_ns > self.told[0].time_ns + AFTER_NS:
                break
            if not self.passages and time_ns >= push_ns:
                self._wake_until(push_ns)
                stroke = self.schedule.add('item', 'A', passage.due_ns)
                self.passages[stroke.serial] = passage
                self._act(push_ns)
            self._wake_until(time_ns)
            self.history.add(time_ns, position, speed, origin=origin)
            self.heard_ns = time_ns
            if not self.passages and time_ns > self.capture_ns:
                push_ns = max(time_ns, self.plan.decide_by_ns(passage, push_ns, GUARD_NS, time_ns))
            self._act(time_ns)
        return self.told

    def _wake_until(self, end_ns):
        while (due_ns := self.schedule.next_ns()) is not None and due_ns < end_ns:
            self._act(due_ns)

    def _act(self, now_ns):
        missed = []

        def when(stroke):
            plan = self.plan.when(self.passages[stroke.serial], now_ns)
            if isinstance(plan, Miss):
                missed.append((stroke, plan))
            return plan if isinstance(plan, Window) else None

        self.schedule.replan(when)
        for stroke, miss in missed:
            self.schedule.drop(stroke)
            self._tell(miss, now_ns)
        while (action := self.schedule.step(now_ns)) is not None:
            if isinstance(action, (Extend, TooLate)):
                assert not isinstance(self.plan.hold(now_ns), Hold)
                self._tell(type(action), now_ns)

    def _tell(self, what, now_ns):
        moved = self.belt.place(now_ns) - self.belt.place(self.capture_ns)
        self.told.append(Told(what, now_ns, moved, self.heard_ns))


def reports_of(belt, counter, *, until_ns=None, period_ns=PERIOD_NS, lost=lambda n: False):
    """Yield the reports (time, position, speed, origin) of a belt, but those that are lost."""
    end_ns = belt.end_ns if until_ns is None else until_ns
    for n in range(end_ns // period_ns + 1):
        if not lost(n):
            time_ns = n * period_ns
            yield time_ns, counter.read(belt.place(time_ns)), belt.speed(time_ns), 0


def expected_place(speed):
    """Return where (m past the camera) an item is at its command, on a belt at a speed."""
    return WAY - speed * LEAD_NS / SECOND


def crossings(belt, places):
    """Yield (time, place, forward) whenever the belt passes one of the places (m), in order."""
    ends = [*belt.times[1:], belt.times[-1]]
    for begin_ns, end_ns, (_, speed) in zip(belt.times, ends, belt.changes):
        if not speed:
            continue
        low, high = sorted((belt.place(begin_ns), belt.place(end_ns - 1)))
        passed = [place for place in places if low < place <= high]
        for place in sorted(passed, reverse=speed < 0):
            time_ns = begin_ns + round((place - belt.place(begin_ns)) / speed * SECOND)
            yield time_ns, place, speed > 0


def beam_edges(belt, solids):
    """Return (time, broken) of a light barrier that solid pieces [first, last] (m) pass."""
    begins, ends = {a for a, _ in solids}, {b for _, b in solids}
    return [
        (time_ns, (place in begins) is forward)
        for time_ns, place, forward in crossings(belt, begins | ends)
    ]


def encoder_steps(belt, step):
    """Return (time, count) of an encoder with two channels, `step` metres a count."""
    places = [belt.place(time_ns) for time_ns in belt.times]
    marks = [n * step for n in range(int(min(places) / step) - 1, int(max(places) / step) + 2)]
    return [
        (time_ns, round(place / step) - (not forward))
        for time_ns, place, forward in crossings(belt, marks)
    ]
