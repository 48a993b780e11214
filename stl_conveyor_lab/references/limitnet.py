# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""LimitNet, the published content-aware progressive codec, as real byte strings.

After Hojjat et al., "LimitNet: Progressive, Content-Aware Image Offloading for Extremely Weak
Devices & Networks" (MobiSys 2024): twelve channels of 1/8 of the side, 64 levels each. A map of
8 x 8 saliencies of 32 levels goes first; from it both sides know the order of the latents, from
the highest score to the lowest: the saliency where the latent lies plus a fifth for every channel
behind its own. What is missing is zero.

The map and each channel have a static Huffman code; there is no header, and only the end of a
whole stream is filled up to a byte. A stream may be cut anywhere: of what has arrived, whole words
count. Images whose side is no multiple of 8 are continued by their last row and column, which are
cut off again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from stl_conveyor.errors import BadPacket
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor_lab.references.base import in_packets
from stl_conveyor_lab.references.huffman import HuffmanTable, to_bits, to_bytes
from stl_conveyor_lab.references.trained import TrainedCode, TrainedCodec, continued

CHANNELS = 12
#: A position of the latents stands for so many pixels along each side.
STRIDE = 8
LEVELS, MAP_LEVELS = 64, 32
#: Positions along the side of the map that is sent, where the latents have so many.
MAP_SIDE = 8
#: So many channels weigh as much as all of the saliency.
CHANNELS_OF_SALIENCY = 5


def latent_side(size: int) -> int:
    """Return the positions along the side for an image of some side."""
    return -(-size // STRIDE)


def map_side(grid: int) -> int:
    """Return the side of the map that is sent for latents of some side."""
    return min(MAP_SIDE, grid)


def _enlarging(side: int, grid: int) -> np.ndarray:
    """Return integers [grid, side] that interpolate linearly, times 2 `grid`."""
    at = np.clip((2 * np.arange(grid) + 1) * side - grid, 0, 2 * grid * (side - 1))
    low, part = np.divmod(at, 2 * grid)
    weights = np.zeros((grid, side), np.int64)
    weights[np.arange(grid), low] = 2 * grid - part
    weights[np.arange(grid), np.minimum(low + 1, side - 1)] += part
    return weights


def latent_order(saliency: np.ndarray, grid: int) -> np.ndarray:
    """Return the order in which latents are sent.

    Integers alone decide it, so that both sides have the same one; of latents with one score the
    first in the array goes first.

    Args:
        saliency: The map that is sent, levels [M, M].
        grid: Positions along the side of the latents.

    Returns:
        Indices i64[12 * grid * grid] into the latents [12, grid, grid].
    """
    enlarge = _enlarging(len(saliency), grid)
    scores = enlarge @ saliency.astype(np.int64) @ enlarge.T
    whole = (MAP_LEVELS - 1) * (2 * grid) ** 2
    behind = np.arange(CHANNELS, 0, -1)[:, None, None]
    return np.argsort(-(CHANNELS_OF_SALIENCY * scores + whole * behind).ravel(), kind='stable')


@dataclass(frozen=True)
class LimitNetCode(TrainedCode):
    """All that both sides share besides the networks."""

    trainer = 'limitnet'

    name: str
    image_size: int
    #: Positions along the side of the latents.
    grid: int
    #: How often each channel had each level in training, [12][64].
    counts: list[list[int]]
    #: How often the map had each level in training, [32].
    map_counts: list[int]


class LimitNetCodec(TrainedCodec):
    """LimitNet of a reference folder."""

    has_parts = False

    def __init__(self, folder: ModelFolder, role: str = 'limitnet', threads: int = 1) -> None:
        """Load `role` of a reference folder; raises ModelFileError."""
        self._code = LimitNetCode.load(folder.path(f'{role}_code'))
        super().__init__(folder, role, self._code.name, threads)
        self._tables = [HuffmanTable(counts) for counts in self._code.counts]
        self._map_table = HuffmanTable(self._code.map_counts)
        self._image = lru_cache(maxsize=64)(self._decode)

    def levels(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (levels u8[12, n, n], map u8[M, M]) of an image u8[S, S, 3]."""
        pixels = continued(image[None], STRIDE)
        levels, saliency = self._encoder.run(['levels', 'saliency'], {'image': pixels})
        return levels[0], saliency[0]

    def _encode(self, pixels: bytes, size: int) -> tuple[bytes, ...]:
        """Return (what gives a first image: the map and one latent, the rest of the stream)."""
        levels, saliency = self.levels(np.frombuffer(pixels, np.uint8).reshape(size, size, 3))
        order = latent_order(saliency, self._code.grid)
        words = np.array(
            [table.words(channel) for table, channel in zip(self._tables, levels)], object
        ).ravel()[order]
        bits = ''.join(self._map_table.words(saliency))
        least = -(-len(bits + words[0]) // 8)
        stream = to_bytes(bits + ''.join(words))
        return stream[:least], stream[least:]

    def packets(
        self, image: np.ndarray, max_bytes: int, packet_bytes: int = 512
    ) -> tuple[bytes, ...]:
        """Return the stream in pieces, the first of them up to the first latent at least."""
        first, rest = self.parts(image)
        if len(first) > max_bytes:
            return ()
        return in_packets((first + rest)[:max_bytes], len(first), packet_bytes)

    def decode_levels(self, data: bytes) -> tuple[np.ndarray, int]:
        """Return (levels u8[12, n, n], how many of them arrived); the others are zero.

        Raises:
            BadPacket: If the map did not arrive whole, or no latent.
        """
        bits, at, grid = to_bits(data), 0, self._code.grid
        side = map_side(grid)
        saliency = np.zeros(side * side, np.int64)
        for k in range(len(saliency)):
            found = self._map_table.read(bits, at)
            if found is None:
                raise BadPacket('the saliency map is not whole in the bytes; send more of them')
            saliency[k], at = found
        order = latent_order(saliency.reshape(side, side), grid)
        levels = np.zeros(len(order), np.uint8)
        arrived = 0
        for index, channel in zip(order.tolist(), (order // grid**2).tolist()):
            found = self._tables[channel].read(bits, at)
            if found is None:
                break
            levels[index], at = found
            arrived += 1
        if not arrived:
            raise BadPacket('not one latent in the bytes; send more of them')
        return levels.reshape(CHANNELS, grid, grid), arrived

    def _decode(self, data: bytes) -> np.ndarray:
        levels, _ = self.decode_levels(data)
        return self._decoder.run(['image'], {'levels': levels[None]})[0][0]

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the image of the latents that arrived."""
        return self._image(data)[:size, :size]
