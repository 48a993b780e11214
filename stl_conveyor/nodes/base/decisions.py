# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The decision of a cell as its nodes load it."""

from __future__ import annotations

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.decision.calibration_record import CellDecider
from stl_conveyor.decision.of_folder import decider_of
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.nodes.base.items import configured_path


def load_decider(cell: CellDescription, models_dir: str) -> CellDecider | None:
    """Return what decides by cost; None for a cell that does not.

    Args:
        models_dir: As configured; the folder is read only where costs or targets ask for it.

    Raises:
        ConveyorError: When the folder cannot be used, or a target cannot be promised from it.
    """
    if not cell.decides_by_cost:
        return None
    return decider_of(ModelFolder(configured_path(models_dir, 'models/items')), cell)
