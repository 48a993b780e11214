# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The test images of the codec benchmark."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from stl_conveyor.errors import ConfigError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.resources import share_path
from stl_conveyor.vision.image_folder import LabelledImages, load_images, open_square

#: First of the seeds of rendered test items.
TEST_SEED = 3_500_000

_INDEXED = re.compile(r'(\d+)_n\d{8}_.+\.jpe?g', re.IGNORECASE)


def rendered_items(count: int) -> LabelledImages:
    """Render items of the cell from seeds that no training uses.

    A seed decides on belt and lamps, so each renders one item of each class: answers differ
    between seeds far more than within one.
    """
    from stl_conveyor.cell.description import CellDescription
    from stl_conveyor.sim.parts import CLASS_IDS
    from stl_conveyor_lab.data.render import Images, render_shard

    cell = CellDescription.load(share_path('config/cell.yaml'))
    found: list[Images] = []
    seed = TEST_SEED
    while sum(len(part.labels) for part in found) < count:
        found.append(render_shard(cell, seed, len(CLASS_IDS)))
        seed += 1
    return LabelledImages(
        np.concatenate([part.pixels for part in found])[:count],
        np.concatenate([part.labels for part in found])[:count],
    )


def load_indexed(data: Path, size: int) -> LabelledImages | None:
    """Read a folder of files INDEX_wnid_name.jpg, one for each of some ImageNet classes.

    Returns None if there are none.
    """
    found = sorted(
        (path, int(match.group(1)))
        for path in Path(data).glob('*')
        if (match := _INDEXED.fullmatch(path.name))
    )
    if not found:
        return None
    return LabelledImages(
        np.stack([open_square(path, size) for path, _ in found]),
        np.array([index for _, index in found], np.int64),
    )


def load_test(data: Path | None, folder: ModelFolder, count: int) -> LabelledImages:
    """Return up to `count` test images of a data folder, or rendered ones without it.

    Raises:
        ConfigError: When the folder has no test or validation split with these labels.
    """
    if data is None:
        return rendered_items(count)
    for split in ('test', 'validation', 'val'):
        found = load_images(data, split, folder.labels, folder.image_size)
        if found is not None:
            return found.sample(count, seed=1)
    found = load_indexed(data, folder.image_size)
    if found is not None and found.classes.max() < len(folder.labels):
        return found.sample(count, seed=1)
    raise ConfigError(
        f'{data} has no test or validation images of the labels of '
        f'{folder.name}; give --data and --models that belong together'
    )
