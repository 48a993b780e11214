# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Redraw the published figures with our curves in them, and the cell's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stl_conveyor.assess.plotting import file_pyplot
from stl_conveyor_lab.bench.policy.cells import BOUNDS, LABELS
from stl_conveyor_lab.bench.policy.points import PUBLISHED
from stl_conveyor_lab.bench.policy.rows import ORACLE, PointRow


def plot_figures(rows: list[PointRow], out: Path) -> list[Path]:
    """Redraw the published figures with our curves in them."""
    pyplot = file_pyplot()
    colours = {
        'lower_bound': 'black',
        'clairvoyant': 'dimgray',
        ORACLE: 'darkgray',
        'baseline': 'tab:orange',
        'mdp': 'tab:blue',
        'belief': 'tab:green',
        'dqn': 'tab:red',
        'adaptive': 'tab:purple',
    }
    axes_of = {
        'fig5a': ('spread sp', 'rprob = {:g}; r = 0.1, b = 4'),
        'fig5b': ('log10 rprob', 'sp = {:g}; r = 0.1, b = 4'),
        'fig6': ('bucket depth b', 'r = {:g}; sp = 0.1, rprob = 0.1'),
        'fig8': ('log10 tprob', 'intervals 1 and {:g}; r = 0.1, b = 4'),
        'fig9': ('bucket depth b', 'r = {:g}; intervals 1 and 3'),
    }
    paths = []
    for figure, (x_label, title) in axes_of.items():
        chosen = [row for row in rows if row.figure == figure]
        panels = sorted({row.panel for row in chosen}, reverse=figure == 'fig5a')
        if not panels:
            continue
        canvas, axes = pyplot.subplots(
            1, len(panels), figsize=(5.2 * len(panels), 4.4), squeeze=False
        )
        for axis, panel in zip(axes[0], panels):
            points = sorted((row for row in chosen if row.panel == panel), key=lambda row: row.x)
            for policy, colour in colours.items():
                measured = [
                    (row.x, row.measured[policy]) for row in points if policy in row.measured
                ]
                if measured:
                    x = [at for at, _ in measured]
                    y = [value.loss for _, value in measured]
                    error = [value.ci95 or 0.0 for _, value in measured]
                    axis.errorbar(
                        x,
                        y,
                        yerror_safe(error),
                        color=colour,
                        lw=1.4,
                        capsize=2,
                        ms=5,
                        marker='s' if policy == 'dqn' else None,
                        label=LABELS[policy],
                        ls='none' if policy == 'dqn' else '--' if policy in BOUNDS else '-',
                    )
                theirs = [
                    (row.x, row.published[policy]) for row in points if policy in row.published
                ]
                if theirs:
                    axis.plot(
                        *zip(*theirs),
                        'x',
                        color=colour,
                        ms=5,
                        label=f'published {PUBLISHED[policy]}',
                    )
            axis.set_xlabel(x_label)
            axis.set_title(title.format(panel), fontsize=10)
            axis.grid(alpha=0.3)
        axes[0][0].set_ylabel('top-5 loss')
        entries: dict[str, Any] = {}
        for axis in axes[0]:
            for handle, label in zip(*axis.get_legend_handles_labels()):
                entries.setdefault(label, handle)
        axes[0][-1].legend(
            entries.values(),
            entries.keys(),
            fontsize=7,
            loc='center left',
            bbox_to_anchor=(1.01, 0.5),
        )
        canvas.tight_layout()
        path = out / f'policy_{figure}.png'
        canvas.savefig(path, dpi=110)
        file_pyplot().close(canvas)
        paths.append(path)
    return paths


def yerror_safe(errors: list[float]) -> list[float]:
    """Replace what is not a number by 0: one sequence has no interval."""
    return [error if np.isfinite(error) else 0.0 for error in errors]


def plot_items(items: dict, out: Path) -> list[Path]:
    """Draw calibration of the reward estimates, and what byte budgets win."""
    pyplot = file_pyplot()
    paths = []
    if items.get('calibration'):
        canvas, axes = pyplot.subplots(1, 2, figsize=(9.6, 4.2))
        for name, rows in items['calibration'].items():
            axes[0].errorbar(
                [row['expected'] for row in rows],
                [row['actual'] for row in rows],
                [row['ci95'] for row in rows],
                marker='o',
                ms=4,
                capsize=2,
                label=name,
            )
        top = max(row['expected'] for rows in items['calibration'].values() for row in rows)
        axes[0].plot([0, top], [0, top], color='gray', lw=0.8)
        axes[0].set_xlabel('expected reward, tenths of the items')
        axes[0].set_ylabel('actual reward')
        axes[0].set_title('calibration')
        axes[0].legend()
        shares = items['metrics']['shares']
        for name in [name for name in shares[0] if name != 'share']:
            gains = np.array([row[name]['gain'] for row in shares])
            ends = np.array([row[name]['gain_95'] for row in shares]).T
            axes[1].errorbar(
                [row['share'] for row in shares],
                gains,
                np.abs(ends - gains),
                marker='o',
                ms=4,
                capsize=2,
                label=name,
            )
        axes[1].set_xlabel('share of the items offloaded, the best by each metric')
        axes[1].set_ylabel('gain in accuracy')
        axes[1].set_title('gain by metric')
        axes[1].legend()
        paths.append(_finish(canvas, out / 'policy_metrics.png'))
    if items.get('policies'):
        groups = items['policies']
        kinds = list(dict.fromkeys(row['arrivals'] for row in groups))
        canvas, axes = pyplot.subplots(
            1, len(kinds), figsize=(5.2 * len(kinds), 4.2), squeeze=False, sharey=True
        )
        for axis, kind in zip(axes[0], kinds):
            rows = [row for row in groups if row['arrivals'] == kind]
            for name in rows[0]['policies']:
                axis.errorbar(
                    [row['rate'] for row in rows],
                    [row['policies'][name]['loss'] for row in rows],
                    [row['policies'][name]['ci95'] for row in rows],
                    marker='o',
                    ms=4,
                    capsize=2,
                    ls='--' if 'all or nothing' in name or 'constant' in name else '-',
                    label=name,
                )
            axis.set_xlabel('token rate r (b = 4)')
            axis.set_title(f'arrivals: {kind}')
            axis.grid(alpha=0.3)
        axes[0][0].set_ylabel('loss (local or edge answer wrong)')
        axes[0][-1].legend(fontsize=8)
        paths.append(_finish(canvas, out / 'policy_bytes.png'))
    return paths


def _finish(canvas, path: Path) -> Path:
    canvas.tight_layout()
    canvas.savefig(path, dpi=100)
    file_pyplot().close(canvas)
    return path
