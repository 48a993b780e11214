# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The table of a run as CSV, Markdown and a picture. Needs no ROS."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from stl_conveyor.assess.plotting import file_pyplot
from stl_conveyor.errors import ConfigError
from stl_conveyor.resources import writing
from stl_conveyor_lab.bench.line.situation import Row

TITLE = '# Situations of a real line'
VERDICT = {True: 'yes', False: '**no**'}


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows, one line each, under a heading."""
    with writing(path), open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, [item.name for item in fields(Row)])
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {**asdict(row), 'seconds': f'{row.seconds:.1f}', 'holds': int(row.holds)}
                | {'failed': int(row.failed)}
            )


def read_csv(path: Path) -> dict[str, Row]:
    """Return the rows of an earlier run, by name.

    Raises:
        ConfigError: If the file is no table of this benchmark.
    """
    try:
        with open(path, newline='', encoding='utf-8') as file:
            return {
                line['name']: Row(
                    line['name'],
                    line['figure'],
                    line['right'],
                    line['holds'] == '1',
                    float(line['seconds']),
                    line['detail'],
                    line['failed'] == '1',
                )
                for line in csv.DictReader(file)
            }
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(
            f'{path} is no table of bench line ({type(error).__name__}: {error}); give the '
            'line.csv of an earlier run'
        ) from error


def markdown(rows: Sequence[Row], before: Mapping[str, Row] | None = None) -> str:
    """Return the table; with an earlier run its figures stand in a column of their own."""
    heading = ['situation', *(['before'] if before else []), 'figure', 'right', 'holds']
    lines = ['| ' + ' | '.join(heading) + ' |', '|---' * len(heading) + '|']
    for row in rows:
        earlier = []
        if before:
            known = before.get(row.name)
            earlier = [
                '' if known is None else f'{known.figure} ({"yes" if known.holds else "no"})'
            ]
        cells = [row.name, *earlier, row.figure, row.right, VERDICT[row.holds]]
        lines.append('| ' + ' | '.join(_one_line(cell) for cell in cells) + ' |')
    return '\n'.join([TITLE, '', *lines, '', summary(rows), ''])


def summary(rows: Sequence[Row]) -> str:
    """Return in a sentence how many situations are right."""
    right = sum(row.holds for row in rows)
    seconds = sum(row.seconds for row in rows)
    return f'{right} of {len(rows)} situations are right; played in {seconds:.0f} s.'


def counts(rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
    """Return how many situations of each kind are right, and how many there are."""
    found: dict[str, tuple[int, int]] = {}
    for row in rows:
        kind = row.name.partition('/')[0]
        right, total = found.get(kind, (0, 0))
        found[kind] = right + row.holds, total + 1
    return found


def draw(path: Path, rows: Sequence[Row], before: Mapping[str, Row] | None = None) -> None:
    """Draw for each kind how many situations are right, now and before.

    Raises:
        MissingDependency: If matplotlib is not installed.
    """
    pyplot = file_pyplot()
    now = counts(rows)
    names = [row.name for row in rows]
    then = counts([before[name] for name in names if name in before]) if before else {}
    kinds = list(now)[::-1]
    height = 0.36 if then else 0.7
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.42 * len(kinds)))
    for place, kind in enumerate(kinds):
        for shift, found, colour in (
            (height / 2 if then else 0.0, now, '#1f4e79'),
            (-height / 2, then, '#9aa5b1'),
        ):
            if kind in found:
                right, total = found[kind]
                axes.barh(place + shift, right, height, color=colour)
                axes.barh(place + shift, total, height, fill=False, edgecolor='#9aa5b1', lw=0.7)
                axes.annotate(
                    f' {right} of {total}', (total, place + shift), va='center', fontsize=8
                )
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_xlabel('situations that are right' + (' (grey: before)' if then else ''))
    axes.set_xlim(right=1.15 * max((total for _, total in now.values()), default=1))
    figure.savefig(path, dpi=120, bbox_inches='tight')
    pyplot.close(figure)


def _one_line(text: str) -> str:
    return ' '.join(text.replace('|', '/').split())
