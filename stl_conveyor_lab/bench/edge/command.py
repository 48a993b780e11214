# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How many cells one edge serves, and what a pool of edges makes of one that dies.

``python -m stl_conveyor_lab.bench.edge --out out`` records the streams of rendered items (or takes
those of an earlier record), and replays them for 10 to 70 cells at two items a second: a packet at
a time, the next when the edge has answered and is not satisfied. It prints, for each number of
cells, the time from a packet to the answer that takes it in, the items that had no answer in time,
and what the edge used. ``--pool`` has three edges for twelve cells instead: each is killed in turn
and started again, and a fourth joins and leaves, while items are under way. ``--fleet 1000``
simulates a fleet with measured service times. It writes OUT/edge.json or OUT/edge_pool.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from stl_conveyor.cell.edge_pool import preference
from stl_conveyor.codec.identity import codec_identity
from stl_conveyor.errors import ConfigError, exit_code
from stl_conveyor.interrupts import take_sigterm_like_ctrl_c
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.resources import share_path
from stl_conveyor.run.processes import ProcessPlan, Supervisor
from stl_conveyor_lab.bench.edge.cells import DEADLINE_S, ReplayedCells, SentItem
from stl_conveyor_lab.bench.edge.fleet_simulation import FleetPlan, simulate
from stl_conveyor_lab.bench.edge.streams import Recorded, load, record, save
from stl_conveyor_lab.measure.machine import machine

CURVE = (10, 20, 30, 40, 50, 60, 70)
MARK_CELLS, MARK_P99_MS = 50, 100.0
POOL = ('a', 'b', 'c')
FLEET_SHARES = (0.9, 0.75, 0.6, 0.5)  # of the edges' time that the cells ask for, of a fleet
POOL_CELLS = 12
PATIENCE_S = 60.0
WARM_UP_S = 2.0


@dataclass(frozen=True)
class Load:
    """What was measured with a number of cells.

    Attributes:
        items: That were due.
        withheld: Of those, kept back because of the edge's price.
        late: Sent, and without an answer in time.
        p50_ms: From a packet to the answer that takes it in.
        answers: Per item that was sent.
        edge_cores: Processor time of the edge, per second.
        own_cores: Likewise, of this process, which stands for the cells.
    """

    cells: int
    items: int
    withheld: int
    late: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    answers: float
    price: float
    edge_cores: float
    own_cores: float


def summary(
    cells: int, items: Sequence[SentItem], price: float, edge_cores: float, own_cores: float
) -> Load:
    """Return what was measured of the items of some cells."""
    sent = [item for item in items if not item.withheld]
    delays = 1e3 * np.array([delay for item in sent for delay in item.answers] or [np.nan])
    p50, p90, p99 = (float(q) for q in np.percentile(delays, (50, 90, 99)))
    return Load(
        cells=cells,
        items=len(items),
        withheld=len(items) - len(sent),
        late=sum(item.is_late for item in sent),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        answers=sum(len(item.answers) for item in sent) / max(1, len(sent)),
        price=price,
        edge_cores=edge_cores,
        own_cores=own_cores,
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog='stl-conveyor bench edge', description='Measure how many cells one edge serves.'
    )
    parser.add_argument('--cells', type=int, nargs='+', default=CURVE, help='numbers of cells')
    parser.add_argument('--rate', type=float, default=2.0, help='items per second of a cell')
    parser.add_argument('--seconds', type=float, default=15.0, help='of each number of cells')
    parser.add_argument('--models', type=Path, default=Path(share_path('models/items')))
    parser.add_argument('--streams', type=Path, help='file of recorded streams; made if missing')
    parser.add_argument('--record', type=int, default=160, help='items to record')
    parser.add_argument('--budget', type=int, default=512, help='payload bytes of an item')
    parser.add_argument('--packet-bytes', type=int, default=256)
    parser.add_argument(
        '--heed', action='store_true', help='keep items back that gain less than the price'
    )
    parser.add_argument(
        '--set', action='append', default=[], metavar='NAME=VALUE', help='parameter of the edge'
    )
    parser.add_argument('--pool', action='store_true', help='three edges, of which each dies')
    parser.add_argument(
        '--fleet', type=int, default=0, metavar='CELLS', help='simulate a fleet of so many cells'
    )
    parser.add_argument(
        '--service-ms', type=float, default=14.0, help='mean time for an answer, for --fleet'
    )
    parser.add_argument(
        '--service-cv', type=float, default=0.3, help='its standard deviation, as a share of it'
    )
    parser.add_argument('--out', type=Path, default=Path('out'), help='folder for the results')
    options = parser.parse_args(arguments)
    if min(options.cells) < 1 or options.rate <= 0 or options.seconds <= 0:
        parser.error('--cells, --rate and --seconds must be positive')
    return options


def edge_plan(name: str, cells: int, models: Path, settings: Sequence[str]) -> ProcessPlan:
    """Return the process of an edge of a pool that serves so many cells."""
    spaces = ', '.join(f'/line_{cell}' for cell in range(cells))
    parameters = [f'models_dir:={models}', f'cells:=[{spaces}]']
    for text in settings:
        key, sign, value = text.partition('=')
        if not sign:
            raise ConfigError(f'--set {text}: write NAME=VALUE')
        parameters.append(f'{key}:={value}')
    words = ['-r', f'__ns:=/hall/{name}']
    for each in parameters:
        words += ['-p', each]
    return ProcessPlan(
        f'edge_{name}', ('-m', 'stl_conveyor.nodes.edge.edge_classifier', '--ros-args', *words)
    )


def recorded(options: argparse.Namespace, folder: ModelFolder) -> list[Recorded]:
    """Return the streams to replay, recording them if there is no file of them."""
    path = options.streams or options.out / 'streams.npz'
    codec_id = codec_identity(folder)
    if path.exists():
        return load(path, codec_id)
    streams = record(
        folder, options.record, budget=options.budget, packet_bytes=options.packet_bytes
    )
    save(path, streams, codec_id)
    return streams


def measure(options: argparse.Namespace, streams: Sequence[Recorded], count: int) -> Load:
    """Replay streams for a number of cells; raise ConfigError if the edge does not come."""
    folder = ModelFolder(options.models)
    with Supervisor(options.out / 'logs') as supervisor:
        supervisor.start(edge_plan('one', count, options.models, options.set))
        cells = ReplayedCells(
            count, streams, codec_identity(folder), rate=options.rate, heed=options.heed
        )
        try:
            if not cells.wait_for_edges(1, PATIENCE_S):
                raise ConfigError(f'the edge does not come: {supervisor.tail("edge_one")}')
            cells.play(WARM_UP_S)
            cells.items.clear()
            used, own, began = supervisor.cpu()['edge_one'], time.process_time(), time.monotonic()
            cells.play(options.seconds)
            seconds = time.monotonic() - began
            used = supervisor.cpu()['edge_one'] - used
            own = time.process_time() - own
            return summary(
                count, list(cells.items.values()), max(cells.prices), used / seconds, own / seconds
            )
        finally:
            cells.close()


def print_load(load_: Load) -> None:
    """Print a row of the curve."""
    print(
        f'{load_.cells:5d} {load_.items:6d} {load_.withheld:8d} {load_.late:5d} '
        f'{load_.p50_ms:7.1f} {load_.p90_ms:7.1f} {load_.p99_ms:7.1f} {load_.answers:8.2f} '
        f'{load_.price:6.2f} {load_.edge_cores:6.2f} {load_.own_cores:6.2f}',
        flush=True,
    )


@dataclass(frozen=True)
class PoolEvent:
    """What happened to a pool, and what became of the items until the next event.

    Attributes:
        what: In words.
        items: That had their first answer, or were too late for one, after the event.
        under_way: Of those, sent before it.
        unanswered: Of those, without an answer in time.
        silence_s: The longest time from the event to the next answer of a cell.
        twice: Packets that more than one edge acknowledged.
        torn: Acknowledgements of an edge that had not got the packets before: of an item that
            changed its edge in its midst.
    """

    what: str
    items: int
    under_way: int
    unanswered: int
    silence_s: float
    twice: int
    torn: int


def pool_events(
    happened: Sequence[tuple[str, int]], items: Sequence[SentItem]
) -> tuple[PoolEvent, ...]:
    """Return what became of items at events (what, when in ns), in the order of time."""
    ends = [*(at_ns for _, at_ns in happened[1:]), max(item.due_ns for item in items) + 1]
    events = []
    for (what, at_ns), end_ns in zip(happened, ends):
        own = [item for item in items if at_ns <= item.decided_ns < end_ns]
        # In the midst of two events an answer may be the second of its item.
        answers: dict[int, int] = {}
        for item in items:
            for answered_ns in item.answered_ns:
                if answered_ns >= at_ns:
                    answers[item.cell] = min(answered_ns, answers.get(item.cell, answered_ns))
        events.append(
            PoolEvent(
                what=what,
                items=len(own),
                under_way=sum(item.sent_ns[0] < at_ns for item in own),
                unanswered=sum(item.is_late for item in own),
                silence_s=max((ns - at_ns for ns in answers.values()), default=0) / 1e9,
                twice=sum(count > 1 for item in own for count in item.acknowledged.values()),
                torn=sum(item.torn for item in own),
            )
        )
    return tuple(events)


def play_pool(
    models: Path,
    logs: Path,
    streams: Sequence[Recorded],
    *,
    rate: float,
    rest: float,
    settings: Sequence[str] = (),
    deadline: float = DEADLINE_S,
) -> tuple[list[tuple[str, int]], list[SentItem]]:
    """Kill each of three edges in turn and start it again; have a fourth join and leave.

    Twelve cells bring items meanwhile. What comes next is done when every cell has its home back.

    Args:
        logs: Folder for what the edges say.
        rate: Items per second of a cell.
        rest: Seconds between two events, at least.
        settings: Parameters of the edges, each NAME=VALUE.
        deadline: Seconds from a capture until its answer is too late.

    Returns:
        What happened and when (monotonic, ns), and what became of every item.

    Raises:
        ConfigError: If a cell is not taken over, naming what happened before.
    """
    identity = codec_identity(ModelFolder(models))
    happened: list[tuple[str, int]] = []
    with Supervisor(logs) as supervisor:
        plans = {name: edge_plan(name, POOL_CELLS, models, settings) for name in (*POOL, 'd')}
        for name in POOL:
            supervisor.start(plans[name])
        cells = ReplayedCells(
            POOL_CELLS, streams, identity, rate=rate, heed=False, deadline=deadline
        )

        def happens(what: str, action: Callable[[], None], there: Sequence[str]) -> None:
            happened.append((what, time.monotonic_ns()))
            action()
            if not cells.wait_for(served_by(there, POOL_CELLS), PATIENCE_S):
                raise ConfigError(f'{what}: no other edge takes its cells; see {logs}')
            time.sleep(rest)

        def killed(name: str) -> None:
            supervisor.kill(f'edge_{name}')
            cells.forget(f'hall/{name}/edge_classifier')

        try:
            if not (
                cells.wait_for_edges(len(POOL), PATIENCE_S)
                and cells.wait_for(served_by(POOL, POOL_CELLS), PATIENCE_S)
            ):
                raise ConfigError(f'the edges do not come: {supervisor.tail("edge_a")}')
            with cells.playing():
                happens('three edges', lambda: None, POOL)
                for name in POOL:
                    others = [each for each in POOL if each != name]
                    happens(f'{name} is killed', partial(killed, name), others)
                    happens(
                        f'{name} comes back', partial(supervisor.restart, f'edge_{name}'), POOL
                    )
                happens('d joins', partial(supervisor.start, plans['d']), (*POOL, 'd'))
                happens('d says goodbye', partial(supervisor.stop, 'edge_d'), POOL)
        finally:
            cells.close()
    return happened, list(cells.items.values())


def served_by(edges: Sequence[str], cells: int) -> dict[str, list[str]]:
    """Return the name of each edge → the cells whose home it is."""
    found: dict[str, list[str]] = {f'hall/{edge}/edge_classifier': [] for edge in edges}
    for cell in range(cells):
        found[preference(f'line_{cell}', found)[0]].append(f'line_{cell}')
    return found


def homes(edges: Sequence[str], cells: int) -> dict[str, int]:
    """Return edge → how many of the cells have their home there."""
    return dict(zip(edges, map(len, served_by(edges, cells).values())))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code: 0 if the marks are met."""
    options = parse(arguments)
    take_sigterm_like_ctrl_c()
    return exit_code('bench-edge', lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    options.out.mkdir(parents=True, exist_ok=True)
    if options.fleet:
        return _fleet(options)
    streams = recorded(options, ModelFolder(options.models))
    print(f'\n{machine()}\n')
    if options.pool:
        return _pool(options, streams)
    print('cells  items withheld  late  p50 ms     p90     p99 ans/item  price  cores   (own)')
    loads = []
    for count in options.cells:
        loads.append(measure(options, streams, count))
        print_load(loads[-1])
    result = {
        'machine': machine(),
        'rate': options.rate,
        'loads': [asdict(each) for each in loads],
    }
    (options.out / 'edge.json').write_text(json.dumps(result, indent=1), encoding='utf-8')
    marked = [each for each in loads if each.cells == MARK_CELLS]
    return 0 if all(each.p99_ms < MARK_P99_MS and not each.late for each in marked) else 1


def _fleet(options: argparse.Namespace) -> int:
    cells, service = options.fleet, options.service_ms / 1e3
    print(f'{cells} cells, {options.service_ms:g} ms an answer; one edge dies halfway\n')
    print('edges  busiest  late  p99 ms  late in failure  late after  p99 after ms')
    plan = FleetPlan(cells=cells, service=service, service_cv=options.service_cv)
    least = cells * plan.rate * plan.answers * service / plan.workers
    for share in FLEET_SHARES:
        edges = plan.pool * max(1, round(least / share / plan.pool))
        result = simulate(replace(plan, edges=edges), seconds=20.0)
        print(
            f'{edges:5d} {result.busiest:8.2f} {result.late:5.3f} {1e3 * result.p99:7.1f} '
            f'{result.late_in_failure:16.3f} {result.late_after:11.4f} '
            f'{1e3 * result.p99_after:13.1f}',
            flush=True,
        )
    return 0


def _pool(options: argparse.Namespace, streams: Sequence[Recorded]) -> int:
    print(
        f'homes of {POOL_CELLS} cells: {homes(POOL, POOL_CELLS)}, with d: '
        f'{homes((*POOL, "d"), POOL_CELLS)}'
    )
    print(f'{"":16} items under way  no answer  silence s  acknowledged twice  torn')
    happened, items = play_pool(
        options.models,
        options.out / 'logs',
        streams,
        rate=options.rate,
        rest=options.seconds,
        settings=options.set,
    )
    events = pool_events(happened, items)
    for event in events:
        print(
            f'{event.what:16} {event.items:5d} {event.under_way:9d} {event.unanswered:10d} '
            f'{event.silence_s:10.2f} {event.twice:19d} {event.torn:5d}'
        )
    result = {'machine': machine(), 'events': [asdict(event) for event in events]}
    (options.out / 'edge_pool.json').write_text(json.dumps(result, indent=1), encoding='utf-8')
    killed = [event for event in events if event.what.endswith('killed')]
    others = [event for event in events if event not in killed]
    # Of a cell whose home dies, what is captured in the second until the standby answers is lost.
    lost = max(event.unanswered for event in killed)
    most = 3 * max(homes(POOL, POOL_CELLS).values()) * max(1.0, options.rate)
    return 0 if lost <= most and not any(event.unanswered for event in others) else 1
