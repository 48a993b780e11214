# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Turn the bytes of an image message into RGB pixels.

This does what cv_bridge's `imgmsg_to_cv2(message, 'rgb8')` does, by the conversions of OpenCV
that it uses itself, for every encoding that cameras send; the names are those of sensor_msgs
(image_encodings.hpp), and a few that drivers write beside them. cv_bridge refuses matrices that
name no colours (8UC3); here they have OpenCV's order, blue first. Packed colours and grey need no
OpenCV.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.errors import BadImage
from stl_conveyor.vision.bit_depth import BitDepth
from stl_conveyor.vision.opencv import import_cv2

MAX_SIDE = 8192

Pixels = NDArray[np.uint8]
Samples = NDArray[Any]  # uint8 or uint16


@dataclass(frozen=True)
class Encoding:
    """How pixels lie in the data of a message.

    Attributes:
        channels: Samples of a pixel in one row.
        sample_bytes: 1 or 2.
        to_rgb: Takes samples in 8 bits `[rows, width, channels]`, without an alpha channel, and
            returns `[height, width, 3]` RGB.
        rows: Rows of data for each two rows of the picture; more than 2 where colour lies in a
            plane below the grey values.
        even: (height, width) must be multiples of these.
        least: Pixels of each side.
    """

    channels: int
    sample_bytes: int
    to_rgb: Callable[[Pixels], Pixels]
    rows: int = 2
    even: tuple[int, int] = (1, 1)
    least: int = 1


def _grey(samples: Pixels) -> Pixels:
    return np.repeat(samples, 3, axis=2)


def _red_first(samples: Pixels) -> Pixels:
    return samples


def _blue_first(samples: Pixels) -> Pixels:
    return samples[:, :, ::-1]


def _by_opencv(code: str) -> Callable[[Pixels], Pixels]:
    """Return the conversion that OpenCV calls COLOR_<code>."""

    def to_rgb(samples: Pixels) -> Pixels:
        cv2 = import_cv2()
        if samples.shape[2] == 1:
            samples = samples[:, :, 0]
        converted: Pixels = cv2.cvtColor(np.ascontiguousarray(samples), vars(cv2)[f'COLOR_{code}'])
        return converted

    return to_rgb


def _nv24(samples: Pixels) -> Pixels:
    # OpenCV has no such conversion. As YUY2 of twice the width each pixel keeps its own colour.
    height, width = samples.shape[0] // 3, samples.shape[1]
    grey = samples[:height, :, 0]
    colour = samples[height:].reshape(height, width, 2)
    doubled = np.stack([grey, colour[..., 0], grey, colour[..., 1]], axis=2)
    return _by_opencv('YUV2RGB_YUY2')(doubled.reshape(height, 2 * width, 2))[:, ::2]


#: OpenCV names a pattern after the second and third pixel of its second row.
_BAYER = {'rggb': 'BG', 'bggr': 'RG', 'gbrg': 'GR', 'grbg': 'GB'}


def _encodings() -> dict[str, Encoding]:
    table = {}
    for order, to_rgb in (('rgb', _red_first), ('bgr', _blue_first)):
        for alpha in ('', 'a'):
            for size in (1, 2):
                table[f'{order}{alpha}{8 * size}'] = Encoding(len(order + alpha), size, to_rgb)
    for size in (1, 2):
        table[f'mono{8 * size}'] = table[f'{8 * size}UC1'] = Encoding(1, size, _grey)
        for channels in (3, 4):
            table[f'{8 * size}UC{channels}'] = Encoding(channels, size, _blue_first)
    yuv422 = {
        name: Encoding(2, 1, _by_opencv(f'YUV2RGB_{name}'), 2, (1, 2)) for name in ('UYVY', 'YUY2')
    }
    table['yuv422'] = table['uyvy'] = yuv422['UYVY']
    table['yuv422_yuy2'] = table['yuyv'] = table['yuy2'] = yuv422['YUY2']
    for name in ('nv12', 'nv21'):
        table[name] = Encoding(1, 1, _by_opencv(f'YUV2RGB_{name.upper()}'), 3, (2, 2))
    table['nv24'] = Encoding(1, 1, _nv24, 6)
    for size in (1, 2):
        for pattern, code in _BAYER.items():
            table[f'bayer_{pattern}{8 * size}'] = Encoding(
                1, size, _by_opencv(f'Bayer{code}2RGB'), least=3
            )
    return table


#: What is taken, by name.
ENCODINGS = _encodings()


def image_to_rgb(
    encoding: str,
    height: int,
    width: int,
    step: int,
    is_bigendian: bool | int,
    data: object,
    depth: BitDepth | None = None,
) -> NDArray[np.uint8]:
    """Return uint8 `[height, width, 3]` RGB from the fields of a sensor_msgs/Image.

    Args:
        step: Bytes per row, which may hold padding after the pixels.
        is_bigendian: Whether the first byte of a 16-bit sample is the higher one.
        data: A bytes-like object or an array of bytes.
        depth: Of the camera, for samples of 16 bits; without it, as this picture needs.

    Raises:
        BadImage: If the fields do not fit together or the encoding is unknown.
        MissingDependency: If the encoding needs OpenCV and it is not installed.
    """
    layout = ENCODINGS.get(encoding)
    if layout is None:
        raise BadImage(
            f'encoding {encoding[:32]!r} is not taken; publish one of {", ".join(ENCODINGS)}'
        )
    if not (layout.least <= height <= MAX_SIDE and layout.least <= width <= MAX_SIDE):
        raise BadImage(f'{width} x {height} pixels: each side must be {layout.least}..{MAX_SIDE}')
    if height % layout.even[0] or width % layout.even[1]:
        raise BadImage(f'{width} x {height} pixels: {encoding} has an even number of them')
    row_bytes = width * layout.channels * layout.sample_bytes
    if step < row_bytes:
        raise BadImage(f'step {step} is shorter than {width} pixels of {encoding}')
    pixels = bytes_of(data)
    rows = height * layout.rows // 2
    if pixels.size != step * rows:
        raise BadImage(
            f'data holds {pixels.size} bytes, {rows} rows of {step} need {step * rows}'
            + (f' ({encoding} of {height} rows)' if rows != height else '')
        )
    samples: Samples = pixels.reshape(rows, step)[:, :row_bytes]
    if layout.sample_bytes == 2:
        wide = np.ascontiguousarray(samples).view('>u2' if is_bigendian else '<u2')
        samples = wide.astype(np.uint16, copy=False)
    return rgb_of(samples.reshape(rows, width, layout.channels), layout, depth)


def rgb_of(samples: Samples, layout: Encoding, depth: BitDepth | None = None) -> NDArray[np.uint8]:
    """Return uint8 `[height, width, 3]` RGB from samples `[rows, width, channels]`.

    Raises:
        BadImage: If OpenCV cannot convert them.
        MissingDependency: If the encoding needs OpenCV and it is not installed.
    """
    samples = samples[:, :, :3]  # an opaque alpha would say nothing about the depth of colours
    if layout.sample_bytes == 2:
        samples = (depth or BitDepth()).narrowed(samples)
    return np.ascontiguousarray(layout.to_rgb(samples))


def opencv_to_rgb(
    samples: Samples, depth: BitDepth | None = None, *, encoding: str = '', red_first: bool = False
) -> NDArray[np.uint8]:
    """Return uint8 `[height, width, 3]` RGB from what OpenCV has read of a file or a camera.

    Args:
        samples: uint8 or uint16, `[height, width]` or `[height, width, channels]`.
        depth: Of the camera, for samples of 16 bits; without it, as this picture needs.
        encoding: Of the image before it was compressed: one channel may be a mosaic of Bayer.
        red_first: Whether red and blue have been exchanged.

    Raises:
        BadImage: If it is no picture of 8 or 16 bits with 1, 3 or 4 channels.
        MissingDependency: If the encoding needs OpenCV and it is not installed.
    """
    if samples.ndim == 2:
        samples = samples[:, :, np.newaxis]
    channels = samples.shape[2] if samples.ndim == 3 else 0
    size = {'uint8': 1, 'uint16': 2}.get(samples.dtype.name)
    if channels not in (1, 3, 4) or size is None:
        raise BadImage(
            f'a picture of {samples.dtype} {samples.shape}; what is taken has 8 or 16 bits and 1, '
            '3 or 4 channels'
        )
    name = f'{8 * size}UC{channels}'
    mosaic = encoding.startswith('bayer_') and encoding in ENCODINGS
    if channels == 1 and mosaic and min(samples.shape[:2]) >= ENCODINGS[encoding].least:
        # A JPEG of 16-bit samples has 8.
        name = f'{encoding.rstrip("0123456789")}{8 * size}'
    elif red_first and channels > 1:
        name = f'{"rgb" if channels == 3 else "rgba"}{8 * size}'
    return rgb_of(samples, ENCODINGS[name], depth)


def bytes_of(data: object) -> NDArray[np.uint8]:
    """Return the bytes of a message, uint8 `[N]`.

    Raises:
        BadImage: If they are none.
    """
    try:
        found = np.frombuffer(data, dtype=np.uint8)  # type: ignore[call-overload]
    except (TypeError, ValueError, BufferError):
        found = np.asarray(data)
    if found.dtype != np.uint8 or found.ndim != 1:
        raise BadImage('data does not hold bytes')
    return found
