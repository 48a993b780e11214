# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Values that several nodes work with stand in the cell description, so they cannot disagree.

A parameter file that still sets one works with a warning where it agrees with the description, and
is refused where it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.cell.moved_parameters import cell_key
from stl_conveyor.errors import ConfigError
from stl_conveyor.nodes.base.items import configured_path


def check_moved(
    node: str, given: dict[str, Any], cell_file: str, warn: Callable[[str], object]
) -> None:
    """Compare parameters that have moved with the cell description of the node.

    Args:
        node: Name of the node as it ships.
        given: What was set, by the name of the parameter.
        cell_file: The parameter of the same name.
        warn: Takes a line about each that agrees.

    Raises:
        ConfigError: Naming the first that does not agree, and the remedy.
    """
    if not given:
        return
    path = configured_path(cell_file, 'config/cell.yaml')
    cell = CellDescription.load(path)
    for name, value in given.items():
        key = cell_key(node, name)
        described = cell.shared(key)
        if isinstance(value, bool) or value != described:
            raise ConfigError(
                f'{name}: {value!r} is not the {described:g} of the cell description {path}. It '
                f'is one value for all nodes of the cell: write it there as {key}, and take '
                f'{name} out of the parameters of {node}'
            )
        warn(
            f'{name} stands in the cell description {path} as {key}; take it out of the '
            f'parameters of {node}'
        )
