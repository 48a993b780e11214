# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Read the labelled images that a model folder is evaluated on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stl_conveyor.errors import ConfigError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.vision.image_folder import list_images, load_images, open_square, read_listing
from stl_conveyor.vision.image_inventory import left_out_lines, look_through


@dataclass(frozen=True)
class TestImages:
    """Images u8[N, S, S, 3], classes i64[N], the files' names (or numbers), and the split."""

    __test__ = False  # for pytest

    images: np.ndarray
    classes: np.ndarray
    names: tuple[str, ...]
    split: str


def load_test_images(
    data: Path,
    folder: ModelFolder,
    split: str | None = None,
    label_column: str | None = None,
    show: Callable[[str], None] = print,
) -> TestImages:
    """Return the images to evaluate on.

    Of a prepared folder (WORK/images of a training) its test split; of a folder of images its test
    split, else its validation split, else all; what training leaves out of a folder is left out
    here, too, and said.

    Raises:
        ConfigError: When the labels are not those of the models.
    """
    data = Path(data)
    if (data / 'dataset.json').exists():
        split = split or 'test'
        found = load_images(data, split, folder.labels, folder.image_size)
        if found is None:
            raise ConfigError(f'{data}: has no split {split!r}')
        about = json.loads((data / 'dataset.json').read_text(encoding='utf-8'))
        if (about['labels'], about['image_size']) != (list(folder.labels), folder.image_size):
            raise ConfigError(
                f'{data}: was prepared for other labels or another size than those '
                f'of {folder.name}; give images that belong to the models'
            )
        return TestImages(
            found.images, found.classes, tuple(str(k) for k in range(len(found.classes))), split
        )
    listing = list_images(data, label_column)
    if split is not None and split not in listing.splits:
        raise ConfigError(f'{data}: has no split {split!r}, only {", ".join(listing.splits)}')
    split = split or next(
        name for name in ('test', 'val', 'all', 'train') if name in listing.splits
    )
    unknown = sorted({label for _, label in listing.splits[split]} - set(folder.labels))
    if unknown:
        raise ConfigError(
            f'{data}: has images of {unknown[0]!r}, which {folder.name} does not know '
            f'({", ".join(folder.labels[:5])}, ...); give images and models that belong together'
        )
    read = read_listing(replace(listing, labels=tuple(folder.labels)), folder.image_size, (split,))
    for line in left_out_lines((*listing.left_out, *read.left_out), data):
        show(line)
    if not read.files[split]:
        raise ConfigError(f'{data}: no image of {split} can be read')
    return TestImages(
        read.found[split].images,
        read.found[split].classes,
        tuple(str(path.relative_to(data)) for path in read.files[split]),
        split,
    )


def load_unlabelled(
    data: Path, folder: ModelFolder, show: Callable[[str], None] = print
) -> np.ndarray:
    """Return the pictures below a folder, u8[N, S, S, 3], as the models take them.

    Raises:
        ConfigError: When there is none.
    """
    found = look_through(data)
    for line in left_out_lines(found.left_out, data):
        show(line)
    if not found.read:
        raise ConfigError(f'{data}: has no picture that can be read')
    return np.stack([open_square(path, folder.image_size) for path in found.read])
