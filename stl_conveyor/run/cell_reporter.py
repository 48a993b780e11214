# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""cell_monitor as the launch files start it: after the last item it writes the results."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.parameter import parameter_value_to_python
from rclpy.parameter_client import AsyncParameterClient

from stl_conveyor.assess.table import plain_heading
from stl_conveyor.errors import ConveyorError, Level
from stl_conveyor.nodes.base.items import configured_path
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.settings import parameter
from stl_conveyor.nodes.simulation.cell_monitor import CellMonitor, CellMonitorSettings
from stl_conveyor.run.assess import Observed, versions, write_results
from stl_conveyor.run.console import print_result
from stl_conveyor.run.settings import RunSettings, Sources

# Who brings the items, and says on /diagnostics when all of them are at rest.
FEEDERS = ('cell_simulator', 'feeder')
SETTLING = 1.0  # s after the last rest, for what is still on its way
ANSWER_TIME = 2.0  # s in which a node says what its parameters are
# Node -> its parameter -> the name of the same in the settings of a run.
ASKED: Mapping[str, Mapping[str, str]] = {
    **dict.fromkeys(
        FEEDERS,
        {'items': 'items', 'seed': 'seed', 'arrivals': 'arrivals', 'time_unit': 'time_unit'},
    ),
    'offload_policy': {
        'policy': 'policy',
        'rate': 'rate',
        'depth': 'bucket',
        'models_dir': 'models',
    },
    'link_emulator': {'link': 'link'},
}


@dataclass(frozen=True)
class CellReporterSettings(CellMonitorSettings):
    """Parameters of cell_monitor where it writes the results."""

    keep_crops: bool = parameter(True, 'Keep every crop in memory, for scoring afterwards.')
    out: str = parameter('out', 'Folder for summary.json, items.csv and report.html.')
    end_when_done: bool = parameter(
        False, 'End the process once the results are written; who launched it ends the others.'
    )


class CellReporter(CellMonitor):
    """Looks on as cell_monitor does, and writes summary and report when the last item rests."""

    SETTINGS = CellReporterSettings

    def activate(self) -> None:
        """Listen, and look for the end of the run."""
        super().activate()
        if self._lines:
            print(plain_heading(), flush=True)
        self._began_ns = time.time_ns()
        self._done_ns: int | None = None
        self._writer: threading.Thread | None = None
        self.resources.callback(self._finish)
        self.every(0.25, self._look_for_the_end)

    def _finish(self) -> None:
        """Let results that are being written be written."""
        if self._writer is not None:
            self._writer.join()

    def _look_for_the_end(self) -> None:
        if self._writer is not None or not self._feeder():
            return
        now_ns = self.steady_clock.now().nanoseconds
        if self._done_ns is None:
            self._done_ns = now_ns
        elif now_ns - self._done_ns > SETTLING * 1e9:
            # Pictures and strong answers take seconds, in which other nodes may still be watched.
            self._writer = threading.Thread(target=self._write, name='results', daemon=True)
            self._writer.start()

    def _feeder(self) -> str:
        """Return the node that says it has brought every item to rest; empty if none does."""
        for name in FEEDERS:
            if self._report_of(name).get('finished') == 'True':
                return name
        return ''

    def _report_of(self, node: str) -> Mapping[str, str]:
        """Return the latest values that a node of this cell reported."""
        prefix = self.get_namespace().strip('/')
        return self.reports.get(f'{prefix}/{node}'.lstrip('/'), {})

    def _write(self) -> None:
        try:
            self._write_results(self._feeder())
        except (ConveyorError, OSError) as error:
            self.set_condition('results', Level.ERROR, f'cannot write the results: {error}')
            failed = 1
        else:
            failed = 0
        if self.settings.end_when_done:
            self.end(failed)

    def _write_results(self, feeder: str) -> None:
        settings = self._settings_of_the_run(feeder)
        out = Path(self.settings.out).expanduser().absolute()
        out.mkdir(parents=True, exist_ok=True)
        sources = Sources(
            out,
            Path(configured_path(settings.models, 'models/items')),
            Path(configured_path(self.settings.cell_file, 'config/cell.yaml')),
        )
        records, bucket = self.board.records, self.bucket
        observed = Observed(
            records=records,
            crops=dict(self.crops),
            tokens_spent=None if bucket is None else bucket.spent_numerator / bucket.denominator,
            cpu={},
            troubles=tuple(f'{node}: {text}' for node, text in sorted(self.troubles)),
            deaths=(),
            complete=self.board.rested >= settings.items,
            began_ns=self._began_ns,
            ended_ns=time.time_ns(),
            versions=versions(sources.models),
            held=float(self._report_of(feeder).get('held') or 0),
        )
        result = write_results(settings, sources, self.cell, observed, print)
        print_result(result.summary, out)
        sys.stdout.flush()

    def _settings_of_the_run(self, feeder: str) -> RunSettings:
        """Ask the nodes with which parameters the cell ran."""
        known: dict[str, Any] = {'cell': self.settings.cell_file}
        for node in (feeder, 'offload_policy', 'link_emulator'):
            names = ASKED[node]
            for name, value in self._asked(node, tuple(names)).items():
                known[names[name]] = value
        return RunSettings(**known)

    def _asked(self, node: str, names: Sequence[str]) -> dict[str, Any]:
        """Return parameters of another node; nothing if it does not answer."""
        client = AsyncParameterClient(self, node)
        if not client.wait_for_services(timeout_sec=ANSWER_TIME):
            return {}
        answered = threading.Event()
        future = client.get_parameters(list(names))
        future.add_done_callback(lambda _: answered.set())
        response = future.result() if answered.wait(ANSWER_TIME) else None
        if response is None:
            return {}
        return {
            name: parameter_value_to_python(value) for name, value in zip(names, response.values)
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run_node(CellReporter, arguments)


if __name__ == '__main__':
    sys.exit(main())
