# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the records and logs of a run say."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

import stl_conveyor
from stl_conveyor.assess.latency import Passage
from stl_conveyor.assess.scoring import ItemRecord
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConveyorError
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.run.settings import RunSettings
from stl_conveyor.sim.arrivals import ItemPlan
from stl_conveyor.vision.image import resize_square


def ask_strong(models: Path, crops: Mapping[int, np.ndarray]) -> Mapping[int, tuple[str, float]]:
    """Return the strong model's class and score for every uncompressed crop, by stamp."""
    folder = ModelFolder(models)
    classifier = Classifier(folder.path('strong'), threads=os.cpu_count() or 1)
    stamps = sorted(crops)
    answers: dict[int, tuple[str, float]] = {}
    for start in range(0, len(stamps), 16):
        batch = stamps[start : start + 16]
        images = np.stack([resize_square(crops[s], folder.image_size) for s in batch])
        for stamp, row in zip(batch, classifier.classify_batch(images)):
            answers[stamp] = (folder.labels[int(row.argmax())], float(row.max()))
    return answers


def picture_of_cell(
    cell: CellDescription,
    settings: RunSettings,
    plan: Sequence[ItemPlan],
    records: Sequence[ItemRecord],
) -> np.ndarray | None:
    """Simulate the beginning again, with the run's commands, and photograph the cell."""
    try:
        from stl_conveyor.sim.mujoco_cell import MujocoCell

        lanes = {r.serial: r.action.lane for r in records if r.serial and r.action is not None}
        simulation = MujocoCell(cell, plan, settings.seed, settings.time_unit)
        moment = plan[min(7, len(plan) - 1)].arrival * settings.time_unit + 1.3
        while simulation.time < moment:
            for event in simulation.step_until(simulation.time + 0.01):
                if not hasattr(event, 'image'):
                    continue
                lane = lanes.get(event.serial, cell.reject_lane)
                if lane != cell.reject_lane:
                    simulation.fire(lane, event.time + cell.fire_time_ns(0, lane) / 1e9)
        picture = simulation.render_overview(720, 1280)
        simulation.close()
        return picture
    except (ImportError, ConveyorError):
        return None


def read_passages(path: Path) -> list[Passage]:
    """Return what link_emulator logged; nothing if there is no log."""
    return [
        Passage(int(row[0]), row[1], int(row[2]), int(row[3]), int(row[4]))
        for row in _read_csv(path, 5)
    ]


def read_readout(path: Path) -> dict[int, int]:
    """Return, by capture stamp, how many ns later cell_simulator handed the frame over."""
    return {int(row[0]): int(row[1]) - int(row[0]) for row in _read_csv(path, 2)}


def _read_csv(path: Path, columns: int) -> list[list[str]]:
    try:
        lines = path.read_text(encoding='utf-8').splitlines()[1:]
    except OSError:
        return []
    rows = [line.split(',') for line in lines]
    return [row for row in rows if len(row) == columns and row[-1]]


def versions(models: Path) -> Mapping[str, str]:
    """Return the versions of everything that a run's numbers depend on."""
    found = {
        'stl_conveyor': stl_conveyor.__version__,
        'python': platform.python_version(),
        'ros': os.environ.get('ROS_DISTRO', ''),
        'rmw': os.environ.get('RMW_IMPLEMENTATION', ''),
    }
    for package in ('numpy', 'onnxruntime', 'mujoco', 'scipy'):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    folder = ModelFolder(models)
    found['models'] = folder.name
    for role in folder.roles:
        found[f'model_{role}'] = f'{folder.model_id(role):016x}'
    return found
