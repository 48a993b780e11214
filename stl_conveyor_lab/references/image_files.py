# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Image codecs to compare with, as real byte strings: JPEG, progressive JPEG, WebP.

Each fits an image into a number of bytes as well as it can and gives back pixels for an
ordinary classifier. The `downscale` variants may also shrink the image first, which at small
sizes is worth more than any choice of quality.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFile, features

from stl_conveyor_lab.references.base import ReferenceCodec

#: Sides to which the downscaling variants may shrink, as parts of the original.
SCALES = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625)


def _pixels(picture: Image.Image, size: int) -> np.ndarray:
    picture = picture.convert('RGB')
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def shrink(picture: Image.Image, scale: float) -> Image.Image:
    """Return a square picture at a part of its side."""
    if scale == 1:
        return picture
    side = max(1, round(picture.width * scale))
    return picture.resize((side, side), Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class BestQuality(ReferenceCodec):
    """A file format at the best quality that fits, by bisection over the qualities 1 to 95."""

    #: 'JPEG' or 'WEBP', as Pillow names them.
    format: str
    progressive: bool = False
    #: WebP's effort, 0 to 6.
    method: int = 4
    downscale: bool = False

    @property
    def name(self) -> str:
        """Name for tables."""
        if self.format == 'JPEG':
            name = 'progressive JPEG' if self.progressive else 'JPEG'
        else:
            name = f'WebP {self.method}'
        return f'{name}, may downscale' if self.downscale else name

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

    @property
    def key(self) -> str:
        """Name for files, with the version of the library that compresses."""
        library = 'libjpeg_turbo' if self.format == 'JPEG' else 'webp'
        return f'{self.slug}-{features.version(library)}'

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
        """Return the file; of several scales, the one with the least squared error."""
        return self.encode_all(image, [max_bytes])[0]

    def encode_all(self, image: np.ndarray, sizes: Sequence[int]) -> list[bytes | None]:
        """Return `encode` for each of several sizes."""
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
        """Return the pixels, enlarged if the file is smaller."""
        with Image.open(io.BytesIO(data)) as picture:
            return _pixels(picture, size)


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
        if data is None:
            return ()
        first = max(packet_bytes, _first_scan(data))
        return (
            data[:first],
            *(data[at : at + packet_bytes] for at in range(first, len(data), packet_bytes)),
        )

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the pixels that the prefix gives."""
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            with Image.open(io.BytesIO(data + b'\xff\xd9')) as picture:
                return _pixels(picture, size)
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
