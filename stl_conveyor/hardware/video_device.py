# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A camera that OpenCV opens: asked for size, format and rate, and saying what it gives."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.cell.description import Camera
from stl_conveyor.errors import ConfigError, HardwareError
from stl_conveyor.vision.bit_depth import BitDepth
from stl_conveyor.vision.encodings import opencv_to_rgb
from stl_conveyor.vision.opencv import import_cv2

#: Bits of V4L2's grey formats with samples of 16; 0: as many as its pictures need.
_GREY_BITS = {'Y10': 10, 'Y12': 12, 'Y14': 14, 'Y16': 0}
RATE_TOLERANCE = 0.05  # of the rate: 30 and 29.97 Hz are the same


@dataclass(frozen=True)
class VideoFormat:
    """What a camera is asked for, or what it gives.

    Attributes:
        width: Pixels; 0: not asked for, or unknown. So are the others.
        height: Pixels.
        fourcc: How V4L2 calls the format: MJPG, YUYV, GREY, Y16.
        rate: Frames per second.
    """

    width: int = 0
    height: int = 0
    fourcc: str = ''
    rate: float = 0.0

    def __str__(self) -> str:
        """Return what is known, such as '640 x 480 MJPG at 30 Hz'."""
        size = f'{self.width or "any"} x {self.height or "any"}'
        words = [size if self.width or self.height else '', self.fourcc.strip()]
        words.append(f'at {self.rate:g} Hz' if self.rate else '')
        return ' '.join(word for word in words if word) or 'whatever it gives'

    def lacks(self, wanted: VideoFormat) -> bool:
        """Return whether something that was asked for has turned out otherwise."""
        return (
            (wanted.width not in (0, self.width))
            or (wanted.height not in (0, self.height))
            # Not every driver says how it packs, or how fast.
            or bool(wanted.fourcc and self.fourcc)
            and wanted.fourcc.strip() != self.fourcc.strip()
            or bool(wanted.rate and self.rate)
            and abs(self.rate - wanted.rate) > RATE_TOLERANCE * wanted.rate
        )


def asked_of_device(parameters: Mapping[str, Any], camera: Camera) -> VideoFormat:
    """Return what the camera node's parameters ask of a device.

    Args:
        parameters: By name; a width or height of 0 stands for that of `camera`, on whose pixels
            every offset rests.
    """
    return VideoFormat(
        parameters['device_width'] or camera.image_width,
        parameters['device_height'] or camera.image_height,
        parameters['device_format'],
        parameters['device_rate'],
    )


def check_fourcc(text: str) -> None:
    """Refuse the parameter `device_format` if it cannot be a fourcc; '' asks for none.

    Raises:
        ConfigError: Naming it.
    """
    if len(text) > 4 or not (text.isascii() and text.isprintable()):
        raise ConfigError(
            f'device_format: {text!r} is no fourcc: four characters at most, such as MJPG, YUYV, '
            'GREY or Y16'
        )


class VideoDevice:
    """An open camera; as a context manager it is released at the end.

    Attributes:
        given: What it gives, from the first frame on.
    """

    def __init__(self, device: str, wanted: VideoFormat, sample_bits: int = 0) -> None:
        """Open it and ask.

        Args:
            device: '0' or '/dev/video0', a link such as those in /dev/v4l/by-id, or the address or
                file of a video stream.
            wanted: What to ask for.
            sample_bits: Bits that a grey camera uses of samples of 16; 0 = as its format says,
                or as its pictures need.

        Raises:
            HardwareError: If it cannot be opened, with what there is instead.
            MissingDependency: If OpenCV is not installed.
        """
        self._cv2 = import_cv2()
        self._device = device
        self._bits = sample_bits
        self.given = VideoFormat()
        self._capture = self._open()
        try:
            if not self._capture.isOpened():
                raise HardwareError(_reason_not_to_open(device))
            self._ask(wanted)
        except BaseException:
            self.release()
            raise

    def __enter__(self) -> VideoDevice:
        """Return the device."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release it."""
        self.release()

    def release(self) -> None:
        """Let go of it."""
        self._capture.release()

    def read(self) -> NDArray[np.uint8] | None:
        """Wait for a frame and return it, uint8 `[H, W, 3]` RGB, or None if none comes any more.

        Raises:
            BadImage: If it is none that can be used.
        """
        good, frame = self._capture.read()
        if not good:
            return None
        image = opencv_to_rgb(frame, self._depth)
        height, width = image.shape[:2]
        if (self.given.width, self.given.height) != (width, height):
            self.given = VideoFormat(width, height, self._fourcc(), self._rate())
        return image

    def _open(self) -> Any:
        device: int | str = int(self._device) if self._device.isdecimal() else self._device
        local = isinstance(device, int) or device.startswith('/dev/')
        if local and sys.platform == 'linux':
            # Other ways to open a path take it for a film, or cannot be asked for a size.
            return self._cv2.VideoCapture(device, self._cv2.CAP_V4L2)
        return self._cv2.VideoCapture(device)

    def _ask(self, wanted: VideoFormat) -> None:
        cv2, capture = self._cv2, self._capture
        # With a longer queue the frames are older than they look.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        # The format first: it decides which sizes there are, and the size which rates.
        if wanted.fourcc:
            code = sum(
                ord(letter) << 8 * place for place, letter in enumerate(f'{wanted.fourcc:4}')
            )
            capture.set(cv2.CAP_PROP_FOURCC, code)
        if wanted.width:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, wanted.width)
        if wanted.height:
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, wanted.height)
        if wanted.rate:
            capture.set(cv2.CAP_PROP_FPS, wanted.rate)
        grey_bits = _GREY_BITS.get(self._fourcc())
        if grey_bits is not None:
            # OpenCV would keep the upper 8 of 16 bits: of 12 that are used, the upper 4.
            capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
        self._depth = BitDepth(self._bits or grey_bits or 0)

    def _fourcc(self) -> str:
        code = int(self._capture.get(self._cv2.CAP_PROP_FOURCC))
        letters = ''.join(chr(code >> 8 * place & 0xFF) for place in range(4)).strip('\0 ')
        return letters if letters.isascii() and letters.isprintable() else ''

    def _rate(self) -> float:
        rate = float(self._capture.get(self._cv2.CAP_PROP_FPS))
        return round(rate, 2) if 0 < rate < 10_000 else 0.0


def _reason_not_to_open(device: str) -> str:
    path = f'/dev/video{device}' if device.isdecimal() else device
    if not path.startswith('/dev/'):
        return 'cannot be opened: OpenCV finds no video there'
    if not os.path.exists(path):
        present = sorted(glob.glob('/dev/video*'))
        return f'is not there; there is {", ".join(present) or "no /dev/video* at all"}'
    if not os.access(path, os.R_OK | os.W_OK):
        return f'may not be used by this user; put it into the group of {path}, which is video'
    return 'cannot be opened: it is no camera, or another program holds it'
