# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Ordinary picture files that fit into so many bytes: what anybody could send instead."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

#: Sides to which a file that may downscale may shrink, as parts of the original.
SCALES = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625)


def shrink(picture: Image.Image, scale: float) -> Image.Image:
    """Return a square picture at a part of its side."""
    if scale == 1:
        return picture
    side = max(1, round(picture.width * scale))
    return picture.resize((side, side), Image.Resampling.LANCZOS)


def square_pixels(picture: Image.Image, size: int) -> np.ndarray:
    """Return u8[size, size, 3] of a picture, enlarged if it is smaller."""
    picture = picture.convert('RGB')
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(picture)


@dataclass(frozen=True)
class FittedFile:
    """A file format at the best quality that fits, by bisection over the qualities 1 to 95.

    With `downscale` the image may be shrunk first, which at small sizes is worth more than any
    choice of quality; of several scales, the one with the least squared error is taken.
    """

    #: 'JPEG' or 'WEBP', as Pillow names them.
    format: str
    progressive: bool = False
    #: WebP's effort, 0 to 6.
    method: int = 4
    downscale: bool = False

    def compress(self, picture: Image.Image, quality: int) -> bytes:
        """Return the file of a picture at a quality."""
        stream = io.BytesIO()
        if self.format == 'JPEG':
            picture.save(
                stream, 'JPEG', quality=quality, optimize=True, progressive=self.progressive
            )
        else:
            picture.save(stream, self.format, quality=quality, method=self.method)
        return stream.getvalue()

    def fit(
        self, picture: Image.Image, max_bytes: int, files: dict[int, bytes] | None = None
    ) -> bytes | None:
        """Return the file of a picture at the best quality that fits, or None.

        `files` keeps the files made so far by quality, for several sizes of one picture.
        """
        files = {} if files is None else files
        low, high, best = 1, 95, None
        while low <= high:
            quality = (low + high) // 2
            if quality not in files:
                files[quality] = self.compress(picture, quality)
            if len(files[quality]) <= max_bytes:
                best, low = files[quality], quality + 1
            else:
                high = quality - 1
        return best

    def encode(self, image: np.ndarray, max_bytes: int) -> bytes | None:
        """Return at most `max_bytes` for an image u8[S, S, 3], or None if nothing fits."""
        return self.encode_all(image, [max_bytes])[0]

    def encode_all(self, image: np.ndarray, sizes: Sequence[int]) -> list[bytes | None]:
        """Return `encode` for each of several sizes; what they share is done once."""
        whole = Image.fromarray(image)
        found: list[bytes | None] = [None] * len(sizes)
        least = [np.inf] * len(sizes)
        for scale in SCALES if self.downscale else (1.0,):
            picture = shrink(whole, scale)
            files: dict[int, bytes] = {}
            errors: dict[bytes, float] = {}
            for k, size in enumerate(sizes):
                data = self.fit(picture, size, files)
                if data is None:
                    continue
                if not self.downscale:
                    found[k] = data
                    continue
                if data not in errors:
                    difference = self.decode(data, len(image)).astype(np.float32) - image
                    errors[data] = float(np.square(difference).mean())
                if errors[data] < least[k]:
                    found[k], least[k] = data, errors[data]
        return found

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the pixels u8[size, size, 3], enlarged if the file is smaller."""
        with Image.open(io.BytesIO(data)) as picture:
            return square_pixels(picture, size)
