# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How well device and edge tell strangers, by kind, beside published detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.decision.of_folder import detector_of
from stl_conveyor.decision.stranger_detector import (
    BOUNDARY,
    CLASS,
    EDGE,
    LOCAL,
    REFERENCE,
    StrangerDetector,
)
from stl_conveyor.errors import ModelFileError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.sim.strangers import KINDS, OWN_KINDS, strangers_by_name
from stl_conveyor_lab.train.decision import LENGTHS, Looked

REJECTS = 0.02  # share of the cell's own items
OURS, TOP = 'ours', 'max probability'
#: How the terms of which ours is the sum are called.
NAMES = {REFERENCE: 'nearest reference', CLASS: 'nearest class', BOUNDARY: 'learned boundary'}


@dataclass(frozen=True)
class StrangerRow:
    """How well one source tells strangers by one score.

    Attributes:
        auroc: Of all strangers.
        foreign, own_parts: Share caught where REJECTS of the own items are rejected.
        by_kind: AUROC of each kind.
    """

    source: str
    score: str
    auroc: float
    foreign: float
    own_parts: float
    by_kind: Mapping[str, float]


def auroc(own: NDArray[np.floating], strange: NDArray[np.floating]) -> float:
    """Return how likely a stranger's score is above that of an own item; ties count half."""
    ordered = np.sort(own)
    below = np.searchsorted(ordered, strange, side='left')
    upto = np.searchsorted(ordered, strange, side='right')
    return float((below + upto).mean() / 2 / len(own))


def scores_of(
    detector: StrangerDetector,
    probabilities: NDArray[np.floating],
    inside: list[NDArray[np.float32]],
    received: int | None,
) -> dict[str, NDArray[np.float64]]:
    """Return every score [N], the larger the stranger."""
    at = None if received is None else [received] * len(probabilities)
    terms = detector.terms(inside, at)
    return {
        OURS: np.asarray(sum(terms.values()), np.float64),
        TOP: -np.asarray(probabilities, np.float64).max(axis=1),
        **{NAMES[name]: term for name, term in terms.items()},
    }


def measure_strangers(folder: ModelFolder, own: Looked, strange: Looked) -> list[StrangerRow]:
    """Score own items and strangers by every source and score.

    Raises:
        ModelFileError: For a folder that tells no strangers.
    """
    kinds = np.array([strangers_by_name()[name].kind for name in strange.names])
    of_parts = np.isin(kinds, OWN_KINDS)
    sources: list[tuple[str, str, int | None]] = [('device', LOCAL, None)]
    sources += [(f'edge, {length} B', EDGE, length) for length in LENGTHS]
    rows = []
    for name, source, length in sources:
        detector = detector_of(folder, source)
        if detector is None:
            raise ModelFileError(
                f'{folder.name} tells no strangers; make strangers.npz with '
                'python -m stl_conveyor_lab.train.decision'
            )
        place = 0 if length is None else LENGTHS.index(length)
        both = [
            scores_of(
                detector,
                told.local if length is None else told.edge[place],
                told.local_inside if length is None else told.edge_inside[place],
                length,
            )
            for told in (own, strange)
        ]
        for score, ours in both[0].items():
            theirs = both[1][score]
            limit = np.quantile(ours, 1.0 - REJECTS)
            rows.append(
                StrangerRow(
                    name,
                    score,
                    auroc(ours, theirs),
                    float((theirs[~of_parts] > limit).mean()),
                    float((theirs[of_parts] > limit).mean()),
                    {
                        kind: auroc(ours, theirs[kinds == kind])
                        for kind in KINDS
                        if (kinds == kind).any()
                    },
                )
            )
    return rows


def stranger_lines(rows: Sequence[StrangerRow]) -> list[str]:
    """Return both tables."""
    kinds = list(rows[0].by_kind)
    chosen = [row for row in rows if row.source in ('device', 'edge, 512 B')]
    return [
        f'Caught where {REJECTS:.0%} of the own items are rejected; "own parts" are parts in '
        'another size, halves and doubles.',
        '',
        '| source | score | AUROC | foreign objects caught | own parts caught |',
        '|---|---|---:|---:|---:|',
        *(
            f'| {r.source} | {r.score} | {r.auroc:.3f} | {r.foreign:.2f} | {r.own_parts:.2f} |'
            for r in rows
        ),
        '',
        f'| AUROC by kind | {" | ".join(f"{r.source}: {r.score}" for r in chosen)} |',
        f'|---|{"---:|" * len(chosen)}',
        *(
            f'| {kind} | {" | ".join(f"{r.by_kind[kind]:.2f}" for r in chosen)} |'
            for kind in kinds
        ),
    ]


def draw_strangers(pyplot: Any, rows: Sequence[StrangerRow]) -> Any:
    """Draw the AUROC by kind, of device and edge, ours beside the largest probability."""
    kinds = list(rows[0].by_kind)
    figure, axes = pyplot.subplots(figsize=(8, 4))
    at = np.arange(len(kinds))
    for shift, (source, score) in enumerate(
        (source, score) for source in ('device', 'edge, 512 B') for score in (TOP, OURS)
    ):
        (row,) = [r for r in rows if (r.source, r.score) == (source, score)]
        axes.bar(
            at + 0.2 * (shift - 1.5),
            [row.by_kind[kind] for kind in kinds],
            0.2,
            label=f'{source}: {score}',
        )
    axes.set_xticks(at, kinds, rotation=45, ha='right')
    axes.set(ylabel='AUROC', ylim=(0, 1.02))
    axes.legend(fontsize=8)
    return figure
