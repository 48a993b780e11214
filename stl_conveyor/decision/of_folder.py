# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The decision of a cell and its detectors of strangers, from a model folder."""

from __future__ import annotations

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.decision.calibration_record import ROLE, CalibrationRecord, CellDecider
from stl_conveyor.decision.stranger_detector import ROLE as STRANGERS
from stl_conveyor.decision.stranger_detector import StrangerDetector
from stl_conveyor.models.model_folder import ModelFolder


def decider_of(folder: ModelFolder, cell: CellDescription) -> CellDecider | None:
    """Return what decides by cost; None for a cell that does not.

    Raises:
        ConveyorError: When the folder cannot be used, or a target cannot be promised from it.
    """
    if not cell.decides_by_cost:
        return None
    record = CalibrationRecord.load(folder.path(ROLE)) if ROLE in folder.roles else None
    return CellDecider(cell, folder.labels, record)


def detector_of(folder: ModelFolder, source: str) -> StrangerDetector | None:
    """Return what tells strangers of a source; None for a folder without.

    Raises:
        ModelFileError: When its file cannot be used.
    """
    if STRANGERS not in folder.roles:
        return None
    return StrangerDetector.load(folder.path(STRANGERS), source)
