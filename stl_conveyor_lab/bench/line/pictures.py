# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Pictures of a belt with parts on it, and the encodings in which cameras send them. No ROS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
BELT, BRIGHT = 70, 190  # grey values of belt and part
COLOUR = (200, 120, 60)  # of a coloured part: red, green and blue differ


@dataclass(frozen=True)
class Spot:
    """A rectangle in a picture: its middle and its size, in pixels; length runs along the rows."""

    row: float
    column: float
    length: float
    width: float


def picture(
    spots: Sequence[Spot] = (),
    size: tuple[int, int] = (240, 320),
    *,
    light: float = 0.0,
    colour: tuple[int, int, int] = (BRIGHT, BRIGHT, BRIGHT),
    noise: NDArray[np.float32] | None = None,
) -> Picture:
    """Return u8[H, W, 3] in RGB.

    Args:
        light: Grey values by which everything is brighter.
        noise: f32[H, W] of grey values, added to belt and parts.
    """
    image = np.full((*size, 3), BELT + light, np.float32)
    for spot in spots:
        top, bottom = _edges(spot.row, spot.length, size[0])
        left, right = _edges(spot.column, spot.width, size[1])
        image[top:bottom, left:right] = np.asarray(colour, np.float32) + light
    if noise is not None:
        image += noise[:, :, None]
    return np.clip(image, 0, 255).astype(np.uint8)


def _edges(middle: float, extent: float, limit: int) -> tuple[int, int]:
    first, last = round(middle - extent / 2), round(middle + extent / 2)
    return min(max(0, first), limit), min(max(0, last), limit)


def middle_of_part(image: Picture, axis: int = 0) -> float | None:
    """Return the middle (pixels) along an axis of what is brighter than the belt, if any is."""
    places = np.nonzero(image[:, :, 0] > (BELT + BRIGHT) / 2)[axis]
    return None if places.size == 0 else float(places.min() + places.max()) / 2


@dataclass(frozen=True)
class Encoded:
    """A picture as an image message carries it; `step` is in bytes for a row."""

    encoding: str
    step: int
    data: bytes


def encode(image: Picture, encoding: str) -> Encoded:
    """Return a picture u8[H, W, 3] in one of ENCODINGS, by the sensor_msgs names.

    YUV is that of ITU-R BT.601 with limited range, as cameras and OpenCV have it.
    """
    height, width = image.shape[:2]
    grey = np.round(image @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    if encoding in _ORDERS:
        order, alpha = _ORDERS[encoding]
        pixels = image[:, :, order]
        if alpha:
            full = np.full((height, width, 1), 255, np.uint8)
            pixels = np.concatenate([pixels, full], axis=2)
        return Encoded(encoding, pixels.shape[2] * width, pixels.tobytes())
    if encoding in ('mono8', '8UC1'):
        return Encoded(encoding, width, grey.tobytes())
    if encoding in ('mono16', '16UC1'):
        return Encoded(encoding, 2 * width, (grey.astype('<u2') * 257).tobytes())
    if encoding.startswith('bayer_'):
        return Encoded(encoding, width, _mosaic(image, encoding[6:10]).tobytes())
    luma, blue, red = _yuv(image)
    if encoding in _YUV_422:
        pairs = np.empty((height, width, 2), np.uint8)
        first = _YUV_422[encoding]
        pairs[:, :, first] = luma
        pairs[:, 0::2, 1 - first] = blue[:, ::2]
        pairs[:, 1::2, 1 - first] = red[:, ::2]
        return Encoded(encoding, 2 * width, pairs.tobytes())
    if encoding in ('nv12', 'nv21'):
        chroma = np.empty((height // 2, width), np.uint8)
        second = encoding == 'nv21'
        chroma[:, int(second) :: 2] = blue[::2, ::2]
        chroma[:, int(not second) :: 2] = red[::2, ::2]
        return Encoded(encoding, width, luma.tobytes() + chroma.tobytes())
    raise ValueError(f'{encoding} is none of the encodings of this benchmark')


_ORDERS = {
    'rgb8': ([0, 1, 2], False),
    'bgr8': ([2, 1, 0], False),
    'rgba8': ([0, 1, 2], True),
    'bgra8': ([2, 1, 0], True),
    '8UC3': ([2, 1, 0], False),  # OpenCV's order
    '8UC4': ([2, 1, 0], True),
}
_YUV_422 = {'yuv422': 1, 'uyvy': 1, 'yuv422_yuy2': 0, 'yuyv': 0}  # where the luma stands
COLOURLESS = ('mono8', '8UC1', 'mono16', '16UC1')


def _yuv(image: Picture) -> tuple[Picture, Picture, Picture]:
    red, green, blue = (image[:, :, index].astype(np.float32) / 255 for index in range(3))
    luma = 16 + 65.481 * red + 128.553 * green + 24.966 * blue
    u = 128 - 37.797 * red - 74.203 * green + 112.0 * blue
    v = 128 + 112.0 * red - 93.786 * green - 18.214 * blue
    return tuple(np.clip(np.round(plane), 0, 255).astype(np.uint8) for plane in (luma, u, v))  # type: ignore[return-value]


def _mosaic(image: Picture, pattern: str) -> Picture:
    """Return what a sensor with colour filters sees: pattern 'rggb' = R G in the first row."""
    seen = np.empty(image.shape[:2], np.uint8)
    for place, letter in enumerate(pattern):
        row, column = divmod(place, 2)
        seen[row::2, column::2] = image[row::2, column::2, 'rgb'.index(letter)]
    return seen
