# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Image codecs to compare with, as real byte strings: JPEG, progressive JPEG, WebP.

Each fits an image into a number of bytes as well as it can and gives back pixels for an
ordinary classifier.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFile, features

from stl_conveyor.assess.fitted_file import FittedFile, square_pixels
from stl_conveyor_lab.references.base import ReferenceCodec, in_packets


@dataclass(frozen=True)
class BestQuality(FittedFile, ReferenceCodec):
    """A file format at the best quality that fits (`FittedFile`), with its names."""

    @property
    def name(self) -> str:
        """Name for tables."""
        if self.format == 'JPEG':
            name = 'progressive JPEG' if self.progressive else 'JPEG'
        else:
            name = f'WebP {self.method}'
        return f'{name}, may downscale' if self.downscale else name

    @property
    def key(self) -> str:
        """Name for files, with the version of the library that compresses."""
        library = 'libjpeg_turbo' if self.format == 'JPEG' else 'webp'
        return f'{self.slug}-{features.version(library)}'


@dataclass(frozen=True)
class ProgressivePrefix(ReferenceCodec):
    """The first bytes of one progressive JPEG, as a receiver would show them."""

    streams = True

    quality: int = 30

    @property
    def name(self) -> str:
        """Name for tables."""
        return f'progressive JPEG q{self.quality}, prefix'

    def encode(self, image: np.ndarray, max_bytes: int) -> bytes | None:
        """Return a prefix of the file; None when it ends before the first scan's data."""
        whole = _progressive_file(image.tobytes(), len(image), self.quality)
        return whole[:max_bytes] if max_bytes >= _first_scan(whole) else None

    def packets(
        self, image: np.ndarray, max_bytes: int, packet_bytes: int = 512
    ) -> tuple[bytes, ...]:
        """Return the prefix in pieces, the first of them up to the first scan's data at least."""
        data = self.encode(image, max_bytes)
        return () if data is None else in_packets(data, _first_scan(data), packet_bytes)

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the pixels that the prefix gives."""
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            with Image.open(io.BytesIO(data + b'\xff\xd9')) as picture:
                return square_pixels(picture, size)
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


def _first_scan(data: bytes) -> int:
    """Return where the data of the first scan begins: behind its marker and its whole header."""
    header = data.index(b'\xff\xda') + 2
    return header + int.from_bytes(data[header : header + 2], 'big')


@lru_cache(maxsize=256)
def _progressive_file(pixels: bytes, size: int, quality: int) -> bytes:
    picture = Image.frombytes('RGB', (size, size), pixels)
    stream = io.BytesIO()
    picture.save(stream, 'JPEG', quality=quality, optimize=True, progressive=True)
    return stream.getvalue()
