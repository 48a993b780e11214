# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the fleet file says to the launch file of an edge; needs no launch."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

import yaml

from stl_conveyor.deploy.fleet import Fleet
from stl_conveyor.deploy.launching import LaunchArgument, temporary_folder
from stl_conveyor.errors import ConfigError

FLEET_ARGUMENTS = (
    LaunchArgument(
        'fleet',
        '',
        'Fleet file (YAML): it says which cells, models and gateways are those of this edge.',
    ),
    LaunchArgument(
        'edge',
        '',
        'Which edge of the fleet file is started; empty: the one with the host of this machine.',
    ),
)
# What the fleet file says, and may not be said twice.
_SAID_BY_FILE = ('namespace', 'cells', 'models_dir', 'gateway_peer')


def take_fleet(values: MutableMapping[str, str], host: str) -> None:
    """Put what the fleet file says of an edge into the launch arguments.

    Args:
        values: Name of each argument → its text; changed in place.
        host: Name of this machine.

    Raises:
        ConfigError: If the file cannot be used, or an argument says what stands in it.
    """
    file, name = values['fleet'].strip(), values['edge'].strip()
    if not file:
        if name:
            raise ConfigError('argument edge: it names an edge of a fleet file; give fleet:=FILE')
        return
    for argument in _SAID_BY_FILE:
        if values[argument].strip():
            raise ConfigError(
                f'argument {argument}: the fleet file says it; leave one of both out'
            )
    fleet = Fleet.load(Path(file).expanduser())
    name = name or fleet.here(host)
    if name not in fleet.edges:
        raise ConfigError(
            f'argument edge: {name!r} is none of the edges of {file}: {", ".join(fleet.edges)}'
        )
    cells = fleet.cells_of(name)
    if not cells:
        raise ConfigError(f'argument edge: {name} answers no cell of {file}')
    edge = fleet.edges[name]
    values['namespace'] = name
    values['cells'] = ' '.join(f'/{cell.name}' for cell in cells)
    values['models_dir'] = str(fleet.models[edge.models].resolve())
    values['gateway_peer'] = ' '.join(
        cell.address for cell in cells if fleet.links[cell.link].gateway
    )
    if edge.workers:
        path = Path(temporary_folder('parameters').name) / 'fleet.yaml'
        own = {'/**/edge_classifier': {'ros__parameters': {'workers': edge.workers}}}
        path.write_text(yaml.safe_dump(own), encoding='utf-8')
        values['params_file'] = os.pathsep.join(filter(None, (values['params_file'], str(path))))
