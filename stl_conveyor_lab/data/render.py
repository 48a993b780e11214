# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Render training images in the simulated cell, with its own physics, belt, light and camera.

A run's seed decides on belt, lamps, poses and noise. The seeds of the three splits lie in ranges
of their own, far above those that `make run` uses, so nothing that is trained has seen a belt
that is tested on. One shard per seed; a shard that exists is not rendered again. What is trained
on is seen by another camera on each belt: none is mounted at exactly the height that its cell's
file says.

    python -m stl_conveyor_lab.data.render FOLDER [--items 28] [--seeds 200 24 40]
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.resources import share_path
from stl_conveyor.sim.arrivals import ItemPlan
from stl_conveyor.sim.mujoco_cell import Exposed, MujocoCell
from stl_conveyor.sim.parts import CLASS_IDS
from stl_conveyor.sim.strangers import Stranger
from stl_conveyor_lab.data.arrays import save_arrays

FIRST_SEED = {'train': 1_000_000, 'val': 2_000_000, 'test': 3_000_000}
LOOKS = 4  # photographs of each item that passes, in as many finishes and lights
TIME_UNIT = 0.35  # s between items; nothing is pushed, so they may come close
#: Items on each belt, and belts of each split.
ITEMS, BELTS = 28, (200, 24, 40)
#: Most by which a camera's field of view differs from the cell's where something is trained.
CAMERA_SPREAD = 0.01


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


def random_plan(rng: np.random.Generator, class_ids: Sequence[str]) -> list[ItemPlan]:
    """Return items of these classes in this order, all else about them drawn at random."""
    return [
        ItemPlan(
            serial=place + 1,
            arrival=place,
            class_id=class_id,
            difficulty=float(rng.random()),
            yaw=float(rng.uniform(-np.pi, np.pi)),
            lateral_offset=float(rng.uniform(-0.010, 0.010)),
            appearance_seed=int(rng.integers(2**32)),
        )
        for place, class_id in enumerate(class_ids)
    ]


def render_shard(cell: CellDescription, seed: int, items: int, looks: int = LOOKS) -> Images:
    """Run a cell with `items` items, balanced over the classes, and return its Images."""
    rng = np.random.default_rng(seed)
    classes = np.resize(np.arange(len(CLASS_IDS)), items)
    rng.shuffle(classes)
    plan = random_plan(rng, [CLASS_IDS[c] for c in classes])
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


def render_things(
    cell: CellDescription,
    seed: int,
    names: Sequence[str],
    looks: int,
    time_unit: float,
    strangers: Sequence[Stranger] = (),
) -> Mapping[str, np.ndarray]:
    """Have each of some things pass once, in any order, and photograph it.

    What is not pushed off may lie on the belt: the pictures are what counts.

    Args:
        cell: Where they pass.
        seed: Of order, poses, belt, lamps and finishes.
        names: Of parts or strangers.
        looks: Photographs of each.
        time_unit: Seconds from one to the next.
        strangers: Those among them that the simulation does not know by name.

    Returns:
        `pixels` uint8 [N, S, S, 3] and `names` str [N] of the pictures.
    """
    rng = np.random.default_rng(seed)
    plan = random_plan(rng, [names[k] for k in rng.permutation(len(names))])
    pixels: list[np.ndarray] = []
    shown: list[str] = []
    now, last = 0.0, len(plan) * time_unit + 6.0
    with closing(MujocoCell(cell, plan, seed, time_unit, strangers=strangers)) as run:
        while len(shown) < looks * len(plan) and now < last:
            now += 0.01
            for event in run.step_until(now):
                if not isinstance(event, Exposed):
                    continue
                for look in range(looks):
                    image = event.image if not look else run.look_again(look, float(rng.random()))
                    pixels.append(crop_centre(image, cell.camera.crop_size))
                    shown.append(event.class_id)
    return {'pixels': np.stack(pixels), 'names': np.array(shown)}


def camera_on_belt(cell: CellDescription, split: str, seed: int) -> CellDescription:
    """Return the cell as it is photographed on one belt: for training with a camera of its own."""
    if split != 'train':
        return cell
    spread = np.random.default_rng((seed, 41)).uniform(-CAMERA_SPREAD, CAMERA_SPREAD)
    view = cell.camera.field_of_view * (1 + float(spread))
    return replace(cell, camera=replace(cell.camera, field_of_view=view))


def _save_shard(path: Path, make: Callable[[], Mapping[str, np.ndarray]]) -> tuple[int, float]:
    """Write the arrays that `make` renders; return how many images and seconds it took."""
    begun = time.monotonic()
    arrays = make()
    save_arrays(path, **arrays)
    return len(arrays['pixels']), time.monotonic() - begun


def render_missing(
    shards: Mapping[Path, Callable[[], Mapping[str, np.ndarray]]], jobs: int = 2
) -> None:
    """Render those of some shards that are not there, with progress.

    It is done in processes of their own, also where there is but one: whoever renders has loaded
    Mesa's LLVM, beside which that of torch cannot be loaded any more.

    Args:
        shards: File → what renders its arrays; it can be pickled.
        jobs: Processes.
    """
    missing = {path: make for path, make in shards.items() if not path.exists()}
    if not missing:
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context('spawn')) as pool:
        begun = {pool.submit(_save_shard, path, make): path for path, make in missing.items()}
        for done, ended in enumerate(as_completed(begun), 1):
            path = begun[ended]
            count, seconds = ended.result()
            print(
                f'[{done}/{len(begun)}] {path.parent.name} {path.stem}: {count} images in '
                f'{seconds:.0f} s',
                flush=True,
            )


def belt_arrays(
    cell: CellDescription, seed: int, items: int, looks: int = LOOKS
) -> Mapping[str, np.ndarray]:
    """Return the arrays of `render_shard` by their names."""
    return vars(render_shard(cell, seed, items, looks))


def render_splits(
    folder: Path, items: int = ITEMS, seeds: Sequence[int] = BELTS, jobs: int = 2
) -> None:
    """Render every missing shard into folder/<split>/<seed>.npz, with progress.

    Args:
        folder: Where the splits lie.
        items: On each belt; each is photographed LOOKS times.
        seeds: How many belts the splits have.
        jobs: Processes that render.
    """
    cell = CellDescription.load(share_path('config/cell.yaml'))
    shards = {
        Path(folder) / split / f'{seed}.npz': partial(
            belt_arrays, camera_on_belt(cell, split, seed), seed, items
        )
        for (split, first), count in zip(FIRST_SEED.items(), seeds)
        for seed in range(first, first + count)
    }
    render_missing(shards, jobs)


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
    parser.add_argument('--items', type=int, default=ITEMS, help='items per seed')
    parser.add_argument(
        '--seeds',
        type=int,
        nargs=3,
        default=BELTS,
        metavar=('TRAIN', 'VAL', 'TEST'),
        help='how many seeds per split',
    )
    parser.add_argument('--jobs', type=int, default=2, help='processes that render')
    options = parser.parse_args(arguments)
    render_splits(options.folder, options.items, options.seeds, options.jobs)


if __name__ == '__main__':
    main()
