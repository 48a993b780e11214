# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Join what is known about each item, and score where the items came to rest.

Everything about one item is joined by its capture stamp, which every message carries. Pieces may
come in any order or not at all: an item that no camera saw has a truth and nothing else, one of a
real cell has no truth.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stl_conveyor.cell.description import CellDescription

DOUBTFUL, UNKNOWN = 14, 15  # SortOutcome.REASON_*
LOST = 'lost'  # where an item lies that is in no bin


@dataclass(frozen=True)
class AnswerRecord:
    """What a classifier said about an item, and when that was heard."""

    class_id: str
    score: float
    received_ns: int
    compute_time: float = 0.0  # s
    bytes_used: int = 0
    final: bool = True


@dataclass(frozen=True)
class Decision:
    """What the policy decided about an item."""

    offload: bool
    reason: int  # OffloadDecision.REASON_*
    expected_reward: float
    threshold: float
    tokens: float
    byte_budget: int
    received_ns: int


@dataclass(frozen=True)
class Transfer:
    """What the encoder spent on an item."""

    bytes: int
    packets: int
    stop_reason: int  # FeatureFeedback.STOP_*
    compute_time: float  # s, of the encoder
    received_ns: int


@dataclass(frozen=True)
class Action:
    """What the actuator did with an item; times in seconds, -1 = never."""

    lane: str
    class_id: str
    score: float
    source: int  # SortOutcome.SOURCE_*
    slack: float
    missed: bool
    reason: str
    command_ns: int
    local_delay: float = -1.0
    edge_delay: float = -1.0
    edge_bytes: int = 0
    reason_number: int = 0  # SortOutcome.REASON_*
    unknown: float = 0.0  # unknown score of the answer used
    lane_probability: float = 0.0
    expected_cost: float = 0.0


@dataclass(frozen=True)
class ItemRecord:
    """Everything known about one item; what is None or empty was never heard."""

    stamp_ns: int
    item_id: int = 0
    deadline_ns: int | None = None
    serial: int = 0
    class_id: str = ''
    lane: str = ''
    difficulty: float = float('nan')
    rest_lane: str = ''
    exposed_ns: int | None = None  # when the truth of the capture was heard
    captured_ns: int | None = None  # when the capture was heard
    local: AnswerRecord | None = None
    decision: Decision | None = None
    transfer: Transfer | None = None
    edge: AnswerRecord | None = None  # the latest
    edge_compute_times: tuple[float, ...] = ()  # s, of every answer of the edge, as heard
    action: Action | None = None
    actions: int = 0

    @property
    def rested(self) -> bool:
        """Whether the item has come to rest."""
        return bool(self.rest_lane)

    @property
    def correct(self) -> bool:
        """Whether the item lies in the lane it belongs in."""
        return self.rested and self.rest_lane == self.lane


@dataclass(frozen=True)
class CompleteRecord:
    """What is known about an item on which the actuator acted with the local answer at hand.

    Attributes:
        item: Everything else, which may still lack pieces.
    """

    item: ItemRecord
    local: AnswerRecord
    action: Action

    @property
    def edge(self) -> AnswerRecord | None:
        """The answer of the edge, if one reached the actuator."""
        return self.item.edge if self.action.edge_delay >= 0 else None


def complete_records(records: Iterable[ItemRecord]) -> list[CompleteRecord]:
    """Return the items whose way from the capture to the action is known, in their order."""
    return [
        CompleteRecord(r, r.local, r.action)
        for r in records
        if r.local is not None and r.action is not None and r.action.local_delay >= 0
    ]


class ScoreBoard:
    """The records of a run, by capture stamp.

    Each method takes one piece; ``now_ns`` is when it was heard. A piece that comes twice
    replaces the first, except that the first action stands and later ones are counted. Any thread
    may add and read.
    """

    def __init__(self) -> None:
        """Start with no items."""
        self._lock = threading.RLock()
        self._records: dict[int, ItemRecord] = {}

    @property
    def records(self) -> tuple[ItemRecord, ...]:
        """All items, in the order of their capture stamps."""
        with self._lock:
            return tuple(self._records[stamp] for stamp in sorted(self._records))

    def get(self, stamp_ns: int) -> ItemRecord | None:
        """Return the record of an item, or None."""
        return self._records.get(stamp_ns)

    @property
    def exposed(self) -> int:
        """Return the number of simulated items that the camera was shown."""
        return sum(1 for r in self.records if r.serial)

    @property
    def rested(self) -> int:
        """Return the number of items at rest."""
        return sum(1 for r in self.records if r.rested)

    @property
    def acted(self) -> int:
        """Return the number of items with an outcome."""
        return sum(1 for r in self.records if r.actions)

    def add_exposure(
        self, stamp_ns: int, serial: int, class_id: str, lane: str, difficulty: float, now_ns: int
    ) -> None:
        """Take the truth about an item that the camera was shown."""
        self._update(
            stamp_ns,
            serial=serial,
            class_id=class_id,
            lane=lane,
            difficulty=difficulty,
            exposed_ns=now_ns,
        )

    def add_rest(
        self,
        stamp_ns: int,
        serial: int,
        class_id: str,
        lane: str,
        difficulty: float,
        rest_lane: str,
    ) -> None:
        """Take the place where an item came to rest; the truth in it stands in for a lost one."""
        self._update(
            stamp_ns,
            serial=serial,
            class_id=class_id,
            lane=lane,
            difficulty=difficulty,
            rest_lane=rest_lane,
        )

    def add_capture(self, stamp_ns: int, item_id: int, deadline_ns: int, now_ns: int) -> None:
        """Take the capture of an item."""
        self._update(stamp_ns, item_id=item_id, deadline_ns=deadline_ns, captured_ns=now_ns)

    def add_local(self, stamp_ns: int, item_id: int, answer: AnswerRecord) -> None:
        """Take the local classifier's answer."""
        self._update(stamp_ns, item_id=item_id, local=answer)

    def add_edge(self, stamp_ns: int, item_id: int, answer: AnswerRecord) -> None:
        """Take an answer of the edge; the one that rests on most bytes stands."""
        with self._lock:
            known = self._records.get(stamp_ns) or ItemRecord(stamp_ns)
            times = (*known.edge_compute_times, answer.compute_time)
            better = known.edge is None or answer.bytes_used >= known.edge.bytes_used
            self._update(
                stamp_ns,
                item_id=item_id,
                edge_compute_times=times,
                edge=answer if better else known.edge,
            )

    def add_decision(self, stamp_ns: int, item_id: int, decision: Decision) -> None:
        """Take the policy's decision."""
        self._update(stamp_ns, item_id=item_id, decision=decision)

    def add_transfer(self, stamp_ns: int, item_id: int, transfer: Transfer) -> None:
        """Take the encoder's account."""
        self._update(stamp_ns, item_id=item_id, transfer=transfer)

    def add_action(self, stamp_ns: int, item_id: int, action: Action) -> None:
        """Take the outcome."""
        with self._lock:
            known = self._records.get(stamp_ns)
            if known is not None and known.action is not None:
                self._update(stamp_ns, actions=known.actions + 1)
            else:
                self._update(stamp_ns, item_id=item_id, action=action, actions=1)

    def _update(self, stamp_ns: int, **piece: Any) -> None:
        with self._lock:
            record = self._records.get(stamp_ns) or ItemRecord(stamp_ns)
            self._records[stamp_ns] = replace(record, **piece)


@dataclass(frozen=True)
class Quantiles:
    """Quantiles of something measured; nan where nothing was."""

    p01: float
    p50: float
    p99: float
    mean: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Quantiles:
        """Take the quantiles of values, any number of them."""
        if len(values) == 0:
            return cls(*(float('nan'),) * 4, n=0)
        p01, p50, p99 = np.percentile(values, (1, 50, 99))
        return cls(float(p01), float(p50), float(p99), float(np.mean(values)), len(values))


@dataclass(frozen=True)
class Score:
    """The result of a run; counts are items unless said otherwise."""

    items: int  # shown to the camera
    captures: int  # that the camera node made an item of
    outcomes: int
    unacted: int  # shown to the camera and never acted on
    repeated_outcomes: int  # beyond the first, over all items
    missed_deadlines: int
    correct: int  # at rest where they belong
    lost: int  # in no bin
    rejected: int  # sent to the reject lane
    outcome_correct: int  # sent to the right lane, wherever they came to rest
    local_correct: int  # by lane: where the local answer alone would have sent them
    local_class_correct: int
    edge_answers: int
    edge_class_correct: int
    offloaded: int
    bytes_sent: int  # payload bytes
    rejected_doubtful: int = 0  # of the rejected: no lane was worth the risk
    rejected_unknown: int = 0  # they looked like nothing that the models were taught
    rejected_no_answer: int = 0
    foreign: int = 0  # shown to the camera, and of no class that a lane lists
    foreign_rejected: int = 0  # at rest in the reject lane


def score(records: Sequence[ItemRecord], cell: CellDescription) -> Score:
    """Score a run.

    ``correct`` looks at where an item lies and at nothing that a node said.
    """
    shown = [r for r in records if r.serial]
    actions = [r.action for r in records if r.action is not None]

    def local_lane(record: ItemRecord) -> str:
        return cell.reject_lane if record.local is None else cell.lane_of(record.local.class_id)

    return Score(
        items=len(shown),
        captures=sum(r.captured_ns is not None for r in records),
        outcomes=len(actions),
        unacted=sum(r.action is None for r in shown),
        repeated_outcomes=sum(r.actions - 1 for r in records if r.action is not None),
        missed_deadlines=sum(action.missed for action in actions),
        correct=sum(r.correct for r in shown),
        lost=sum(r.rest_lane == LOST for r in shown),
        rejected=sum(action.lane == cell.reject_lane for action in actions),
        outcome_correct=sum(r.action is not None and r.action.lane == r.lane for r in shown),
        local_correct=sum(local_lane(r) == r.lane for r in shown),
        local_class_correct=sum(
            r.local is not None and r.local.class_id == r.class_id for r in shown
        ),
        edge_answers=sum(r.edge is not None for r in shown),
        edge_class_correct=sum(
            r.edge is not None and r.edge.class_id == r.class_id for r in shown
        ),
        offloaded=sum(r.decision is not None and r.decision.offload for r in records),
        bytes_sent=sum(r.transfer.bytes for r in records if r.transfer is not None),
        rejected_doubtful=sum(action.reason_number == DOUBTFUL for action in actions),
        rejected_unknown=sum(action.reason_number == UNKNOWN for action in actions),
        rejected_no_answer=sum(action.source == 0 for action in actions),
        foreign=sum(r.lane == cell.reject_lane for r in shown),
        foreign_rejected=sum(
            r.lane == cell.reject_lane and r.rest_lane == cell.reject_lane for r in shown
        ),
    )


def slack_ms(records: Sequence[ItemRecord]) -> Quantiles:
    """Return the quantiles of the time from command to deadline, in ms."""
    return Quantiles.of([1e3 * r.action.slack for r in records if r.action is not None])


def confusion(
    records: Sequence[ItemRecord], cell: CellDescription
) -> tuple[list[str], list[str], np.ndarray]:
    """Count where items of each lane came to rest.

    Returns:
        Names of the rows (where they belong), of the columns (where they lie), and the counts,
        int64[rows, columns].
    """
    belong = [lane.name for lane in cell.lanes] + [cell.reject_lane]
    lie = belong + [LOST]
    counts = np.zeros((len(belong), len(lie)), dtype=np.int64)
    for record in records:
        if record.serial and record.rest_lane in lie and record.lane in belong:
            counts[belong.index(record.lane), lie.index(record.rest_lane)] += 1
    return belong, lie, counts


def finite(value: Any) -> Any:
    """Return a JSON value with null for what is not a finite number."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
