# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The codec benchmark in words and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stl_conveyor_lab.bench.codec.deadline import DEADLINES_MS, LINK_NAMES
from stl_conveyor_lab.bench.codec.findings import Finding
from stl_conveyor_lab.bench.codec.series import Series
from stl_conveyor_lab.measure.scores import Difference, Row


def markdown_table(head: Sequence[str], lines: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a Markdown table, empty cells for None."""
    return [
        '| ' + ' | '.join(head) + ' |',
        '|---' * len(head) + '|',
        *(
            '| ' + ' | '.join('' if cell is None else str(cell) for cell in line) + ' |'
            for line in lines
        ),
        '',
    ]


def _accuracies(series: Sequence[Series], sizes: Sequence[int], top5: bool) -> list[str]:
    values = {
        (one.name, row.budget): row.top5 if top5 else row.accuracy
        for one in series
        for row in one.rows
    }
    lines = []
    for one in series:
        cells: list[object] = [one.name]
        for size in sizes:
            value = values[one.name, size]
            best = value == max(values[other.name, size] for other in series)
            cells.append(f'**{value:.3f}**' if best else f'{value:.3f}')
        lines.append(cells)
    return markdown_table(['codec', *(f'{size} B' for size in sizes)], lines)


def _intervals(series: Sequence[Series], sizes: Sequence[int]) -> list[str]:
    return markdown_table(
        ['codec', *(f'{size} B' for size in sizes)],
        [[one.name, *(f'{row.low:.3f}-{row.high:.3f}' for row in one.rows)] for one in series],
    )


def _compared(compared: Sequence[Difference], sizes: Sequence[int]) -> list[str]:
    lines: list[str] = []
    for ours in dict.fromkeys(d.ours for d in compared):
        part = {(d.reference, d.budget): d for d in compared if d.ours == ours}
        lines += [f'### {ours} less the reference', '']
        rows = []
        for reference in dict.fromkeys(name for name, _ in part):
            cells: list[object] = [reference]
            for size in sizes:
                d = part[reference, size]
                cells.append(f'{d.difference:+.3f} [{d.low:+.3f}, {d.high:+.3f}]')
            rows.append(cells)
        lines += markdown_table(['reference', *(f'{size} B' for size in sizes)], rows)
    return lines


def _deadlines(title: str, cells: Mapping[str, Mapping[tuple, tuple]]) -> list[str]:
    keys = [(link, deadline) for link in LINK_NAMES for deadline in DEADLINES_MS]
    best = {key: max(found[key][0].accuracy for found in cells.values()) for key in keys}
    rows = []
    for name, found in cells.items():
        row: list[object] = [name]
        for key in keys:
            cell = found[key][0]
            value = f'{cell.accuracy:.3f}'
            value = f'**{value}**' if cell.accuracy == best[key] else value
            row.append(value if cell.clairvoyant is None else f'{value} ({cell.clairvoyant:.3f})')
        rows.append(row)
    return [
        f'### {title}',
        '',
        *markdown_table(['codec', *(f'{link} {deadline} ms' for link, deadline in keys)], rows),
    ]


def _findings(found: Sequence[Finding]) -> list[str]:
    words = {True: 'met', False: '**not met**', None: 'not measured'}
    return markdown_table(
        ['what it must show', 'met', 'seen'],
        [[one.claim, words[one.met], one.seen] for one in found],
    )


def report(
    title: str,
    fixed: Sequence[Row],
    series: Sequence[Series],
    sizes: Sequence[int],
    compared: Sequence[Difference],
    lost: Sequence[Row],
    found: Sequence[Finding],
    deadlines: Mapping[str, Mapping],
    times: Mapping,
    missing: Sequence[str],
) -> str:
    """Return the page codec.md."""
    lines = [
        f'# Accuracy against bytes: {title}',
        '',
        *(
            f'* {row.codec}: {row.accuracy:.3f} [{row.low:.3f}, {row.high:.3f}], top-5 '
            f'{row.top5:.3f}'
            for row in fixed
        ),
        '',
        '![accuracy against bytes](codec.png)',
        '',
        '## What it must show',
        '',
        *_findings(found),
        '## Accuracy',
        '',
        *_accuracies(series, sizes, False),
        '### Top-5',
        '',
        *_accuracies(series, sizes, True),
        '### 95 % intervals of the accuracy (Wilson)',
        '',
        *_intervals(series, sizes),
        '## Paired differences with 95 % intervals (Newcombe)',
        '',
        *_compared(compared, sizes),
        '## Lost packets',
        '',
        *markdown_table(
            ['packets', 'bytes', 'accuracy'],
            [[row.codec, f'{row.mean_bytes:.0f}', f'{row.accuracy:.3f}'] for row in lost],
        ),
    ]
    if deadlines:
        lines += [
            '## Deadlines',
            '',
            'Accuracy from what arrives by the deadline; in brackets the clairvoyant '
            'choice of the size.',
            '',
            '![accuracy by the deadline](codec_deadlines.png)',
            '',
        ]
        for name, cells in deadlines.items():
            lines += _deadlines(name, cells)
    lines += [
        '## Time and memory',
        '',
        f'Measured on {times["machine"]}.',
        '',
        *markdown_table(
            ['processor time, one thread', 'ms'],
            [[name, f'{value:.2f}'] for name, value in times['milliseconds'].items()],
        ),
        *markdown_table(['ratio', 'value'], times['ratios'].items()),
        f'Peak memory of a fresh process that classifies and encodes one image: '
        f'{times["device_megabytes"]} MB.',
        '',
    ]
    if missing:
        lines += ['## Not in this comparison', '', *(f'* {line}' for line in missing), '']
    return '\n'.join(lines)
