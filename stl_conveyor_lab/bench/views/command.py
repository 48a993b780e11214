# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Measure the views of a cell that runs, and what looking costs the cell.

``python -m stl_conveyor_lab.bench.views --out out`` runs the simulated cell seven times over the
same items: alone, with ten browsers that show a page on which nothing happens, and with the
operator's page and ten viewers, twice in turn; and with the page, one viewer, a recording and the
plant's interface, whose values it compares with summary.json. Then it tells page, gateway (with
every output) and recorder of 10,000 items and sees what grows. It writes OUT/views.json and
OUT/views.md, and ends with 1 if a mark is missed.

The viewers are tabs of a headless Chromium. Ten of them stand for people at other machines, so
their browser gets only the time that nobody else on this one wants (SCHED_IDLE). What they take of
it is told.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stl_conveyor.assess.latency import item_timings
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConfigError, MissingDependency, exit_code
from stl_conveyor.interrupts import take_sigterm_like_ctrl_c
from stl_conveyor.resources import share_path, writing
from stl_conveyor.run.assess import RunResult, read_passages, read_readout
from stl_conveyor.run.cell_run import run_cell
from stl_conveyor.run.console import free_port, recorder_plan
from stl_conveyor.run.domain import domain_of_its_own
from stl_conveyor.run.plan import process_plan
from stl_conveyor.run.processes import ProcessPlan, Supervisor
from stl_conveyor.run.settings import RunSettings, Sources
from stl_conveyor_lab.bench.views import plant
from stl_conveyor_lab.bench.views.flood import flood
from stl_conveyor_lab.bench.views.marks import (
    Looks,
    controls,
    marks,
    pooled_p99,
    shown_after,
    table,
)
from stl_conveyor_lab.measure.browser import CHROMIUM, MISSING, browser, session_cpu
from stl_conveyor_lab.measure.mosquitto import Mosquitto

VIEWERS = 10
ROUNDS = 2  # runs without viewers, and as many with them
OPENED = 3  # times that the page is loaded
SEED = 70_002
IDLE = ('chrt', '--idle', '0')
STILL = 'data:text/html,<title>still</title><h1 data-count=outcomes>0</h1>'
SHOWN = "document.querySelector('[data-count=outcomes]')"
# The number is there before anything was told, without a digit.
LOADED = f'({SHOWN} && /[0-9]/.test({SHOWN}.innerText))'
# Notes when the page shows another number of outcomes.
NOTE = f"""window.counts = []; (() => {{
  const look = () => {{
    const shown = {SHOWN};
    const count = shown ? Number(shown.innerText.replace(/[^0-9]/g, '')) : 0;
    const last = window.counts[window.counts.length - 1];
    if (!last || last[1] !== count) window.counts.push([Date.now(), count]);
  }};
  look();
  new MutationObserver(look).observe(
    document.body, {{subtree: true, childList: true, characterData: true}});
}})()"""


class Viewing:
    """Tabs that look at a page while the cell runs.

    Attributes:
        loads: Seconds until the page was there, each time.
        counts: When it showed another number of outcomes (ms since 1970), and which.
        seconds: From the begin to the end.
        cpu: Seconds of a processor that a browser took in that time which gives way.
    """

    def __init__(self, url: str, viewers: int, *, gives_way: bool) -> None:
        """Take what is looked at; nothing is opened yet.

        Args:
            gives_way: Whether the browser stands for others on machines of their own.
        """
        self._url, self._viewers, self._gives_way = url, viewers, gives_way
        self._stack = ExitStack()
        self._tabs: list[Any] = []
        self.loads: list[float] = []
        self.counts: list[tuple[float, int]] = []
        self.seconds = self.cpu = 0.0

    def begin(self, times: int) -> None:
        """Open the tabs, and measure how long the first takes, a few times."""
        self._begun = time.monotonic()
        new_tab = self._stack.enter_context(browser(IDLE if self._gives_way else ()))
        self._session = new_tab.session
        self._tabs = [new_tab() for _ in range(self._viewers)]
        self._tabs[0].open_when_served(self._url, LOADED)
        for _ in range(times):
            self._tabs[0].call('Network.setCacheDisabled', cacheDisabled=True)
            begun = time.monotonic()
            self._tabs[0].open(self._url)
            self._tabs[0].wait(LOADED)
            self.loads.append(time.monotonic() - begun)
        for tab in self._tabs[1:]:
            tab.open(self._url)
        for tab in self._tabs:
            tab.wait(LOADED)
        self._tabs[0].get(NOTE)

    def end(self) -> None:
        """Take what was noted, and close the browser.

        A tab that got no time for seconds has loaded the page anew, and noted nothing since.
        """
        noted = self._tabs[0].get('window.counts') or []
        self.counts = [(float(at), int(n)) for at, n in noted]
        self.seconds, self.cpu = time.monotonic() - self._begun, session_cpu(self._session)
        self.close()

    def close(self) -> None:
        """Close the browser, if it is open: this process does not end before."""
        self._stack.close()


def run(
    settings: RunSettings,
    out: Path,
    onlookers: Sequence[ProcessPlan] = (),
    viewing: Viewing | None = None,
    opened: int = 0,
    at_end: Any = lambda: None,
) -> RunResult:
    """Run the cell once; who views begins when it is ready."""

    def at_phase(phase: str) -> None:
        if viewing is not None and phase == 'ready':
            viewing.begin(opened)
        if phase == 'done':
            at_end()
            if viewing is not None:
                viewing.end()

    try:
        return run_cell(settings, out, 'none', onlookers=onlookers, at_phase=at_phase)
    finally:
        if viewing is not None:
            viewing.close()


def overheads_of(result: RunResult, folder: Path) -> list[float]:
    """Return the overhead (ms) of each item of a run, of which the way is known."""
    logs = Sources(folder, Path(), Path())
    timings = item_timings(
        result.records, read_readout(logs.camera_log), read_passages(logs.link_log)
    )
    return [timing.overhead for _, timing in timings if timing is not None]


def page_plan(port: int) -> ProcessPlan:
    """Return how to start the page."""
    parameters = {'port': port, 'alarm_log': '', 'change_log': '', 'counts_file': ''}
    return process_plan('operator_panel', parameters, share_path('config/panel.yaml'))


@contextmanager
def gateway_plan(folder: Path) -> Iterator[tuple[ProcessPlan, dict[str, int]]]:
    """Yield how to start the gateway with every output, and the ports."""
    with Mosquitto(folder) as broker:
        ports = {'prometheus': free_port(0), 'mqtt': broker.port, 'opcua': free_port(0)}
        parameters: dict[str, object] = {
            'outputs': ('prometheus', 'mqtt', 'sparkplug', 'opcua'),
            'prometheus_port': ports['prometheus'],
            'mqtt_port': ports['mqtt'],
            'opcua_port': ports['opcua'],
            'period': 0.2,
        }
        yield process_plan('plant_gateway', parameters, share_path('config/panel.yaml')), ports


def measure(items: int, flood_items: int, out: Path) -> Looks:
    """Run everything; return what was measured."""
    settings = RunSettings(items=items, seed=SEED)
    port = free_port(0)
    url = f'http://127.0.0.1:{port}/?lang=en'
    alone, viewed = list[RunResult](), list[RunResult]()
    # Overheads of these runs, and of those with browsers that show nothing of the cell.
    quiet, busy, still = list[list[float]](), list[list[float]](), list[list[float]]()
    cores = dict[str, list[float]]()
    # In turn, as what else the machine does changes while this runs.
    for number in range(1, ROUNDS + 1):
        print(f'{items} items, nobody looks on', flush=True)
        place = out / f'alone_{number}'
        alone.append(run(settings, place))
        quiet.append(overheads_of(alone[-1], place))
        print(f'the same with {VIEWERS} browsers that show a still page', flush=True)
        ten = Viewing(STILL, VIEWERS, gives_way=True)
        place = out / f'still_{number}'
        still.append(overheads_of(run(settings, place, viewing=ten), place))
        cores.setdefault('browsers with a still page', []).append(ten.cpu / ten.seconds)
        print(f'the same with the page and {VIEWERS} viewers', flush=True)
        ten = Viewing(url, VIEWERS, gives_way=True)
        place = out / f'viewed_{number}'
        viewed.append(run(settings, place, [page_plan(port)], ten))
        busy.append(overheads_of(viewed[-1], place))
        cores.setdefault('browsers with the page', []).append(ten.cpu / ten.seconds)
        page = viewed[-1].onlookers_cpu.get('operator_panel', float('nan'))
        cores.setdefault('the page itself', []).append(page / ten.seconds)
    print("the same with one viewer and the plant's interface", flush=True)
    one = Viewing(url, 1, gives_way=False)
    told: dict[str, Mapping[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix='bench_views_') as folder:
        with gateway_plan(Path(folder)) as (gateway, ports):

            def read_plant() -> None:
                told['prometheus'] = plant.from_prometheus(ports['prometheus'])
                told['mqtt'], told['sparkplug'] = plant.from_mqtt(
                    ports['mqtt'], 'stl_conveyor', 'stl_conveyor', 'cell'
                )
                told['opcua'] = plant.from_opcua(ports['opcua'])

            onlookers = [page_plan(port), gateway]
            if (recorder := recorder_plan(out / 'shown', print)) is not None:
                onlookers.append(recorder)
            shown = run(settings, out / 'shown', onlookers, one, OPENED, read_plant)
        print(f'{flood_items} items at once', flush=True)
        memories = memories_of(Path(folder), flood_items)
    summary = json.loads((out / 'shown' / 'summary.json').read_text(encoding='utf-8'))
    commands = sorted(
        record.action.command_ns / 1e6 for record in shown.records if record.action is not None
    )
    return Looks(
        loads=one.loads,
        shown_ms=shown_after(commands, one.counts),
        missed=(
            sum(each.summary.score.missed_deadlines for each in alone),
            sum(each.summary.score.missed_deadlines for each in viewed),
            shown.summary.score.missed_deadlines,
        ),
        overheads_ms=(
            pooled_p99(quiet),
            pooled_p99(busy),
            pooled_p99([overheads_of(shown, out / 'shown')]),
        ),
        rounds_ms=[(pooled_p99([none]), pooled_p99([all_])) for none, all_ in zip(quiet, busy)],
        still_ms=pooled_p99(still),
        cores={name: sum(found) / len(found) for name, found in cores.items()},
        memories=memories,
        differing={name: plant.differing(values, summary) for name, values in told.items()},
        compared={name: len(plant.COMPARED) for name in told},
    )


def memories_of(folder: Path, items: int) -> Any:
    """Return what page, gateway, recorder and a browser's tab hold over many items."""
    port = free_port(0)
    recording = process_plan(
        'recorder', {'file': str(folder / 'run.mcap')}, share_path('config/panel.yaml')
    )
    with (
        gateway_plan(folder) as (gateway, _),
        Supervisor(folder / 'logs') as supervisor,
        browser() as new_tab,
    ):
        for plan in (page_plan(port), gateway, recording):
            supervisor.start(plan)
        tab = new_tab()
        tab.open_when_served(f'http://127.0.0.1:{port}/?lang=en', LOADED)

        def heap() -> dict[str, float]:
            tab.call('HeapProfiler.collectGarbage')
            return {'the page in a browser': tab.call('Runtime.getHeapUsage')['usedSize'] / 1024}

        cell = CellDescription.load(share_path('config/cell.yaml'))
        pids = {
            name: supervisor.pid(name) for name in ('operator_panel', 'plant_gateway', 'recorder')
        }
        return flood(cell, items, pids, heap)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; return the exit code."""
    parser = argparse.ArgumentParser(
        prog='stl-conveyor bench views', description='Measure the views of a cell that runs.'
    )
    parser.add_argument('--out', type=Path, default=Path('out'), help='folder for the results')
    parser.add_argument('--items', type=int, default=120, help='of each run')
    parser.add_argument('--flood', type=int, default=10_000, help='items that are told of at once')
    options = parser.parse_args(arguments)

    def work() -> int:
        if options.items < 10 or options.flood < 10:
            raise ConfigError('--items and --flood: give at least 10')
        if CHROMIUM is None:
            raise MissingDependency(MISSING)
        take_sigterm_like_ctrl_c()
        with domain_of_its_own(print):
            looks = measure(options.items, options.flood, options.out)
        found = marks(looks)
        text = table(found, controls(looks))
        with writing(options.out):
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / 'views.md').write_text(text, encoding='utf-8')
            (options.out / 'views.json').write_text(
                json.dumps(asdict(looks), indent=1) + '\n', encoding='utf-8'
            )
        print(text)
        return 0 if all(mark.met for mark in found) else 1

    return exit_code('bench-views', work)


if __name__ == '__main__':
    sys.exit(main())
