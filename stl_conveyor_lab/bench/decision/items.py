# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The items that are measured on: belts and strangers that nothing was trained or calibrated on.

Everything that costs time is kept in WORK: a shard of pictures for each belt, and what the models
say of it. A command that was stopped goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.resources import share_path
from stl_conveyor.sim.strangers import STRANGERS
from stl_conveyor_lab.data.arrays import save_arrays
from stl_conveyor_lab.data.render import render_shard, render_things
from stl_conveyor_lab.train.decision import Looked, looked_at

# Far from the seeds of training, calibration and runs.
FIRST_BELT, FIRST_STRANGERS = 5_000_000, 6_000_000
ITEMS, LOOKS = 48, 3  # of each belt
STRANGER_LOOKS = 3


def own_shards(work: Path, belts: int, render: bool = True) -> list[Path]:
    """Return the shards of own items, rendering those that are missing."""
    folder = work / 'own'
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f'{FIRST_BELT + k}.npz' for k in range(belts)]
    cell = CellDescription.load(share_path('config/cell.yaml'))
    for path in paths:
        if path.exists() or not render:
            continue
        begun = time.monotonic()
        images = render_shard(cell, int(path.stem), ITEMS, LOOKS)
        save_arrays(path, **vars(images))
        print(f'belt {path.stem}: {time.monotonic() - begun:.0f} s', flush=True)
    return [path for path in paths if path.exists()]


def stranger_shards(work: Path, belts: int, render: bool = True) -> list[Path]:
    """Return the shards of strangers, each of which passes once on every belt."""
    folder = work / 'strangers'
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f'{FIRST_STRANGERS + k}.npz' for k in range(belts)]
    cell = CellDescription.load(share_path('config/cell.yaml'))
    for path in paths:
        if path.exists() or not render:
            continue
        pixels, names = render_strangers(cell, int(path.stem))
        save_arrays(path, pixels=pixels, names=names)
        print(f'strangers {path.stem}: {len(names)} pictures', flush=True)
    return [path for path in paths if path.exists()]


def render_strangers(cell: CellDescription, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels uint8 [N, S, S, 3] and names of every stranger on one belt."""
    names = [stranger.name for stranger in STRANGERS]
    return render_things(cell, seed, names, STRANGER_LOOKS, 0.5)


def looked(folder: ModelFolder, shards: Sequence[Path], work: Path) -> Looked:
    """Return what the models say of shards."""
    return looked_at(folder, shards, work / 'looked')
