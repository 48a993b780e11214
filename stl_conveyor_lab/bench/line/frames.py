# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Image messages, and a camera driver that publishes them."""

from __future__ import annotations

import array

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from stl_conveyor.msg import ItemCapture
from stl_conveyor.nodes.base.clock import to_stamp
from stl_conveyor_lab.bench.line.pictures import Picture, encode

RATE = 30.0  # frames per second of a free-running camera


def frame(image: Picture, stamp_ns: int, encoding: str = 'rgb8') -> Image:
    """Return a picture u8[H, W, 3] in RGB as a message."""
    encoded = encode(image, encoding)
    return Image(
        header=Header(stamp=to_stamp(stamp_ns), frame_id='camera'),
        height=image.shape[0],
        width=image.shape[1],
        step=encoded.step,
        encoding=encoding,
        data=array.array('B', encoded.data),
    )


def crop_of(capture: ItemCapture) -> Picture:
    """Return the crop of a capture, u8[S, S, 3]."""
    crop = capture.crop
    return np.frombuffer(crop.data, np.uint8).reshape(crop.height, crop.width, 3)
