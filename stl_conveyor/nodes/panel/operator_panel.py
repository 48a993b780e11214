# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The operator's page: it listens to everything in a cell, or in several, and changes nothing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConfigError, Level, ModelFileError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.nodes.base.clock import clock_ns
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.items import configured_path
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.settings import NodeSettings, onlooker_niceness, parameter
from stl_conveyor.nodes.panel.cell_control import CellControl
from stl_conveyor.nodes.panel.cell_listener import hear_cell, hear_diagnostics
from stl_conveyor.nodes.panel.recipe_watch import RecipeWatch
from stl_conveyor.panel.accounts import Accounts
from stl_conveyor.panel.language import language_trouble
from stl_conveyor.panel.live_cell import LiveCell, file_of_cell
from stl_conveyor.panel.recipes import load_recipes
from stl_conveyor.resources import named_path

if TYPE_CHECKING:
    from stl_conveyor.web.server import PanelServer

LOOK_S = 5.0  # between two looks at what can be changed
TICK_S = 1.0  # between two looks at who is silent
KEEP_S = 60.0  # between two times that the counts are written


@dataclass(frozen=True)
class OperatorPanelSettings(NodeSettings):
    """Parameters of operator_panel."""

    niceness: int = onlooker_niceness()
    cell_file: str = parameter('', 'Description of the cell (YAML); empty = config/cell.yaml.')
    models_dir: str = parameter(
        '',
        'Model folder, for the names of the classes and for what the edge saw of a crop; empty = '
        'the shipped models/items.',
    )
    cells: tuple[str, ...] = parameter(
        [''], 'Namespaces of the cells that are shown; an empty one is that of this node.'
    )
    address: str = parameter(
        '127.0.0.1',
        'Address of this machine at which the page is served. With 127.0.0.1 only this machine '
        'reaches it; whoever can reach another address sees the line.',
        fixed=True,
    )
    port: int = parameter(
        8090, 'Port of the page; 0 takes a free one.', minimum=0, maximum=65535, fixed=True
    )
    accounts_file: str = parameter(
        '',
        'File of the accounts that `stl-conveyor panel-user` writes; empty: nobody can log in, '
        'and the page is read-only.',
    )
    certificate: str = parameter(
        '', 'Certificate (PEM) with which the page is served over TLS; empty: without.', fixed=True
    )
    certificate_key: str = parameter('', 'Key (PEM) of the certificate.', fixed=True)
    recipes_file: str = parameter(
        '', 'File of the recipes that can be chosen (docs/operator.md); empty: there are none.'
    )
    cells_folder: str = parameter(
        '~/.ros/stl_conveyor/cells',
        'Folder into which cell descriptions are written that are changed from the page; empty: '
        'costs, purity targets and lanes are not changed from there.',
    )
    shifts: tuple[int, ...] = parameter(
        [6, 14, 22], 'Hours of the day (local time) at which shifts begin.', minimum=0, maximum=23
    )
    change_log: str = parameter(
        '~/.ros/stl_conveyor/changes.jsonl',
        'File to which every change that people make is added, with who and when; empty: none. '
        'With several cells, their names are put before it.',
    )
    alarm_log: str = parameter(
        '~/.ros/stl_conveyor/alarms.jsonl',
        'File in which the alarms are kept, so that they survive a restart; empty keeps none. '
        'With several cells, their names are put before it.',
    )
    counts_file: str = parameter(
        '~/.ros/stl_conveyor/counts.json',
        'File in which the counts by hour and shift are kept, written once a minute, so that they '
        'survive a restart; empty keeps none. With several cells, their names are put before it.',
    )


class OperatorPanel(ConveyorNode):
    """Hands everything that is said in a cell to the page; `live` is what it shows."""

    NAME = 'operator_panel'
    SETTINGS = OperatorPanelSettings
    HEARTBEATS = False  # nobody waits for it

    def __init__(self, **arguments: Any) -> None:
        """See `ConveyorNode`.

        Raises:
            ConfigError: Naming the parameter that is unknown or has a wrong value.
        """
        self.server: PanelServer | None = None
        self.live: tuple[LiveCell, ...] = ()
        super().__init__(**arguments)

    def check_settings(self, settings: OperatorPanelSettings) -> None:
        """Check that there is a cell to show, and each only once."""
        if not settings.cells:
            raise ConfigError("cells: an empty list shows nothing; [''] is this node's namespace")
        if not settings.shifts or list(settings.shifts) != sorted(set(settings.shifts)):
            raise ConfigError(f'shifts: {list(settings.shifts)} must be hours, the earliest first')
        if not all(0 <= hour < 24 for hour in settings.shifts):
            raise ConfigError(f'shifts: {list(settings.shifts)} must be hours, 0 to 23')
        if len(set(settings.cells)) != len(settings.cells):
            raise ConfigError(f'cells: {list(settings.cells)} must be different names')

    def configure(self) -> None:
        """Load what the page draws, and serve it."""
        settings = self.settings
        cell = CellDescription.load(configured_path(settings.cell_file, 'config/cell.yaml'))
        folder = configured_path(settings.models_dir, 'models/items')
        labels: tuple[str, ...] = ()
        models: Path | None = None
        try:
            labels, models = ModelFolder(folder).labels, folder
        except ModelFileError as error:  # the page does without
            self.set_condition('models', Level.WARN, f'classes without probabilities: {error}')
        else:
            self.clear_condition('models', 'the model folder can be used')
        if trouble := language_trouble():
            self.set_condition('language', Level.WARN, trouble)
        else:
            self.clear_condition('language', 'every language has its texts')
        recipes = named_path(settings.recipes_file)
        self._recipes = {} if recipes is None else load_recipes(recipes)
        self._cells_folder = named_path(settings.cells_folder)
        accounts = named_path(settings.accounts_file)
        self._accounts = None if accounts is None else Accounts.load(accounts)
        self.live = tuple(
            LiveCell(
                cell,
                name=name.strip('/') or self.get_namespace().strip('/'),
                labels=labels,
                models=models,
                alarm_log=file_of_cell(settings.alarm_log, name, settings.cells),
                change_log=file_of_cell(settings.change_log, name, settings.cells),
                counts_file=file_of_cell(settings.counts_file, name, settings.cells),
                shifts=settings.shifts,
                now_ns=lambda: clock_ns(self.get_clock()),
            )
            for name in settings.cells
        )
        if self.server is None:
            from stl_conveyor.web.server import PanelServer

            server = PanelServer(
                settings.address,
                settings.port,
                named_path(settings.certificate),
                named_path(settings.certificate_key),
            )
            server.start()
            self.server = server
        self.server.let_in(self._accounts)
        self.report_value('page', self.server.url)

    def activate(self) -> None:
        """Listen, and show what is heard."""
        assert self.server is not None
        for cell, live in zip(self.settings.cells, self.live):
            hear_cell(self, live, cell)
            if self._accounts is not None:
                live.control = CellControl(
                    self, cell, live=live, recipes=self._recipes, folder=self._cells_folder
                )
        cells = list(zip(self.settings.cells, self.live))
        RecipeWatch(self, cells, self._recipes, models=True)
        self.listen('/diagnostics', partial(hear_diagnostics, self.live))
        self.resources.callback(self._keep_counts)
        self.every(KEEP_S, self._keep_counts)
        self.every(TICK_S, self._tick)
        self.resources.callback(self.server.show, ())
        self.server.show(self.live)
        if self._accounts is not None:
            self._looking = threading.Event()
            self.resources.callback(self._looking.set)
            threading.Thread(
                target=self._look_at_controls, args=(self._looking, self.live), daemon=True
            ).start()

    def cleanup(self) -> None:
        """Forget what was shown."""
        self.forget('live')
        self.live = ()

    def close(self) -> None:
        """End the page, too."""
        super().close()
        if self.server is not None:
            self.server.stop()
            self.server = None

    def refresh_health(self) -> None:
        """Report where the page is."""
        if self.server is not None:
            self.health.set_value('page', self.server.url)

    def _look_at_controls(self, stop: threading.Event, cells: Sequence[LiveCell]) -> None:
        """Ask now and then what holds, as others may change it, too; in a thread of its own."""
        while not stop.is_set():
            for live in cells:
                live.look_at_control()
            stop.wait(LOOK_S)

    def _tick(self) -> None:
        for live in self.live:
            live.advance()
        for name, troubles in (
            ('alarm_log', [live.alarms.trouble for live in self.live]),
            ('change_log', [live.changes.trouble for live in self.live]),
            ('counts_file', [live.counts_trouble for live in self.live]),
        ):
            if any(troubles):
                self.set_condition(name, Level.WARN, '; '.join(filter(None, troubles)))
            else:
                self.clear_condition(name, f'{name} is written')
        if all(live.models is not None for live in self.live):  # they are those of the cells
            self.clear_condition('models', 'the models of every cell can be used')

    def _keep_counts(self) -> None:
        for live in self.live:
            live.keep_counts()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run_node(OperatorPanel, arguments)


if __name__ == '__main__':
    sys.exit(main())
