# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run the simulated cell: start its processes, follow the items, write what came of it."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient

from stl_conveyor.assess.table import plain_heading
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConveyorError
from stl_conveyor.nodes.base.runner import NodeRunner, NodeSpec
from stl_conveyor.nodes.base.topics import ONLOOKERS, TOPICS
from stl_conveyor.nodes.link.link_emulator import LinkEmulatorSettings
from stl_conveyor.nodes.simulation.cell_monitor import CellMonitor
from stl_conveyor.resources import share_path
from stl_conveyor.run.assess import Observed, RunResult, versions, write_results
from stl_conveyor.run.faults import FaultStep, fault_steps, named_fault
from stl_conveyor.run.nursery import Nursery
from stl_conveyor.run.output_folder import output_folder
from stl_conveyor.run.plan import Deployment, items_of, node_arguments
from stl_conveyor.run.processes import ProcessPlan, Supervisor, signal_text
from stl_conveyor.run.settings import GUARD, SIMULATOR, RunSettings, Sources
from stl_conveyor.run.summary import LATE_PICTURE_MS

START_TIMEOUT = 60.0  # s for all nodes to become active and connected
LONGEST_STAY = 30.0  # s from an item's arrival to its rest, at the latest
ONLOOKER_PATIENCE = 20.0  # s in which those who look on should be there, to see every item
RETRY_PATIENCE = 5.0  # s for a node that cannot configure; it tries again every 3 s
RESTART_DELAY = 0.3  # s from the end of a process to its next start
ONLOOKER_DELAY = 5.0  # s, of those by whom nobody sorts
RECORDING_PATIENCE = 10.0  # s in which a recording is finished
PATIENCE = 0.1  # s without a message after which the processes are looked at all the same
LAG_PERIOD = 5.0  # s between two words about a simulation that lags
# Who looks on → the topics that it listens to.
LISTENED = {
    name: tuple(topic.name for topic in TOPICS if name in topic.subscribers) for name in ONLOOKERS
}
SETTLING = 0.3  # s after the last rest, for what is still on its way to the monitor


Found = TypeVar('Found')


class StartError(ConveyorError):
    """The cell did not come up; the message says which node, and what it said."""


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
        onlookers: Sequence[ProcessPlan] = (),
    ) -> None:
        """Take what the run is made of; nothing is started yet.

        Args:
            onlookers: How to start who looks on, such as the operator's page. Nothing waits for
                them for long, nor fails with them.
        """
        self._onlookers = {plan.name: plan for plan in onlookers}
        self._settings = settings
        self._sources = sources
        self._monitor = monitor
        self._supervisor = supervisor
        self._say = say
        self._fault = named_fault(settings.fault)
        # A node that is killed alone has a process of its own.
        kills_one = self._fault.kill in deployment.composed
        self._deployment = (
            deployment if settings.composed and not kills_one else deployment.apart()
        )
        self._restart_at: dict[str, float] = {}
        self.deaths: list[str] = []
        self.cpu: dict[str, float] = {}
        self.onlookers_cpu: dict[str, float] = {}
        self._killed = ''
        self._lag_said = float('-inf')
        self._first_seen: dict[tuple[str, str], float] = {}

    def start(self) -> None:
        """Start every process, wait until all are active, and set the belt in motion.

        Raises:
            StartError: If one does not become active in time.
        """
        self.bring_up()
        self._set_parameters(SIMULATOR, {'belt_running': True})

    def bring_up(self) -> None:
        """Start every process, and wait until all are active and have found each other.

        Raises:
            StartError: If one does not become active in time.
        """
        parameters = node_arguments(self._settings, self._sources, self._fault)
        for plan in self._deployment.process_plans(
            {node: parameters.get(node, {}) for node in self._deployment.nodes}
        ):
            self._supervisor.start(plan)
        for plan in self._onlookers.values():
            for path in plan.replaces:
                path.unlink(missing_ok=True)
            self._supervisor.start(plan)
        end = time.monotonic() + START_TIMEOUT
        self._onlookers_end = time.monotonic() + ONLOOKER_PATIENCE
        while waiting := self._look(self._not_ready) or self._onlookers_missing():
            if dead := [each for each in self._supervisor.dead() if self._is_of_cell(each[0])]:
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
                            f'{node}: {why}\n{self._tail_of(node)}'
                            for node, why in waiting.items()
                        ]
                    )
                )
            self._monitor.news.wait(PATIENCE)
        self._monitor.troubles.clear()  # of nodes that waited for each other
        self._cpu_before = self._supervisor.cpu()

    def follow(self) -> bool:
        """Follow the run to its end; return whether every item came to rest."""
        board, items = self._monitor.board, self._settings.items
        arrivals = items_of(self._settings, self._monitor.cell)
        end = time.monotonic() + arrivals[-1].arrival * self._settings.time_unit + LONGEST_STAY
        steps = self._fault_steps()
        try:
            while self._look(lambda: board.rested < items):
                if time.monotonic() > end + self.held:
                    self._say('gave up waiting: not every item came to rest')
                    break
                if self._revive():
                    break
                while steps and board.exposed >= steps[0].share * items:
                    self._do(steps.pop(0))
                self._say_lag()
                self._monitor.news.wait(PATIENCE)
            complete = board.rested >= items
        finally:
            used = {
                name: seconds - self._cpu_before.get(name, 0.0)
                for name, seconds in self._supervisor.cpu().items()
            }
            self.cpu = {name: each for name, each in used.items() if self._is_of_cell(name)}
            self.onlookers_cpu = {name: used[name] for name in self._onlookers if name in used}
        time.sleep(SETTLING)
        return complete

    def _say_lag(self) -> None:
        """Say, once in a while, how far the simulation lies behind the clock."""
        text = lag_text(self._monitor.reports.get(SIMULATOR, {}))
        now = time.monotonic()
        if text and now - self._lag_said > LAG_PERIOD:
            self._lag_said = now
            self._say(text)

    @property
    def held(self) -> float:
        """Return for how long (s) the simulation was held, because the machine was too slow."""
        return float(self._monitor.reports.get(SIMULATOR, {}).get('held') or 0)

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
            if self._is_of_cell(node) and text.startswith(('cannot configure', 'cannot activate')):
                if now - self._first_seen.setdefault((node, text), now) > RETRY_PATIENCE:
                    return f'{node}: {text}'
        return ''

    def _is_of_cell(self, name: str) -> bool:
        return name not in self._onlookers

    def _onlookers_missing(self) -> Mapping[str, str]:
        """Return who of them is not there yet, as long as it is worth waiting for."""
        if time.monotonic() > self._onlookers_end:
            return {}
        dead = {name for name, _ in self._supervisor.dead()}
        return {
            name: 'not active'
            for name in self._onlookers
            if name not in dead
            and self._monitor.reports.get(name, {}).get('state') not in ('active', 'not started')
        }

    def _onlookers_of(self, topic: str) -> int:
        """Return how many of them listen to a topic, beside those who must."""
        if time.monotonic() > self._onlookers_end:
            return 0
        return sum(
            topic in LISTENED.get(name, ())
            and self._monitor.reports.get(name, {}).get('state') == 'active'
            for name in self._onlookers
        )

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
                readers += self._onlookers_of(topic)
                if found < readers:
                    missing.setdefault(node, f'{topic} has {found} of {readers} readers')
        guard = self._monitor.reports.get(GUARD, {})
        if GUARD in self._deployment.nodes and guard.get('safe_to_run') != 'True':
            missing.setdefault(GUARD, 'it does not say that the line may run')
        if not missing and not self._deployment.is_settled():
            missing['network'] = 'not settled'
        return missing

    def _tail_of(self, node: str) -> str:
        """Return the last lines of the process that a node runs in."""
        return self._supervisor.tail(self._deployment.process_of(node), 6)

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
                if self._is_of_cell(name):
                    self._restart_at[name] = now + RESTART_DELAY
                    self.deaths.append(f'{name}: {signal_text(code)}')
                else:
                    self._restart_at[name] = now + ONLOOKER_DELAY
                self._say(f'{name} ended ({signal_text(code)}) and is started again')
            elif now >= self._restart_at[name]:
                del self._restart_at[name]
                self._supervisor.restart(name)
        return False

    def _fault_steps(self) -> list[FaultStep]:
        """Return what the fault of this run does, in the order of time."""
        undisturbed = asdict(LinkEmulatorSettings(link=self._settings.link))
        return fault_steps(self._fault, undisturbed)

    def _do(self, step: FaultStep) -> None:
        """Do to the cell what belongs to a fault."""
        if step.kill:
            self._killed = step.kill
            self._supervisor.kill(step.kill)
        if step.restart:
            self._supervisor.restart(step.restart)
            self._killed = ''
        if step.link:
            self._set_parameters('link_emulator', step.link)
        self._say(step.text)


def lag_text(report: Mapping[str, str]) -> str:
    """Say how far the simulation was behind the clock; empty if pictures are not late by it.

    Args:
        report: The latest values of cell_simulator, of which `worst_lag` is in seconds since the
            report before, and `held` for how long the cell was held in all.
    """
    lag, held = float(report.get('worst_lag') or 0), float(report.get('held') or 0)
    if 1e3 * lag <= LATE_PICTURE_MS:
        return ''
    return (
        f'the simulation is {lag:.1f} s behind, and was held for {held:.1f} s so far: this '
        'machine is too slow or too busy'
    )


class RunInterrupted(KeyboardInterrupt):
    """Somebody ended the run; what was known by then is written.

    Attributes:
        result: Of the items so far.
    """

    def __init__(self, result: RunResult) -> None:
        super().__init__()
        self.result = result


def end_in_order(supervisor: Supervisor, onlookers: Sequence[str]) -> None:
    """Ask the processes of a run to end, in an order in which none says that another is gone.

    Those who look on are first, and a recording takes a moment to finish. Then the guard, which
    would miss each of the others, and at once the others, which would soon miss the guard.
    """
    for name in onlookers:
        supervisor.send_signal(name, signal.SIGTERM)
    for name in onlookers:
        supervisor.stop(name, RECORDING_PATIENCE)
    supervisor.stop(GUARD)
    supervisor.stop_all()


def run_cell(
    settings: RunSettings,
    out: Path,
    display: str = 'auto',
    say: Callable[[str], None] = print,
    deployment: Deployment = Deployment(),
    at_phase: Callable[[str], None] = lambda _: None,
    onlookers: Sequence[ProcessPlan] = (),
    nursery: Nursery | None = None,
) -> RunResult:
    """Run the cell and write everything into a folder.

    Args:
        display: Of the monitor: auto, table, lines or none.
        say: Takes lines for people.
        deployment: Which nodes run where.
        at_phase: Called with 'starting', 'ready' (the belt starts) and 'done' (it is empty).
        onlookers: How to start who looks on, such as the operator's page.
        nursery: What forks the processes, if it was started already.

    Raises:
        ConveyorError: If the cell cannot start.
        RunInterrupted: After Ctrl-C on a belt in motion, once everything is written.
    """
    with output_folder(out) as folder, contextlib.closing(nursery or Nursery()) as forks:
        return _run_into(folder, settings, display, say, deployment, at_phase, onlookers, forks)


def _run_into(
    out: Path,
    settings: RunSettings,
    display: str,
    say: Callable[[str], None],
    deployment: Deployment,
    at_phase: Callable[[str], None],
    onlookers: Sequence[ProcessPlan],
    nursery: Nursery,
) -> RunResult:
    began = time.time_ns()
    sources = Sources(
        out,
        Path(settings.models).resolve() if settings.models else Path(share_path('models/items')),
        Path(settings.cell).resolve() if settings.cell else Path(share_path('config/cell.yaml')),
    )
    cell = CellDescription.load(sources.cell)
    installed = versions(sources.models)
    supervisor = Supervisor(out / 'logs', nursery)
    runner = NodeRunner(
        [
            NodeSpec(
                CellMonitor,
                {'cell_file': str(sources.cell), 'display': display, 'keep_crops': True},
            )
        ]
    )
    (monitor,) = runner.nodes
    assert isinstance(monitor, CellMonitor)
    run = CellRun(settings, sources, monitor, supervisor, say, deployment, onlookers)
    complete = interrupted = False
    try:
        with runner, supervisor:
            at_phase('starting')
            run.start()
            at_phase('ready')
            if display == 'lines' or (display == 'auto' and not sys.stdout.isatty()):
                say(plain_heading())
            try:
                complete = run.follow()
            except KeyboardInterrupt:
                interrupted = True
                say('stopped: the results so far are written; once more Ctrl-C leaves them')
            at_phase('done')
            end_in_order(supervisor, [plan.name for plan in onlookers])
            records, crops, bucket = monitor.board.records, dict(monitor.crops), monitor.bucket
            troubles = tuple(f'{node}: {text}' for node, text in sorted(monitor.troubles))
    finally:
        supervisor.stop_all()
    observed = Observed(
        records=records,
        crops=crops,
        tokens_spent=None if bucket is None else bucket.spent_numerator / bucket.denominator,
        cpu=run.cpu,
        troubles=troubles,
        deaths=tuple(run.deaths),
        complete=complete,
        began_ns=began,
        ended_ns=time.time_ns(),
        versions=installed,
        held=run.held,
        onlookers_cpu=run.onlookers_cpu,
    )
    result = write_results(settings, sources, cell, observed, say)
    if interrupted:
        raise RunInterrupted(result)
    return result
