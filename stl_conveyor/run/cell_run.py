# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run the simulated cell: start its processes, follow the items, write what came of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient

from stl_conveyor.assess.latency import EDGE_CLASSIFICATION, FEATURES, FEEDBACK, stage_latencies
from stl_conveyor.assess.scoring import ItemRecord, score, slack_ms
from stl_conveyor.assess.table import csv_row, plain_heading, write_csv
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConveyorError
from stl_conveyor.nodes.base.runner import NodeRunner, NodeSpec
from stl_conveyor.nodes.simulation.cell_monitor import CellMonitor
from stl_conveyor.resources import share_path
from stl_conveyor.run.assess import (
    ask_strong,
    picture_of_cell,
    read_passages,
    read_readout,
    versions,
)
from stl_conveyor.run.faults import named_fault
from stl_conveyor.run.plan import REPORT_PERIOD, Deployment, node_arguments
from stl_conveyor.run.processes import Supervisor, signal_text
from stl_conveyor.run.report import write_report
from stl_conveyor.run.settings import SIMULATOR, RunSettings, Sources
from stl_conveyor.run.summary import Summary
from stl_conveyor.sim.arrivals import ArrivalSettings, plan_items

START_TIMEOUT = 60.0  # s for all nodes to become active and connected
LONGEST_STAY = 30.0  # s from an item's arrival to its rest, at the latest
RETRY_PATIENCE = 5.0  # s for a node that cannot configure; it tries again every 3 s
PATIENCE = 0.1  # s without a message after which the processes are looked at all the same
SETTLING = 0.3  # s after the last rest, for what is still on its way to the monitor


Found = TypeVar('Found')


class StartError(ConveyorError):
    """The cell did not come up; the message says which node, and what it said."""


@dataclass(frozen=True)
class RunResult:
    """What a run leaves behind in memory."""

    summary: Summary
    records: tuple[ItemRecord, ...]
    crops: Mapping[int, np.ndarray]
    strong: Mapping[int, tuple[str, float]]


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
