# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a run is asked to be, and where its files are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stl_conveyor.cell.description import SHARED
from stl_conveyor.cell.moved_parameters import cell_key
from stl_conveyor.errors import ConfigError
from stl_conveyor.outside_files import UnusableFile, parse_yaml

SIMULATOR = 'cell_simulator'
GUARD = 'cell_guard'
DEVICE_PROCESS = 'device'  # in which the nodes of the device are
CELL = 'cell'  # stands for what the nodes share, where a node is named
NODES = (
    'camera',
    'local_classifier',
    'offload_policy',
    'encoder',
    'link_emulator',
    'edge_classifier',
    'actuator',
    GUARD,
)


@dataclass(frozen=True)
class RunSettings:
    """What a run was asked to be."""

    items: int = 200
    seed: int = 1
    policy: str = 'adaptive'
    rate: float = 0.25  # tokens per time unit
    bucket: float = 4.0  # tokens
    link: str = 'light'
    fault: str = 'none'
    arrivals: str = 'periodic'
    foreign_share: float = 0.0  # of things that do not belong on the belt
    time_unit: float = 0.5  # s
    models: str = ''
    cell: str = ''
    composed: bool = True  # the nodes of the device are one process
    overrides: tuple[str, ...] = ()  # NODE.PARAMETER=VALUE, beyond the shipped parameter file


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


def parse_override(text: str) -> tuple[str, str, object]:
    """Return node, parameter and value of NODE.PARAMETER=VALUE; the value is YAML.

    What the nodes of a cell share is set as `cell.guard=0.06`; a node that had it as a parameter
    of its own may stand in place of `cell`.

    Raises:
        ConfigError: If it is something else, or there is no such node.
    """
    target, equals, value = text.partition('=')
    node, dot, name = target.partition('.')
    if key := cell_key(node, name):
        node, name = CELL, key
    known = name in SHARED if node == CELL else node in (SIMULATOR, *NODES)
    if not (equals and dot and name and known):
        raise ConfigError(
            f'--set {text}: write NODE.PARAMETER=VALUE with a node of '
            + ', '.join((SIMULATOR, *NODES))
            + ', or cell.KEY=VALUE with a key of '
            + ', '.join(SHARED)
        )
    try:
        parsed = parse_yaml(value)
    except UnusableFile as error:
        raise ConfigError(f'--set {text}: {value!r} is not YAML') from error
    return node, name, tuple(parsed) if isinstance(parsed, list) else parsed
