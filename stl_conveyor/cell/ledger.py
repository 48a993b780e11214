# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Who gets which outcome: every captured item exactly one, in time, with the best answer."""

from __future__ import annotations

import enum
import heapq
import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import NamedTuple


class Stage(NamedTuple):
    """A lane, and how long (ns) after the first one's deadline its own comes."""

    lane: str
    later_ns: int


class ItemKey(NamedTuple):
    """What makes an item itself: its number and its capture stamp (ns).

    The number alone is not enough: a camera that was restarted counts from 1 again.
    """

    item_id: int
    stamp_ns: int


class AnswerSource(enum.IntEnum):
    """Who classified; a higher value is the better answer. Equals the messages' SOURCE_*."""

    NONE = 0
    LOCAL = 1
    EDGE = 2


class Admission(enum.Enum):
    """What became of a capture that was handed to the ledger."""

    ACCEPTED = 'accepted'
    ACT_AT_ONCE = 'act_at_once'  # accepted, but its deadline is past or absurdly far
    DUPLICATE = 'duplicate_capture'  # this very item is known already
    CONFLICT = 'item_id_conflict'  # no item of its own; see ItemLedger.capture
    BAD_ID = 'item_id_zero'


class Verdict(enum.Enum):
    """What became of an answer that was handed to the ledger."""

    ACCEPTED = 'accepted'
    EARLY = 'early_answer'  # its capture has not arrived yet: kept for a while
    NOT_BETTER = 'answer_not_better'  # a duplicate, or overtaken by a better one
    LATE = 'late_answer'  # the item has its outcome already
    STALE = 'stale_answer'  # about an earlier item with the number of an open one
    BAD = 'bad_answer'  # a score outside 0..1 or a source that does not exist


@dataclass(frozen=True)
class Answer:
    """A classifier's answer; times in ns of the ledger's clock.

    Attributes:
        lane: Where the item goes with it, or empty where that is not asked (see `capture`).
        doubt: Why it goes to the reject lane, a number of the caller's own; 0 = it does not.
        unknown: How strange the item looks, 0..1.
        lane_probability: That it belongs in its likeliest lane.
        cost: That is expected.
    """

    source: AnswerSource
    class_id: str
    score: float
    received_ns: int
    bytes_used: int = 0
    lane: str = ''
    doubt: int = 0
    unknown: float = 0.0
    lane_probability: float = 0.0
    cost: float = 0.0


@dataclass(frozen=True)
class ItemOutcome:
    """The one outcome of an item.

    Attributes:
        answer: The best answer, or None.
        local: The local answer, whether or not it was the best.
        slack_ns: From the decision to the deadline; negative means missed.
        admitted_ns: When the capture was handed in (ns of the ledger's clock).
        absurd: The deadline could not have come from an honest capture.
        passed: The lane of the best answer was behind the item when that answer came.
        later_ns: How long after the first lane's deadline that of this outcome is.
    """

    key: ItemKey
    answer: Answer | None
    local: Answer | None
    edge: Answer | None
    admitted_ns: int
    decided_ns: int
    slack_ns: int
    absurd: bool
    passed: bool = False
    later_ns: int = 0


@dataclass(frozen=True)
class _Open:
    key: ItemKey
    admitted_ns: int
    deadline_ns: int
    due_ns: int
    absurd: bool
    local: Answer | None = None
    edge: Answer | None = None
    stages: tuple[Stage, ...] = ()
    stage: int = 0

    @property
    def best(self) -> Answer | None:
        return self.edge or self.local

    @property
    def stage_deadline_ns(self) -> int:
        """Return the deadline of the lane that is asked for next."""
        return self.deadline_ns + self.later_ns

    @property
    def later_ns(self) -> int:
        return self.stages[self.stage].later_ns if self.stages else 0

    @property
    def waits(self) -> bool:
        """Return whether the item is for no lane yet, and others are to come."""
        if self.stage + 1 >= len(self.stages):
            return False
        return self.best is None or self.best.lane != self.stages[self.stage].lane

    @property
    def passed(self) -> bool:
        return self.best is not None and self.best.lane in [
            stage.lane for stage in self.stages[: self.stage]
        ]


class ItemLedger:
    """Keeps items from capture to outcome.

    Examples:
        >>> from stl_conveyor import ItemLedger
        >>> from stl_conveyor.cell.ledger import Answer, AnswerSource, ItemKey
        >>> ledger = ItemLedger(guard_ns=40_000_000, longest_ns=2_000_000_000)
        >>> item = ItemKey(item_id=1, stamp_ns=0)
        >>> ledger.capture(item, time_left_ns=780_000_000, now_ns=0).value
        'accepted'
        >>> local = Answer(AnswerSource.LOCAL, 'hex_nut_m8', 0.47, received_ns=9_000_000)
        >>> ledger.answer(item, local, now_ns=9_000_000).value
        'accepted'
        >>> edge = Answer(AnswerSource.EDGE, 'spring_washer_m8', 0.97, 95_000_000, bytes_used=128)
        >>> ledger.answer(item, edge, now_ns=95_000_000).value
        'accepted'
        >>> ledger.next_due_ns()  # the guard before the deadline
        740000000
        >>> [outcome] = ledger.decide_due(now_ns=740_000_000)
        >>> outcome.answer.class_id, outcome.slack_ns
        ('spring_washer_m8', 40000000)

    The ledger has a clock of its own choosing, in ns, that must not run backwards: the caller
    hands in `now_ns` and, for a capture, the time left to its deadline. So a jump of the system's
    clock between capture and outcome changes nothing. Memory is bounded by `max_open`,
    `max_early` and `history`; when more items are open than `max_open`, the one with the most
    time left is decided at once, because no honest capture has more time than the others.
    """

    def __init__(
        self,
        *,
        guard_ns: int,
        longest_ns: int,
        max_open: int = 256,
        max_early: int = 64,
        early_ns: int = 2_000_000_000,
        history: int = 4096,
        apart_ns: int = 0,
    ) -> None:
        """Create an empty ledger.

        Args:
            guard_ns: How long before its deadline an item is decided.
            longest_ns: The most time that an honest capture can have left.
            early_ns: How long an answer waits for its capture.
            apart_ns: Captures with one number and less between their stamps show one item.
        """
        if guard_ns < 0 or longest_ns <= 0 or min(max_open, max_early, history) < 1:
            raise ValueError('guard_ns must not be negative; the limits must be positive')
        self._guard_ns = guard_ns
        self._longest_ns = longest_ns
        self._max_open = max_open
        self._max_early = max_early
        self._early_ns = early_ns
        self._history = history
        self._apart_ns = apart_ns
        self._open: dict[ItemKey, _Open] = {}
        self._queue: list[tuple[int, ItemKey]] = []
        self._early: OrderedDict[tuple[ItemKey, AnswerSource], Answer] = OrderedDict()
        self._decided: OrderedDict[ItemKey, None] = OrderedDict()
        self._stamps: dict[int, int] = {}  # of the item last decided, by number

    @property
    def open_items(self) -> int:
        """Return how many items wait for their outcome."""
        return len(self._open)

    @property
    def early_answers(self) -> int:
        """Return how many answers wait for their capture."""
        return len(self._early)

    def open_stamps(self, item_id: int) -> tuple[int, ...]:
        """Return the capture stamps (ns) of the open items with a number, the oldest first."""
        return tuple(sorted(key.stamp_ns for key in self._open if key.item_id == item_id))

    def capture(
        self, key: ItemKey, time_left_ns: int, now_ns: int, stages: tuple[Stage, ...] = ()
    ) -> Admission:
        """Take in a capture whose deadline is `time_left_ns` away (negative: past).

        With `stages`, each lane has its own time: the item is asked for at each of them in turn,
        the nearest lane first, and decided at that of the lane in which its best answer by then
        puts it; if it is for none of them, at the last. Without, all lanes have one deadline.

        A camera that was restarted counts from 1 again, and so a known number may be that of
        another item. It is one of its own, with an outcome of its own, where its stamp is newer
        than that of every open item with the number, by `apart_ns` at least; and where none is
        open, if the stamp is newer than that of the item decided last or at least the deadline
        lies ahead (the clock was set back meanwhile). In every other case it is a duplicate or a
        conflict and nothing changes.
        """
        if key.item_id <= 0:
            return Admission.BAD_ID
        if key in self._open:
            return Admission.DUPLICATE
        open_stamps = self.open_stamps(key.item_id)
        if open_stamps and key.stamp_ns - open_stamps[-1] < max(self._apart_ns, 1):
            return Admission.CONFLICT
        if key in self._decided:
            return Admission.DUPLICATE
        decided_stamp = self._stamps.get(key.item_id)
        if decided_stamp is not None and abs(key.stamp_ns - decided_stamp) < self._apart_ns:
            return Admission.CONFLICT
        absurd = time_left_ns > self._longest_ns
        at_once = absurd or time_left_ns <= self._guard_ns
        if at_once and decided_stamp is not None and key.stamp_ns < decided_stamp:
            return Admission.CONFLICT
        deadline_ns = now_ns + time_left_ns
        due_ns = now_ns if at_once else deadline_ns - self._guard_ns
        item = _Open(key, now_ns, deadline_ns, due_ns, absurd, stages=() if at_once else stages)
        for source in (AnswerSource.LOCAL, AnswerSource.EDGE):
            answer = self._early.pop((key, source), None)
            if answer is not None:
                item = _with_answer(item, answer)
        if len(self._open) >= self._max_open:
            last = max(self._open.values(), key=lambda other: (other.due_ns, other.key))
            # It waits for no later lane.
            self._open[last.key] = replace(
                last, due_ns=now_ns, stages=last.stages[: last.stage + 1]
            )
            heapq.heappush(self._queue, (now_ns, last.key))
        self._open[key] = item
        heapq.heappush(self._queue, (due_ns, key))
        return Admission.ACT_AT_ONCE if at_once else Admission.ACCEPTED

    def answer(self, key: ItemKey, answer: Answer, now_ns: int) -> Verdict:
        """Take in an answer.

        Of two edge answers the one behind which more bytes stand counts, in whatever order they
        come; of two local answers the first.
        """
        if (
            key.item_id <= 0
            or answer.source not in (AnswerSource.LOCAL, AnswerSource.EDGE)
            or not math.isfinite(answer.score)
            or not 0.0 <= answer.score <= 1.0
            or not answer.class_id
        ):
            return Verdict.BAD
        item = self._open.get(key)
        if item is not None:
            updated = _with_answer(item, answer)
            self._open[key] = updated
            return Verdict.NOT_BETTER if updated is item else Verdict.ACCEPTED
        if key in self._decided:
            return Verdict.LATE
        if key.stamp_ns < min(self.open_stamps(key.item_id), default=key.stamp_ns):
            return Verdict.STALE
        return self._keep_early(key, answer, now_ns)

    def next_due_ns(self) -> int | None:
        """Return when the next item must be decided, or None if none is open."""
        while self._queue:
            due_ns, key = self._queue[0]
            item = self._open.get(key)
            if item is not None and item.due_ns == due_ns:
                return due_ns
            heapq.heappop(self._queue)
        return None

    def due_ns(self, key: ItemKey) -> int | None:
        """Return when an open item is decided; None = it is not open."""
        item = self._open.get(key)
        return None if item is None else item.due_ns

    def answers(self, key: ItemKey) -> tuple[Answer, ...]:
        """Return the answers that an open item has."""
        item = self._open.get(key)
        kept = () if item is None else (item.local, item.edge)
        return tuple(answer for answer in kept if answer is not None)

    def next_lane(self, key: ItemKey) -> str | None:
        """Return the lane for which an open item is asked next; None = all have one time."""
        item = self._open.get(key)
        return None if item is None or not item.stages else item.stages[item.stage].lane

    def hasten(self, key: ItemKey, due_ns: int) -> None:
        """Decide an open item at an earlier time than its deadline asks for."""
        item = self._open.get(key)
        if item is None or item.due_ns <= due_ns:
            return
        self._open[key] = replace(item, due_ns=due_ns)
        heapq.heappush(self._queue, (due_ns, key))

    def decide_due(self, now_ns: int) -> tuple[ItemOutcome, ...]:
        """Decide every item whose time has come, in the order of their times."""
        decisions = []
        while (due_ns := self.next_due_ns()) is not None and due_ns <= now_ns:
            _, key = heapq.heappop(self._queue)
            item = self._open[key]
            if item.waits:
                item = replace(item, stage=item.stage + 1)
                item = replace(item, due_ns=item.stage_deadline_ns - self._guard_ns)
                self._open[key] = item
                heapq.heappush(self._queue, (item.due_ns, key))
            else:
                decisions.append(self._decide(key, now_ns))
        return tuple(decisions)

    def decide_all(self, now_ns: int) -> tuple[ItemOutcome, ...]:
        """Decide every open item now: the node stops, or its clock was set back."""
        decisions = []
        while self.next_due_ns() is not None:
            _, key = heapq.heappop(self._queue)
            decisions.append(self._decide(key, now_ns))
        self._early.clear()
        return tuple(decisions)

    def _decide(self, key: ItemKey, now_ns: int) -> ItemOutcome:
        item = self._open.pop(key)
        self._decided[key] = None
        self._stamps[key.item_id] = key.stamp_ns
        while len(self._decided) > self._history:
            oldest, _ = self._decided.popitem(last=False)
            if self._stamps[oldest.item_id] == oldest.stamp_ns:
                del self._stamps[oldest.item_id]
        return ItemOutcome(
            key=key,
            answer=item.best,
            local=item.local,
            edge=item.edge,
            admitted_ns=item.admitted_ns,
            decided_ns=now_ns,
            slack_ns=item.stage_deadline_ns - now_ns,
            absurd=item.absurd,
            passed=item.passed,
            later_ns=item.later_ns,
        )

    def _keep_early(self, key: ItemKey, answer: Answer, now_ns: int) -> Verdict:
        while self._early:
            oldest = next(iter(self._early))
            if now_ns - self._early[oldest].received_ns <= self._early_ns:
                break
            del self._early[oldest]
        slot = (key, answer.source)
        kept = self._early.get(slot)
        if kept is not None and not _is_better(answer, kept):
            return Verdict.NOT_BETTER
        self._early[slot] = answer
        self._early.move_to_end(slot)
        while len(self._early) > self._max_early:
            self._early.popitem(last=False)
        return Verdict.EARLY


def _with_answer(item: _Open, answer: Answer) -> _Open:
    local = answer.source is AnswerSource.LOCAL
    kept = item.local if local else item.edge
    if kept is not None and not _is_better(answer, kept):
        return item
    return replace(item, local=answer) if local else replace(item, edge=answer)


def _is_better(answer: Answer, kept: Answer) -> bool:
    return answer.source is AnswerSource.EDGE and answer.bytes_used > kept.bytes_used
