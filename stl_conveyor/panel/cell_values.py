# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Costs, purity targets and lanes of the classes: what people change of a cell description."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConfigError
from stl_conveyor.outside_files import UnusableFile, read_yaml
from stl_conveyor.resources import writing

COSTS, PURITY, LANES = 'costs', 'purity', 'lanes'
COST_NAMES = ('wrong', 'reject', 'foreign')
_SUFFIX = re.compile(r'_\d{8}_\d{6}(_\d+)?$')


def cell_values(cell: CellDescription) -> dict[str, Any]:
    """Return what can be changed, as it holds.

    `costs` is None where the likeliest class decides, `purity` has each lane, None where it has no
    target, and `lanes` the lane of each class.
    """
    costs = cell.costs
    return {
        COSTS: None if costs is None else {name: getattr(costs, name) for name in COST_NAMES},
        PURITY: {lane.name: lane.purity for lane in cell.lanes},
        LANES: {name: lane.name for lane in cell.lanes for name in lane.classes},
    }


def with_cell_values(content: Any, values: Any) -> dict[str, Any]:
    """Return a cell description with other values.

    Args:
        content: The parsed YAML; it stays as it is.
        values: Some of those that `cell_values` returns; of `purity` and `lanes` those that
            change.

    Raises:
        ConfigError: If a value cannot be, or the result contradicts itself.
    """
    if not isinstance(values, Mapping) or not values or set(values) - {COSTS, PURITY, LANES}:
        raise ConfigError(f'cell_values: give some of {COSTS}, {PURITY} and {LANES}')
    for name, value in values.items():
        if not (isinstance(value, Mapping) or (name == COSTS and value is None)):
            raise ConfigError(f'cell_values: {name} takes names and values')
    changed: dict[str, Any] = copy.deepcopy(dict(content))
    if COSTS in values:
        if values[COSTS] is None:
            changed.pop(COSTS, None)
        else:
            changed[COSTS] = {**changed.get(COSTS, {}), **values[COSTS]}
    lanes = {lane['name']: lane for lane in changed[LANES]}
    for name, target in values.get(PURITY, {}).items():
        if name not in lanes:
            raise ConfigError(f'{PURITY}: no lane {name!r}; there are {", ".join(lanes)}')
        if target is None:
            lanes[name].pop(PURITY, None)
        else:
            lanes[name][PURITY] = target
    known = {name for lane in lanes.values() for name in lane['classes']}
    for class_id, name in values.get(LANES, {}).items():
        if name not in lanes:
            raise ConfigError(f'{LANES}: no lane {name!r}; there are {", ".join(lanes)}')
        if class_id not in known:
            raise ConfigError(f'{LANES}: no class {class_id!r}; there are {", ".join(known)}')
        if class_id not in lanes[name]['classes']:
            for lane in lanes.values():
                lane['classes'] = [each for each in lane['classes'] if each != class_id]
            lanes[name]['classes'].append(class_id)
    CellDescription.from_mapping(changed)
    return changed


def write_changed_cell(source: Path, values: Any, folder: Path, now: datetime) -> Path:
    """Write a cell description with other values into a folder, beside the ones before.

    Args:
        source: The description that holds.
        values: For `with_cell_values`.
        now: By which the new file is named, behind the name of the first one.

    Raises:
        ConfigError: If a value cannot be, or the file not be written.
    """
    try:
        content = read_yaml(source)
    except UnusableFile as error:
        raise ConfigError(f'{source}: cannot be read ({error})') from error
    changed = with_cell_values(content, values)
    stem = f'{_SUFFIX.sub("", source.stem)}_{now:%Y%m%d_%H%M%S}'
    path, number = folder / f'{stem}.yaml', 1
    while path.exists():
        number += 1
        path = folder / f'{stem}_{number}.yaml'
    text = f"# Changed from the operator's page; before it held {source}\n" + yaml.safe_dump(
        changed, sort_keys=False, allow_unicode=True
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with writing(path):
            path.write_text(text, encoding='utf-8')
    except OSError as error:
        raise ConfigError(f'{path}: cannot be written ({error.strerror})') from error
    return path
