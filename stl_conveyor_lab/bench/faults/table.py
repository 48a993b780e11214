# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The table of a run as CSV, Markdown and a picture. Needs no ROS."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from stl_conveyor.assess.plotting import file_pyplot
from stl_conveyor.resources import writing
from stl_conveyor_lab.bench.faults.tally import CALM, Row

TITLE = '# Faults at random'
HEADING = (
    'fault | times | items | unacted | of them not captured | late | to reject | wrong lane '
    '| twice | beyond physics | lost unsaid | first word (s) | full work (s)'
)


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows, one line each, under a heading."""
    with writing(path), open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, [item.name for item in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def markdown(rows: Sequence[Row], note: str = '') -> str:
    """Return the table, with a sentence above it."""
    lines = [f'| {HEADING} |', '|---' * len(HEADING.split('|')) + '|']
    for row in rows:
        cells = [
            row.name,
            row.times or '',
            row.items,
            row.unacted,
            row.uncaptured,
            row.late,
            row.rejected,
            row.wrong,
            row.twice,
            row.beyond,
            row.unsaid,
            _word(row),
            '' if row.name == CALM else 'never' if row.full is None else f'{row.full:.1f}',
        ]
        lines.append('| ' + ' | '.join(map(str, cells)) + ' |')
    return '\n'.join([TITLE, '', *([note, ''] if note else []), *lines, '', summary(rows), ''])


def summary(rows: Sequence[Row]) -> str:
    """Return in a sentence what became of all items."""
    total = Row('all')
    for row in rows:
        for name in ('times', 'items', 'unacted', 'late', 'wrong', 'twice', 'beyond', 'unsaid'):
            setattr(total, name, getattr(total, name) + getattr(row, name))
    return (
        f'{total.items} items, {total.times} faults: {total.unacted} unacted, {total.late} late, '
        f'{total.wrong} in a wrong lane, {total.twice} acted on twice, {total.beyond} unacted or '
        f'late though camera and actuator worked, {total.unsaid} lost unsaid.'
    )


def draw(path: Path, rows: Sequence[Row]) -> None:
    """Draw for each fault which part of its items was unacted, late or in a wrong lane.

    Raises:
        MissingDependency: If matplotlib is not installed.
    """
    pyplot = file_pyplot()
    shown = [row for row in rows if row.items][::-1]
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.3 * len(shown)))
    left = [0.0] * len(shown)
    for name, colour in (
        ('unacted', '#8b1e3f'),
        ('late', '#d98c3f'),
        ('wrong', '#1f4e79'),
        ('rejected', '#c8cfd6'),
    ):
        parts = [100 * getattr(row, name) / row.items for row in shown]
        axes.barh(range(len(shown)), parts, left=left, color=colour, label=name)
        left = [before + part for before, part in zip(left, parts)]
    axes.set_yticks(range(len(shown)), [f'{row.name} ({row.items})' for row in shown])
    axes.set_xlabel('% of the items that passed meanwhile (their number in brackets)')
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120, bbox_inches='tight')
    pyplot.close(figure)


def _word(row: Row) -> str:
    if row.name == CALM:
        return ''
    if row.word is None:
        return 'none'
    return f'{row.word:.1f}' + (f', {row.silent} times none' if row.silent else '')
