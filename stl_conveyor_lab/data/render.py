# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Render training images in the simulated cell, with its own physics, belt, light and camera.

A run's seed decides on belt, lamps, poses and noise. The seeds of the three splits lie in ranges
of their own, far above those that `make run` uses, so nothing that is trained has seen a belt
that is tested on. One shard per seed; a shard that exists is not rendered again.

    python -m stl_conveyor_lab.data.render FOLDER [--items 112] [--seeds 21 4 6]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.resources import share_path
from stl_conveyor.sim.arrivals import ItemPlan
from stl_conveyor.sim.mujoco_cell import Exposed, MujocoCell
from stl_conveyor.sim.parts import CLASS_IDS
from stl_conveyor_lab.data.arrays import save_arrays

FIRST_SEED = {'train': 1_000_000, 'val': 2_000_000, 'test': 3_000_000}
LOOKS = 4  # photographs of each item that passes, in as many finishes and lights
TIME_UNIT = 0.35  # s between items; nothing is pushed, so they may come close


@dataclass(frozen=True)
class Images:
    """A split: pixels uint8 [N, S, S, 3], labels int64 [N], difficulty float32 [N]."""

    pixels: np.ndarray
    labels: np.ndarray
    difficulty: np.ndarray


def crop_centre(image: np.ndarray, size: int) -> np.ndarray:
    """Cut the central square out of a frame, uint8 [size, size, 3]."""
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def render_shard(cell: CellDescription, seed: int, items: int, looks: int = LOOKS) -> Images:
    """Run a cell with `items` items, balanced over the classes, and return its Images."""
    rng = np.random.default_rng(seed)
    classes = np.resize(np.arange(len(CLASS_IDS)), items)
    rng.shuffle(classes)
    plan = [
        ItemPlan(
            serial=i + 1,
            arrival=i,
            class_id=CLASS_IDS[c],
            difficulty=float(rng.random()),
            yaw=float(rng.uniform(-np.pi, np.pi)),
            lateral_offset=float(rng.uniform(-0.010, 0.010)),
            appearance_seed=int(rng.integers(2**32)),
        )
        for i, c in enumerate(classes)
    ]
    run = MujocoCell(cell, plan, seed, TIME_UNIT)
    pixels, labels, difficulty = [], [], []
    now = 0.0
    try:
        while not run.finished:
            now += 0.01
            for event in run.step_until(now):
                if not isinstance(event, Exposed):
                    continue
                label = CLASS_IDS.index(event.class_id)
                for look in range(looks):
                    hard = event.difficulty if look == 0 else float(rng.random())
                    image = event.image if look == 0 else run.look_again(look, hard)
                    pixels.append(crop_centre(image, cell.camera.crop_size))
                    labels.append(label)
                    difficulty.append(hard)
    finally:
        run.close()
    return Images(np.stack(pixels), np.array(labels), np.array(difficulty, dtype=np.float32))


def render_splits(folder: Path, items: int, seeds: Sequence[int]) -> None:
    """Render every missing shard into folder/<split>/<seed>.npz, with progress."""
    cell = CellDescription.load(share_path('config/cell.yaml'))
    wanted = [
        (split, FIRST_SEED[split] + i)
        for split, count in zip(FIRST_SEED, seeds)
        for i in range(count)
    ]
    for done, (split, seed) in enumerate(wanted):
        path = Path(folder) / split / f'{seed}.npz'
        if path.exists():
            continue
        begun = time.monotonic()
        images = render_shard(cell, seed, items)
        save_arrays(path, **vars(images))
        print(
            f'[{done + 1}/{len(wanted)}] {split} {seed}: {len(images.labels)} images in '
            f'{time.monotonic() - begun:.0f} s',
            flush=True,
        )


def shards_of(folder: Path, split: str) -> list[Path]:
    """Return the shards of a split; raises FileNotFoundError with the command that makes them."""
    paths = sorted(p for p in (Path(folder) / split).glob('*.npz') if '.part' not in p.name)
    if not paths:
        raise FileNotFoundError(
            f'no {split} images in {folder}: run python -m stl_conveyor_lab.data.render {folder}'
        )
    return paths


def load_split(folder: Path, split: str) -> Images:
    """Read all shards of a split, as `shards_of` has them."""
    shards = [np.load(path) for path in shards_of(folder, split)]
    return Images(
        *(
            np.concatenate([shard[key] for shard in shards])
            for key in ('pixels', 'labels', 'difficulty')
        )
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and render."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('folder', type=Path)
    parser.add_argument('--items', type=int, default=112, help='items per seed')
    parser.add_argument(
        '--seeds',
        type=int,
        nargs=3,
        default=(21, 4, 6),
        metavar=('TRAIN', 'VAL', 'TEST'),
        help='how many seeds per split',
    )
    options = parser.parse_args(arguments)
    render_splits(options.folder, options.items, options.seeds)


if __name__ == '__main__':
    main()
