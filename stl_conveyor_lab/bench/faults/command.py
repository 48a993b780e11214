# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Do faults at random to a cell of real processes, and account for every item.

``python -m stl_conveyor_lab.bench.faults --out out --items 2000`` shows pictures of the simulated
cell to the real nodes over real DDS, twice as fast as a belt would bring items, in a ROS domain of
its own on this machine. Meanwhile one fault after the other is done to them: kill -9, SIGSTOP, a
full disk, clock steps, link outages and loss, two of a kind, floods, odd and forged messages. It
writes OUT/faults.csv, OUT/faults.md and OUT/faults.png, also when it is interrupted, and
OUT/record.jsonl as it goes; with ``--resume`` it goes on from there, so that a long run can be
played in parts. The seed fixes which fault comes when. A full disk needs root, as a small one is
mounted for the logs.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice, takewhile
from pathlib import Path

from stl_conveyor.errors import ConfigError, MissingDependency, exit_code
from stl_conveyor.interrupts import take_sigterm_like_ctrl_c
from stl_conveyor.resources import writing
from stl_conveyor.run.domain import domain_of_its_own
from stl_conveyor_lab.bench.faults import table
from stl_conveyor_lab.bench.faults.cell import CELL, FaultCell
from stl_conveyor_lab.bench.faults.clock import CellClock
from stl_conveyor_lab.bench.faults.faults import Fault, all_faults, in_turns
from stl_conveyor_lab.bench.faults.pictures import known_pictures
from stl_conveyor_lab.bench.faults.record import Record
from stl_conveyor_lab.bench.faults.tally import Injection, Values, tabulate, ways, worked_again

PERIOD = 0.3  # s between two items
CLOSED = 2.5  # s after which everything has come of an item that comes of it
CALM_S = 4.0  # between the end of a fault and the next
GIVE_UP = 30.0  # s after the end of a fault in which the cell must work in full again
SLOW = 5.0  # s after which it is said what becomes of the items, and by what values of the nodes
DISK_KB = 512


class Feeder:
    """Shows items to the camera at a steady pace, in a thread of its own."""

    def __init__(self, cell: FaultCell, period: float, items: int) -> None:
        """Be ready to show so many items."""
        self._cell = cell
        self._period = period
        self._left = items
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name='feeder', daemon=True)

    def __enter__(self) -> Feeder:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Show no more."""
        self._stop.set()
        self._thread.join()

    @property
    def is_done(self) -> bool:
        """Return whether all items were shown."""
        return self._left <= 0

    def _run(self) -> None:
        due = time.monotonic()
        while self._left > 0 and not self._stop.wait(max(0.0, due - time.monotonic())):
            self._cell.show()
            self._left -= 1
            due = max(due + self._period, time.monotonic() - self._period)


def play(
    cell: FaultCell,
    faults: Sequence[Fault],
    seed: int,
    items: int,
    seconds: float,
    record: Record,
    period: float = PERIOD,
) -> None:
    """Do faults for as long as told, behind those of the record; note there what came of it."""
    order = islice(in_turns(faults, random.Random(seed)), len(record.faults), None)
    rng = random.Random(f'{seed}, {len(record.faults)}')
    end = time.monotonic() + seconds
    noted = _Noted(cell, record)
    with Feeder(cell, period, items) as feeder:
        cell.wait(lambda: worked_again(cell.items, 0.0), GIVE_UP)
        for fault in order:
            pause = CALM_S + rng.uniform(0.0, period)
            if cell.wait(lambda: feeder.is_done, pause) or time.monotonic() > end:
                break
            last, values = _do(cell, fault, rng, feeder)
            noted.add(last, values=values)
            again = worked_again(cell.items, last.end)
            text = 'does not work again'
            if again is not None:
                text = f'again {again - last.end:.1f} s after'
            if again is None or again - last.end > SLOW:
                since = [item for item in cell.items if item.shown > last.end]
                text += f' ({ways(since)})'
            print(f'[{len(record.items)} items] {fault.name}: {text}', flush=True)
        cell.wait(lambda: False, CLOSED)  # the last items have their time
    noted.add()


class _Noted:
    """Puts what is over into a record, each thing once."""

    def __init__(self, cell: FaultCell, record: Record) -> None:
        self._cell, self._record = cell, record
        self._items = self._words = 0

    def add(self, *faults: Injection, values: Sequence[Values] = ()) -> None:
        """Note what is over by now, faults that were done, and what nodes reported meanwhile."""
        closed = time.monotonic() - CLOSED
        items = list(takewhile(lambda item: item.shown <= closed, self._cell.items[self._items :]))
        words = self._cell.words[self._words :]
        self._items += len(items)
        self._words += len(words)
        self._record.add(items, words, faults, values)


def _do(
    cell: FaultCell, fault: Fault, rng: random.Random, feeder: Feeder
) -> tuple[Injection, list[Values]]:
    values = cell.values()
    with fault.do(cell, rng):
        begin = time.monotonic()  # who else has a part in it has been started
        cell.wait(lambda: False, fault.hold)
    end = time.monotonic()

    def again() -> bool:
        return feeder.is_done or worked_again(cell.items, end) is not None

    def well() -> bool:
        return again() and cell.is_up()

    if not cell.wait(well, SLOW):
        values += cell.values()
        cell.wait(well, GIVE_UP - SLOW)
    over = time.monotonic()
    return Injection(fault.name, begin, end, over, fault.stands), [*values, *cell.values()]


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Yield a folder that is a disk of its own, which is soon full; None without root."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', f'size={DISK_KB}k', 'tmpfs', folder], capture_output=True
    )
    if mounted.returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(['umount', '--lazy', folder], check=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog='stl-conveyor bench faults',
        description='Do faults at random to a cell of real processes, and account for every item.',
    )
    parser.add_argument('--out', type=Path, default=Path('out'), help='folder for the results')
    parser.add_argument('--items', type=int, help='how many are shown (default: 2000)')
    parser.add_argument('--hours', type=float, help='for how long, in place of a number of items')
    parser.add_argument('--seed', type=int, default=1, help='which fault comes when')
    parser.add_argument(
        '--period', type=float, default=PERIOD, help=f'seconds between two items ({PERIOD})'
    )
    parser.add_argument(
        '--resume', action='store_true', help='go on from OUT/record.jsonl, with the same seed'
    )
    parser.add_argument(
        '--only', action='append', default=[], metavar='TEXT', help='faults whose name has it'
    )
    options = parser.parse_args(arguments)
    if options.items is None:
        options.items = 2000 if options.hours is None else 10**9
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, print and write; return the exit code."""
    options = parse(arguments)

    def work() -> int:
        if options.items < 1:
            raise ConfigError(f'--items {options.items}: give at least 1')
        if options.period <= 0:
            raise ConfigError(f'--period {options.period}: give more than 0')
        record = Record(options.out / 'record.jsonl', options.seed)
        if options.resume:
            record.go_on(time.monotonic())
        else:
            record.begin()
        take_sigterm_like_ctrl_c()
        seconds = float('inf') if options.hours is None else 3600 * options.hours
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='bench_faults_')))
            stack.enter_context(domain_of_its_own(print))
            try:
                clock = CellClock(folder)
            except MissingDependency as error:
                print(f'no steps of the clock: {error}')
                clock = None
            disk = stack.enter_context(small_disk(folder / 'cell' / 'logs' / 'ros'))
            if disk is None:
                print('no full disk: mounting a small one needs root')
            faults = [
                fault
                for fault in all_faults(clock, disk)
                if not options.only or any(text in fault.name for text in options.only)
            ]
            if not faults:
                raise ConfigError(f'--only {options.only}: no fault has that in its name')
            print('choosing pictures', flush=True)
            cell = FaultCell(folder / 'cell', known_pictures(CELL), clock)
            with cell:
                try:
                    play(
                        cell, faults, options.seed, options.items, seconds, record, options.period
                    )
                finally:
                    rows = tabulate(record.items, record.faults, record.words, CELL.reject_lane)
                    _write(options.out, rows, options.seed, options.period)
        return 0

    return exit_code('bench-faults', work)


def _write(out: Path, rows: Sequence[table.Row], seed: int, period: float) -> None:
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        note = f'Seed {seed}; an item every {period} s; a process that ended is started after 1 s.'
        (out / 'faults.md').write_text(table.markdown(rows, note), encoding='utf-8')
    table.write_csv(out / 'faults.csv', rows)
    table.draw(out / 'faults.png', rows)
    print(f'{table.summary(rows)} The table: {out / "faults.md"}')


if __name__ == '__main__':
    sys.exit(main())
