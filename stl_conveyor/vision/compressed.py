# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Turn the JPEG or PNG file in a compressed image message into RGB pixels.

The text `format` of sensor_msgs/CompressedImage is read as image_transport's plugins write it:
'ENCODING; jpeg compressed TARGET'. ENCODING is that of the raw image, which matters for a mosaic
of Bayer that was compressed as it is; TARGET is the order of the colours in the file's pixels as
OpenCV reads them: 'bgr8' is the ordinary one, 'rgb8' says that red and blue are exchanged. Other
publishers write 'jpeg' or 'png' alone.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.errors import BadImage
from stl_conveyor.vision.bit_depth import BitDepth
from stl_conveyor.vision.encodings import MAX_SIDE, bytes_of, opencv_to_rgb
from stl_conveyor.vision.image import import_pillow
from stl_conveyor.vision.opencv import import_cv2

#: The last bytes of a file that has arrived whole; a JPEG may have zeros behind them.
_END = {'JPEG': b'\xff\xd9', 'PNG': b'IEND\xaeB`\x82'}
_KINDS = ' or '.join(_END)


def compressed_to_rgb(
    format_text: str, data: object, depth: BitDepth | None = None
) -> NDArray[np.uint8]:
    """Return uint8 `[height, width, 3]` RGB from the fields of a sensor_msgs/CompressedImage.

    Args:
        format_text: The field `format`.
        data: A bytes-like object or an array of bytes.
        depth: Of the camera, for samples of 16 bits; without it, as this picture needs.

    Raises:
        BadImage: If it is no whole JPEG or PNG picture of a size that is taken.
        MissingDependency: If OpenCV or Pillow is not installed.
    """
    encoding, _, packing = format_text.partition(';')
    if 'compressedDepth' in format_text:
        raise BadImage(
            f'format {format_text[:64]!r}: distances are no picture of an item; publish a '
            f'{_KINDS} of the colour or grey image'
        )
    content = bytes_of(data)
    _check_file(content, format_text)
    cv2 = import_cv2()
    try:
        samples = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise BadImage(f'format {format_text[:64]!r}: cannot be decoded ({error})') from error
    if samples is None:
        raise BadImage(
            f'format {format_text[:64]!r}: {content.size} bytes that cannot be decoded as {_KINDS}'
        )
    return opencv_to_rgb(
        samples, depth, encoding=encoding.strip(), red_first='compressed rgb' in packing
    )


def _check_file(content: NDArray[np.uint8], format_text: str) -> None:
    """Read the head and the end of a file, before anybody makes room for its pixels.

    Raises:
        BadImage: If it is none that is taken, too large, or cut off.
    """
    pillow = import_pillow()
    try:
        with pillow.open(io.BytesIO(content.tobytes()), formats=tuple(_END)) as file:
            kind, (width, height) = file.format or '', file.size
    except Exception as error:  # of many kinds; the bytes are anybody's
        raise BadImage(
            f'format {format_text[:64]!r}: {content.size} bytes that are no picture of '
            f'{_KINDS} ({error})'
        ) from error
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise BadImage(f'{width} x {height} pixels: each side must be 1..{MAX_SIDE}')
    if not content.tobytes().rstrip(b'\0').endswith(_END[kind]):
        raise BadImage(f'{kind} of {content.size} bytes is cut off')
