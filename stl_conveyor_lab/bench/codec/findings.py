# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the codec benchmark must show, point by point, and what was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stl_conveyor_lab.bench.codec.deadline import LINK_NAMES, DeadlineScore
from stl_conveyor_lab.bench.codec.plot import CLEAN_KIND, OURS_KIND, SIDE_KIND, TUNED_KIND
from stl_conveyor_lab.bench.codec.series import Series
from stl_conveyor_lab.measure.own_codec import OURS, OURS_WITH_SIDE
from stl_conveyor_lab.measure.scores import (
    Difference,
    Finding,
    Row,
    above_all,
    bytes_to_reach,
    paired,
    reached,
)

#: Of one codec, by link and deadline: its score, and whether each answer was right.
Scores = Mapping[tuple, tuple[DeadlineScore, np.ndarray]]
#: The reference that counts once its classifier is tuned, too.
RESCALED_WEBP = 'webp_6_may_downscale'
#: Accuracies to reach on data sets of these names; 'clean' is the strong model's own less .01.
MARKS: Mapping[str, Mapping[int, float | str]] = {
    'clothing': {64: 0.70, 128: 0.77, 256: 0.83, 512: 0.85, 1024: 0.865, 2048: 'clean'}
}
SIDE_MARKS: Mapping[str, Mapping[int, float | str]] = {
    'clothing': {128: 0.83, 256: 0.86, 512: 0.87, 1024: 'clean'}
}
CLEAN_MARGIN = 0.01
#: Our codec has one kilobyte to be better than the tuned rescaled WebP, then not to be worse.
TUNED_LIMIT = 1024


def differences(series: Sequence[Series], sizes: Sequence[int]) -> list[Difference]:
    """Return ours less every reference at every size."""
    ours = [one for one in series if one.kind in (OURS_KIND, SIDE_KIND)]
    return [
        paired(one.name, other.name, size, one.right[size], other.right[size])
        for one in ours
        for other in series
        if other.kind in (CLEAN_KIND, TUNED_KIND)
        for size in sizes
    ]


def _of_kind(series: Sequence[Series], kind: str) -> list[Series]:
    return [one for one in series if one.kind == kind]


def _marks(marks: Mapping[int, float | str], clean: float) -> dict[int, float]:
    return {
        size: clean - CLEAN_MARGIN if mark == 'clean' else float(mark)
        for size, mark in marks.items()
    }


def _against_st(ours: Series, series: Sequence[Series]) -> list[Finding]:
    result = []
    for st in series:
        if not st.slug.startswith('st') or not st.rows:
            continue
        best = max(st.rows, key=lambda row: row.accuracy)
        if best.accuracy == 0:
            continue
        least = min(row.mean_bytes for row in st.rows if row.accuracy == best.accuracy)
        need = bytes_to_reach(ours.rows, best.accuracy)
        own = next((row.mean_bytes for row in ours.rows if row.budget == need), None)
        share = None if own is None else own / least
        result.append(
            Finding(
                f'best of {st.name} with at most a quarter of its bytes',
                share is not None and share <= 0.25,
                f'its best is {best.accuracy:.3f} with {least:.0f} B on average; ours '
                + (
                    'never reaches it'
                    if own is None
                    else f'reaches it with {own:.0f} B, {share:.2f} of them'
                ),
            )
        )
    return result


def deadline_findings(cells: Mapping[str, Scores], ours: str, title: str) -> list[Finding]:
    """Return in how many cells our codec comes first, for the nine of constant rate and the trace.

    Once against sizes that were chosen beforehand, once against those of a clairvoyant sender.
    """
    others = [found for name, found in cells.items() if name not in (OURS, OURS_WITH_SIDE)]
    result = []
    for clairvoyant in (False, True) if others else ():
        for links, what in ((LINK_NAMES[:-1], 'constant rates'), (LINK_NAMES[-1:], 'the trace')):
            keys = [key for key in cells[ours] if key[0] in links]
            behind = []
            for key in keys:
                cell, right = cells[ours][key]

                def value(other: Scores, key: Any = key) -> float:
                    found = other[key][0]
                    return (
                        max(found.accuracy, found.clairvoyant or 0.0)
                        if clairvoyant
                        else found.accuracy
                    )

                best = max(others, key=lambda other: value(other))
                margin = cell.accuracy - value(best)
                if margin > 0:
                    continue
                line = f'{key[0]} {key[1]} ms {margin:+.3f}'
                if not clairvoyant:
                    difference = paired(ours, best[key][0].codec, 0, right, best[key][1])
                    line += f' [{difference.low:+.3f}, {difference.high:+.3f}]'
                behind.append(f'{line} ({best[key][0].codec})')
            result.append(
                Finding(
                    f'{ours} first at every deadline, {what}, {title}'
                    + (', sizes of a clairvoyant sender' if clairvoyant else ''),
                    not behind,
                    f'first in {len(keys) - len(behind)} of {len(keys)}'
                    + (f'; not in {", ".join(behind)}' if behind else ''),
                )
            )
    return result


def findings(
    name: str,
    series: Sequence[Series],
    compared: Sequence[Difference],
    strong: Row,
    weak: Row | None,
) -> list[Finding]:
    """Return the points about accuracy against bytes, for the model folder `name`."""
    ours = _of_kind(series, OURS_KIND)[0]
    tuned_name = next(
        (one.name for one in _of_kind(series, TUNED_KIND) if one.slug == RESCALED_WEBP), None
    )
    clean = {one.name for one in _of_kind(series, CLEAN_KIND)}
    pure = [d for d in compared if d.ours == ours.name]
    result = [
        above_all(
            'pure codec above every reference read by the unmodified classifier, at every size',
            [d for d in pure if d.reference in clean],
        )
    ]
    others = [d for d in pure if d.reference not in clean]
    if tuned_name is None:
        result.append(
            Finding(
                'above rescaled WebP with an equally tuned classifier',
                None,
                'that classifier is not trained',
            )
        )
    else:
        against = [d for d in others if d.reference == tuned_name]
        result += [
            above_all(
                f'above {tuned_name} up to {TUNED_LIMIT} B',
                [d for d in against if d.budget <= TUNED_LIMIT],
            ),
            above_all(
                f'not below {tuned_name} beyond {TUNED_LIMIT} B',
                [d for d in against if d.budget > TUNED_LIMIT],
                -1e-9,
            ),
        ]
    rest = [d for d in others if d.reference != tuned_name]
    if rest:
        result.append(above_all('above every other tuned reference at every size', rest))
    by_size = {row.budget: row for row in ours.rows}
    result += reached('pure codec', by_size, _marks(MARKS.get(name, {}), strong.accuracy))
    for with_side in _of_kind(series, SIDE_KIND):
        rows = {row.budget: row for row in with_side.rows}
        if weak is not None:
            least = min(rows.values(), key=lambda row: row.accuracy)
            result.append(
                Finding(
                    'with the local answer never below the local classifier',
                    least.accuracy >= weak.accuracy,
                    f'least {least.accuracy:.3f} at {least.budget} B, local {weak.accuracy:.3f}',
                )
            )
        result += reached(
            'with the local answer', rows, _marks(SIDE_MARKS.get(name, {}), strong.accuracy)
        )
    return result + _against_st(ours, series)


def time_findings(times: Mapping) -> list[Finding]:
    """Return the points about processor time, from what the benchmark measured."""
    spent = times['milliseconds']
    own, edge = spent['encode_1024'], spent['decode_1024'] + spent['classify']
    result = []
    for claim, value, limit, above in (
        (
            'our encode at most 1.5 times progressive JPEG',
            own / spent['progressive_jpeg'],
            1.5,
            False,
        ),
        ('WebP method 4 at least 5 times our encode', spent['webp_4'] / own, 5.0, True),
    ):
        result.append(
            Finding(claim, value >= limit if above else value <= limit, f'{value:.2f} times')
        )
    batched = [spent[name] for name in spent if name.startswith('classify_each_of')]
    falling = (
        'falls with the batch'
        if min(batched) < spent['classify']
        else 'does not fall with the batch'
    )
    result.append(
        Finding(
            'decode and classify at the edge under 40 ms and falling with the batch',
            edge < 40 and min(batched) < spent['classify'],
            f'{edge:.1f} ms; classifying {falling}: {spent["classify"]:.1f} ms alone, '
            f'{min(batched):.1f} ms each at best',
        )
    )
    return result


def loss_findings(lost: Sequence[Row]) -> list[Finding]:
    """Return whether lost packets cost what they carry, from the rows of `loss_rows`."""
    result = []
    for row, prefix in zip(lost[::2], lost[1::2]):
        margin = row.accuracy - prefix.accuracy
        result.append(
            Finding(
                f'{row.codec}: within .02 of the prefix of the same size',
                margin >= -0.02,
                f'{row.accuracy:.3f} with {row.mean_bytes:.0f} B, prefix {prefix.accuracy:.3f}, '
                f'{margin:+.3f}',
            )
        )
    return result
