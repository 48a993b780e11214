# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What every codec to compare with can do."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np


def in_packets(data: bytes, least: int, packet_bytes: int) -> tuple[bytes, ...]:
    """Return a stream cut into packets.

    Args:
        data: The stream.
        least: Bytes of the first packet at least: with fewer there is no image at all.
        packet_bytes: The most of each of the others.
    """
    first = max(packet_bytes, least)
    return (
        data[:first],
        *(data[at : at + packet_bytes] for at in range(first, len(data), packet_bytes)),
    )


class ReferenceCodec(ABC):
    """Something that turns an image into at most so many bytes, and back into pixels."""

    #: Whether the first part of a longer stream is of use; if not, the size is chosen first.
    streams: bool = False
    #: Whether it can be cut only where a part of it ends, such as a whole feature.
    has_parts: bool = False
    #: Whether it may be sent to another process.
    parallel: bool = True

    @property
    @abstractmethod
    def name(self) -> str:
        """Name for tables."""

    @property
    def slug(self) -> str:
        """Name for options and roles."""
        return re.sub(r'[^a-z0-9]+', '_', self.name.lower()).strip('_')

    @property
    def key(self) -> str:
        """Name for files; differs whenever the bytes made may differ."""
        return self.slug

    @abstractmethod
    def encode(self, image: np.ndarray, max_bytes: int) -> bytes | None:
        """Return at most `max_bytes` for an image u8[S, S, 3], or None if nothing fits."""

    def encode_all(self, image: np.ndarray, sizes: Sequence[int]) -> list[bytes | None]:
        """Return `encode` for each of several sizes; what they share is done once."""
        return [self.encode(image, size) for size in sizes]

    @abstractmethod
    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the image u8[size, size, 3] of bytes made by `encode`."""

    def packets(
        self, image: np.ndarray, max_bytes: int, packet_bytes: int = 512
    ) -> tuple[bytes, ...]:
        """Return the stream for an image, cut where the receiver can use what came before.

        Joined they are `encode(image, max_bytes)`; one packet for a codec that does not stream,
        none if nothing fits. `packet_bytes` is the most of each where the codec can be cut
        anywhere, and without effect where it cannot.
        """
        del packet_bytes
        data = self.encode(image, max_bytes)
        return () if data is None else (data,)
