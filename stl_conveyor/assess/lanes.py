# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a line is bought for: purity and yield of each lane, reject share, and cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stl_conveyor.assess.intervals import Z95, wilson
from stl_conveyor.assess.scoring import ItemRecord
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.decision.costs import CostTable


@dataclass(frozen=True)
class Interval:
    """A share or a mean with its 95 % interval; nan where nothing was counted."""

    value: float
    low: float
    high: float

    @classmethod
    def of_share(cls, part: int, whole: int) -> Interval:
        """Return a share with Wilson's interval."""
        if not whole:
            return cls(math.nan, math.nan, math.nan)
        return cls(part / whole, *wilson(part, whole))

    @classmethod
    def of_mean(cls, values: Sequence[float] | np.ndarray, scale: float = 1.0) -> Interval:
        """Return a mean times a scale with the interval of the normal distribution.

        The interval ends where the values do.
        """
        array = np.asarray(values, np.float64)
        if len(array) < 2:
            return cls(math.nan, math.nan, math.nan)
        half = Z95 * float(array.std(ddof=1)) / math.sqrt(len(array))
        mean = float(array.mean())
        low, high = max(mean - half, array.min()), min(mean + half, array.max())
        return cls(scale * mean, scale * float(low), scale * float(high))

    def __str__(self) -> str:
        if math.isnan(self.value):
            return '-'
        digits = 3 if abs(self.value) < 10 else 1
        return f'{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]'


@dataclass(frozen=True)
class LaneResult:
    """What became of a lane.

    Attributes:
        purity: Share of what is in the lane that belongs there.
        gain: Yield: share of what belongs in the lane that is there.
    """

    lane: str
    entered: int
    belong: int
    purity: Interval
    gain: Interval


@dataclass(frozen=True)
class CellResult:
    """Lane by lane, and the whole cell.

    Attributes:
        purity: Share of what is in any lane that belongs there.
        gain: Yield: share of the cell's own items that are in their lane.
        rejected: Share of the cell's own items that are in the reject lane.
        foreign_caught: Share of foreign items that are in the reject lane.
        cost: Per 1,000 items.
    """

    lanes: tuple[LaneResult, ...]
    purity: Interval
    gain: Interval
    rejected: Interval
    foreign_caught: Interval
    cost: Interval

    def as_json(self) -> dict[str, Any]:
        """Return the same as a mapping; what was not counted is nan."""
        return {
            'lanes': {
                result.lane: {
                    'entered': result.entered,
                    'belong': result.belong,
                    'purity': asdict(result.purity),
                    'yield': asdict(result.gain),
                }
                for result in self.lanes
            },
            'purity': asdict(self.purity),
            'yield': asdict(self.gain),
            'rejected': asdict(self.rejected),
            'foreign_caught': asdict(self.foreign_caught),
            'cost_per_1000': asdict(self.cost),
        }

    def rows(self) -> list[tuple[str, str]]:
        """Return names and values for people."""
        return [
            *(
                (
                    f'lane {result.lane}: purity / yield',
                    f'{result.purity} / {result.gain} of {result.entered}',
                )
                for result in self.lanes
            ),
            ('all lanes: purity / yield', f'{self.purity} / {self.gain}'),
            ("the cell's own items in reject", str(self.rejected)),
            (
                'foreign items in reject',
                'none came' if math.isnan(self.foreign_caught.value) else str(self.foreign_caught),
            ),
            ('cost per 1,000 items', str(self.cost)),
        ]


def cell_result(cell: CellDescription, classes: Sequence[str], found: Sequence[str]) -> CellResult:
    """Score where items are.

    Args:
        classes: What each item is; a name that no lane lists is foreign.
        found: The lane that each item is in; a name that is no lane counts as reject, which is
            where a line's end is.
    """
    table = CostTable.of(cell, cell.classes)
    belongs = [cell.lane_of(name) for name in classes]
    names = [lane.name for lane in cell.lanes]
    where = [lane if lane in names else cell.reject_lane for lane in found]
    rows = {name: row for row, name in enumerate(table.labels)}
    costs = [
        float(table.costs[rows.get(name, table.foreign), table.lanes.index(lane)])
        for name, lane in zip(classes, where)
    ]
    pairs = list(zip(belongs, where))
    right = sum(pairs.count((name, name)) for name in names)
    own = [lane for true, lane in pairs if true != cell.reject_lane]
    foreign = [lane for true, lane in pairs if true == cell.reject_lane]
    return CellResult(
        tuple(
            LaneResult(
                name,
                where.count(name),
                belongs.count(name),
                Interval.of_share(pairs.count((name, name)), where.count(name)),
                Interval.of_share(pairs.count((name, name)), belongs.count(name)),
            )
            for name in names
        ),
        Interval.of_share(right, len(where) - where.count(cell.reject_lane)),
        Interval.of_share(right, len(own)),
        Interval.of_share(own.count(cell.reject_lane), len(own)),
        Interval.of_share(foreign.count(cell.reject_lane), len(foreign)),
        Interval.of_mean(costs, 1000.0),
    )


def result_of_run(records: Sequence[ItemRecord], cell: CellDescription) -> CellResult:
    """Score where the items of a run came to rest."""
    shown = [r for r in records if r.serial and r.rested]
    return cell_result(cell, [r.class_id for r in shown], [r.rest_lane for r in shown])


def trusted_answers(
    records: Sequence[ItemRecord], cell: CellDescription
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return how likely a run's items belonged in their lane, and whether they did, by source.

    An item that was rejected is left out. Without costs in the cell description the score of the
    class stands for the probability of its lane.

    Returns:
        By the name of the source: f64[N], 0..1, and bool[N].
    """
    found = {}
    for name, source in (('local answer', 1), ('answer of the edge', 2)):  # SortOutcome.SOURCE_*
        pairs = [
            (r.action.lane_probability or r.action.score, r.action.lane == r.lane)
            for r in records
            if r.serial
            and r.action is not None
            and r.action.source == source
            and r.action.lane != cell.reject_lane
        ]
        found[name] = (
            np.array([told for told, _ in pairs], np.float64),
            np.array([right for _, right in pairs], bool),
        )
    return found


def purity_curve(
    probabilities: np.ndarray, right: np.ndarray, points: int = 25
) -> list[tuple[float, float]]:
    """Return (share rejected, purity) where the least likely items are rejected first.

    Args:
        probabilities: [N], that the item belongs in the lane that it is sent to.
        right: bool [N], whether it does.
    """
    order = np.argsort(-probabilities, kind='stable')
    good = np.cumsum(right[order])
    count = len(order)
    ends = np.unique(np.linspace(max(1, count // points), count, points).astype(int))
    return [(1.0 - end / count, float(good[end - 1] / end)) for end in ends]
