# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is done to a cell, and how it is undone."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stl_conveyor.errors import ConveyorError
from stl_conveyor.run.settings import NODES
from stl_conveyor_lab.bench.faults.cell import FaultCell
from stl_conveyor_lab.bench.faults.clock import CellClock
from stl_conveyor_lab.bench.faults.intruder import RATES

BEGINS = b'begins\n'  # what an intruder says
HOLD = 3.0  # s for which a fault lasts, unless it says otherwise
LONGEST_START = 60.0  # s
#: Nodes of which a second one is started, and what each publishes.
PUBLISHED = {
    'camera': 'capture',
    'actuator': 'sort_outcome',
    'edge_classifier': 'edge_classification_tx',
    'local_classifier': 'classification',
}
STEP = 5.0  # s by which the clock is set


@dataclass(frozen=True)
class Fault:
    """Something to be done to the cell.

    Attributes:
        name: As it stands in the table.
        do: Does it on entry and undoes it on exit.
        hold: Seconds between the two.
        stands: Node that cannot work meanwhile, if there is one.
    """

    name: str
    do: Callable[[FaultCell, random.Random], AbstractContextManager[None]]
    hold: float = HOLD
    stands: str = ''


@contextmanager
def _kill(node: str, cell: FaultCell, _: random.Random) -> Iterator[None]:
    cell.kill(node)
    yield


@contextmanager
def _freeze(node: str, cell: FaultCell, _: random.Random) -> Iterator[None]:
    cell.freeze(node)
    try:
        yield
    finally:
        cell.thaw(node)


@contextmanager
def _link(parameters: Mapping[str, float], cell: FaultCell, _: random.Random) -> Iterator[None]:
    cell.set_link(**parameters)
    try:
        yield
    finally:
        cell.set_link(**{name: type(value)(0) for name, value in parameters.items()})


@contextmanager
def _second(node: str, cell: FaultCell, rng: random.Random) -> Iterator[None]:
    name, topic = f'{node} beside', PUBLISHED[node]
    cell.start(node, name)
    cell.wait(lambda: cell.publishers(topic) > 1, LONGEST_START)
    try:
        yield
    finally:
        cell.end(name)


@contextmanager
def _swap_edge(cell: FaultCell, rng: random.Random) -> Iterator[None]:
    """Have another edge take over: when it is there, the first one is killed."""
    with _second('edge_classifier', cell, rng):
        cell.kill('edge_classifier')
        yield


@contextmanager
def _intruder(kind: str, cell: FaultCell, rng: random.Random) -> Iterator[None]:
    with subprocess.Popen(
        [
            sys.executable,
            '-m',
            'stl_conveyor_lab.bench.faults.intruder',
            kind,
            str(rng.randrange(2**31)),
            '3600',
        ],
        stdout=subprocess.PIPE,
        env={**os.environ, **cell.clock_environment},
    ) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != BEGINS:
                raise ConveyorError(f'the intruder with {kind} did not begin')
            yield
            if process.poll() is not None:
                raise ConveyorError(f'the intruder with {kind} ended by itself')
        finally:
            process.kill()


@contextmanager
def _clock(seconds: float, clock: CellClock, _: FaultCell, __: random.Random) -> Iterator[None]:
    clock.step(seconds)
    yield


@contextmanager
def _full_disk(disk: Path, cell: FaultCell, _: random.Random) -> Iterator[None]:
    """Fill the disk on which the nodes log, and have one start on it."""
    ballast = disk / 'ballast'
    with open(ballast, 'wb', buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            pass
    cell.kill('local_classifier')
    try:
        yield
    finally:
        ballast.unlink()


def all_faults(clock: CellClock | None, disk: Path | None) -> tuple[Fault, ...]:
    """Return every fault that can be done on this machine.

    Args:
        clock: Of the processes; None = their clock cannot be set.
        disk: A small disk on which the nodes log; None = there is none.
    """
    faults = [Fault(f'kill -9: {node}', partial(_kill, node), 1.0, node) for node in NODES]
    faults += [
        Fault(f'SIGSTOP 3 s: {node}', partial(_freeze, node), stands=node) for node in NODES
    ]
    faults += [
        Fault('link outage', partial(_link, {'outage': True})),
        Fault('link 2 s late', partial(_link, {'delay': 2.0})),
        Fault('30 % loss', partial(_link, {'loss': 0.3})),
        Fault('corrupt packets', partial(_link, {'corrupt': 0.3})),
        Fault('edge swap', _swap_edge),
    ]
    faults += [Fault(f'two of a kind: {node}', partial(_second, node)) for node in PUBLISHED]
    names = {
        'tiny frames': 'flood of tiny frames',
        'frames': 'flood of frames',
        'tiny packets': 'flood of tiny packets',
    }
    faults += [Fault(names.get(kind, kind), partial(_intruder, kind)) for kind in RATES]
    if clock is not None:
        faults += [
            Fault('clock 5 s ahead', partial(_clock, STEP, clock)),
            Fault('clock 5 s back', partial(_clock, -STEP, clock)),
        ]
    if disk is not None:
        faults.append(Fault('full disk', partial(_full_disk, disk)))
    return tuple(faults)


def in_turns(faults: Sequence[Fault], rng: random.Random) -> Iterator[Fault]:
    """Yield faults without end: each once, in an order of chance, then each again."""
    while True:
        yield from rng.sample(faults, len(faults))
