# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What became of each item, by the fault during which it passed. Needs no ROS.

Times are seconds on the monotonic clock of the benchmark, which no fault touches.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

CALM = 'none'
LONGEST_ROW = 10.0  # s for the items with which the cell is taken for well again
SAID_WITHIN = 1.0  # s after an item's time in which it must be said that it was lost
REMEMBERED = 120.0  # s for which what was said before is no news
IN_ORDER = 3  # items in a row that are as they should be: the cell works in full again

#: Faults that tell of an item which nobody acted on: by its number, as one message that never
#: came, or by the node without which nobody could. Any other complaint is of another matter.
ABOUT_LOSS = re.compile(
    r'\b(node_(gone|missing|stuck|not_active|unable)|captures_(lost|missed)|unacted|'
    r'unacted_while_gone|missed_while_gone|driver_not_heard|messages_lost|stamp_old|item_not_seen)\b'
)
#: While one of these does not work, no item can be acted on.
NEEDED = ('camera', 'actuator')


@dataclass
class Item:
    """An item that was shown to the camera.

    Attributes:
        shown: When.
        due: When the last moment for its outcome was.
        lane: Into which it belongs.
        captured: Whether the camera made an item of it.
        lanes: Of its outcomes, in order; more than one is a second stroke for one item.
        missed: Whether its outcome says that it came too late.
        by_edge: Whether its outcome is by the edge's answer.
        decided: Whether the policy sent it to the edge, and else why not; '' = it said nothing.
        stopped: Why the encoder sent no more of it; '' = it said nothing.
        packets: That the encoder sent of it.
    """

    shown: float
    due: float
    lane: str
    captured: bool = False
    lanes: list[str] = field(default_factory=list)
    missed: bool = False
    by_edge: bool = False
    decided: str = ''
    stopped: str = ''
    packets: int = 0

    @property
    def in_order(self) -> bool:
        """Return whether it was acted on once and in time."""
        return len(self.lanes) == 1 and not self.missed


@dataclass(frozen=True)
class Word:
    """What a node said of itself; level 0 = it is well."""

    time: float
    node: str
    level: int
    message: str


@dataclass(frozen=True)
class Values:
    """What a node reported beside that: counters, and what it took things for."""

    time: float
    node: str
    values: dict[str, str]


@dataclass
class Injection:
    """A fault that was done to the cell.

    Attributes:
        fault: Its name.
        begin: When it began.
        end: When what was done ended; the cell may need longer.
        over: When the cell was taken for well again, or was given up.
        stands: Node that cannot work because of it, if there is one.
    """

    fault: str
    begin: float
    end: float
    over: float
    stands: str = ''


@dataclass
class Row:
    """A fault, and all items that passed during it.

    Attributes:
        name: Of the fault; CALM = the time between faults.
        times: How often it was done.
        items: Shown meanwhile.
        uncaptured: Of which the camera made nothing.
        unacted: Without an outcome; those that were not captured are among them.
        late: With an outcome that came too late.
        rejected: Sent to the reject lane.
        wrong: Sent into another lane than theirs, and not to reject.
        twice: With more than one outcome.
        beyond: Unacted or late, though camera and actuator worked all the time that it was under
            way.
        unsaid: Unacted, while until SAID_WITHIN after their time nobody told of a loss, or of a
            node that is gone or stands still.
        word: Median seconds from the beginning to the first complaint; None = never.
        silent: How often nobody complained.
        full: Most seconds from the end until the cell worked in full; None = it did not.
    """

    name: str
    times: int = 0
    items: int = 0
    uncaptured: int = 0
    unacted: int = 0
    late: int = 0
    rejected: int = 0
    wrong: int = 0
    twice: int = 0
    beyond: int = 0
    unsaid: int = 0
    word: float | None = None
    silent: int = 0
    full: float | None = None


class Words:
    """What all nodes said, in the order of time."""

    def __init__(self, words: Sequence[Word]) -> None:
        """Take in the words."""
        self._words = sorted(words, key=lambda word: word.time)
        self._times = [word.time for word in self._words]

    def first_since(self, begin: float, until: float) -> float | None:
        """Return when a complaint came first that was not made before; None = none until then."""
        start = bisect_right(self._times, begin)
        recent = bisect_right(self._times, begin - REMEMBERED)
        before = {word.node: word.message for word in self._words[recent:start]}
        for word in self._words[start:]:
            if word.time > until:
                break
            if word.level and before.get(word.node) != word.message:
                return word.time
        return None

    def tells_of_loss(self, begin: float, until: float) -> bool:
        """Return whether anybody told in a time of what costs items."""
        start, end = bisect_right(self._times, begin), bisect_right(self._times, until)
        return any(
            word.level and ABOUT_LOSS.search(f'{word.node}: {word.message}')
            for word in self._words[start:end]
        )

    def first_of(self, node: str, since: float) -> float:
        """Return when a node spoke first in a time, of itself; infinite = it did not."""
        for word in self._words[bisect_right(self._times, since) :]:
            if word.node == node:
                return word.time
        return math.inf


def worked_again(items: Sequence[Item], since: float) -> float | None:
    """Return when the cell worked in full again: IN_ORDER items in a row, the edge among them.

    Args:
        items: In the order in which they were shown; those whose time is not over do not count.
    """
    row: list[Item] = []
    for item in items[bisect_left(items, since, key=lambda each: each.shown) :]:
        row = [*row, item] if item.in_order else []
        if len(row) >= IN_ORDER and any(each.by_edge for each in row[-IN_ORDER:]):
            return row[-IN_ORDER].shown
    return None


def ways(items: Sequence[Item]) -> str:
    """Return for a sentence how many items went which way, as policy and encoder told it.

    Examples:
        >>> late = dict(decided='offloaded', stopped='deadline')
        >>> ways([Item(0.0, 1.0, 'A', **late), Item(0.3, 1.3, 'A', **late), Item(0.6, 1.6, 'A')])
        '2 offloaded, deadline without a packet; 1 not decided'
    """
    counted = Counter(_way(item) for item in items)
    return '; '.join(f'{count} {way}' for way, count in counted.most_common())


def _way(item: Item) -> str:
    way = item.decided or 'not decided'
    if item.stopped:
        way += f', {item.stopped}' + (' without a packet' if not item.packets else '')
    return way + (', by the edge' if item.by_edge else '')


def tabulate(
    items: Sequence[Item], injections: Sequence[Injection], words: Sequence[Word], reject: str
) -> list[Row]:
    """Return a row for each fault, in the order of their names, and one for the calm.

    Args:
        reject: Name of the reject lane.
    """
    said = Words(words)
    items = sorted(items, key=lambda item: item.shown)
    rows = {CALM: Row(CALM)}
    waits: dict[str, list[float]] = {}
    for injection in injections:
        row = rows.setdefault(injection.fault, Row(injection.fault, full=0.0))
        row.times += 1
        first = said.first_since(injection.begin, injection.over)
        if first is None:
            row.silent += 1
        else:
            waits.setdefault(injection.fault, []).append(first - injection.begin)
        again = worked_again(_until(items, injection.over + LONGEST_ROW), injection.end)
        if again is None:
            row.full = None
        elif row.full is not None:
            row.full = max(row.full, again - injection.end)
    for name, seconds in waits.items():
        rows[name].word = median(seconds)
    begins = [injection.begin for injection in injections]
    down = [
        (injection.begin, said.first_of(injection.stands, injection.end))
        for injection in injections
        if injection.stands in NEEDED
    ]
    for item in items:
        # One that was on its way when a fault began has to do with it, too.
        index = bisect_right(begins, item.due) - 1
        during = index >= 0 and item.shown < injections[index].over
        row = rows[injections[index].fault if during else CALM]
        _count(row, item, said, reject)
        if not item.lanes or item.missed:
            row.beyond += not any(item.shown < end and begin < item.due for begin, end in down)
    return [rows[CALM], *(rows[name] for name in sorted(set(rows) - {CALM}))]


def _until(items: Sequence[Item], end: float) -> Sequence[Item]:
    return items[: bisect_left(items, end, key=lambda each: each.shown)]


def _count(row: Row, item: Item, said: Words, reject: str) -> None:
    row.items += 1
    row.uncaptured += not item.captured
    row.twice += len(item.lanes) > 1
    if not item.lanes:
        row.unacted += 1
        row.unsaid += not said.tells_of_loss(item.shown, item.due + SAID_WITHIN)
        return
    row.late += item.missed
    row.rejected += item.lanes[0] == reject != item.lane
    row.wrong += item.lanes[0] not in (item.lane, reject)
