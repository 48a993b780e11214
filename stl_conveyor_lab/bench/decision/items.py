# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The items that are measured on: belts and strangers that nothing was trained or calibrated on.

Everything that costs time is kept in WORK: a shard of pictures for each belt, and what the models
say of it. A command that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.resources import share_path
from stl_conveyor.sim.strangers import STRANGERS
from stl_conveyor_lab.data.render import belt_arrays, render_missing, render_things
from stl_conveyor_lab.train.decision import Looked, looked_at

# Far from the seeds of training, calibration and runs.
FIRST_BELT, FIRST_STRANGERS = 5_000_000, 6_000_000
ITEMS, LOOKS = 48, 3  # of each belt
STRANGER_LOOKS = 3


def own_shards(work: Path, belts: int, render: bool = True) -> list[Path]:
    """Return the shards of own items, rendering those that are missing."""
    make = partial(belt_arrays, items=ITEMS, looks=LOOKS)
    return _shards(work / 'own', FIRST_BELT, belts, make if render else None)


def stranger_shards(work: Path, belts: int, render: bool = True) -> list[Path]:
    """Return the shards of strangers, each of which passes once on every belt."""
    make = stranger_arrays if render else None
    return _shards(work / 'strangers', FIRST_STRANGERS, belts, make)


def _shards(
    folder: Path,
    first: int,
    belts: int,
    make: Callable[[CellDescription, int], Mapping[str, np.ndarray]] | None,
) -> list[Path]:
    """Return the shards of belts that are there, after making what is missing."""
    paths = {folder / f'{seed}.npz': seed for seed in range(first, first + belts)}
    if make is not None:
        cell = CellDescription.load(share_path('config/cell.yaml'))
        render_missing({path: partial(make, cell, seed) for path, seed in paths.items()}, jobs=1)
    return [path for path in paths if path.exists()]


def stranger_arrays(cell: CellDescription, seed: int) -> Mapping[str, np.ndarray]:
    """Return pixels u8[N, S, S, 3] and names of every stranger on one belt."""
    names = [stranger.name for stranger in STRANGERS]
    return render_things(cell, seed, names, STRANGER_LOOKS, 0.5)


def looked(folder: ModelFolder, shards: Sequence[Path], work: Path) -> Looked:
    """Return what the models say of shards."""
    return looked_at(folder, shards, work / 'looked')
