# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Everything that was heard about one item, and what it adds to the counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

LOST = 'lost'  # where an item lies that is in no bin
SURE_CLASSES = 4  # that are shown of an answer

# What an item adds to: a name, or a name with a lane, class or reason.
CountKey = tuple[str, str]


@dataclass(frozen=True)
class Answer:
    """What a classifier said: the most probable classes first, with their probabilities."""

    class_id: str
    score: float
    ranking: tuple[tuple[str, float], ...] = ()
    bytes_used: int = 0


@dataclass(frozen=True)
class Offload:
    """What the policy decided."""

    offload: bool
    reason: int  # OffloadDecision.REASON_*
    policy: str
    expected_reward: float
    threshold: float
    tokens: float
    byte_budget: int


@dataclass(frozen=True)
class Outcome:
    """What the actuator did; seconds, -1 = never."""

    lane: str
    class_id: str
    score: float
    source: int  # SortOutcome.SOURCE_*
    slack: float
    missed: bool
    reason: int  # SortOutcome.REASON_*
    detail: str
    command_ns: int
    local_delay: float
    edge_delay: float
    edge_bytes: int
    unknown: float = 0.0  # how strange the item looks, 0..1; near 1 it is a stranger
    expected_cost: float = 0.0  # in the unit of the cell's costs; 0 without costs


@dataclass(frozen=True)
class Stroke:
    """What the diverter did."""

    status: int  # Actuation.STATUS_*
    lateness: float
    detail: str


@dataclass(frozen=True)
class Truth:
    """What a simulated item really is, and where it lies; an empty lane: not at rest yet."""

    class_id: str
    lane: str
    rest_lane: str = ''


@dataclass
class Item:
    """One item; what is None was not heard.

    Attributes:
        stamp_ns: Of the capture, by which everything is joined.
        hour: In which it was first heard of (hours since 1970, UTC).
        crop: uint8 [S, S, 3] RGB as it was captured; it is forgotten before the rest.
        models: Model folder that held then, by which the crop can be shown as the edge saw it.
        revision: Of the last change.
    """

    stamp_ns: int
    hour: int = 0
    item_id: int = 0
    deadline_ns: int | None = None
    captured: bool = False
    crop: np.ndarray | None = None
    models: Path | None = None
    local: Answer | None = None
    edge: Answer | None = None
    decision: Offload | None = None
    bytes_sent: int | None = None
    outcome: Outcome | None = None
    stroke: Stroke | None = None
    truth: Truth | None = None
    revision: int = 0

    def counts(self, reject_lane: str) -> Counter[CountKey]:
        """Return what the item adds to the counts of the cell.

        The names are those of summary.json (stl_conveyor.assess.scoring.Score), and beside them
        `lane`, `class`, `reject` (by reason), `belongs`, `rests` and `right` (by lane).
        """
        found: Counter[CountKey] = Counter()
        if self.truth is not None:
            found['items', ''] = 1
            found['edge_answers', ''] = self.edge is not None
            if self.truth.rest_lane:
                correct = self.truth.rest_lane == self.truth.lane
                found['rested', ''] = 1
                found['correct', ''] = correct
                found['lost', ''] = self.truth.rest_lane == LOST
                found['belongs', self.truth.lane] = 1
                found['rests', self.truth.rest_lane] = 1
                found['right', self.truth.lane] = correct
        found['captures', ''] = self.captured
        found['offloaded', ''] = self.decision is not None and self.decision.offload
        found['bytes_sent', ''] = self.bytes_sent or 0
        if self.outcome is not None:
            found['outcomes', ''] = 1
            found['missed_deadlines', ''] = self.outcome.missed
            found['lane', self.outcome.lane] = 1
            found['class', self.outcome.class_id] = 1
            if self.outcome.lane == reject_lane:
                found['rejected', ''] = 1
                found['reject', str(self.outcome.reason)] = 1
        return +found

    def as_json(self) -> dict[str, Any]:
        """Return what the page gets to know; times in ms, what was not heard is left out."""
        told: dict[str, Any] = {'key': str(self.stamp_ns), 'id': self.item_id}
        told['at'] = self.stamp_ns / 1e6
        if self.deadline_ns is not None:
            told['deadline'] = self.deadline_ns / 1e6
        if self.crop is not None:
            told['crop'] = True
        for name, answer in (('local', self.local), ('edge', self.edge)):
            if answer is not None:
                told[name] = {
                    'class': answer.class_id,
                    'score': _rounded(answer.score),
                    'ranking': [[label, _rounded(p)] for label, p in answer.ranking],
                    'bytes': answer.bytes_used,
                }
        if self.decision is not None:
            told['decision'] = {
                'offload': self.decision.offload,
                'reason': self.decision.reason,
                'policy': self.decision.policy,
                'reward': _rounded(self.decision.expected_reward),
                'threshold': _rounded(self.decision.threshold),
                'tokens': _rounded(self.decision.tokens),
                'budget': self.decision.byte_budget,
            }
        if self.bytes_sent is not None:
            told['bytes'] = self.bytes_sent
        if self.outcome is not None:
            told['outcome'] = {
                'lane': self.outcome.lane,
                'class': self.outcome.class_id,
                'score': _rounded(self.outcome.score),
                'source': self.outcome.source,
                'slack': _rounded(1e3 * self.outcome.slack, 1),
                'missed': self.outcome.missed,
                'reason': self.outcome.reason,
                'detail': self.outcome.detail,
                'local_ms': _rounded(1e3 * self.outcome.local_delay, 1),
                'edge_ms': _rounded(1e3 * self.outcome.edge_delay, 1),
                'edge_bytes': self.outcome.edge_bytes,
                'unknown': _rounded(self.outcome.unknown),
                'cost': _rounded(self.outcome.expected_cost),
            }
        if self.stroke is not None:
            told['stroke'] = {'status': self.stroke.status, 'detail': self.stroke.detail}
        if self.truth is not None:
            told['truth'] = {
                'class': self.truth.class_id,
                'lane': self.truth.lane,
                'rest': self.truth.rest_lane,
            }
        return told


def ranking(labels: tuple[str, ...], probabilities: Any) -> tuple[tuple[str, float], ...]:
    """Return the most probable classes and their probabilities; empty if they do not fit.

    Args:
        labels: Of the model folder, in its order.
        probabilities: float [C].
    """
    values = np.asarray(probabilities, np.float64)
    if not labels or values.shape != (len(labels),) or not np.all(np.isfinite(values)):
        return ()
    best = np.argsort(-values, kind='stable')[:SURE_CLASSES]
    return tuple((labels[n], float(values[n])) for n in best)


def _rounded(value: float, digits: int = 4) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None
