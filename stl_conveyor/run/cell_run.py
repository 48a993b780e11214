# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run the simulated cell: every node in a process of its own, over real DDS.

``python -m stl_conveyor.run --items 200 --seed 1 --out out`` shows a live table and ends with a
summary, OUT/summary.json, OUT/items.csv and OUT/report.html. Exit code 0 if every item came to
rest, 1 if not, 2 if the cell could not start, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import numpy as np
import yaml
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient

import stl_conveyor
from stl_conveyor.assess.latency import (
    EDGE_CLASSIFICATION,
    FEATURES,
    FEEDBACK,
    Passage,
    stage_latencies,
)
from stl_conveyor.assess.scoring import ItemRecord, score, slack_ms
from stl_conveyor.assess.summary import RunSettings, Summary
from stl_conveyor.assess.table import csv_row, plain_heading, write_csv
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConfigError, ConveyorError, exit_code
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.nodes.base.runner import NodeRunner, NodeSpec
from stl_conveyor.nodes.base.topics import node_module
from stl_conveyor.nodes.simulation.cell_monitor import CellMonitor
from stl_conveyor.resources import share_path
from stl_conveyor.run.faults import Fault, fault_names, named_fault, with_other_codec
from stl_conveyor.run.processes import (
    ProcessPlan,
    Supervisor,
    signal_text,
    take_sigterm_like_ctrl_c,
)
from stl_conveyor.run.report import write_report
from stl_conveyor.sim.arrivals import ARRIVALS, ArrivalSettings, ItemPlan, plan_items
from stl_conveyor.sim.link import LINKS
from stl_conveyor.vision.image import resize_square

SIMULATOR = 'cell_simulator'
NODES = (
    'camera',
    'local_classifier',
    'offload_policy',
    'encoder',
    'link_emulator',
    'edge_classifier',
    'actuator',
)
# Who must have found whom before the belt starts: readers of each topic, the monitor included.
READERS = {
    SIMULATOR: {'camera/image_raw': 1, 'item_truth': 1},
    'camera': {'capture': 4},
    'local_classifier': {'classification': 3},
    'offload_policy': {'offload_decision': 3, 'token_bucket': 1},
    'encoder': {'features_tx': 1, 'transfer': 2},
    'link_emulator': {'features_rx': 1, 'feedback_rx': 2, 'edge_classification': 2},
    'edge_classifier': {'feedback_tx': 1, 'edge_classification_tx': 1},
    'actuator': {'sort_outcome': 2},
}
START_TIMEOUT = 60.0  # s for all nodes to become active and connected
LONGEST_STAY = 30.0  # s from an item's arrival to its rest, at the latest
RETRY_PATIENCE = 5.0  # s for a node that cannot configure; it tries again every 3 s
REPORT_PERIOD = 0.5  # s between a node's reports, by which it is known to be ready
PATIENCE = 0.1  # s without a message after which the processes are looked at all the same
SETTLING = 0.3  # s after the last rest, for what is still on its way to the monitor


Found = TypeVar('Found')


@dataclass(frozen=True)
class Deployment:
    """Which nodes a run starts, where each runs, and how it is known that they are ready.

    Attributes:
        readers: Node → topic → how many must listen before the belt starts.
        remappings: Node → topic names, old → new.
        prefixes: Node → command that runs its process.
        environments: Node → variables of its process.
        out_of_sight: Nodes whose reports do not reach the monitor; that the edge among them is
            ready is known from offload_policy.
        is_settled: Whether what the run depends on beside its nodes is ready, too.
    """

    nodes: tuple[str, ...] = (SIMULATOR, *NODES)
    readers: Mapping[str, Mapping[str, int]] = field(default_factory=lambda: READERS)
    remappings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    prefixes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    environments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    out_of_sight: tuple[str, ...] = ()
    is_settled: Callable[[], bool] = lambda: True

    def process_plan(self, node: str, parameters: Mapping[str, object]) -> ProcessPlan:
        """Return how to start a node."""
        plan = process_plan(node, parameters)
        words = [
            word
            for old, new in self.remappings.get(node, {}).items()
            for word in ('-r', f'{old}:={new}')
        ]
        return replace(
            plan,
            arguments=(*plan.arguments, *words),
            prefix=self.prefixes.get(node, ()),
            environment=self.environments.get(node, {}),
        )


class StartError(ConveyorError):
    """The cell did not come up; the message says which node, and what it said."""


@dataclass(frozen=True)
class Sources:
    """Where a run's files are."""

    out: Path
    models: Path
    cell: Path

    @property
    def link_log(self) -> Path:
        """Return where link_emulator writes about every message."""
        return self.out / 'logs' / 'link.csv'

    @property
    def camera_log(self) -> Path:
        """Return where cell_simulator writes about every picture."""
        return self.out / 'logs' / 'camera.csv'


@dataclass(frozen=True)
class RunResult:
    """What a run leaves behind in memory."""

    summary: Summary
    records: tuple[ItemRecord, ...]
    crops: Mapping[int, np.ndarray]
    strong: Mapping[int, tuple[str, float]]


def node_arguments(
    settings: RunSettings, sources: Sources, fault: Fault
) -> dict[str, dict[str, object]]:
    """Return the parameters of every node by its name."""
    models = {'models_dir': str(sources.models)}
    cell = {'cell_file': str(sources.cell)}
    edge_models = sources.models
    if fault.other_codec:
        edge_models = with_other_codec(sources.models, sources.out / 'logs' / 'other_codec')
    arrivals = ArrivalSettings(process=settings.arrivals)
    intervals = {
        'markov': tuple(float(i) for i in arrivals.intervals),
        'poisson': _geometric_quantiles(arrivals.mean_interval),
    }.get(settings.arrivals, (float(arrivals.period),))
    parameters = {
        SIMULATOR: {
            **cell,
            'items': settings.items,
            'seed': settings.seed,
            'arrivals': settings.arrivals,
            'time_unit': settings.time_unit,
            'belt_running': False,
            'log_path': str(sources.camera_log),
        },
        'camera': {**cell},
        'local_classifier': {**models},
        'offload_policy': {
            **models,
            'policy': settings.policy,
            'rate': settings.rate,
            'depth': settings.bucket,
            'time_unit': settings.time_unit,
            'intervals': intervals,
            'seed': settings.seed,
        },
        'encoder': {**models},
        'link_emulator': {
            'link': settings.link,
            'seed': settings.seed,
            'log_path': str(sources.link_log),
        },
        'edge_classifier': {'models_dir': str(edge_models)},
        'actuator': {**cell},
    }
    for override in settings.overrides:
        node, name, value = parse_override(override)
        parameters[node][name] = value
    return parameters


def parse_override(text: str) -> tuple[str, str, object]:
    """Return node, parameter and value of NODE.PARAMETER=VALUE; the value is YAML.

    Raises:
        ConfigError: If it is something else, or there is no such node.
    """
    target, equals, value = text.partition('=')
    node, dot, name = target.partition('.')
    if not (equals and dot and name) or node not in (SIMULATOR, *NODES):
        raise ConfigError(
            f'--set {text}: write NODE.PARAMETER=VALUE with a node of '
            + ', '.join((SIMULATOR, *NODES))
        )
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f'--set {text}: {value!r} is not YAML') from error
    return node, name, tuple(parsed) if isinstance(parsed, list) else parsed


def _geometric_quantiles(mean: float, count: int = 20) -> tuple[float, ...]:
    """Return equally likely values that stand for geometric intervals with a mean."""
    shares = (np.arange(count) + 0.5) / count
    if mean == 1:
        return (1.0,)
    return tuple(float(v) for v in np.ceil(np.log(1 - shares) / np.log(1 - 1 / mean)))


def process_plan(node: str, parameters: Mapping[str, object]) -> ProcessPlan:
    """Return how to start a node with the shipped parameter file and what differs from it."""

    def text(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, tuple):
            return '[' + ', '.join(map(text, value)) + ']'
        return repr(value) if isinstance(value, (int, float)) else f"'{value}'"

    arguments = [
        '-m',
        node_module(node),
        '--ros-args',
        '--params-file',
        str(share_path('config/sim.yaml')),
    ]
    for name, value in parameters.items():
        arguments += ['-p', f'{name}:={text(value)}']
    return ProcessPlan(node, tuple(arguments))


class CellRun:
    """One run from start to end: processes, fault, and waiting for the last item."""

    def __init__(
        self,
        settings: RunSettings,
        sources: Sources,
        monitor: CellMonitor,
        supervisor: Supervisor,
        say: Callable[[str], None],
        deployment: Deployment = Deployment(),
    ) -> None:
        """Take what the run is made of; nothing is started yet."""
        self._deployment = deployment
        self._settings = settings
        self._sources = sources
        self._monitor = monitor
        self._supervisor = supervisor
        self._say = say
        self._fault = named_fault(settings.fault)
        self._restart_at: dict[str, float] = {}
        self.deaths: list[str] = []
        self.cpu: dict[str, float] = {}
        self._killed = ''
        self._first_seen: dict[tuple[str, str], float] = {}

    def start(self) -> None:
        """Start every process, wait until all are active, and set the belt in motion.

        Raises:
            StartError: If one does not become active in time.
        """
        parameters = node_arguments(self._settings, self._sources, self._fault)
        for node in self._deployment.nodes:
            self._supervisor.start(
                self._deployment.process_plan(
                    node, {'diagnostics_period': REPORT_PERIOD, **parameters.get(node, {})}
                )
            )
        end = time.monotonic() + START_TIMEOUT
        while waiting := self._look(self._not_ready):
            if dead := self._supervisor.dead():
                raise StartError(
                    f'{dead[0][0]} ended at once ({signal_text(dead[0][1])}):\n'
                    f'{self._supervisor.tail(dead[0][0])}'
                )
            if error := self._lasting_error():
                raise StartError(error)
            if time.monotonic() > end:
                raise StartError(
                    '\n'.join(
                        [f'not ready after {START_TIMEOUT:.0f} s:']
                        + [
                            f'{node}: {why}\n{self._supervisor.tail(node, 6)}'
                            for node, why in waiting.items()
                        ]
                    )
                )
            self._monitor.news.wait(PATIENCE)
        self._monitor.troubles.clear()  # of nodes that waited for each other
        self._cpu_before = self._supervisor.cpu()
        self._set_parameters(SIMULATOR, {'belt_running': True})

    def follow(self) -> bool:
        """Follow the run to its end; return whether every item came to rest."""
        board, items = self._monitor.board, self._settings.items
        arrivals = plan_items(
            items,
            self._settings.seed,
            self._monitor.cell.classes,
            ArrivalSettings(process=self._settings.arrivals),
        )
        end = time.monotonic() + arrivals[-1].arrival * self._settings.time_unit + LONGEST_STAY
        steps = self._fault_steps()
        while self._look(lambda: board.rested < items):
            if time.monotonic() > end:
                self._say('gave up waiting: not every item came to rest')
                break
            if self._revive():
                break
            while steps and board.exposed >= steps[0][0] * items:
                steps.pop(0)[1]()
            self._monitor.news.wait(PATIENCE)
        complete = board.rested >= items
        cpu = self._supervisor.cpu()
        self.cpu = {name: cpu[name] - self._cpu_before.get(name, 0.0) for name in cpu}
        time.sleep(SETTLING)
        return complete

    def _look(self, look: Callable[[], Found]) -> Found:
        """Return what is found; what is heard from now on is news."""
        self._monitor.news.clear()
        return look()

    def _lasting_error(self) -> str:
        """Return what keeps a node from starting, once it has had time to try again."""
        if error := self._monitor.reports.get(SIMULATOR, {}).get('error'):
            return f'{SIMULATOR}: {error}'
        now = time.monotonic()
        for node, text in list(self._monitor.troubles):
            if text.startswith(('cannot configure', 'cannot activate')):
                if now - self._first_seen.setdefault((node, text), now) > RETRY_PATIENCE:
                    return f'{node}: {text}'
        return ''

    def _not_ready(self) -> Mapping[str, str]:
        """Return the nodes that are not active, or not connected yet, with what is missing."""
        missing = {}
        for node in self._deployment.nodes:
            if node in self._deployment.out_of_sight:
                policy = self._monitor.reports.get('offload_policy', {})
                if policy.get('edge_alive') != 'True':
                    missing[node] = 'no sign of life has come'
                continue
            report = self._monitor.reports.get(node, {})
            if report.get('state') != 'active':
                missing[node] = 'not active'
            for topic, readers in self._deployment.readers.get(node, {}).items():
                found = int(report.get(f'/{topic}.subscribers', 0))
                if found < readers:
                    missing.setdefault(node, f'{topic} has {found} of {readers} readers')
        if not missing and not self._deployment.is_settled():
            missing['network'] = 'not settled'
        return missing

    def _set_parameters(self, node: str, values: Mapping[str, object]) -> None:
        client = AsyncParameterClient(self._monitor, node)
        client.wait_for_services(timeout_sec=5.0)
        client.set_parameters([Parameter(name, value=value) for name, value in values.items()])

    def _revive(self) -> bool:
        """Start again what died by itself; return whether the run is lost."""
        now = time.monotonic()
        if error := self._monitor.reports.get(SIMULATOR, {}).get('error'):
            self.deaths.append(f'{SIMULATOR}: {error}')
            self._say(f'the simulation ended: {error}')
            return True
        for name, code in self._supervisor.dead():
            if name == self._killed:
                continue
            if name == SIMULATOR:
                self.deaths.append(f'{name}: {signal_text(code)}')
                self._say(
                    f'{name} ended ({signal_text(code)}): the run is over\n'
                    + self._supervisor.tail(name)
                )
                return True
            if name not in self._restart_at:
                self._restart_at[name] = now + 1.0
                self.deaths.append(f'{name}: {signal_text(code)}')
                self._say(f'{name} ended ({signal_text(code)}) and is started again')
            elif now >= self._restart_at[name]:
                del self._restart_at[name]
                self._supervisor.restart(name)
        return False

    def _fault_steps(self) -> list[tuple[float, Callable[[], None]]]:
        fault = self._fault

        def kill() -> None:
            self._killed = fault.kill
            self._supervisor.kill(fault.kill)
            self._say(f'fault: {fault.kill} killed')

        def restart() -> None:
            self._supervisor.restart(fault.kill)
            self._killed = ''
            self._say(f'fault over: {fault.kill} started again')

        def set_link(values: Mapping[str, object], text: str) -> None:
            self._set_parameters('link_emulator', values)
            self._say(text)

        if fault.kill:
            return [(fault.begin, kill), (fault.end, restart)]
        if fault.link:
            from stl_conveyor.nodes.link.link_emulator import LinkEmulatorSettings

            before = {
                k: self._settings.link if k == 'link' else getattr(LinkEmulatorSettings(), k)
                for k in fault.link
            }
            return [
                (fault.begin, lambda: set_link(fault.link, f'fault: {fault.name}')),
                (fault.end, lambda: set_link(before, f'fault over: {fault.name}')),
            ]
        return []


def ask_strong(models: Path, crops: Mapping[int, np.ndarray]) -> Mapping[int, tuple[str, float]]:
    """Return the strong model's class and score for every uncompressed crop, by stamp."""
    folder = ModelFolder(models)
    classifier = Classifier(folder.path('strong'), threads=os.cpu_count() or 1)
    stamps = sorted(crops)
    answers: dict[int, tuple[str, float]] = {}
    for start in range(0, len(stamps), 16):
        batch = stamps[start : start + 16]
        images = np.stack([resize_square(crops[s], folder.image_size) for s in batch])
        for stamp, row in zip(batch, classifier.classify_batch(images)):
            answers[stamp] = (folder.labels[int(row.argmax())], float(row.max()))
    return answers


def picture_of_cell(
    cell: CellDescription,
    settings: RunSettings,
    plan: Sequence[ItemPlan],
    records: Sequence[ItemRecord],
) -> np.ndarray | None:
    """Simulate the beginning again, with the run's commands, and photograph the cell."""
    try:
        from stl_conveyor.sim.mujoco_cell import MujocoCell

        lanes = {r.serial: r.action.lane for r in records if r.serial and r.action is not None}
        simulation = MujocoCell(cell, plan, settings.seed, settings.time_unit)
        moment = plan[min(7, len(plan) - 1)].arrival * settings.time_unit + 1.3
        while simulation.time < moment:
            for event in simulation.step_until(simulation.time + 0.01):
                if not hasattr(event, 'image'):
                    continue
                lane = lanes.get(event.serial, cell.reject_lane)
                if lane != cell.reject_lane:
                    simulation.fire(lane, event.time + cell.fire_time_ns(0, lane) / 1e9)
        picture = simulation.render_overview(720, 1280)
        simulation.close()
        return picture
    except (ImportError, ConveyorError):
        return None


def read_passages(path: Path) -> list[Passage]:
    """Return what link_emulator logged; nothing if there is no log."""
    return [
        Passage(int(row[0]), row[1], int(row[2]), int(row[3]), int(row[4]))
        for row in _read_csv(path, 5)
    ]


def read_readout(path: Path) -> dict[int, int]:
    """Return, by capture stamp, how many ns later cell_simulator handed the frame over."""
    return {int(row[0]): int(row[1]) - int(row[0]) for row in _read_csv(path, 2)}


def _read_csv(path: Path, columns: int) -> list[list[str]]:
    try:
        lines = path.read_text(encoding='utf-8').splitlines()[1:]
    except OSError:
        return []
    rows = [line.split(',') for line in lines]
    return [row for row in rows if len(row) == columns and row[-1]]


def versions(models: Path) -> Mapping[str, str]:
    """Return the versions of everything that a run's numbers depend on."""
    found = {
        'stl_conveyor': stl_conveyor.__version__,
        'python': platform.python_version(),
        'ros': os.environ.get('ROS_DISTRO', ''),
        'rmw': os.environ.get('RMW_IMPLEMENTATION', ''),
    }
    for package in ('numpy', 'onnxruntime', 'mujoco', 'scipy'):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    folder = ModelFolder(models)
    found['models'] = folder.name
    for role in folder.roles:
        found[f'model_{role}'] = f'{folder.model_id(role):016x}'
    return found


def run_cell(
    settings: RunSettings,
    out: Path,
    display: str = 'auto',
    say: Callable[[str], None] = print,
    deployment: Deployment = Deployment(),
    at_phase: Callable[[str], None] = lambda _: None,
) -> RunResult:
    """Run the cell and write everything into a folder.

    Args:
        display: Of the monitor: auto, table, lines or none.
        say: Takes lines for people.
        deployment: Which nodes run where.
        at_phase: Called with 'starting', 'ready' (the belt starts) and 'done' (it is empty).

    Raises:
        ConveyorError: If the cell cannot start.
    """
    began = time.time_ns()
    out = out.resolve()
    sources = Sources(
        out,
        Path(settings.models).resolve() if settings.models else Path(share_path('models/items')),
        Path(settings.cell).resolve() if settings.cell else Path(share_path('config/cell.yaml')),
    )
    cell = CellDescription.load(sources.cell)
    installed = versions(sources.models)
    (out / 'logs').mkdir(parents=True, exist_ok=True)
    for old in (out / 'logs').glob('*.*'):
        old.unlink()
    supervisor = Supervisor(out / 'logs')
    runner = NodeRunner(
        [
            NodeSpec(
                CellMonitor,
                {'cell_file': str(sources.cell), 'display': display, 'keep_crops': True},
            )
        ]
    )
    monitor = runner.nodes[0]
    run = CellRun(settings, sources, monitor, supervisor, say, deployment)
    complete = False
    try:
        with runner, supervisor:
            at_phase('starting')
            run.start()
            at_phase('ready')
            if display == 'lines' or (display == 'auto' and not sys.stdout.isatty()):
                say(plain_heading())
            complete = run.follow()
            at_phase('done')
            supervisor.stop_all()
            records, crops, bucket = monitor.board.records, dict(monitor.crops), monitor.bucket
            troubles = tuple(f'{node}: {text}' for node, text in sorted(monitor.troubles))
    finally:
        supervisor.stop_all()
    seconds = (time.time_ns() - began) / 1e9
    try:
        strong = ask_strong(sources.models, crops)
    except ConveyorError as error:
        say(f'the strong model could not be asked: {error}')
        strong = {}
    readout, passages = read_readout(sources.camera_log), read_passages(sources.link_log)
    shown = [r for r in records if r.serial]
    n = max(len(shown), 1)
    summary = Summary(
        settings=settings,
        score=score(records, cell),
        strong_correct=sum(
            r.stamp_ns in strong and cell.lane_of(strong[r.stamp_ns][0]) == r.lane for r in shown
        )
        if strong
        else None,
        strong_class_correct=sum(
            r.stamp_ns in strong and strong[r.stamp_ns][0] == r.class_id for r in shown
        )
        if strong
        else None,
        link_bytes={
            channel: sum(p.wire_bytes for p in passages if p.channel == channel)
            for channel in (FEATURES, FEEDBACK, EDGE_CLASSIFICATION)
        }
        if passages
        else {},
        tokens_spent=None if bucket is None else bucket.spent_numerator / bucket.denominator,
        slack_ms=slack_ms(records),
        latency_ms=stage_latencies(records, readout, passages),
        cpu_seconds_per_item={
            **{name: used / n for name, used in run.cpu.items()},
            'total': sum(run.cpu.values()) / n,
        },
        seconds_to_first_item=(shown[0].stamp_ns - began) / 1e9 if shown else float('nan'),
        seconds=seconds,
        simulation_lag_ms=max(readout.values(), default=0) / 1e6,
        troubles=troubles,
        deaths=tuple(run.deaths),
        complete=complete,
        versions=installed,
    )
    summary.write(out / 'summary.json')
    write_csv(
        out / 'items.csv',
        [csv_row(r, cell, strong.get(r.stamp_ns), crops.get(r.stamp_ns)) for r in records],
    )
    plan = plan_items(
        settings.items, settings.seed, cell.classes, ArrivalSettings(process=settings.arrivals)
    )
    write_report(
        out, summary, records, cell, crops, picture_of_cell(cell, settings, plan, records)
    )
    return RunResult(summary, records, crops, strong)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m stl_conveyor.run', description='Run the simulated cell over real DDS.'
    )
    defaults = RunSettings()
    parser.add_argument('--items', type=int, default=defaults.items, help='number of items')
    parser.add_argument(
        '--seed',
        type=int,
        default=defaults.seed,
        help='of everything random; the same seed gives the same items',
    )
    parser.add_argument('--out', type=Path, default=Path('out'), help='folder for the results')
    parser.add_argument('--policy', default=defaults.policy, help='which policy decides')
    parser.add_argument(
        '--rate', type=float, default=defaults.rate, help='tokens per time unit, r'
    )
    parser.add_argument(
        '--bucket', type=float, default=defaults.bucket, help='most tokens kept, b'
    )
    parser.add_argument(
        '--link',
        default=defaults.link,
        choices=LINKS,
        help='bandwidth by the jamming it was measured under',
    )
    parser.add_argument(
        '--fault',
        default=defaults.fault,
        metavar='FAULT',
        help=f'what goes wrong in mid-run: {fault_names()}',
    )
    parser.add_argument(
        '--arrivals', default=defaults.arrivals, choices=ARRIVALS, help='arrival process'
    )
    parser.add_argument(
        '--time-unit',
        type=float,
        default=defaults.time_unit,
        help='seconds, the shortest item period',
    )
    parser.add_argument(
        '--models', default='', metavar='DIR', help='model folder; default: the shipped one'
    )
    parser.add_argument(
        '--cell', default='', metavar='FILE', help='cell description; default: the shipped one'
    )
    parser.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='NODE.PARAMETER=VALUE',
        dest='overrides',
        help='any parameter of any node; may be repeated',
    )
    parser.add_argument(
        '--plain', action='store_true', help='one line per item instead of a live table'
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cell from the command line and return the exit code."""
    options = parse(arguments)
    take_sigterm_like_ctrl_c()

    def work() -> int:
        if options.items < 1:
            raise ConfigError(f'--items {options.items}: a run needs at least one')
        named_fault(options.fault)
        settings = RunSettings(
            items=options.items,
            seed=options.seed,
            policy=options.policy,
            rate=options.rate,
            bucket=options.bucket,
            link=options.link,
            fault=options.fault,
            arrivals=options.arrivals,
            time_unit=options.time_unit,
            models=options.models,
            cell=options.cell,
            overrides=tuple(options.overrides),
        )
        for override in settings.overrides:
            parse_override(override)
        result = run_cell(settings, options.out, 'lines' if options.plain else 'auto')
        width = max(len(name) for name, _ in result.summary.rows())
        print()
        for name, value in result.summary.rows():
            print(f'{name.ljust(width)}  {value}')
        print(f'\nreport: {options.out / "report.html"}')
        return 0 if result.summary.complete else 1

    return exit_code('run', work)


if __name__ == '__main__':
    sys.exit(main())
