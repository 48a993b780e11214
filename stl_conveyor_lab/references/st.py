# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""ST, the published progressive codec (Wang et al., RTSS 2023), as real byte strings.

Ten features in the order of their importance, 64 levels, one static Huffman code per feature,
each feature filled up to a whole byte, and no header: both sides know the image size. A feature
of which a part is missing is thrown away; features that are missing are zero. Images whose side
is no multiple of 7 are continued by their last row and column, which are cut off again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from stl_conveyor.errors import BadPacket
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor_lab.references.huffman import HuffmanTable
from stl_conveyor_lab.references.trained import TrainedCode, TrainedCodec, continued

ST_FEATURES = 10
STRIDE = 7


def padded_side(size: int) -> int:
    """Return the next multiple of 7."""
    return -(-size // STRIDE) * STRIDE


def padded(images: np.ndarray) -> np.ndarray:
    """Return u8[N, S, S, 3] continued to the next multiple of 7."""
    return continued(images, STRIDE)


@dataclass(frozen=True)
class StCode(TrainedCode):
    """All that encoder and decoder of one ST codec share besides the networks."""

    trainer = 'st'

    name: str
    image_size: int
    grid: int
    #: Value of one level.
    scale: float
    #: How often each feature had each level in training, [10][64].
    counts: list[list[int]]
    #: 0: any number of features; K: always the first K, trained without tail drop.
    features: int = 0


class StCodec(TrainedCodec):
    """ST with or without tail drop."""

    def __init__(self, folder: ModelFolder, role: str = 'st', threads: int = 1) -> None:
        """Load `role` of a reference folder; raises ModelFileError."""
        self._code = StCode.load(folder.path(f'{role}_code'))
        super().__init__(folder, role, self._code.name, threads)
        self._tables = [HuffmanTable(counts) for counts in self._code.counts]
        self.streams = self.has_parts = not self._code.features
        self._image = lru_cache(maxsize=64)(self._decode)

    def levels(self, image: np.ndarray) -> np.ndarray:
        """Return the levels u8[10, n, n] of an image u8[S, S, 3]."""
        return self._encoder.run(['levels'], {'image': padded(image[None])})[0][0]

    def _encode(self, pixels: bytes, size: int) -> tuple[bytes, ...]:
        levels = self.levels(np.frombuffer(pixels, np.uint8).reshape(size, size, 3))
        count = self._code.features or ST_FEATURES
        strings = tuple(
            table.encode(feature) for table, feature in zip(self._tables, levels[:count])
        )
        return (b''.join(strings),) if self._code.features else strings

    def decode_levels(self, data: bytes) -> np.ndarray:
        """Return levels u8[10, n, n]; what did not arrive whole is zero. Raises BadPacket."""
        grid = self._code.grid
        levels = np.zeros((ST_FEATURES, grid, grid), np.uint8)
        at = 0
        for k in range(self._code.features or ST_FEATURES):
            found = self._tables[k].decode(data[at:], grid * grid) if at < len(data) else None
            if found is None:
                break
            levels[k] = found[0].reshape(grid, grid)
            at += found[1]
        if at == 0:
            raise BadPacket('not one whole feature in the bytes; send more of them')
        return levels

    def _decode(self, data: bytes) -> np.ndarray:
        return self._decoder.run(['image'], {'levels': self.decode_levels(data)[None]})[0][0]

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the image of the features that arrived whole."""
        return self._image(data)[:size, :size]
