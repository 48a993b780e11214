# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The decision of a cell and its detectors of strangers, from a model folder."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.decision.calibration_record import ROLE, CalibrationRecord, CellDecider
from stl_conveyor.decision.stranger_detector import ROLE as STRANGERS
from stl_conveyor.decision.stranger_detector import StrangerDetector
from stl_conveyor.models.model_folder import ModelFolder

_READING = threading.Lock()


def decider_of(folder: ModelFolder, cell: CellDescription) -> CellDecider | None:
    """Return what decides by cost; None for a cell that does not.

    Raises:
        ConveyorError: When the folder cannot be used, or a target cannot be promised from it.
    """
    if not cell.decides_by_cost:
        return None
    record = None
    if ROLE in folder.roles:
        path = folder.path(ROLE)
        with _READING:  # of nodes that are configured at the same time the second waits
            record = _record_at(path, folder.model_id(ROLE))
    return CellDecider(cell, folder.labels, record)


@lru_cache(maxsize=1)  # several nodes of a process decide by the same one
def _record_at(path: Path, version: int) -> CalibrationRecord:
    """Return the calibration items of a file, which nobody may change, with what is fitted.

    Args:
        version: Of the file, so that one that took its place is read.
    """
    del version
    record = CalibrationRecord.load(path)
    # This takes a quarter of a second, which the first decision of an item does not have.
    _ = record.temperatures
    return record


def detector_of(folder: ModelFolder, source: str) -> StrangerDetector | None:
    """Return what tells strangers of a source; None for a folder without.

    Raises:
        ModelFileError: When its file cannot be used.
    """
    if STRANGERS not in folder.roles:
        return None
    return StrangerDetector.load(folder.path(STRANGERS), source)
