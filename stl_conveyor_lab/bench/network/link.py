# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run the cell over a real, slow network and compare it with the link emulator.

``python -m stl_conveyor_lab.bench.network --items 150 --out out`` needs root and Linux. For each
rate it makes two network namespaces, joined by a link that tc-tbf(8) shapes, with everything but
the edge in one and the edge in the other, real Fast DDS over UDP between them, and no emulator.
The same items then pass a cell with the link emulator at the same rate. It prints one table and
writes OUT/network.json, OUT/network.md, OUT/network.png and a folder for each run.

*Discovery* is every byte between the two that carries no topic of the cell, counted on the link as
Ethernet frames: from the start until the belt moves, and per minute afterwards.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stl_conveyor.assess.plotting import file_pyplot
from stl_conveyor.assess.scoring import finite
from stl_conveyor.errors import ConfigError, exit_code
from stl_conveyor.interrupts import take_sigterm_like_ctrl_c
from stl_conveyor.run.processes import die_with_parent
from stl_conveyor.sim.link import named_link
from stl_conveyor_lab.bench.cell.sorting import SEED, Estimate, Promise, bootstrap, share
from stl_conveyor_lab.bench.network.shaped_link import (
    DEVICE,
    EDGE,
    ShapedLink,
    Traffic,
    why_no_link,
)

RATES = ('none', 'light', 'heavy')  # the published link, by its jamming
TOLERANCE = 0.02  # of the share of items, between network and emulator


@dataclass(frozen=True)
class Outcome:
    """What became of the items of one run, by serial number: {serial: value}."""

    correct: Mapping[int, bool]
    slack_ms: Mapping[int, float]
    offloaded: int
    edge_used: int  # items sorted by an answer of the edge
    missed: int
    unacted: int

    @classmethod
    def of(cls, folder: Path) -> Outcome:
        """Read the files of a run.

        Raises:
            ConfigError: If they are not there.
        """
        try:
            summary = json.loads((folder / 'summary.json').read_text(encoding='utf-8'))
            with open(folder / 'items.csv', encoding='utf-8', newline='') as file:
                rows = [row for row in csv.DictReader(file) if int(row['serial'] or 0)]
        except OSError as error:
            raise ConfigError(f'{folder}: no complete run: {error}') from error
        return cls(
            {int(row['serial']): row['correct'] == '1' for row in rows},
            {int(row['serial']): 1e3 * float(row['slack_s']) for row in rows if row['slack_s']},
            summary['offloaded'],
            sum(row['outcome_source'] == 'edge' for row in rows),
            summary['missed_deadlines'],
            summary['unacted'],
        )


@dataclass(frozen=True)
class LinkUse:
    """Bytes on the link as Ethernet frames, by direction: 'up' to the edge, 'down' from it."""

    start_seconds: float  # from the first process to the moving belt
    start_bytes: Mapping[str, int]  # discovery alone
    discovery_per_minute: Mapping[str, float]
    topics_per_item: Mapping[str, float]
    frames: Traffic  # by the interface's own counters, seen from the device
    dropped: Mapping[str, int]  # frames that did not fit into the queue, by side

    @classmethod
    def of(cls, folder: Path, items: int, frames: Traffic, dropped: Mapping[str, int]) -> LinkUse:
        """Read what the run counted."""
        phases = json.loads((folder / 'traffic.json').read_text(encoding='utf-8'))
        start, ready, done = (phases[name] for name in ('starting', 'ready', 'done'))
        minutes = (done['time'] - ready['time']) / 60

        def added(kind: str, way: str) -> int:
            return done['bytes'][way][kind] - ready['bytes'][way][kind]

        ways = ('up', 'down')
        return cls(
            ready['time'] - start['time'],
            {
                way: sum(ready['bytes'][way][kind] for kind in ('discovery', 'other'))
                for way in ways
            },
            {way: (added('discovery', way) + added('other', way)) / minutes for way in ways},
            {way: added('topics', way) / items for way in ways},
            frames,
            dropped,
        )


@dataclass(frozen=True)
class LinkComparison:
    """Network and emulator at one rate, over the same items."""

    link: str
    kbit_per_s: float
    network: Outcome
    emulator: Outcome
    use: LinkUse

    @property
    def common(self) -> list[int]:
        """Return the serial numbers that both runs scored."""
        return sorted(set(self.network.correct) & set(self.emulator.correct))

    def accuracy(self, outcome: Outcome) -> Estimate:
        """Return the share of items that came to rest where they belong."""
        return share(np.array([outcome.correct[serial] for serial in self.common]))

    def difference(self) -> Estimate:
        """Return network less emulator, item by item."""
        return bootstrap(
            lambda network, emulator: network.mean(-1) - emulator.mean(-1),
            *(
                np.array([outcome.correct[serial] for serial in self.common], dtype=float)
                for outcome in (self.network, self.emulator)
            ),
        )

    def marks(self) -> list[Promise]:
        """Return every promise with what was measured."""
        apart = self.difference().value
        at = f'{self.kbit_per_s:g} kbit/s: '
        return [
            Promise(
                at + 'network less emulator',
                apart,
                f'within {TOLERANCE:g} of 0',
                abs(apart) <= TOLERANCE,
            ),
            Promise(at + 'missed deadlines', self.network.missed, '0', self.network.missed == 0),
            Promise(at + 'not acted on', self.network.unacted, '0', self.network.unacted == 0),
        ]


def compare_at(link: str, items: int, seed: int, out: Path, models: str) -> LinkComparison:
    """Run the cell over the network and with the emulator.

    Args:
        link: 'none', 'light' or 'heavy'.

    Raises:
        ConveyorError: If one of the runs fails; its output is on the terminal.
    """
    bandwidth = named_link(link).bandwidth
    if bandwidth is None:
        raise ConfigError(f'link {link!r} has no rate to shape')
    kbit_per_s = bandwidth.rate_at(0) / 1000
    common = [
        '--items',
        str(items),
        '--seed',
        str(seed),
        '--link',
        link,
        *(['--models', models] if models else []),
    ]
    network, emulator = out / f'network_{link}', out / f'emulator_{link}'
    print(f'\n{kbit_per_s:g} kbit/s, network', flush=True)
    with ShapedLink(kbit_per_s) as shaped:
        run_command(
            [
                *shaped.prefix(DEVICE),
                sys.executable,
                '-m',
                'stl_conveyor_lab.bench.network.run',
                '--out',
                str(network),
                '--edge-prefix',
                shlex.join(shaped.prefix(EDGE)),
                *common,
            ]
        )
        frames, dropped = shaped.traffic(), shaped.dropped()
    print(f'\n{kbit_per_s:g} kbit/s, emulator', flush=True)
    run_command(
        [sys.executable, '-m', 'stl_conveyor.run', '--out', str(emulator), '--plain', *common]
    )
    return LinkComparison(
        link,
        kbit_per_s,
        Outcome.of(network),
        Outcome.of(emulator),
        LinkUse.of(network, items, frames, dropped),
    )


def run_command(command: Sequence[str]) -> None:
    """Run a command to its end, and end it if this process is told to end.

    Raises:
        ConfigError: If it fails.
    """
    environment = {**os.environ, 'ROS_DOMAIN_ID': str(random.SystemRandom().randint(1, 100))}
    process = subprocess.Popen(
        command, env=environment, start_new_session=True, preexec_fn=die_with_parent
    )
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if code:
        raise ConfigError(f'`{shlex.join(command)}` ended with exit code {code}')


def comparison_table(comparisons: Sequence[LinkComparison]) -> str:
    """Return everything that was measured as a table in Markdown."""

    def interval(e: Estimate) -> str:
        return f'{e.value:.3f} ({e.low:.3f} .. {e.high:.3f})'

    def slack(outcome: Outcome) -> str:
        values = list(outcome.slack_ms.values())
        return ' / '.join(f'{v:.1f}' for v in np.percentile(values, (1, 50, 99)))

    def ways(values: Mapping[str, float]) -> str:
        return f'{values["up"]:.0f} / {values["down"]:.0f}'

    rows = [
        ('items', lambda c: str(len(c.common))),
        ('right lane, network', lambda c: interval(c.accuracy(c.network))),
        ('right lane, emulator', lambda c: interval(c.accuracy(c.emulator))),
        ('network less emulator', lambda c: interval(c.difference())),
        (
            'missed deadlines, network / emulator',
            lambda c: f'{c.network.missed} / {c.emulator.missed}',
        ),
        (
            'not acted on, network / emulator',
            lambda c: f'{c.network.unacted} / {c.emulator.unacted}',
        ),
        (
            'offloaded, network / emulator',
            lambda c: f'{c.network.offloaded} / {c.emulator.offloaded}',
        ),
        (
            "sorted by the edge's answer, network / emulator",
            lambda c: f'{c.network.edge_used} / {c.emulator.edge_used}',
        ),
        ('slack p01 / p50 / p99, network (ms)', lambda c: slack(c.network)),
        ('slack p01 / p50 / p99, emulator (ms)', lambda c: slack(c.emulator)),
        ('start until the belt moves (s)', lambda c: f'{c.use.start_seconds:.1f}'),
        ('discovery at the start, up / down (bytes)', lambda c: ways(c.use.start_bytes)),
        ('discovery per minute, up / down (bytes)', lambda c: ways(c.use.discovery_per_minute)),
        ('topics per item, up / down (bytes)', lambda c: ways(c.use.topics_per_item)),
        (
            'all frames, up / down (bytes)',
            lambda c: f'{c.use.frames.sent_bytes} / {c.use.frames.received_bytes}',
        ),
        (
            'frames dropped by the queue, up / down',
            lambda c: f'{c.use.dropped.get(DEVICE, 0)} / {c.use.dropped.get(EDGE, 0)}',
        ),
    ]
    lines = [
        '| | ' + ' | '.join(f'{c.kbit_per_s:g} kbit/s' for c in comparisons) + ' |',
        '|---|' + '---|' * len(comparisons),
    ]
    lines += [
        f'| {name} | ' + ' | '.join(value(c) for c in comparisons) + ' |' for name, value in rows
    ]
    return '\n'.join(lines) + '\n'


def plot_link(path: Path, comparisons: Sequence[LinkComparison]) -> None:
    """Draw accuracy and what the bytes of the link were used for.

    Raises:
        MissingDependency: If matplotlib is not installed.
    """
    pyplot = file_pyplot()
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(12, 3.4))
    places = np.arange(len(comparisons))
    names = [f'{c.kbit_per_s:g}' for c in comparisons]
    for shift, colour, label, pick in (
        (-0.12, '#1f4e79', 'network', lambda c: c.network),
        (0.12, '#9aa5b1', 'emulator', lambda c: c.emulator),
    ):
        shares = [c.accuracy(pick(c)) for c in comparisons]
        values = np.array([e.value for e in shares])
        left.errorbar(
            places + shift,
            values,
            fmt='o',
            color=colour,
            label=label,
            capsize=3,
            yerr=np.maximum(
                [values - [e.low for e in shares], [e.high for e in shares] - values], 0
            ),
        )
        slack = [np.percentile(list(pick(c).slack_ms.values()), (1, 50, 99)) for c in comparisons]
        middle_values = np.array([s[1] for s in slack])
        right.errorbar(
            places + shift,
            middle_values,
            fmt='o',
            color=colour,
            label=label,
            capsize=3,
            yerr=[middle_values - [s[0] for s in slack], [s[2] for s in slack] - middle_values],
        )
    left.set(title='items in the right lane', xlabel='kbit/s')
    left.set_ylim(top=1.0)
    right.set(title='slack, ms: p01, p50, p99', xlabel='kbit/s')
    right.set_ylim(0, 1.1 * right.get_ylim()[1])
    for shift, way in ((-0.2, 'up'), (0.2, 'down')):
        bottom = np.zeros(len(comparisons))
        for colour, label, used in (
            ('#9aa5b1', 'discovery', [c.use.discovery_per_minute[way] for c in comparisons]),
            (
                '#1f4e79',
                'topics of the cell',
                [c.use.topics_per_item[way] * 120 for c in comparisons],
            ),
        ):
            heights = np.array(used) * 8 / 60 / 1000
            middle.bar(
                places + shift,
                heights,
                0.36,
                bottom=bottom,
                color=colour,
                label=label if way == 'up' else None,
            )
            bottom += heights
        for place, height in zip(places + shift, bottom):
            middle.annotate(way, (place, height), ha='center', va='bottom', fontsize=8)
    middle.set(title='use of the link, kbit/s', xlabel='kbit/s')
    for axes in (left, middle, right):
        axes.set_xticks(places, names)
        axes.legend(fontsize=8, loc='upper center', bbox_to_anchor=(0.5, -0.2), ncols=2)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog='stl-conveyor bench network',
        description='Run the cell over a shaped network link and compare with the emulator.',
    )
    parser.add_argument('--items', type=int, default=150, help='number of items in each run')
    parser.add_argument('--out', type=Path, default=Path('out'), help='folder for the results')
    parser.add_argument('--seed', type=int, default=SEED, help='of all runs')
    parser.add_argument(
        '--links',
        nargs='+',
        choices=RATES,
        default=list(RATES),
        help='jamming of the link: 67.5, 52.0, 34.3 kbit/s',
    )
    parser.add_argument('--models', default='', metavar='DIR', help='model folder')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, measure, print and write; return the exit code."""
    options = parse(arguments)
    take_sigterm_like_ctrl_c()
    if reason := why_no_link():
        print(f'bench-network: skipped: {reason}')
        return 0

    def work() -> None:
        options.out.mkdir(parents=True, exist_ok=True)
        comparisons = [
            compare_at(link, options.items, options.seed, options.out, options.models)
            for link in options.links
        ]
        text = comparison_table(comparisons)
        print(f'\n{text}')
        marks = [mark for comparison in comparisons for mark in comparison.marks()]
        for mark in marks:
            print(
                f'{mark.name:40}{mark.measured:9.3f}   {mark.wanted}: '
                + ('met' if mark.met else 'NOT MET')
            )
        (options.out / 'network.md').write_text(text, encoding='utf-8')
        (options.out / 'network.json').write_text(
            json.dumps(
                finite(
                    {
                        'seed': options.seed,
                        'items': options.items,
                        'rates': [
                            {**asdict(c), 'difference': asdict(c.difference())}
                            for c in comparisons
                        ],
                        'marks': [asdict(mark) for mark in marks],
                    }
                ),
                indent=1,
            )
            + '\n',
            encoding='utf-8',
        )
        plot_link(options.out / 'network.png', comparisons)

    return exit_code('bench-network', work)


if __name__ == '__main__':
    sys.exit(main())
