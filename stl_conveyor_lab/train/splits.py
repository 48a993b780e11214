# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The images that a training learns from, and those that it is judged on while it learns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stl_conveyor.vision.image_folder import LabelledImages, load_images


def training_and_validation(
    data: Path, labels: Sequence[str], size: int, seed: int
) -> tuple[LabelledImages, LabelledImages]:
    """Return the splits `train` and `val` of a folder.

    Args:
        data: Folder of images; without `val`, a part of `train` is set aside.
        labels: The classes, in the order of the answers.
        size: Side of the images in pixels.
        seed: Of what is set aside.

    Raises:
        FileNotFoundError: If there are no training images.
    """
    train = load_images(data, 'train', labels, size)
    if train is None:
        raise FileNotFoundError(f'no training images of {", ".join(labels)} under {data}/train')
    validation = load_images(data, 'val', labels, size)
    if validation is None:
        train, validation = train.split(seed)
    return train, validation
