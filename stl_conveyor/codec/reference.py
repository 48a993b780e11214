# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""
Image codecs to compare with, as real byte strings: JPEG, progressive JPEG, WebP.

Each fits an image into a number of bytes as well as it can and gives back pixels for an
ordinary classifier. The `downscale` variants may also shrink the image first, which at small
sizes is worth more than any choice of quality.
"""
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
import io

import numpy as np
from PIL import Image, ImageFile

#: Sides to which the downscaling variants may shrink, as parts of the original.
SCALES = (1., .75, .5, .375, .25, .1875, .125)


class ReferenceCodec(ABC):
    """Something that turns an image into at most so many bytes, and back into pixels."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name for tables."""

    @abstractmethod
    def encode(self, image: np.ndarray, max_bytes: int) -> bytes | None:
        """Return at most `max_bytes` for an image u8[S, S, 3], or None if nothing fits."""

    @abstractmethod
    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the image u8[size, size, 3] of bytes made by `encode`."""


def _pixels(picture: Image.Image, size: int) -> np.ndarray:
    picture = picture.convert('RGB')
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(picture)


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
            picture.save(stream, 'JPEG', quality=quality, optimize=True,
                         progressive=self.progressive)
        else:
            picture.save(stream, self.format, quality=quality, method=self.method)
        return stream.getvalue()

    def _best(self, picture: Image.Image, max_bytes: int) -> bytes | None:
        low, high, best = 1, 95, None
        while low <= high:
            quality = (low + high) // 2
            data = self.compress(picture, quality)
            if len(data) <= max_bytes:
                best, low = data, quality + 1
            else:
                high = quality - 1
        return best

    def encode(self, image: np.ndarray, max_bytes: int) -> bytes | None:
        """Return the file; of several scales, the one with the least squared error."""
        size = len(image)
        whole = Image.fromarray(image)
        if not self.downscale:
            return self._best(whole, max_bytes)
        found, least = None, np.inf
        for scale in SCALES:
            side = max(1, round(size * scale))
            picture = whole.resize((side, side), Image.Resampling.LANCZOS)
            data = self._best(picture, max_bytes)
            if data is None:
                continue
            error = np.square(self.decode(data, size).astype(np.float32) - image).mean()
            if error < least:
                found, least = data, error
        return found

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the pixels, enlarged if the file is smaller."""
        with Image.open(io.BytesIO(data)) as picture:
            return _pixels(picture, size)


@dataclass(frozen=True)
class ProgressivePrefix(ReferenceCodec):
    """The first bytes of one progressive JPEG, as a receiver would show them."""

    quality: int = 30

    @property
    def name(self) -> str:
        """Name for tables."""
        return f'progressive JPEG q{self.quality}, prefix'

    def encode(self, image: np.ndarray, max_bytes: int) -> bytes | None:
        """Return a prefix of the file; None when it ends before the first scan."""
        data = _progressive_file(image.tobytes(), len(image), self.quality)[:max_bytes]
        return data if b'\xff\xda' in data else None

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the pixels that the prefix gives."""
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            with Image.open(io.BytesIO(data + b'\xff\xd9')) as picture:
                return _pixels(picture, size)
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


@lru_cache(maxsize=256)
def _progressive_file(pixels: bytes, size: int, quality: int) -> bytes:
    picture = Image.frombytes('RGB', (size, size), pixels)
    stream = io.BytesIO()
    picture.save(stream, 'JPEG', quality=quality, optimize=True, progressive=True)
    return stream.getvalue()


def reference_codecs() -> tuple[ReferenceCodec, ...]:
    """Return the codecs of the benchmark, in the order of its table."""
    return (BestQuality('JPEG'), BestQuality('JPEG', progressive=True), ProgressivePrefix(30),
            BestQuality('WEBP', method=0), BestQuality('WEBP', method=6),
            BestQuality('JPEG', downscale=True), BestQuality('WEBP', method=6, downscale=True))
