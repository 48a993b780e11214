# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What an actuator owes, items without outcome and strokes not yet made, as lines of a journal."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from typing import Any

from stl_conveyor.cell.ledger import Answer, AnswerSource, ItemKey

MOST_CHARACTERS = 2000  # of a line
MOST_ITEMS = 4096


@dataclass
class OwedItem:
    """An item that waits for its outcome or its stroke; times in ns of ROS time.

    Attributes:
        key: Who it is.
        deadline_ns: Of its outcome.
        frame_id: Of its capture.
        answers: The best of each source.
        lane: Where its outcome has sent it; empty: it has none.
        stroke_ns: When its stroke is due.
    """

    key: ItemKey
    deadline_ns: int
    frame_id: str
    answers: dict[AnswerSource, Answer] = field(default_factory=dict)
    lane: str = ''
    stroke_ns: int = 0


class OwedItems:
    """The account that the lines of a journal come to.

    Each line is a JSON array: what happened, number and capture stamp of the item, and more. Who
    writes a line also takes it in, so that what is owed can be written anew, without the rest.

    Attributes:
        last: The newest item that was captured.
        follows_belt: Whether items were followed by what is reported of the belt.
        readers: How many heard the outcomes.
        damaged: How many lines were none of ours.

    Examples:
        >>> owed = OwedItems()
        >>> for line in (
        ...     captured(ItemKey(7, 100), 780, 'camera'),
        ...     captured(ItemKey(8, 200), 880, 'camera'),
        ...     decided(ItemKey(7, 100), 'B', stroke_ns=900),
        ... ):
        ...     owed.take(line)
        >>> [(item.key.item_id, item.lane) for item in owed.items]
        [(7, 'B'), (8, '')]
        >>> owed.take(closed(ItemKey(7, 100)))
        >>> [item.key.item_id for item in owed.items], owed.last
        ([8], ItemKey(item_id=8, stamp_ns=200))
    """

    def __init__(self, lines: Iterable[str] = ()) -> None:
        """Take in the lines of a journal."""
        self._items: OrderedDict[ItemKey, OwedItem] = OrderedDict()
        self.last: ItemKey | None = None
        self.follows_belt = False
        self.readers = 0
        self.damaged = 0
        for line in lines:
            self.take(line)

    @property
    def items(self) -> tuple[OwedItem, ...]:
        """Return what is owed, in the order of the captures."""
        return tuple(self._items.values())

    def knows(self, key: ItemKey) -> bool:
        """Return whether something is owed to an item."""
        return key in self._items

    def find(self, key: ItemKey) -> OwedItem | None:
        """Return what is owed to an item, if something is."""
        return self._items.get(key)

    def take(self, line: str) -> None:
        """Take in a line; one that is cut short or none of ours is counted."""
        try:
            kind, *values = json.loads(line[: MOST_CHARACTERS + 1])
            _KINDS[kind](self, *values)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            self.damaged += 1

    def lines(self) -> list[str]:
        """Return the lines that come to what is owed now."""
        lines = [surroundings(self.follows_belt, self.readers)]
        if self.last is not None:
            lines.append(_line('last', *self.last))
        for item in self._items.values():
            lines += _lines_of(item)
        return lines

    def _captured(self, number: int, stamp: int, deadline: int, frame_id: str) -> None:
        key = _key(number, stamp)
        self._items[key] = OwedItem(key, _time(deadline), _text(frame_id))
        self._last(number, stamp)
        if len(self._items) > MOST_ITEMS:
            self._items.popitem(last=False)

    def _last(self, number: int, stamp: int) -> None:
        key = _key(number, stamp)
        if self.last is None or key.stamp_ns > self.last.stamp_ns:
            self.last = key

    def _answered(
        self,
        number: int,
        stamp: int,
        source: int,
        class_id: str,
        score: float,
        used: int,
        received: int,
        lane: str = '',
        doubt: int = 0,
        unknown: float = 0.0,
        lane_probability: float = 0.0,
        cost: float = 0.0,
    ) -> None:
        item = self._items[_key(number, stamp)]
        shares = (score, unknown, lane_probability)
        if not (all(math.isfinite(share) and 0 <= share <= 1 for share in shares)):
            raise ValueError('no score')
        if not math.isfinite(cost):
            raise ValueError('no cost')
        answer = Answer(
            AnswerSource(source),
            _text(class_id),
            float(score),
            _time(received),
            _time(used),
            _text(lane),
            _time(doubt),
            float(unknown),
            float(lane_probability),
            float(cost),
        )
        item.answers[answer.source] = answer

    def _decided(self, number: int, stamp: int, lane: str, stroke: int) -> None:
        item = self._items[_key(number, stamp)]
        item.lane, item.stroke_ns = _text(lane), _time(stroke)

    def _closed(self, number: int, stamp: int) -> None:
        self._items.pop(_key(number, stamp), None)

    def _surroundings(self, follows_belt: bool, readers: int) -> None:
        self.follows_belt, self.readers = bool(follows_belt), _time(readers)


def succession(theirs: OwedItems, own: OwedItems, acted: Container[ItemKey]) -> list[str]:
    """Return the lines by which one that stood by takes over the journal of one that has ended.

    What that one still owed is owed on, with the answers that came here, but for what was acted on
    here, while it stood still. What it has closed is closed. Own items that it cannot have heard
    of any more are owed, too.

    Args:
        theirs: The account of the other's journal, to which the lines belong.
        own: What was owed here.
        acted: Items that have their outcome from here.

    Examples:
        >>> one, two = ItemKey(1, 100), ItemKey(2, 200)
        >>> theirs = OwedItems([captured(one, 780, 'camera'), closed(one)])
        >>> own = OwedItems([captured(one, 780, 'camera'), captured(two, 880, 'camera')])
        >>> succession(theirs, own, acted=())
        ['["captured",2,200,880,"camera"]', '["last",2,200]']
    """
    lines: list[str] = []
    for item in theirs.items:
        if item.key in acted:
            lines.append(closed(item.key))
    for item in own.items:
        known = theirs.find(item.key)
        if item.key in acted or theirs.last is None or item.key.stamp_ns > theirs.last.stamp_ns:
            lines += _lines_of(item)
        elif known is not None:
            lines += [
                answered(item.key, answer)
                for source, answer in item.answers.items()
                if source not in known.answers
            ]
    if own.last is not None:
        lines.append(_line('last', *own.last))
    return lines


def captured(key: ItemKey, deadline_ns: int, frame_id: str) -> str:
    """Return the line of an item that was captured."""
    return _line('captured', *key, deadline_ns, frame_id[:200])


def answered(key: ItemKey, answer: Answer) -> str:
    """Return the line of an answer that counts."""
    return _line(
        'answered',
        *key,
        int(answer.source),
        answer.class_id[:200],
        float(answer.score),
        int(answer.bytes_used),
        answer.received_ns,
        answer.lane[:200],
        answer.doubt,
        float(answer.unknown),
        float(answer.lane_probability),
        float(answer.cost),
    )


def decided(key: ItemKey, lane: str, stroke_ns: int) -> str:
    """Return the line of an item that has its outcome, and still needs a stroke."""
    return _line('decided', *key, lane[:200], stroke_ns)


def closed(key: ItemKey) -> str:
    """Return the line of an item to which nothing is owed any more."""
    return _line('closed', *key)


def surroundings(follows_belt: bool, readers: int) -> str:
    """Return the line that says whether the belt is followed, and how many hear the outcomes."""
    return _line('surroundings', follows_belt, readers)


def _lines_of(item: OwedItem) -> list[str]:
    """Return the lines that come to an item."""
    lines = [captured(item.key, item.deadline_ns, item.frame_id)]
    lines += [answered(item.key, answer) for answer in item.answers.values()]
    if item.lane:
        lines.append(decided(item.key, item.lane, item.stroke_ns))
    return lines


def _line(*values: Any) -> str:
    return json.dumps(values, separators=(',', ':'))


def _key(number: int, stamp: int) -> ItemKey:
    return ItemKey(_time(number), _time(stamp))


def _time(value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        raise ValueError('no whole number')
    return value


def _text(value: str) -> str:
    if not isinstance(value, str):
        raise ValueError('no text')
    return value


_KINDS: dict[str, Callable[..., None]] = {
    'captured': OwedItems._captured,
    'answered': OwedItems._answered,
    'decided': OwedItems._decided,
    'closed': OwedItems._closed,
    'last': OwedItems._last,
    'surroundings': OwedItems._surroundings,
}
