# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the codec benchmark counts: accuracies, intervals, paired differences, marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stl_conveyor.assess.intervals import paired_difference, wilson


@dataclass(frozen=True)
class Row:
    """Accuracy of one codec at one size."""

    codec: str
    budget: int
    mean_bytes: float
    accuracy: float
    low: float
    high: float
    top5: float
    overconfidence: float
    images: int
    top5_low: float = 0.0
    top5_high: float = 0.0


@dataclass(frozen=True)
class Difference:
    """Accuracy of ours minus that of a reference on the same images, with 95 % interval."""

    ours: str
    reference: str
    budget: int
    difference: float
    low: float
    high: float


def right_answers(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return bool[N]: whether f32[N, C] has its highest at the class; NaN is no answer."""
    known = np.nan_to_num(probabilities, nan=-1.0)
    return (known.argmax(1) == classes) & (known.max(1) >= 0)


def accuracy_row(
    codec: str, budget: int, mean_bytes: float, probabilities: np.ndarray, classes: np.ndarray
) -> Row:
    """Return the row of answers f32[N, C]; a row of NaN is no answer."""
    known = np.nan_to_num(probabilities, nan=-1.0)
    right = right_answers(probabilities, classes)
    top = np.argsort(-known, 1)[:, :5]
    top5 = (top == classes[:, None]).any(1) & (known.max(1) >= 0)
    low, high = wilson(int(top5.sum()), len(right))
    sure = np.maximum(known.max(1), 0)
    return replace(
        share_row(codec, budget, mean_bytes, right),
        top5=round(float(top5.mean()), 4),
        overconfidence=round(float((sure - right).mean()), 4),
        top5_low=round(low, 4),
        top5_high=round(high, 4),
    )


def paired(ours: str, reference: str, budget: int, a: np.ndarray, b: np.ndarray) -> Difference:
    """Return the difference of two codecs' shares of right answers bool[N] on the same images."""
    difference, low, high = paired_difference(a, b)
    return Difference(ours, reference, budget, round(difference, 4), round(low, 4), round(high, 4))


def share_row(codec: str, budget: int, mean_bytes: float, right: np.ndarray) -> Row:
    """Return the row of which only the right answers bool[N] are known, not their scores."""
    low, high = wilson(int(right.sum()), len(right))
    return Row(
        codec,
        budget,
        round(float(mean_bytes), 1),
        round(float(right.mean()), 4),
        round(low, 4),
        round(high, 4),
        float('nan'),
        float('nan'),
        len(right),
    )


@dataclass(frozen=True)
class Finding:
    """One thing that the benchmark must show, and what was seen."""

    claim: str
    met: bool | None
    seen: str


def _worst(differences: Sequence[Difference]) -> str:
    if not differences:
        return 'nothing to compare'
    least = min(differences, key=lambda d: d.difference)
    return (
        f'least {least.difference:+.3f} [{least.low:+.3f}, {least.high:+.3f}] against '
        f'{least.reference} at {least.budget} B'
    )


def above_all(claim: str, differences: Sequence[Difference], margin: float = 0.0) -> Finding:
    """Return whether every difference is above `margin` (not below it, for a margin < 0)."""
    failed = [d for d in differences if d.difference <= margin]
    seen = _worst(differences)
    if failed and len(failed) < len(differences):
        seen += f'; {len(failed)} of {len(differences)} comparisons not met'
    return Finding(claim, not failed if differences else None, seen)


def reached(claim: str, rows: Mapping[int, Row], marks: Mapping[int, float]) -> list[Finding]:
    """Return for each mark (bytes: accuracy) whether the row of that size reaches it."""
    return [
        Finding(
            f'{claim}: {mark:.3f} at {size} B',
            rows[size].accuracy >= mark,
            f'{rows[size].accuracy:.3f} [{rows[size].low:.3f}, {rows[size].high:.3f}], '
            f'{rows[size].accuracy - mark:+.3f}',
        )
        for size, mark in marks.items()
        if size in rows
    ]


def bytes_to_reach(rows: Sequence[Row], accuracy: float) -> int | None:
    """Return the least budget whose row has that accuracy, or None."""
    return min((row.budget for row in rows if row.accuracy >= accuracy), default=None)
