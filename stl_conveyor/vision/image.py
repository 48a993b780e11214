# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Cut RGB pixels out of a picture, resize them, and read them from files."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.errors import BadImage, MissingDependency
from stl_conveyor.vision.bit_depth import BitDepth
from stl_conveyor.vision.encodings import opencv_to_rgb
from stl_conveyor.vision.opencv import import_cv2

#: What lies behind transparent pixels.
BACKDROP = (255, 255, 255)


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


def resize_height(image: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    """Return an RGB image uint8 `[height, W, 3]`, with the same scale along both sides.

    The outer edges of both images are the same, so that a place keeps its part of the height.

    Raises:
        MissingDependency: If Pillow is not installed.
    """
    if image.shape[0] == height:
        return image
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    pillow = import_pillow()
    return np.asarray(
        pillow.fromarray(image).resize(
            (width, height), pillow.Resampling.BILINEAR, reducing_gap=2.0
        )
    )


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Return uint8 `[H, W, 3]` RGB from an image file, as `open_rgb` opens it.

    Examples:
        >>> from stl_conveyor import read_image, share_path
        >>> read_image(share_path('models/items/sample.png')).shape
        (160, 160, 3)

    Raises:
        BadImage: If the file cannot be read as an image.
    """
    return np.asarray(open_rgb(path))


def open_rgb(path: str | Path) -> Any:
    """Return a picture file as Pillow's image of mode RGB, upright.

    Grey, CMYK, palette and 16-bit files become RGB; samples of 16 bits are scaled by the bits that
    the picture uses (`bit_depth`), and floats of 0 to 1 by 255. What is transparent becomes white,
    and a photo is turned upright as its EXIF tag says. HEIC files are read where pillow-heif is
    installed.

    Raises:
        BadImage: Naming the file, if it cannot be read as an image.
        MissingDependency: If Pillow is not installed, or OpenCV for colours of 16 bits.
    """
    pillow = import_pillow()
    register_heif()
    try:
        with pillow.open(path) as file:
            return _rgb(file, path)
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise BadImage(
            f'{path}: cannot be read as an image ({error}); remove or replace it'
        ) from error


def register_heif() -> bool:
    """Let Pillow open HEIC files if pillow-heif is installed; return whether it is."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        # Python looks through all its folders anew for what it has not found, in a millisecond.
        sys.modules.setdefault('pillow_heif', None)  # type: ignore[arg-type]
        return False
    register_heif_opener()
    return True


def _rgb(file: Any, path: str | Path) -> Any:
    from PIL import ImageOps

    pillow = import_pillow()
    if _has_wide_colours(file):
        # Pillow would keep the upper 8 bits: nothing of a colour of 8, and 4 of 12.
        cv2 = import_cv2()
        samples = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        if samples is None:
            raise ValueError('OpenCV cannot decode its 16-bit colours')
        return pillow.fromarray(opencv_to_rgb(samples))
    image = ImageOps.exif_transpose(file)
    if image.mode.startswith(('I', 'F')):
        values = np.nan_to_num(np.asarray(image, np.float64))
        if image.mode == 'F' and values.max(initial=0) <= 1:
            values = values * 255
        samples = np.clip(np.rint(values), 0, 65535).astype(np.uint16)
        return pillow.fromarray(BitDepth().narrowed(samples)).convert('RGB')
    if 'A' in image.getbands() or 'transparency' in image.info:
        image = image.convert('RGBA')
        behind = pillow.new('RGBA', image.size, (*BACKDROP, 255))
        image = pillow.alpha_composite(behind, image)
    return image.convert('RGB')


def _has_wide_colours(file: Any) -> bool:
    """Return whether a file has colours of 16 bits, which Pillow opens as 8."""
    if file.mode not in ('RGB', 'RGBA') or not file.tile:
        return False
    arguments = file.tile[0][3]
    raw_mode = arguments if isinstance(arguments, str) else arguments and arguments[0]
    return ';16' in str(raw_mode)


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
