# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Pictures and a page about a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from stl_conveyor.assess.lane_pictures import purity_figure, reliability_figure
from stl_conveyor.assess.lanes import trusted_answers
from stl_conveyor.assess.plotting import file_pyplot
from stl_conveyor.assess.scoring import ItemRecord, confusion
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.resources import writing
from stl_conveyor.run.summary import Summary

Pictures = list[tuple[str, str]]  # (file name, caption)

GOOD, BAD, NEUTRAL, ACCENT = '#2a7f62', '#c1440e', '#9aa5b1', '#1f4e79'

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}}
table{{border-collapse:collapse}}td,th{{padding:.2em .8em .2em 0;text-align:left}}
td{{border-top:1px solid #ddd}}img{{max-width:100%}}figure{{margin:2em 0}}
figcaption{{color:#555}}</style>
<h1>{title}</h1><p>{subtitle}</p>
<table>{rows}</table>
{stages}{troubles}{figures}</html>
"""


def write_report(
    folder: Path,
    summary: Summary,
    records: Sequence[ItemRecord],
    cell: CellDescription,
    crops: Mapping[int, np.ndarray],
    overview: np.ndarray | None,
) -> Path:
    """Write report.html and its pictures.

    Args:
        crops: uint8[S, S, 3] by capture stamp.
        overview: Picture of the whole cell, uint8[H, W, 3].

    Returns:
        The page.

    Raises:
        MissingDependency: If matplotlib is not installed.
    """
    pyplot = file_pyplot()
    pictures: Pictures = []

    def save(figure, name: str, caption: str) -> None:
        with writing(folder / name):
            figure.savefig(folder / name, dpi=110, bbox_inches='tight')
        pyplot.close(figure)
        pictures.append((name, caption))

    if overview is not None:
        with writing(folder / 'cell.png'):
            pyplot.imsave(folder / 'cell.png', overview)
        pictures.append(
            (
                'cell.png',
                'The cell. Items come from the left, pass the break beam '
                'and the camera, and are pushed into the bin of their lane.',
            )
        )
    if records:
        save(
            _timeline(pyplot, records),
            'timeline.png',
            'Item by item: the token bucket before each decision, what was offloaded, and what '
            'came to rest in the wrong place.',
        )
        save(
            _slack(pyplot, records),
            'slack.png',
            'Time left when each item was acted on. Below 0 would be a missed deadline.',
        )
        save(
            _latency(pyplot, summary),
            'latency.png',
            'Where the time goes: median and 99th percentile of each stage.',
        )
        save(
            _confusion(pyplot, records, cell),
            'confusion.png',
            'Where items belong, and where they came to rest.',
        )
    trusted = trusted_answers(records, cell)
    if any(len(right) for _, right in trusted.values()):
        save(
            purity_figure(pyplot, trusted),
            'purity.png',
            'How pure the lanes would be if the most doubtful items were rejected as well.',
        )
        save(
            reliability_figure(pyplot, trusted),
            'reliability.png',
            'How often the lane that an answer named was right, over what it told of it.',
        )
    sample = [r for r in records if r.stamp_ns in crops]
    if sample:
        save(
            _samples(pyplot, sample, crops),
            'samples.png',
            'What the camera saw, the true class, the local answer and that of the edge.',
        )
    page = folder / 'report.html'
    with writing(page):
        page.write_text(_page(summary, pictures), encoding='utf-8')
    return page


def _page(summary: Summary, pictures: Pictures) -> str:
    settings = summary.settings
    stages = ''.join(
        f'<tr><td>{escape(name.replace("_", " "))}</td><td>{q.p50:.2f}</td><td>{q.p99:.2f}</td>'
        f'<td>{q.n}</td></tr>'
        for name, q in summary.latency_ms.items()
        if q.n
    )
    troubles = ''.join(f'<li>{escape(t)}</li>' for t in summary.deaths + summary.troubles)
    return _PAGE.format(
        title=f'{summary.score.items} items on the belt',
        subtitle=escape(
            f'Seed {settings.seed}, policy {settings.policy}, r = {settings.rate:g}, '
            f'b = {settings.bucket:g}, link {settings.link}, fault {settings.fault}, '
            f'arrivals {settings.arrivals}.'
            + ('' if summary.complete else ' The run ended before every item was at rest.')
            + (f' Note: {summary.too_slow}.' if summary.too_slow else '')
        ),
        rows=''.join(
            f'<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>'
            for name, value in summary.rows()
        ),
        stages='<h2>Stages</h2><table><tr><th>ms</th><th>p50</th><th>p99</th><th>items</th></tr>'
        f'{stages}</table>'
        if stages
        else '',
        troubles=f'<h2>What nodes reported</h2><ul>{troubles}</ul>' if troubles else '',
        figures=''.join(
            f'<figure><img src="{escape(name)}" alt="{escape(caption)}">'
            f'<figcaption>{escape(caption)}</figcaption></figure>'
            for name, caption in pictures
        ),
    )


def _timeline(pyplot, records: Sequence[ItemRecord]):
    figure, (tokens, right) = pyplot.subplots(
        2, 1, figsize=(10, 4), sharex=True, height_ratios=(2, 1)
    )
    start = records[0].stamp_ns
    seconds = np.array([(r.stamp_ns - start) / 1e9 for r in records])
    level = [np.nan if r.decision is None else r.decision.tokens for r in records]
    tokens.step(seconds, level, where='post', color=ACCENT, label='tokens before the decision')
    sent = np.array([r.decision is not None and r.decision.offload for r in records])
    tokens.plot(
        seconds[sent], np.array(level, float)[sent], 'o', ms=4, color=BAD, label='offloaded'
    )
    tokens.set_ylabel('tokens')
    tokens.set_ylim(0, 1.1 * np.nanmax(np.append(np.array(level, float), 1.0)))
    tokens.legend(loc='lower left', bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    rested = np.array([r.rested for r in records])
    correct = np.array([r.correct for r in records])
    for chosen, colour, height, label in (
        (rested & correct, GOOD, 1, 'right'),
        (rested & ~correct, BAD, 0, 'wrong'),
    ):
        right.plot(
            seconds[chosen], np.full(chosen.sum(), height), '|', ms=14, color=colour, label=label
        )
    right.set_yticks([0, 1], ['wrong bin', 'right bin'])
    right.set_ylim(-0.6, 1.6)
    right.set_xlabel('s')
    return figure


def _slack(pyplot, records: Sequence[ItemRecord]):
    figure, axes = pyplot.subplots(figsize=(7, 3))
    slack = [1e3 * r.action.slack for r in records if r.action is not None]
    axes.hist(slack, bins=40, color=ACCENT)
    axes.axvline(0, color=BAD)
    axes.set_xlabel('ms from the command to the deadline')
    axes.set_ylabel('items')
    return figure


def _latency(pyplot, summary: Summary):
    stages = [(name, q) for name, q in summary.latency_ms.items() if q.n]
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(stages) + 1))
    places = np.arange(len(stages))[::-1]
    axes.barh(places, [q.p99 for _, q in stages], color=NEUTRAL, label='p99')
    axes.barh(places, [q.p50 for _, q in stages], color=ACCENT, height=0.5, label='p50')
    axes.set_yticks(places, [name.replace('_', ' ') for name, _ in stages])
    axes.set_xlabel('ms')
    axes.legend(frameon=False)
    return figure


def _confusion(pyplot, records: Sequence[ItemRecord], cell: CellDescription):
    rows, columns, counts = confusion(records, cell)
    figure, axes = pyplot.subplots(figsize=(5, 4))
    axes.imshow(counts, cmap='Blues')
    for (row, column), count in np.ndenumerate(counts):
        if count:
            axes.text(
                column,
                row,
                str(count),
                ha='center',
                va='center',
                color='white' if count > counts.max() / 2 else 'black',
            )
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel('came to rest')
    axes.set_ylabel('belongs')
    return figure


def _samples(pyplot, records: Sequence[ItemRecord], crops: Mapping[int, np.ndarray]):
    offloaded = [r for r in records if r.edge is not None]
    wrong = [r for r in records if r.rested and not r.correct and r not in offloaded[:6]]
    chosen = offloaded[:6] + wrong[:3]
    chosen += [r for r in records if r not in chosen][: 12 - len(chosen)]
    figure, grid = pyplot.subplots(
        -(-len(chosen) // 4), 4, figsize=(12, 3.7 * -(-len(chosen) // 4)), squeeze=False
    )
    for axes in grid.flat:
        axes.axis('off')
    for axes, record in zip(grid.flat, chosen):
        axes.imshow(crops[record.stamp_ns])
        lines = [record.class_id]
        if record.local is not None:
            lines.append(f'local: {record.local.class_id} {record.local.score:.2f}')
        if record.edge is not None:
            lines.append(f'edge: {record.edge.class_id} {record.edge.score:.2f}')
        axes.set_title(
            '\n'.join(lines),
            fontsize=8,
            loc='left',
            color=BAD if record.rested and not record.correct else 'black',
        )
    return figure
