# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run the cell for long, and start it often: does anything grow, does anything stay?

``python -m stl_conveyor_lab.bench.faults.soak --out out --items 20000 --starts 100`` shows so
many items to the real nodes, and reads every ten seconds what each process holds: memory,
threads, descriptors, files in shared memory. Then it starts and ends the whole cell so many times,
and looks what stays in shared memory. It writes OUT/soak.md and OUT/soak.csv, and ends with 1 if
anything grew or stayed.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stl_conveyor.deploy.fastdds_profiles import discovery_port
from stl_conveyor.errors import ConfigError, exit_code
from stl_conveyor.interrupts import take_sigterm_like_ctrl_c
from stl_conveyor.nodes.base.shared_memory import remove_orphans
from stl_conveyor.resources import writing
from stl_conveyor.run.domain import domain_of_its_own
from stl_conveyor_lab.bench.faults.cell import CELL, FaultCell
from stl_conveyor_lab.bench.faults.command import Feeder
from stl_conveyor_lab.bench.faults.pictures import known_pictures
from stl_conveyor_lab.bench.faults.process_use import Growth, Use, growth, read_use

READ_S = 10.0  # between two readings
WARM_UP = 0.1  # of the time, in which caches and pools fill
PERIOD = 0.2  # s between two items
BETWEEN = 3  # items that each of the many cells sorts


@dataclass(frozen=True)
class Start:
    """One of the many cells.

    Attributes:
        seconds: Until all of it worked.
        sorted_items: Of BETWEEN.
        left: Files of its own domain that stayed in shared memory.
    """

    seconds: float
    sorted_items: int
    left: int


def long_run(cell: FaultCell, items: int, period: float) -> dict[str, list[Use]]:
    """Show items; return what each process held, every READ_S seconds."""
    readings: dict[str, list[Use]] = {}
    with Feeder(cell, period, items) as feeder:
        while not cell.wait(lambda: feeder.is_done, READ_S):
            now = time.monotonic()
            for name in cell.supervisor.names:
                use = read_use(cell.supervisor.pid(name), now)
                if use is not None:
                    readings.setdefault(name, []).append(use)
    return readings


def ports_left(domain: int) -> int:
    """Return how many files of a domain's ports stand in shared memory."""
    first = discovery_port(domain, 0) - 10
    names = {f'_port{number}' for number in range(first, first + 250)}
    return sum(
        any(f'{name}_' in f'{file}_' for name in names)
        for file in os.listdir('/dev/shm')
        if '_port' in file
    )


def markdown(
    items: int, lost: int, grown: Mapping[str, Growth | None], starts: Sequence[Start]
) -> str:
    """Return what was found."""
    lines = [
        '# Soak',
        '',
        f'{items} items, {lost} of them not acted on in time.',
        '',
        '| process | own memory after the warm-up (MiB) | at the end | threads | descriptors '
        '| files in shared memory | flat |',
        '|---|---|---|---|---|---|---|',
    ]
    for name, found in grown.items():
        if found is None:
            lines.append(f'| {name} | too short | | | | | |')
            continue
        lines.append(
            f'| {name} | {found.own_begin / 1024:.1f} | {found.own_end / 1024:.1f} '
            f'| {found.threads:+d} | {found.descriptors:+d} | {found.shared:+d} '
            f'| {"yes" if found.is_flat else "**no**"} |'
        )
    if starts:
        seconds = sorted(start.seconds for start in starts)
        lines += [
            '',
            f'{len(starts)} starts: the cell worked after {seconds[len(seconds) // 2]:.1f} s '
            f'(at most {seconds[-1]:.1f} s), sorted {sum(s.sorted_items for s in starts)} of '
            f'{BETWEEN * len(starts)} items, and left {sum(s.left for s in starts)} files in '
            'shared memory.',
        ]
    return '\n'.join([*lines, ''])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print and write; return the exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m stl_conveyor_lab.bench.faults.soak',
        description='Run the cell for long, and start it often.',
    )
    parser.add_argument('--out', type=Path, default=Path('out'), help='folder for the results')
    parser.add_argument('--items', type=int, default=20_000)
    parser.add_argument('--starts', type=int, default=100)
    parser.add_argument('--period', type=float, default=PERIOD, help='seconds between two items')
    options = parser.parse_args(arguments)

    def work() -> int:
        if options.items < 0 or options.starts < 0 or options.period <= 0:
            raise ConfigError('--items and --starts must not be negative, and --period above 0')
        take_sigterm_like_ctrl_c()
        with (
            tempfile.TemporaryDirectory(prefix='soak_') as temporary,
            domain_of_its_own(print) as domain,
        ):
            pictures = known_pictures(CELL)
            readings: dict[str, list[Use]] = {}
            lost = 0
            if options.items:
                with FaultCell(Path(temporary) / 'long', pictures, None) as cell:
                    readings = long_run(cell, options.items, options.period)
                    cell.wait(lambda: False, 2.5)
                    lost = sum(not item.in_order for item in cell.items)
            starts: list[Start] = []
            for number in range(options.starts):
                begin = time.monotonic()
                with FaultCell(Path(temporary) / str(number), pictures, None) as cell:
                    seconds = time.monotonic() - begin
                    with Feeder(cell, options.period, BETWEEN) as feeder:
                        cell.wait(lambda: feeder.is_done, 10.0)
                    cell.wait(lambda: all(item.lanes for item in cell.items), 3.0)
                    done = sum(bool(item.lanes) for item in cell.items)
                remove_orphans()  # what the probe of this process, which lives on, had open
                starts.append(Start(seconds, done, ports_left(domain)))
                print(f'start {number + 1}: {starts[-1]}', flush=True)
            warm_up = WARM_UP * options.items * options.period
            grown = {name: growth(uses, warm_up) for name, uses in readings.items()}
            text = markdown(options.items, lost, grown, starts)
            print(text)
            _write(options.out, text, readings)
        flat = all(found is None or found.is_flat for found in grown.values())
        return int(not flat or any(start.left for start in starts))

    return exit_code('soak', work)


def _write(out: Path, text: str, readings: Mapping[str, Sequence[Use]]) -> None:
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / 'soak.md').write_text(text, encoding='utf-8')
    path = out / 'soak.csv'
    with writing(path), open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(
            ['process', 'seconds', 'pss_kib', 'own_kib', 'threads', 'descriptors', 'shared']
        )
        for name, uses in readings.items():
            for use in uses:
                writer.writerow(
                    [
                        name,
                        round(use.time - uses[0].time, 1),
                        use.pss,
                        use.own,
                        use.threads,
                        use.descriptors,
                        use.shared,
                    ]
                )


if __name__ == '__main__':
    sys.exit(main())
