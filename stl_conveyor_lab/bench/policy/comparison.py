# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Compare the offloading policies with each other, with their bounds and with published curves.

    python -m stl_conveyor_lab.bench.policy --out OUT --reference DIR [--networks DIR]
        [--models DIR [--data FILE.npz]] [--items 100000] [--sequences 100] [--part-items 10000]
        [--part-sequences 100] [--figures fig5a ...] [--resume]

DIR holds the published numbers: dqn_paper_figures.json (Qiu et al., "Adaptive Edge Offloading for
Image Classification Under Rate Limit", IEEE TCAD 2022), the samples of rewards
dqn_fig3_entropy_reward_metric.csv and the sequences *_trace.csv. FILE.npz holds recorded items of
the cell's own models. Written are OUT/policy.json, OUT/policy.md and OUT/policy_*.png.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stl_conveyor.errors import ConfigError, ConveyorError
from stl_conveyor.resources import share_path
from stl_conveyor_lab.bench.policy.cells import (
    BOUNDS,
    LABELS,
    WEAK_LOSS,
    Effort,
    Networks,
    measure_cameras,
    measure_drift,
    measure_networks,
    measure_points,
    measure_traces,
)
from stl_conveyor_lab.bench.policy.items import REFERENCE, measure_items
from stl_conveyor_lab.bench.policy.marks import check
from stl_conveyor_lab.bench.policy.plots import plot_figures, plot_items
from stl_conveyor_lab.bench.policy.points import FigurePoint, published_points
from stl_conveyor_lab.bench.policy.rows import PointRow, as_json
from stl_conveyor_lab.bench.policy.timing import measure_time
from stl_conveyor_lab.measure.machine import machine
from stl_conveyor_lab.papers.tasks import load_metrics

SLICE = 10  # points that are measured between two writings of the results


def shipped(folder: str) -> Path | None:
    """Return a shipped folder, or None where there is none."""
    try:
        return share_path(folder)
    except ConfigError:
        return None


def table(result: dict[str, Any]) -> str:
    """Write the measurements, as they stand in policy.json, as Markdown."""
    lines = [
        '# Offloading policies',
        '',
        'Top-5 loss; in brackets the published value. '
        'Unlimited burst, told hidden state, constant threshold and MDP are exact; intervals '
        'are 95 %, of the paired difference to the MDP.',
        '',
    ]
    columns = [name for name in LABELS if any(name in row['measured'] for row in result['cells'])]
    lines.append('| cell | ' + ' | '.join(LABELS[name] for name in columns) + ' |')
    lines.append('|---' * (len(columns) + 1) + '|')
    for row in result['cells']:
        entries = []
        for name in columns:
            value = row['measured'].get(name)
            text = '' if value is None else f'{value["loss"]:.4f}'
            if value is not None and 'difference_ci95' in value and name not in BOUNDS:
                text += f' ± {value["difference_ci95"]:.4f}'
            if name in row['published']:
                text += f' ({row["published"][name]:.4f})'
            entries.append(text)
        lines.append(f'| {row["figure"]} {row["name"]} | ' + ' | '.join(entries) + ' |')
    if result['traces']:
        lines += ['', '## Published sequences: sum of the offloaded metric', '']
        for row in result['traces']:
            sums = ', '.join(f'{name} {value:.2f}' for name, value in row['sums'].items())
            lines.append(f'- {row["trace"]}: {sums}')
    lines += ['', '## A process that changes every quarter: loss, and difference to the MDP', '']
    for name, value in result['drift'].items():
        lines.append(
            f'- {LABELS[name]}: {value["loss"]:.4f}, {value["difference"]:+.4f} ± '
            f'{value["difference_ci95"]:.4f}'
        )
    lines += ['', '## Several cameras, MDP: loss, and difference to isolated buckets', '']
    for row in result['cameras']:
        losses = ', '.join(
            f'{name} {value["loss"]:.4f} ({value["difference_to_isolated"]:+.4f} ± '
            f'{value["difference_ci95"]:.4f})'
            for name, value in row.items()
            if name != 'cameras'
        )
        lines.append(f'- {row["cameras"]}: {losses}')
    lines += items_table(result['items'])
    lines += ['', '## Time of one decision', '']
    for name, value in result['time'].items():
        for label, run in ((name, value), (f'{name}, no garbage collection', value['without_gc'])):
            numbers = ', '.join(
                f'{key} {number:.1f}' for key, number in run.items() if key != 'without_gc'
            )
            lines.append(f'- {label}: {numbers}')
    lines += ['', '## Marks', '', '```', json.dumps(result['checks'], indent=1), '```', '']
    return '\n'.join(lines)


def items_table(items: dict[str, Any]) -> list[str]:
    """Write what was measured on the cell's own models as lines of Markdown."""
    lines: list[str] = []
    if items.get('metrics'):
        metrics = items['metrics']
        lines += [
            '',
            f"## Reward estimates on the cell's own models, {metrics['items']} items",
            '',
            f'Loss of the weak model: {metrics["weak_loss"]:.4f}.',
            '',
        ]
        for row in metrics['shares']:
            losses = ', '.join(
                f'{name} {value["loss"]:.4f}'
                + (
                    f' (closes {value["gap_closed"]:.2f}, {value["gap_closed_95"][0]:.2f} - '
                    f'{value["gap_closed_95"][1]:.2f})'
                    if 'gap_closed' in value
                    else ''
                )
                for name, value in row.items()
                if name != 'share'
            )
            lines.append(f'- r = {row["share"]:g}: {losses}')
    if items.get('policies'):
        lines += [
            '',
            "## Bytes and policies on the cell's own items, b = 4",
            '',
            f'Difference of the loss to "{REFERENCE}", 95 % paired over items.',
            '',
            '| arrivals | r | policy | loss | difference | offloaded | payload bytes per '
            'item | wire bytes per item |',
            '|---' * 8 + '|',
        ]
        for row in items['policies']:
            for name, value in row['policies'].items():
                lines.append(
                    f'| {row["arrivals"]} | {row["rate"]:g} | {name} | {value["loss"]:.4f} | '
                    f'{value["difference"]:+.4f} ± {value["ci95"]:.4f} | '
                    f'{value["offloaded"]:.3f} | {value["payload_bytes"]:.1f} | '
                    f'{value["wire_bytes"]:.1f} |'
                )
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog='stl-conveyor bench policy', description='Compare offloading policies.'
    )
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument(
        '--reference', type=Path, required=True, help='folder of published numbers'
    )
    parser.add_argument(
        '--networks',
        type=Path,
        default=None,
        help='folder with adaptive.onnx and dqn_<cell>.onnx (default: shipped)',
    )
    parser.add_argument(
        '--models',
        type=Path,
        default=None,
        help='model folder with reward.json (default: shipped)',
    )
    parser.add_argument(
        '--data',
        type=Path,
        default=None,
        help='.npz of classifier results on other items, to compare metrics on; '
        'without it, what the fit measured on items left out is repeated',
    )
    parser.add_argument('--items', type=int, default=100_000, help='length of a sequence')
    parser.add_argument('--sequences', type=int, default=100)
    parser.add_argument(
        '--part-items',
        type=int,
        default=10_000,
        help='items of each sequence that the slow policies play',
    )
    parser.add_argument(
        '--part-sequences', type=int, default=100, help='sequences that the slow policies play'
    )
    parser.add_argument(
        '--figures', nargs='*', default=None, help='only these: fig5a fig5b fig6 fig8 fig9'
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--resume', action='store_true', help='keep what a run with the same settings has measured'
    )
    options = parser.parse_args(arguments)
    try:
        return run(options)
    except ConveyorError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2


def run(options: argparse.Namespace) -> int:
    """Measure everything that the options ask for and write it."""
    reference = options.reference
    pool = load_metrics(reference / 'dqn_fig3_entropy_reward_metric.csv')
    points = published_points(reference / 'dqn_paper_figures.json')
    if options.figures is not None:
        points = [point for point in points if point.figure in options.figures]
    effort = Effort(
        options.items, options.sequences, options.part_items, options.part_sequences, options.seed
    )
    folder = options.networks or shipped('models/policy')
    models = options.models or shipped('models/items')
    networks = Networks(folder)
    options.out.mkdir(parents=True, exist_ok=True)
    settings = {**asdict(effort), 'weak_loss': WEAK_LOSS}
    path = options.out / 'policy.json'
    rows: dict[tuple[str, float, float], PointRow] = {}
    if options.resume and path.is_file():
        before = json.loads(path.read_text(encoding='utf-8'))
        if before['settings'] == settings:
            rows = {row.key: row for row in map(PointRow.of_json, before['cells'])}
    groups: dict[str, list[FigurePoint]] = {}
    for point in points:
        groups.setdefault(repr(point.scenario), []).append(point)
    result: dict[str, Any] = {
        'settings': settings,
        'cells': [],
        'traces': [],
        'time': {},
        'checks': {},
    }
    slices = [
        group[first : first + SLICE]
        for group in groups.values()
        for first in range(0, len(group), SLICE)
    ]

    def keep() -> None:
        result['cells'] = list(rows.values())
        path.write_text(json.dumps(as_json(result), indent=1) + '\n', encoding='utf-8')

    for place, group in enumerate(slices):
        start = time.perf_counter()
        keys = [(point.figure, point.panel, point.x) for point in group]
        news = [point for key, point in zip(keys, group) if key not in rows]
        if news:
            rows.update((row.key, row) for row in measure_points(news, pool, effort))
            keep()
        before_networks = [rows[key] for key in keys]
        measured = measure_networks(before_networks, group, pool, networks, effort)
        if measured is not before_networks:
            rows.update((row.key, row) for row in measured)
            keep()
        if news or measured is not before_networks:
            print(
                f'{place + 1}/{len(slices)} {group[0].name} and {len(group) - 1} more: '
                f'{time.perf_counter() - start:.0f} s',
                flush=True,
            )
    result['traces'] = measure_traces(reference, pool, networks)
    result['drift'] = measure_drift(pool, networks, effort)
    result['cameras'] = measure_cameras(pool, effort)
    result['items'] = measure_items(models, options.data, seed=options.seed)
    result['machine'] = machine()
    result['time'] = measure_time(pool, networks)
    result['checks'] = check(list(rows.values()), result['traces'])
    keep()
    written = as_json(result)
    (options.out / 'policy.md').write_text(table(written), encoding='utf-8')
    plot_figures(list(rows.values()), options.out)
    plot_items(written['items'], options.out)
    print(
        json.dumps(
            {key: written[key] for key in ('checks', 'traces', 'machine', 'time')}, indent=1
        )
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
