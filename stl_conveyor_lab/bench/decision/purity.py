# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Is what is promised about the purity of a lane kept, and what does it cost in rejects?

Beside ours, by the probability of the lane, stand two fixed thresholds of the class score: one for
each lane that is promised from the same calibration items by the same tests, and one for all that
is as pure on the test items themselves, which only an oracle knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.cell.description import CellDescription, Costs
from stl_conveyor.decision.calibration_record import CalibrationRecord
from stl_conveyor.decision.decide import Decider
from stl_conveyor.decision.guarantee import TooFewItems, purity_threshold, threshold_order
from stl_conveyor_lab.train.decision import LENGTHS, Looked

TARGETS = (0.98, 0.99, 0.995, 0.999)
SPLITS = 200
BYTES = 512
ITEM, BELT = 'item', 'belt'


@dataclass(frozen=True)
class PurityRow:
    """What came of one target over all splits.

    Attributes:
        by: What is drawn for a split: ITEM, or a whole BELT with all its items.
        promised: Splits whose calibration items could promise it.
        kept: Share of the lanes of those splits whose purity on the other items is the target.
        splits_kept: Share of those splits in which every lane's is.
        purity, rejected: Means over those splits, of all lanes together.
        score_promised: Splits whose calibration items could promise it by the class score.
        both_rejected, score_rejected: Means over the splits that could promise it both ways, of
            ours and of the class score.
        no_more: Share of those in which ours rejects no more.
        oracle_rejected: Of a fixed class score that is as pure on the same items, in hindsight.
        oracle_no_more: Share of the splits of `promised` in which ours rejects no more than that.
        needed: Median of the items of a lane that it would take, where it was refused.
    """

    target: float
    by: str
    splits: int
    promised: int
    kept: float
    splits_kept: float
    purity: float
    rejected: float
    score_promised: int
    both_rejected: float
    score_rejected: float
    no_more: float
    oracle_rejected: float
    oracle_no_more: float
    needed: float


def fixed_rejects(scores: np.ndarray, right: np.ndarray, purity: float) -> float:
    """Return the least share rejected by a fixed score that is as pure, chosen in hindsight."""
    order = np.argsort(-scores, kind='stable')
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(share >= purity - 1e-12)
    return 1.0 - (enough[-1] + 1) / len(order) if len(enough) else 1.0


def score_thresholds(
    members: NDArray[np.bool_], record: CalibrationRecord, cell: CellDescription, target: float
) -> NDArray[np.float64]:
    """Return the class score with which an item may enter each lane, promised as ours are.

    Raises:
        TooFewItems: If the calibration items cannot promise it for a lane.
    """
    answers = record.answers(0)
    scores, lanes = answers.max(axis=1), members[answers.argmax(axis=1)].argmax(axis=1)
    found = []
    for column, lane in enumerate(cell.lanes):
        wrong = ~members[record.classes, column]
        probe = (lanes == column) & record.fitted
        proof = (lanes == column) & ~record.fitted
        order = threshold_order(scores[probe], wrong[probe], 1.0 - target, int(proof.sum()))
        found.append(
            purity_threshold(
                scores[proof], wrong[proof], order, target, cell.purity_confidence, lane.name
            ).value
        )
    return np.array(found)


def _drawn(belts: NDArray[np.int64], by: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a number of 0..1 for each item, or one for all items of a belt."""
    if by == ITEM:
        return rng.random(len(belts))
    known, place = np.unique(belts, return_inverse=True)
    # As even as belts can be dealt, so that each part has some.
    return ((rng.permutation(len(known)) + 0.5) / len(known))[place]


def measure_purity(
    cell: CellDescription,
    labels: tuple[str, ...],
    looked: Looked,
    targets: Sequence[float] = TARGETS,
    splits: int = SPLITS,
    seed: int = 0,
    by: str = ITEM,
) -> list[PurityRow]:
    """Split the items at random into calibration (three quarters) and test, and count."""
    place = LENGTHS.index(BYTES)
    edge = looked.edge[place].astype(np.float64)
    found: dict[float, list[tuple[float, ...]]] = {target: [] for target in targets}
    needed: dict[float, list[int]] = {target: [] for target in targets}
    by_score = dict.fromkeys(targets, 0)
    rng = np.random.default_rng((seed, 61))
    for _ in range(splits):
        part = _drawn(looked.belts, by, rng)
        rows = part < 0.75
        record = CalibrationRecord(
            looked.classes[rows],
            part[rows] < 0.25,
            np.array([BYTES]),
            edge[rows],  # the local answer plays no part here
            edge[rows][None],
        )
        answers, classes = record.tempered(edge[~rows], 0), looked.classes[~rows]
        for target in targets:
            lanes = tuple(replace(lane, purity=target) for lane in cell.lanes)
            asked = replace(cell, lanes=lanes, costs=Costs())
            decider = Decider(asked, labels)
            members = decider.table.members
            likeliest = members[answers.argmax(1)].argmax(1)
            scored = np.nan
            try:
                limits = score_thresholds(members, record, asked, target)
                scored = float((answers.max(1) < limits[likeliest]).mean())
                by_score[target] += 1
            except TooFewItems:
                pass
            try:
                thresholds = record.thresholds(asked, labels, 0)
            except TooFewItems as error:
                needed[target].append(error.needed)
                continue
            for name, value in thresholds.items():
                decider.set_threshold(name, value.value)
            chosen = decider.choose_all(answers).lanes
            entered = chosen < len(lanes)
            right = members[classes[entered], chosen[entered]]
            by_lane = [
                float(members[classes[chosen == lane], lane].mean())
                for lane in range(len(lanes))
                if (chosen == lane).any()
            ]
            oracle = fixed_rejects(
                edge[~rows].max(1), members[classes, likeliest], float(right.mean())
            )
            kept = float(np.mean([purity >= target for purity in by_lane]))
            found[target].append(
                (
                    kept,
                    float(kept == 1.0),
                    float(right.mean()),
                    float(1 - entered.mean()),
                    oracle,
                    scored,
                )
            )
    return [
        _row(target, by, splits, np.array(found[target]), by_score[target], needed[target])
        for target in targets
    ]


def _row(
    target: float,
    by: str,
    splits: int,
    found: NDArray[np.float64],
    by_score: int,
    needed: Sequence[int],
) -> PurityRow:
    table = found.reshape(-1, 6)
    kept, splits_kept, purity, rejected, oracle = _means(table[:, :5])
    both = table[np.isfinite(table[:, 5])]
    ours, scored = _means(both[:, [3, 5]])
    (no_more,) = _means((both[:, 3] <= both[:, 5] + 1e-12)[:, None])
    (oracle_no_more,) = _means((table[:, 3] <= table[:, 4] + 1e-12)[:, None])
    return PurityRow(
        target,
        by,
        splits,
        len(table),
        kept,
        splits_kept,
        purity,
        rejected,
        by_score,
        ours,
        scored,
        no_more,
        oracle,
        oracle_no_more,
        float(np.median(needed)) if needed else 0.0,
    )


def _means(columns: NDArray[Any]) -> list[float]:
    if not len(columns):
        return [float('nan')] * columns.shape[1]
    return [float(value) for value in columns.mean(axis=0)]


def purity_lines(rows: Sequence[PurityRow]) -> list[str]:
    """Return the table."""
    return [
        '| drawn by | target | splits that can promise it | lanes kept | splits with all lanes '
        'kept | purity | rejected | class score: splits that can promise it | where both can: '
        'ours, class score rejected | ours no more | oracle, as pure: rejected | ours no more '
        '| items of a lane needed |',
        '|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|',
        *(
            f'| {r.by} | {r.target:g} | {r.promised} of {r.splits} | {r.kept:.3f} '
            f'| {r.splits_kept:.3f} | {r.purity:.4f} | {r.rejected:.4f} '
            f'| {r.score_promised} of {r.splits} | {r.both_rejected:.4f}, {r.score_rejected:.4f} '
            f'| {r.no_more:.2f} | {r.oracle_rejected:.4f} | {r.oracle_no_more:.2f} '
            f'| {r.needed:.0f} |'
            for r in rows
        ),
    ]


def draw_purity(pyplot: Any, rows: Sequence[PurityRow]) -> Any:
    """Draw rejects over the target of splits by item, beside those of the class score."""
    figure, axes = pyplot.subplots(figsize=(6, 4))
    known = [row for row in rows if row.promised and row.by == ITEM]
    at = [100 * row.target for row in known]
    for label, style, values in (
        ('ours, promised', 'o-', [row.rejected for row in known]),
        ('class score, promised', '^-', [row.score_rejected for row in known]),
        ('class score of an oracle, as pure', 's--', [row.oracle_rejected for row in known]),
    ):
        axes.plot(at, [100 * value for value in values], style, label=label)
    axes.set(xlabel='% purity promised', ylabel='% rejected', title=f'{SPLITS} splits')
    axes.legend()
    axes.grid(alpha=0.3)
    return figure
