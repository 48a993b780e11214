# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Every captured item is accounted for: what happened to it, and what did not."""

from __future__ import annotations

import enum
import heapq
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from stl_conveyor.cell.ledger import ItemKey
from stl_conveyor.cell.number_gaps import NumberGaps


class Loss(enum.Enum):
    """What can be missing or too many; the value is the name of the fault."""

    CAPTURES_LOST = 'captures_lost'  # numbers of the camera that nobody here has heard
    UNACTED = 'unacted'  # captured, and no outcome by its deadline
    UNCLASSIFIED = 'unclassified'  # captured, and no local answer by its deadline
    ACTED_TWICE = 'acted_twice'  # two outcomes
    NEVER_CAPTURED = 'never_captured'  # an outcome of an item that no capture announced
    UNCONFIRMED = 'unconfirmed'  # sent to a lane, and only later items of it were reported on


@dataclass(frozen=True)
class Finding:
    """One kind of loss, with the numbers of the items that it befell."""

    loss: Loss
    items: tuple[int, ...]


@dataclass
class _Open:
    captured: bool = False
    classified: bool = False
    outcomes: int = 0
    due_ns: int = 0


@dataclass
class ItemAccount:
    """Keep the account of a cell's items from what the nodes publish, in any order.

    Times are ns of a clock that is never set. Each item is closed once, `grace_ns` after its
    deadline, when everything that was on the way has come; what it lacks then is a finding.

    Examples:
        >>> account = ItemAccount(grace_ns=300_000_000)
        >>> for number in (1, 2, 5):
        ...     account.captured(ItemKey(number, number), deadline_ns=780_000_000, now_ns=0)
        >>> account.acted(ItemKey(1, 1), now_ns=740_000_000)
        >>> account.classified(ItemKey(1, 1), now_ns=9_000_000)
        >>> for finding in account.close(now_ns=1_080_000_000):
        ...     print(finding.loss.value, finding.items)
        captures_lost (3, 4)
        unacted (2, 5)
        unclassified (2, 5)
        >>> account.totals['items']
        3
    """

    grace_ns: int
    most_open: int = 1024
    totals: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Start without items."""
        self._open: OrderedDict[ItemKey, _Open] = OrderedDict()
        self._due: list[tuple[int, ItemKey]] = []
        self._gaps = NumberGaps()
        self._closed: OrderedDict[ItemKey, int] = OrderedDict()  # → its outcomes, or _FORGOTTEN
        self._strokes: dict[str, OrderedDict[ItemKey, int | None]] = {}  # lane → item → overtaken
        self._found: dict[Loss, list[int]] = {}

    @property
    def open_items(self) -> int:
        """Return how many items are under way."""
        return len(self._open)

    def captured(self, key: ItemKey, deadline_ns: int, now_ns: int) -> None:
        """Take in a capture.

        Args:
            key: The item.
            deadline_ns: By when its outcome must be there.
            now_ns: When the capture was heard.
        """
        if key in self._closed:
            return
        item = self._item(key, now_ns)
        if item.captured:
            return
        item.captured = True
        item.due_ns = max(deadline_ns, now_ns) + self.grace_ns
        heapq.heappush(self._due, (item.due_ns, key))
        self._count_number(key)

    def classified(self, key: ItemKey, now_ns: int) -> None:
        """Take in a local answer."""
        if key not in self._closed:
            self._item(key, now_ns).classified = True

    def acted(self, key: ItemKey, now_ns: int, lane: str = '') -> None:
        """Take in an outcome.

        Args:
            key: The item.
            now_ns: When the outcome was heard.
            lane: Whose diverter is to move; empty: none.
        """
        if key in self._closed:
            before = self._closed[key]
            self._closed[key] = max(before, 0) + 1
            again = before > 0
            if before == 0:  # it was found to be missing, and has come all the same
                self.totals['acted_late'] += 1
        else:
            item = self._item(key, now_ns)
            item.outcomes += 1
            again = item.outcomes > 1
        if again:
            self._find(Loss.ACTED_TWICE, key.item_id)
        elif lane:
            self._await_stroke(key, lane)

    def confirmed(self, key: ItemKey, lane: str, now_ns: int) -> None:
        """Take in what was reported of a stroke, good or bad.

        The items of a lane come to its diverter in their order, whatever the belt does. So one of
        which nothing is heard, and only of later ones, is not waited for without end.
        """
        strokes = self._strokes.get(lane, OrderedDict())
        if strokes.pop(key, -1) == -1:
            return
        for other, overtaken_ns in strokes.items():
            if other.stamp_ns < key.stamp_ns and overtaken_ns is None:
                strokes[other] = now_ns

    def close(self, now_ns: int) -> list[Finding]:
        """Close the items whose time is over; return what was found since the last call."""
        while self._due and self._due[0][0] <= now_ns:
            due_ns, key = heapq.heappop(self._due)
            item = self._open.get(key)
            if item is not None and item.due_ns == due_ns:
                self._close(key, item)
        for strokes in self._strokes.values():
            for key, overtaken_ns in list(strokes.items()):
                if overtaken_ns is not None and now_ns - overtaken_ns >= _OVERTAKEN_NS:
                    del strokes[key]
                    self._find(Loss.UNCONFIRMED, key.item_id)
        found, self._found = self._found, {}
        order = list(Loss)
        return [
            Finding(loss, tuple(sorted(set(numbers))))
            for loss, numbers in sorted(found.items(), key=lambda entry: order.index(entry[0]))
        ]

    def forget_numbers(self) -> None:
        """Count on from the next capture: two cameras number their items each for itself."""
        self._gaps = NumberGaps()

    def forget(self) -> None:
        """Drop what is open: a clock was set, and nothing can be said of it, whatever comes."""
        for key, item in self._open.items():
            self._put_away(key, item.outcomes or _FORGOTTEN)
        self._open.clear()
        self._due.clear()
        self._strokes.clear()
        self._gaps = NumberGaps()

    def _item(self, key: ItemKey, now_ns: int) -> _Open:
        item = self._open.get(key)
        if item is None:
            item = self._open[key] = _Open(due_ns=now_ns + _LONGEST_NS)
            heapq.heappush(self._due, (item.due_ns, key))
            if len(self._open) > self.most_open:
                self._open.popitem(last=False)
                self.totals['not_accounted'] += 1
        return item

    def _close(self, key: ItemKey, item: _Open) -> None:
        del self._open[key]
        self._put_away(key, item.outcomes)
        if item.captured:
            self.totals['items'] += 1
            if not item.classified:
                self._find(Loss.UNCLASSIFIED, key.item_id)
            if not item.outcomes:
                self._find(Loss.UNACTED, key.item_id)
        elif item.outcomes:
            self._find(Loss.NEVER_CAPTURED, key.item_id)

    def _put_away(self, key: ItemKey, outcomes: int) -> None:
        self._closed[key] = outcomes
        if len(self._closed) > self.most_open:
            self._closed.popitem(last=False)

    def _count_number(self, key: ItemKey) -> None:
        """Compare an item's number with the one before; a camera counts from 1 at each start."""
        missing = self._gaps.heard(key)
        if missing:
            self._find(Loss.CAPTURES_LOST, *missing[:_MOST_NAMED], count=len(missing))

    def _await_stroke(self, key: ItemKey, lane: str) -> None:
        strokes = self._strokes.setdefault(lane, OrderedDict())
        strokes[key] = None
        if len(strokes) > self.most_open:
            strokes.popitem(last=False)
        if len(self._strokes) > _MOST_LANES:
            del self._strokes[next(iter(self._strokes))]

    def _find(self, loss: Loss, *numbers: int, count: int | None = None) -> None:
        self.totals[loss.value] += len(numbers) if count is None else count
        named = self._found.setdefault(loss, [])
        named.extend(numbers[: max(0, _MOST_NAMED - len(named))])


# Of an item that was open when a clock was set: its outcome may come, and is neither late nor odd.
_FORGOTTEN = -1
# After this an item that no capture announced is closed.
_LONGEST_NS = 10_000_000_000
# How long after a later item of its lane the report on a stroke may come.
_OVERTAKEN_NS = 2_000_000_000
_MOST_LANES = 64
# Numbers that one finding names.
_MOST_NAMED = 64
