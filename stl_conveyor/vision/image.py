# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Turn the bytes of an image message into RGB pixels.

This does what cv_bridge's `imgmsg_to_cv2(message, 'rgb8')` does, for the encodings that
cameras send in 8 bits, and works with every NumPy.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.errors import BadImage, MissingDependency

MAX_SIDE = 8192
CHANNELS = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1}


def image_to_rgb(
    encoding: str, height: int, width: int, step: int, is_bigendian: bool | int, data: object
) -> NDArray[np.uint8]:
    """Return uint8 `[height, width, 3]` RGB from the fields of a sensor_msgs/Image.

    Args:
        step: Bytes per row, which may hold padding after the pixels.
        is_bigendian: Of no consequence for 8 bits; taken so that all fields can be handed in.
        data: A bytes-like object or an array of bytes.

    Raises:
        BadImage: If the fields do not fit together or the encoding is not an 8-bit one.
    """
    channels = CHANNELS.get(encoding)
    if channels is None:
        raise BadImage(
            f'encoding {encoding[:32]!r} is not supported; publish one of {", ".join(CHANNELS)}'
        )
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise BadImage(f'{width} x {height} pixels: each side must be 1..{MAX_SIDE}')
    if step < width * channels:
        raise BadImage(f'step {step} is shorter than {width} pixels of {encoding}')
    try:
        pixels = np.frombuffer(data, dtype=np.uint8)  # type: ignore[call-overload]
    except (TypeError, ValueError, BufferError):
        pixels = np.asarray(data)
        if pixels.dtype != np.uint8:
            raise BadImage('data does not hold bytes') from None
    if pixels.ndim != 1 or pixels.size != step * height:
        raise BadImage(
            f'data holds {pixels.size} bytes, {height} rows of {step} need {step * height}'
        )
    rows = pixels.reshape(height, step)[:, : width * channels].reshape(height, width, channels)
    if channels == 1:
        return np.repeat(rows, 3, axis=2)
    rgb = rows[:, :, :3]
    if encoding.startswith('bgr'):
        rgb = rgb[:, :, ::-1]
    return np.ascontiguousarray(rgb)


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
    pillow = _pillow()
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
    pillow = _pillow()
    return np.asarray(
        pillow.fromarray(image).resize(
            (width, height), pillow.Resampling.BILINEAR, reducing_gap=2.0
        )
    )


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Return uint8 `[H, W, 3]` RGB from an image file.

    Examples:
        >>> from stl_conveyor import read_image, share_path
        >>> read_image(share_path('models/items/sample.png')).shape
        (160, 160, 3)

    Raises:
        BadImage: If the file cannot be read as an image.
    """
    pillow = _pillow()
    try:
        with pillow.open(path) as image:
            return np.asarray(image.convert('RGB'))
    except (OSError, ValueError, pillow.DecompressionBombError) as error:
        raise BadImage(f'{path}: cannot be read as an image ({error})') from error


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependency('Pillow is not installed; pip install pillow') from error
    return Image
