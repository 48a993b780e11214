# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the plant reads of a cell, or of several: OPC UA, MQTT and Prometheus."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConfigError, ConveyorError, Level
from stl_conveyor.msg import SortOutcome
from stl_conveyor.nodes.base.clock import clock_ns, to_ns
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.items import configured_path
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.settings import NodeSettings, onlooker_niceness, parameter
from stl_conveyor.nodes.panel.cell_control import CellControl
from stl_conveyor.nodes.panel.cell_listener import hear_cell, hear_diagnostics
from stl_conveyor.nodes.panel.recipe_watch import RecipeWatch
from stl_conveyor.panel.accounts import Accounts, Role, User
from stl_conveyor.panel.live_cell import LiveCell, file_of_cell
from stl_conveyor.panel.recipes import load_recipes
from stl_conveyor.plant.output import COMMANDS, RECIPE, Commands, Output, Result
from stl_conveyor.plant.values import Readings, faults, readings
from stl_conveyor.resources import named_path

if TYPE_CHECKING:
    from stl_conveyor.plant.mqtt import Broker

PROMETHEUS, MQTT, SPARKPLUG, OPCUA = 'prometheus', 'mqtt', 'sparkplug', 'opcua'
OUTPUTS = (PROMETHEUS, MQTT, SPARKPLUG, OPCUA)
TICK_S = 1.0  # between two looks at who is silent, and at the outputs
SOURCES = {
    SortOutcome.SOURCE_NONE: 'none',
    SortOutcome.SOURCE_LOCAL: 'device',
    SortOutcome.SOURCE_EDGE: 'edge',
}


@dataclass(frozen=True)
class PlantGatewaySettings(NodeSettings):
    """Parameters of plant_gateway."""

    niceness: int = onlooker_niceness()
    cell_file: str = parameter('', 'Description of the cell (YAML); empty = config/cell.yaml.')
    cells: tuple[str, ...] = parameter(
        [''], 'Namespaces of the cells that are told of; an empty one is that of this node.'
    )
    outputs: tuple[str, ...] = parameter(
        [''], 'Which of prometheus, mqtt, sparkplug and opcua are served; an empty one is none.'
    )
    period: float = parameter(
        1.0, 'Seconds between two messages of MQTT and OPC UA.', minimum=0.1, maximum=3600.0
    )
    address: str = parameter(
        '127.0.0.1',
        'Address of this machine at which prometheus and opcua are served. With 127.0.0.1 only '
        'this machine reaches them.',
    )
    prometheus_port: int = parameter(
        9464, 'Port of /metrics; 0 takes a free one.', minimum=0, maximum=65535
    )
    prometheus_certificate: str = parameter(
        '', 'Certificate (PEM) with which /metrics is served over TLS; empty: without.'
    )
    prometheus_key: str = parameter('', 'Key (PEM) of that certificate.')
    mqtt_host: str = parameter('127.0.0.1', 'Address of the broker.')
    mqtt_port: int = parameter(1883, 'Port of the broker.', minimum=1, maximum=65535)
    mqtt_user: str = parameter('', 'Name with which the broker is asked; empty: none.')
    mqtt_password_file: str = parameter('', 'File with the password in one line; empty: none.')
    mqtt_ca: str = parameter(
        '', 'Certificates (PEM) by which the broker is known, over TLS; empty: without TLS.'
    )
    mqtt_certificate: str = parameter(
        '', 'Certificate (PEM) of this client, where the broker asks for one.'
    )
    mqtt_certificate_key: str = parameter('', 'Key (PEM) of that certificate.')
    mqtt_prefix: str = parameter('stl_conveyor', 'What the topics of mqtt begin with.')
    sparkplug_group: str = parameter('stl_conveyor', 'Name of the group, with sparkplug.')
    sparkplug_node: str = parameter('cell', 'Name of the edge node, with sparkplug.')
    opcua_port: int = parameter(
        4840, 'Port of the OPC UA server; 0 takes a free one.', minimum=0, maximum=65535
    )
    opcua_certificate: str = parameter(
        '',
        'Certificate of the OPC UA server (PEM or DER); with it everything is signed and '
        'encrypted (Basic256Sha256). Empty: nothing is.',
    )
    opcua_key: str = parameter('', 'Key (PEM) of that certificate.')
    opcua_trusted: str = parameter(
        '', 'Folder with the certificates of the clients that may connect; empty: any may.'
    )
    opcua_accounts: str = parameter(
        '',
        'File of the accounts that `stl-conveyor panel-user` writes, with whose names and '
        'passwords clients connect; empty: without a name.',
    )
    allow: tuple[str, ...] = parameter(
        [''],
        'What the plant may change: running (pause and start), recipe; an empty one is nothing.',
    )
    recipes_file: str = parameter(
        '', 'File of the recipes (docs/operator.md); empty: there are none.'
    )
    change_log: str = parameter(
        '~/.ros/stl_conveyor/plant_changes.jsonl',
        'File to which every change that the plant makes is added; empty: none. With several '
        'cells, their names are put before it.',
    )


class PlantGateway(ConveyorNode):
    """Listens to cells, and tells the plant; `live` is what it knows."""

    NAME = 'plant_gateway'
    SETTINGS = PlantGatewaySettings
    HEARTBEATS = False  # nobody waits for it

    def __init__(self, **arguments: Any) -> None:
        """See `ConveyorNode`.

        Raises:
            ConfigError: Naming the parameter that is unknown or has a wrong value.
        """
        self.live: tuple[LiveCell, ...] = ()
        self.outputs: dict[str, Output] = {}
        super().__init__(**arguments)

    def check_settings(self, settings: PlantGatewaySettings) -> None:
        """Check that cells, outputs and what is allowed are some that there are."""
        if not settings.cells or len(set(settings.cells)) != len(settings.cells):
            raise ConfigError(
                f'cells: {list(settings.cells)} must be different names, at least one'
            )
        for name, given, known in (
            ('outputs', settings.outputs, OUTPUTS),
            ('allow', settings.allow, COMMANDS),
        ):
            if unknown := set(given) - {*known, ''}:
                raise ConfigError(
                    f'{name}: no {", ".join(sorted(unknown))}; there are {", ".join(known)}'
                )
        if RECIPE in settings.allow and not settings.recipes_file:
            raise ConfigError('allow: recipe needs recipes_file')
        for certificate, key in (
            ('prometheus_certificate', 'prometheus_key'),
            ('opcua_certificate', 'opcua_key'),
        ):
            if bool(getattr(settings, certificate)) != bool(getattr(settings, key)):
                raise ConfigError(f'{certificate} and {key}: one needs the other')
        if settings.opcua_trusted and not settings.opcua_certificate:
            raise ConfigError(
                'opcua_trusted: without opcua_certificate nobody is asked for theirs'
            )

    def configure(self) -> None:
        """Load what is needed to understand a cell."""
        settings = self.settings
        cell_file = configured_path(settings.cell_file, 'config/cell.yaml')
        cell = CellDescription.load(cell_file)
        recipes = named_path(settings.recipes_file)
        self._recipes = {} if recipes is None else load_recipes(recipes)
        accounts = named_path(settings.opcua_accounts)
        self._accounts = None if accounts is None else Accounts.load(accounts)
        self.live = tuple(
            LiveCell(
                cell,
                name=name.strip('/') or self.get_namespace().strip('/'),
                change_log=file_of_cell(settings.change_log, name, settings.cells),
                now_ns=lambda: clock_ns(self.get_clock()),
            )
            for name in settings.cells
        )
        for live in self.live:
            live.recipe = cell_file.stem

    def activate(self) -> None:
        """Listen, and tell what is heard."""
        allowed = tuple(name for name in self.settings.allow if name)
        for cell, live in zip(self.settings.cells, self.live):
            also = {'sort_outcome': partial(self._take_result, live.name)}
            hear_cell(self, live, cell, crops=False, also=also)
            if allowed:
                live.control = CellControl(self, cell, live=live, recipes=self._recipes)
        cells = list(zip(self.settings.cells, self.live))
        RecipeWatch(self, cells, self._recipes)
        self.listen('/diagnostics', partial(hear_diagnostics, self.live))
        self._commands = Commands(allowed, self._change)
        self.resources.callback(self._close_all)
        self._open_missing()
        self.every(self.settings.retry_period, self._open_missing)
        self.every(TICK_S, self._tick)
        self.every(self.settings.period, self._tell)

    def cleanup(self) -> None:
        """Forget what was told."""
        self.live = ()

    def refresh_health(self) -> None:
        """Report what was left out, by output."""
        for name, output in self.outputs.items():
            self.health.set_value(f'{name}.left_out', output.left_out)

    def readings(self) -> dict[str, Readings]:
        """Return what holds now, by the names of the cells. Any thread may call it."""
        return {live.name: readings(live.figures()) for live in self.live}

    def _open_missing(self) -> None:
        """Open each output that is not there; one that cannot be had leaves the others alone."""
        for name in filter(None, self.settings.outputs):
            if name in self.outputs:
                continue
            try:
                self.outputs[name] = self._open(name)
            except ConveyorError as error:
                self.set_condition(f'plant.{name}', Level.ERROR, str(error))

    def _open(self, name: str) -> Output:
        settings, commands = self.settings, self._commands
        if name == PROMETHEUS:
            from stl_conveyor.plant.prometheus import PrometheusOutput

            metrics = PrometheusOutput(
                settings.address,
                settings.prometheus_port,
                self.readings,
                named_path(settings.prometheus_certificate),
                named_path(settings.prometheus_key),
            )
            self.report_value('metrics', f'{settings.address}:{metrics.port}/metrics')
            return metrics
        if name == OPCUA:
            from stl_conveyor.plant.opcua import Access, OpcUaOutput

            server = OpcUaOutput(
                settings.address,
                settings.opcua_port,
                self.readings(),
                commands,
                Access(
                    named_path(settings.opcua_certificate),
                    named_path(settings.opcua_key),
                    named_path(settings.opcua_trusted),
                    self._accounts,
                ),
            )
            self.report_value('opcua', server.url)
            return server
        from stl_conveyor.plant.mqtt import JsonOutput, SparkplugOutput

        client_id = f'{self.get_fully_qualified_name().strip("/")}_{name}'.replace('/', '_')
        if name == MQTT:
            return JsonOutput(self._broker(), client_id, settings.mqtt_prefix, commands)
        return SparkplugOutput(
            self._broker(), client_id, settings.sparkplug_group, settings.sparkplug_node, commands
        )

    def _broker(self) -> Broker:
        from stl_conveyor.plant.mqtt import Broker

        settings = self.settings
        return Broker(
            settings.mqtt_host,
            settings.mqtt_port,
            settings.mqtt_user,
            named_path(settings.mqtt_password_file),
            named_path(settings.mqtt_ca),
            named_path(settings.mqtt_certificate),
            named_path(settings.mqtt_certificate_key),
        )

    def _close_all(self) -> None:
        while self.outputs:
            self.outputs.popitem()[1].stop()

    def _tick(self) -> None:
        for live in self.live:
            live.advance()
        for name, output in list(self.outputs.items()):
            if output.has_ended:
                self.outputs.pop(name).stop()
                text = f'{name}: its server has ended; it is opened anew'
                self.set_condition(f'plant.{name}', Level.ERROR, text)
            elif output.trouble:
                self.set_condition(f'plant.{name}', Level.ERROR, output.trouble)
            else:
                self.clear_condition(f'plant.{name}', f'{name}: the plant is there')

    def _tell(self) -> None:
        figures = {live.name: live.figures() for live in self.live}
        found = {name: readings(told) for name, told in figures.items()}
        lasting = {name: faults(told) for name, told in figures.items()}
        for output in self.outputs.values():
            output.update(found)
            output.faults(lasting)

    def _take_result(self, cell: str, message: SortOutcome) -> None:
        result = Result(
            cell,
            int(message.item_id),
            to_ns(message.stamp) / 1e9,
            message.lane,
            message.class_id,
            round(float(message.score), 6),
            SOURCES.get(message.source, 'none'),
            round(float(message.slack), 6),
            message.missed,
        )
        for output in self.outputs.values():
            output.result(result)

    def _change(self, cell: str, who: str, values: Mapping[str, Any]) -> str:
        """Make a change in the plant's name; return why it was not made, or an empty text."""
        (live,) = (live for live in self.live if live.name == cell)
        return live.change(User(who, Role.ENGINEER), values).failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run_node(PlantGateway, arguments)


if __name__ == '__main__':
    sys.exit(main())
