# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Play pictures to the device once, and keep an exact account of every one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from std_msgs.msg import Empty

from stl_conveyor.assess.latency import item_timing
from stl_conveyor.assess.scoring import ItemRecord, Quantiles, complete_records
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.nodes.base.runner import NodeRunner, NodeSpec
from stl_conveyor.nodes.base.topics import COMPOSED
from stl_conveyor.nodes.simulation.cell_monitor import CellMonitor
from stl_conveyor.resources import share_path
from stl_conveyor.run.assess import read_passages
from stl_conveyor.run.cell_run import CellRun
from stl_conveyor.run.plan import READERS, Deployment
from stl_conveyor.run.processes import Supervisor
from stl_conveyor.run.settings import NODES, SIMULATOR, RunSettings, Sources
from stl_conveyor_lab.bench.device.usage import Usage, usage_of

WARM_UP = 5  # items that are not timed
SETTLING_S = 20.0  # after the last picture, in which its outcome comes at the latest
SILENCE_S = 60.0  # without news, after which the round is given up
# Published by the benchmark once it hears every node: an outcome that it misses has no account.
ACCOUNT_BEGINS = 'account_begins'
# Who must publish before the first picture counts.
AWAITED = ('classification', 'transfer', 'edge_classification', ACCOUNT_BEGINS)

#: Way to run the device → whether its nodes are one process, and their executor.
WAYS: Mapping[str, tuple[bool, str]] = MappingProxyType(
    {
        'one process': (True, 'auto'),
        'five processes': (False, 'auto'),
        'five processes, wait_set': (False, 'wait_set'),
    }
)


@dataclass(frozen=True)
class Account:
    """What became of every picture.

    Attributes:
        pictures: That were shown to the camera.
        early: Of those, shown before the cell was there; counted by the camera.
        captures: Items that it made of the others.
        outcomes: Items on which the actuator acted.
        repeated: Outcomes beyond the first of an item.
        missed: Deadlines.
    """

    pictures: int
    early: int
    captures: int
    outcomes: int
    repeated: int
    missed: int

    @property
    def is_exact(self) -> bool:
        """Return whether every picture is accounted for, once."""
        return (
            self.early + self.captures == self.pictures
            and self.outcomes == self.captures
            and not self.repeated
        )


@dataclass(frozen=True)
class Round:
    """What was measured in one round.

    Attributes:
        overheads: ms from a picture to the final answer at the actuator, without models and link,
            of every item that was timed.
        commands: ms from a picture to the answer of the device at the actuator.
        cpu_ms: Of the processes of the device, per item.
        first_item_s: From the start of the processes to the first item.
    """

    way: str
    account: Account
    overheads: tuple[float, ...]
    commands: tuple[float, ...]
    cpu_ms: float
    usage: Usage
    first_item_s: float

    @property
    def overhead(self) -> Quantiles:
        """Return the quantiles of the overhead (ms)."""
        return Quantiles.of(self.overheads)


def overrides_of(way: str, pictures: Path, rate: float) -> tuple[str, ...]:
    """Return the parameters with which a round differs from a run of the simulated cell."""
    _, executor = WAYS[way]
    return (
        'camera.source=folder',
        f"camera.folder='{pictures}'",
        f'camera.rate={rate}',
        f'camera.wait_for=[{", ".join(AWAITED)}]',
        'actuator.confirm_timeout=0.0',  # nothing moves that could confirm
        *(f'{node}.executor={executor}' for node in COMPOSED),
    )


def deployment_of(way: str) -> Deployment:
    """Return the processes of a round: device, link and edge, and no simulator."""
    composed, _ = WAYS[way]
    deployment = Deployment(
        nodes=NODES, readers={**READERS, SIMULATOR: {}, 'actuator': {'sort_outcome': 1}}
    )
    return deployment if composed else deployment.apart()


def play(
    way: str, pictures: Path, count: int, rate: float, out: Path, say: Callable[[str], None]
) -> Round:
    """Show every picture of a folder to the device, once.

    Args:
        way: One of WAYS.
        pictures: The folder.
        count: How many are in it.
        rate: Pictures per second.
        out: Where the logs go.

    Raises:
        ConveyorError: If the nodes do not start.
    """
    deployment = deployment_of(way)
    settings = RunSettings(items=count, overrides=overrides_of(way, pictures, rate))
    sources = Sources(out, Path(share_path('models/items')), Path(share_path('config/cell.yaml')))
    (out / 'logs').mkdir(parents=True, exist_ok=True)
    cell = CellDescription.load(sources.cell)
    supervisor = Supervisor(out / 'logs')
    runner = NodeRunner([NodeSpec(CellMonitor, {'display': 'none'})])
    (monitor,) = runner.nodes
    assert isinstance(monitor, CellMonitor)
    run = CellRun(settings, sources, monitor, supervisor, say, deployment)
    device = {deployment.process_of(node) for node in COMPOSED}

    def report(name: str) -> int:
        """Return a number that the camera reports."""
        return int(monitor.reports.get('camera', {}).get(name, 0))

    def shown() -> int:
        return report('items') + report('items_before_the_cell_was_there')

    def cpu_s() -> float:
        return sum(used for name, used in supervisor.cpu().items() if name in device)

    with runner, supervisor:
        began_ns = time.time_ns()
        run.bring_up()
        monitor.create_publisher(Empty, ACCOUNT_BEGINS, 1)
        before, acted_before = cpu_s(), monitor.board.acted
        heard, heard_at = -1, time.monotonic()
        while shown() < count:
            monitor.news.clear()
            if shown() != heard:
                heard, heard_at = shown(), time.monotonic()
            if time.monotonic() - heard_at > SILENCE_S:
                break
            monitor.news.wait(1.0)
        end = time.monotonic() + SETTLING_S + cell.guard
        while monitor.board.acted < report('items') and time.monotonic() < end:
            monitor.news.clear()
            monitor.news.wait(0.1)
        used = cpu_s() - before
        usage = usage_of(supervisor.pid(name) for name in device)
        early, made = report('items_before_the_cell_was_there'), shown()
        records = monitor.board.records
        acted = max(1, monitor.board.acted - acted_before)
        supervisor.stop_all()
    return Round(
        way,
        account_of(records, made, made - early, early),
        *_times(records, sources.link_log),
        1e3 * used / acted,
        usage,
        (records[0].stamp_ns - began_ns) / 1e9 if records else float('nan'),
    )


def account_of(
    records: tuple[ItemRecord, ...], pictures: int, captures: int, early: int
) -> Account:
    """Return what became of the pictures.

    Args:
        records: What was heard of the items.
        pictures: How many were shown, as the camera says.
        captures: How many items it made of them.
        early: How many of them were shown before the cell was there.
    """
    acted = [record for record in records if record.action is not None]
    return Account(
        pictures=pictures,
        early=early,
        captures=captures,
        outcomes=len(acted),
        repeated=sum(record.actions - 1 for record in acted),
        missed=sum(record.action is not None and record.action.missed for record in acted),
    )


def _times(
    records: tuple[ItemRecord, ...], link_log: Path
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the overheads, and the times to the answer of the device, of items after WARM_UP."""
    passages: dict[int, list] = {}
    for passage in read_passages(link_log):
        passages.setdefault(passage.stamp_ns, []).append(passage)
    complete = complete_records(records)[WARM_UP:]
    timings = [item_timing(each, 0, passages.get(each.item.stamp_ns, ())) for each in complete]
    return (
        tuple(timing.overhead for timing in timings if timing is not None),
        tuple(1e3 * (each.action.local_delay - each.local.compute_time) for each in complete),
    )
