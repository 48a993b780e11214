# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Cut RGB pixels out of a picture, resize them, and read them from files."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.errors import BadImage, MissingDependency


def crop_square(
    image: NDArray[np.uint8], row: float, column: float, size: int
) -> NDArray[np.uint8]:
    """Return uint8 `[size, size, 3]` around a point, with the border repeated beyond the image.

    Args:
        row: Of the point, in pixels; pixel centres are whole numbers.
        column: The same.
    """
    height, width = image.shape[:2]
    first_row = round(row - (size - 1) / 2)
    first_column = round(column - (size - 1) / 2)
    if 0 <= first_row <= height - size and 0 <= first_column <= width - size:
        return np.ascontiguousarray(
            image[first_row : first_row + size, first_column : first_column + size]
        )
    rows = np.clip(np.arange(first_row, first_row + size), 0, height - 1)
    columns = np.clip(np.arange(first_column, first_column + size), 0, width - 1)
    return image[rows[:, np.newaxis], columns]


def resize_square(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return uint8 `[size, size, 3]` from an RGB image, cutting off what is not square.

    Raises:
        MissingDependency: If pixels must be resampled and Pillow is not installed.
    """
    height, width = image.shape[:2]
    side = min(height, width)
    if (height, width) != (side, side):
        image = crop_square(image, (height - 1) / 2, (width - 1) / 2, side)
    if side == size:
        return image
    pillow = import_pillow()
    return np.asarray(pillow.fromarray(image).resize((size, size), pillow.Resampling.BILINEAR))


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Return uint8 `[H, W, 3]` RGB from an image file.

    Examples:
        >>> from stl_conveyor import read_image, share_path
        >>> read_image(share_path('models/items/sample.png')).shape
        (160, 160, 3)

    Raises:
        BadImage: If the file cannot be read as an image.
    """
    pillow = import_pillow()
    try:
        with pillow.open(path) as image:
            return np.asarray(image.convert('RGB'))
    except (OSError, ValueError, pillow.DecompressionBombError) as error:
        raise BadImage(f'{path}: cannot be read as an image ({error})') from error


def import_pillow() -> ModuleType:
    """Return Pillow's module Image.

    Raises:
        MissingDependency: If it is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependency('Pillow is not installed; pip install pillow') from error
    return Image
