# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Is what is promised about the purity of a lane kept, and what does it cost in rejects?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stl_conveyor.cell.description import CellDescription, Costs
from stl_conveyor.decision.calibration_record import CalibrationRecord
from stl_conveyor.decision.decide import Decider
from stl_conveyor.decision.guarantee import TooFewItems
from stl_conveyor_lab.train.decision import LENGTHS, Looked

TARGETS = (0.98, 0.99, 0.995, 0.999)
SPLITS = 200
BYTES = 512


@dataclass(frozen=True)
class PurityRow:
    """What came of one target over all splits.

    Attributes:
        promised: Splits whose calibration items could promise it.
        kept: Share of the lanes of those splits whose purity on the other items is the target.
        splits_kept: Share of those splits in which every lane's is.
        purity, rejected: Means over those splits, of all lanes together.
        fixed_rejected: Of a fixed threshold of the class score that is as pure on the same items.
        no_more: Share of those splits in which ours rejects no more.
        needed: Median of the items of a lane that it would take, where it was refused.
    """

    target: float
    splits: int
    promised: int
    kept: float
    splits_kept: float
    purity: float
    rejected: float
    fixed_rejected: float
    no_more: float
    needed: float


def fixed_rejects(scores: np.ndarray, right: np.ndarray, purity: float) -> float:
    """Return the least share rejected by a fixed score that is as pure, chosen in hindsight."""
    order = np.argsort(-scores, kind='stable')
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(share >= purity - 1e-12)
    return 1.0 - (enough[-1] + 1) / len(order) if len(enough) else 1.0


def measure_purity(
    cell: CellDescription,
    labels: tuple[str, ...],
    looked: Looked,
    targets: Sequence[float] = TARGETS,
    splits: int = SPLITS,
    seed: int = 0,
) -> list[PurityRow]:
    """Split the items at random into calibration (three quarters) and test, and count."""
    place, count = LENGTHS.index(BYTES), len(looked.classes)
    edge = looked.edge[place].astype(np.float64)
    found: dict[float, list[tuple[float, ...]]] = {target: [] for target in targets}
    needed: dict[float, list[int]] = {target: [] for target in targets}
    rng = np.random.default_rng((seed, 61))
    for _ in range(splits):
        part = rng.random(count)
        rows = part < 0.75
        record = CalibrationRecord(
            looked.classes[rows],
            part[rows] < 0.25,
            np.array([BYTES]),
            edge[rows],  # the local answer plays no part here
            edge[rows][None],
        )
        for target in targets:
            lanes = tuple(replace(lane, purity=target) for lane in cell.lanes)
            asked = replace(cell, lanes=lanes, costs=Costs())
            try:
                thresholds = record.thresholds(asked, labels, 0)
            except TooFewItems as error:
                needed[target].append(error.needed)
                continue
            decider = Decider(
                asked, labels, {name: value.value for name, value in thresholds.items()}
            )
            answers = record.tempered(edge[~rows], 0)
            chosen = decider.choose_all(answers).lanes
            members = decider.table.members
            classes = looked.classes[~rows]
            entered = chosen < len(lanes)
            right = members[classes[entered], chosen[entered]]
            by_lane = [
                float(members[classes[chosen == lane], lane].mean())
                for lane in range(len(lanes))
                if (chosen == lane).any()
            ]
            likeliest = members[edge[~rows].argmax(1)].argmax(1)
            fixed = fixed_rejects(
                edge[~rows].max(1), members[classes, likeliest], float(right.mean())
            )
            kept = float(np.mean([purity >= target for purity in by_lane]))
            found[target].append(
                (kept, float(kept == 1.0), float(right.mean()), float(1 - entered.mean()), fixed)
            )
    rows_found = []
    for target in targets:
        table = np.array(found[target]).reshape(-1, 5)
        kept, splits_kept, purity, rejected, fixed = map(
            float, table.mean(axis=0) if len(table) else np.full(5, np.nan)
        )
        no_more = float((table[:, 3] <= table[:, 4] + 1e-12).mean()) if len(table) else np.nan
        short = float(np.median(needed[target])) if needed[target] else 0.0
        rows_found.append(
            PurityRow(
                target,
                splits,
                len(table),
                kept,
                splits_kept,
                purity,
                rejected,
                fixed,
                no_more,
                short,
            )
        )
    return rows_found


def purity_lines(rows: Sequence[PurityRow]) -> list[str]:
    """Return the table."""
    return [
        '| target | splits that can promise it | lanes kept | splits with all lanes kept | purity '
        '| rejected | fixed score, as pure: rejected | ours no more | items of a lane needed |',
        '|---:|---:|---:|---:|---:|---:|---:|---:|---:|',
        *(
            f'| {r.target:g} | {r.promised} of {r.splits} | {r.kept:.3f} | {r.splits_kept:.3f} '
            f'| {r.purity:.4f} | {r.rejected:.4f} | {r.fixed_rejected:.4f} | {r.no_more:.2f} '
            f'| {r.needed:.0f} |'
            for r in rows
        ),
    ]


def draw_purity(pyplot: Any, rows: Sequence[PurityRow]) -> Any:
    """Draw rejects over the target, beside those of a fixed score."""
    figure, axes = pyplot.subplots(figsize=(6, 4))
    known = [row for row in rows if row.promised]
    at = [100 * row.target for row in known]
    axes.plot(at, [100 * row.rejected for row in known], 'o-', label='ours, promised')
    axes.plot(
        at,
        [100 * row.fixed_rejected for row in known],
        's--',
        label='fixed class score, as pure in hindsight',
    )
    axes.set(xlabel='% purity promised', ylabel='% rejected', title=f'{SPLITS} splits')
    axes.legend()
    axes.grid(alpha=0.3)
    return figure
