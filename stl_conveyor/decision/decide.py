# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The decision about an item: the cheapest lane, unless it is a stranger or too doubtful."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.decision.costs import CostTable
from stl_conveyor.decision.strangeness import foreign_probability, is_stranger

# Where a lane's own cost does not tell lanes apart, rounding must not either.
_TIE = 1e-9


class Doubt(enum.IntEnum):
    """Why an item goes to the reject lane although there is an answer about it."""

    NONE = 0
    DOUBTFUL = 1  # no lane is worth the risk
    UNKNOWN = 2  # it looks like nothing that the models were taught
    UNSORTED = 3  # its class is one that no lane lists


@dataclass(frozen=True)
class Choice:
    """Where an item goes, and what that is expected to cost.

    Attributes:
        lane: Index of the lane in `Decider.lanes`; the last one is the reject lane.
        label: Index of the likeliest class.
        probability: That the item belongs in its likeliest lane.
        cost: Expected.
        doubt: Why it goes to the reject lane.
    """

    lane: int
    label: int
    probability: float
    cost: float
    doubt: Doubt


@dataclass(frozen=True, eq=False)
class Choices:
    """The choices for N items, as arrays [N]; see `Choice`."""

    lanes: NDArray[np.intp]
    labels: NDArray[np.intp]
    probabilities: NDArray[np.float64]
    costs: NDArray[np.float64]
    doubts: NDArray[np.int8]


class Decider:
    """Turns class probabilities and an unknown score into a lane.

    With costs or purity targets in the cell description the lane with the least expected cost is
    taken, the reject lane included, and an item enters a lane with a target only when it belongs
    there with at least the lane's threshold. Without, the likeliest class decides. A stranger is
    rejected either way.

    Examples:
        >>> from stl_conveyor import CellDescription, share_path
        >>> cell = CellDescription.load(share_path('config/cell.yaml'))
        >>> decider = Decider(cell, cell.classes)
        >>> sure = np.eye(16)[0]
        >>> decider.lanes[decider.choose(sure, unknown=0.3).lane]
        'A'
        >>> decider.choose(sure, unknown=0.999).doubt.name
        'UNKNOWN'
    """

    def __init__(
        self,
        cell: CellDescription,
        labels: Sequence[str],
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        """Take the costs of the cell.

        Args:
            thresholds: The least lane probability with which an item enters a lane, by its name;
                a lane that is not named has none.

        Raises:
            ConfigError: When the models do not know a class whose cost matters.
        """
        self.table = CostTable.of(cell, labels)
        self.by_cost = cell.decides_by_cost
        self._rejects = cell.strangers.rejects
        self._share = cell.strangers.share
        self._thresholds = np.zeros(len(self.table.lanes))
        for lane, value in (thresholds or {}).items():
            self.set_threshold(lane, value)

    @property
    def lanes(self) -> tuple[str, ...]:
        """Return the names of the lanes, the reject lane last."""
        return self.table.lanes

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Return the least lane probability with which an item enters each lane."""
        return dict(zip(self.table.lanes, self._thresholds.tolist()))

    def set_threshold(self, lane: str, value: float) -> None:
        """Let an item enter a lane only when it belongs there with at least this probability."""
        self._thresholds[self.table.lanes.index(lane)] = value

    def foreign(self, unknown: NDArray[np.floating] | float) -> NDArray[np.float64]:
        """Return how likely items with these unknown scores are foreign."""
        return foreign_probability(unknown, self._share)

    def choose(self, probabilities: NDArray[np.floating], unknown: float | None = None) -> Choice:
        """Decide about one item.

        Args:
            probabilities: [C] of the classes.
            unknown: The unknown score; None where the model tells none.
        """
        scores = None if unknown is None else np.array([unknown])
        many = self.choose_all(np.asarray(probabilities)[None], scores)
        return Choice(
            int(many.lanes[0]),
            int(many.labels[0]),
            float(many.probabilities[0]),
            float(many.costs[0]),
            Doubt(int(many.doubts[0])),
        )

    def choose_all(
        self, probabilities: NDArray[np.floating], unknown: NDArray[np.floating] | None = None
    ) -> Choices:
        """Decide about N items.

        Args:
            probabilities: [N, C] of the classes.
            unknown: [N] unknown scores; None where the model tells none.
        """
        table, reject = self.table, len(self.table.lanes) - 1
        count = len(probabilities)
        rows = np.arange(count)
        if unknown is None:
            stranger, foreign = np.zeros(count, bool), np.zeros(count)
        else:
            stranger, foreign = is_stranger(unknown, self._rejects), self.foreign(unknown)
        costs = table.expected(probabilities, foreign)
        belongs = table.lane_probabilities(probabilities, foreign)
        labels = np.asarray(probabilities).argmax(axis=1)
        doubts = np.zeros(count, np.int8)
        if self.by_cost:
            # Of equally cheap lanes the likelier one; the reject lane only where it is cheaper.
            ranked = costs - _TIE * np.concatenate([belongs, np.zeros((count, 1))], axis=1)
            ranked[:, reject] += _TIE
            lanes = ranked.argmin(axis=1)
            doubts[lanes == reject] = Doubt.DOUBTFUL
            # Would it have been sorted, had it looked like one of ours?
            known = table.expected(probabilities)
            by_strangeness = (lanes == reject) & (known[:, :-1].min(axis=1) < known[:, reject])
            doubts[by_strangeness] = Doubt.UNKNOWN
            own = np.concatenate([belongs, np.ones((count, 1))], axis=1)[rows, lanes]
            barred = own < self._thresholds[lanes]
            lanes, doubts = (
                np.where(barred, reject, lanes),
                np.where(barred, np.int8(Doubt.DOUBTFUL), doubts),
            )
        else:
            sorted_class = table.members[labels].any(axis=1)
            lanes = np.where(sorted_class, table.members[labels].argmax(axis=1), reject)
            doubts[~sorted_class] = Doubt.UNSORTED
        lanes = np.where(stranger, reject, lanes)
        doubts = np.where(stranger, np.int8(Doubt.UNKNOWN), doubts).astype(np.int8)
        return Choices(
            lanes.astype(np.intp),
            labels.astype(np.intp),
            belongs.max(axis=1),
            costs[rows, lanes],
            doubts,
        )
