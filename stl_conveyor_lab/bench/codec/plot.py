# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The picture of the codec benchmark: accuracy against bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stl_conveyor.assess.plotting import file_pyplot
from stl_conveyor_lab.bench.codec.deadline import DEADLINES_MS, LINK_NAMES
from stl_conveyor_lab.measure.scores import Row

#: Kinds of curves: ours, ours with the local answer, references with each classifier.
OURS_KIND, SIDE_KIND, CLEAN_KIND, TUNED_KIND = 'ours', 'side', 'clean', 'tuned'

_OURS, _SIDE = '#d1495b', '#f28f3b'
#: By how the slug of a codec begins; the first that fits.
_COLOURS = (
    ('webp_6_may', '#1b6ca8'),
    ('jpeg_may', '#2a9d8f'),
    ('webp_6', '#7fb2dd'),
    ('webp_0', '#a9c9e8'),
    ('progressive_jpeg_q', '#c8b6a6'),
    ('progressive', '#9c8a7a'),
    ('jpeg', '#b5b5b5'),
    ('st_published', '#b18fcf'),
    ('st_fixed', '#cdb4db'),
    ('st', '#6a4c93'),
    ('limitnet', '#b5651d'),
    ('recurrent', '#5f7f3f'),
)


#: References in the picture of the deadlines, besides all those with a tuned classifier.
_SENT = (
    'webp_6_may_downscale',
    'jpeg_may_downscale',
    'webp_6',
    'progressive_jpeg_q30_prefix',
    'st',
    'st_published',
    'limitnet',
    'recurrent',
)


@dataclass(frozen=True)
class Curve:
    """One codec's accuracies, and how to draw them."""

    slug: str
    kind: str
    rows: Sequence[Row]


def _colour(slug: str) -> str:
    return next((colour for start, colour in _COLOURS if slug.startswith(start)), '#888888')


def _style(curve: Curve) -> dict:
    if curve.kind == OURS_KIND:
        return {'color': _OURS, 'lw': 2.8, 'marker': 'o', 'ms': 5, 'zorder': 6}
    if curve.kind == SIDE_KIND:
        return {'color': _SIDE, 'lw': 2.4, 'marker': 's', 'ms': 4.5, 'zorder': 5}
    if curve.kind == TUNED_KIND:
        return {
            'color': _colour(curve.slug),
            'lw': 1.8,
            'ls': (0, (5, 2)),
            'marker': '.',
            'ms': 6,
            'zorder': 4,
        }
    return {
        'color': _colour(curve.slug),
        'lw': 1.3,
        'ls': (0, (1, 1.2)),
        'marker': '.',
        'ms': 4,
        'zorder': 3,
    }


def draw_accuracy(
    curves: Sequence[Curve], fixed: Sequence[Row], title: str, path: Path, top5: bool = False
) -> None:
    """Draw accuracy against bytes: ours in strong colours, tuned dashed, clean dotted.

    The first point of a curve is the first size at which the codec has an answer at all.

    Args:
        curves: One for each codec and classifier.
        fixed: Rows of classifiers on the original images, which become horizontal lines.
        title: Of the picture.
        path: The file to write.
        top5: Whether the truth among the first five answers counts as right.
    """
    pyplot = file_pyplot()
    from matplotlib.ticker import FixedLocator, NullLocator

    figure, axes = pyplot.subplots(figsize=(11, 5.6))
    sizes = sorted({row.budget for curve in curves for row in curve.rows})
    for row, line, colour in zip(fixed, ('-', '-.'), ('#222222', '#777777')):
        value = row.top5 if top5 else row.accuracy
        axes.axhline(value, color=colour, ls=line, lw=1, label=f'{row.codec}: {value:.3f}')
    lowest = 1.0
    for curve in curves:
        style = _style(curve)
        rows = [row for row in curve.rows if row.top5 > 0]
        if not rows:
            continue
        x = [row.budget for row in rows]
        y = [row.top5 if top5 else row.accuracy for row in rows]
        axes.plot(x, y, label=rows[0].codec, **style)
        if curve.kind != CLEAN_KIND:
            axes.fill_between(
                x,
                [row.top5_low if top5 else row.low for row in rows],
                [row.top5_high if top5 else row.high for row in rows],
                color=style['color'],
                lw=0,
                zorder=1,
                alpha=0.16 if curve.kind in (OURS_KIND, SIDE_KIND) else 0.08,
            )
        lowest = min(lowest, min(y))
    axes.set_xscale('log', base=2)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f'{size:,}' for size in sizes], fontsize=8)
    axes.set(
        xlabel='bytes per image, all headers included',
        ylabel='top-5 accuracy' if top5 else 'accuracy',
        ylim=(max(0, lowest - 0.03), 1.01),
    )
    axes.set_title(title, fontsize=12, loc='left')
    axes.grid(color='#e6e6e6', lw=0.7)
    axes.set_axisbelow(True)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    axes.legend(
        fontsize=7.5, loc='upper left', bbox_to_anchor=(1.01, 1), frameon=False, handlelength=3
    )
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def draw_deadlines(
    curves: Sequence[Curve], cells: Mapping[str, Mapping[tuple, tuple]], title: str, path: Path
) -> None:
    """Draw accuracy under each deadline over each link, one group of bars for each link.

    The whisker of a bar ends at the clairvoyant choice of the size.

    Args:
        curves: Say in which colour each codec is drawn.
        cells: By the codec's name, as `deadline_cells` returns them.
        title: Of the picture.
        path: The file to write.
    """
    pyplot = file_pyplot()
    shown = [
        curve
        for curve in curves
        if curve.rows and (curve.kind != CLEAN_KIND or curve.slug in _SENT)
    ]
    figure, axes = pyplot.subplots(1, len(DEADLINES_MS), figsize=(13, 4.2), sharey=True)
    links = list(reversed(LINK_NAMES[:-1])) + [LINK_NAMES[-1]]
    width = 0.86 / max(1, len(shown))
    lowest = 1.0
    for panel, deadline in zip(axes, DEADLINES_MS):
        for number, curve in enumerate(shown):
            name, style = curve.rows[0].codec, _style(curve)
            found = [cells[name][link, deadline][0] for link in links]
            x = [k + (number - (len(shown) - 1) / 2) * width for k in range(len(links))]
            faint = curve.kind == CLEAN_KIND
            panel.bar(
                x,
                [cell.accuracy for cell in found],
                width * 0.92,
                label=name,
                color=style['color'],
                alpha=0.55 if faint else 1,
                zorder=2,
            )
            for at, cell in zip(x, found):
                lowest = min(lowest, cell.accuracy)
                if cell.clairvoyant is not None:
                    panel.plot(
                        [at, at],
                        sorted([cell.accuracy, cell.clairvoyant]),
                        '-',
                        color='#333333',
                        lw=0.8,
                        zorder=3,
                    )
        panel.set_title(f'{deadline} ms', fontsize=11, loc='left')
        panel.set_xticks(range(len(links)), links)
        panel.grid(axis='y', color='#e6e6e6', lw=0.7)
        panel.set_axisbelow(True)
        for side in ('top', 'right'):
            panel.spines[side].set_visible(False)
    axes[0].set(ylabel='accuracy by the deadline', ylim=(max(0, lowest - 0.1), 1))
    axes[-1].legend(fontsize=7.5, loc='upper left', bbox_to_anchor=(1.01, 1), frameon=False)
    figure.suptitle(title, fontsize=12, x=0.01, ha='left')
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
