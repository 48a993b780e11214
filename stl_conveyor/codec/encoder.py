# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The device's half of the codec: an image becomes packets, most important first."""
from dataclasses import dataclass

import numpy as np

from stl_conveyor.codec.entropy import SymbolStream
from stl_conveyor.codec.identity import codec_identity
from stl_conveyor.codec.spec import COARSE_LIMIT, CodecSpec, MAX_PLANES
from stl_conveyor.codec.wire import header_size, pack, Packet, side_levels
from stl_conveyor.errors import BadImage
from stl_conveyor.vision.model_folder import ModelFolder

#: Largest integer of the finest plane.
FINEST_LIMIT = (COARSE_LIMIT * 2 + 1) * 3 ** (MAX_PLANES - 1) // 2


@dataclass(frozen=True)
class EncodedItem:
    """The packets of one item; any subset of them decodes."""

    #: Most important first.
    packets: tuple[bytes, ...]
    #: Whether these packets hold all that the codec can say about the image.
    complete: bool

    @property
    def total_bytes(self) -> int:
        """Sum of the packets' sizes."""
        return sum(map(len, self.packets))


class Encoder:
    """
    Encode images with the codec of a model folder.

    The transform is one matrix product in float32; what is sent are its rounded results, and
    all that the decoder must repeat is integer, so that device and edge may be different
    machines.
    """

    def __init__(self, model_folder: ModelFolder, threads: int = 1) -> None:
        """
        Load the codec file.

        `threads` is accepted for symmetry with Decoder; NumPy's own threads are set by the
        process (OMP_NUM_THREADS). Raises ModelFileError.
        """
        del threads
        self._spec = CodecSpec.load(model_folder.path('encoder'))
        self._identity = codec_identity(model_folder)
        spec = self._spec
        scaled = spec.analysis / spec.finest_step[:, None]
        self._matrix = np.ascontiguousarray((scaled / 255).T.astype(np.float32))
        self._offset = (scaled @ spec.mean).astype(np.float32)
        # Derives all tables now, so that the first item is not the slowest.
        self.encode(np.zeros((spec.image_size, spec.image_size, 3), np.uint8))

    @property
    def identity(self) -> int:
        """64-bit identity of encoder and decoder together."""
        return self._identity

    @property
    def spec(self) -> CodecSpec:
        """Return the constants of the codec."""
        return self._spec

    def quantise(self, image: np.ndarray) -> np.ndarray:
        """Return the finest integers i8[K, positions] of an image u8[S, S, 3]."""
        size, grid, patch = self._spec.image_size, self._spec.grid, self._spec.patch
        image = np.asarray(image)
        if image.shape != (size, size, 3) or image.dtype != np.uint8:
            raise BadImage(f'image is {image.dtype}{list(image.shape)}, the codec takes '
                           f'uint8[{size}, {size}, 3]; crop and resize it first')
        patches = image.reshape(grid, patch, grid, patch * 3).swapaxes(1, 2)
        flat = patches.astype(np.float32).reshape(grid * grid, -1)
        values = flat @ self._matrix - self._offset
        return np.clip(np.rint(values), -FINEST_LIMIT, FINEST_LIMIT).astype(np.int8).T

    def encode(self, image: np.ndarray, probabilities: np.ndarray | None = None, *,
               packet_bytes: int = 512, first_packet_bytes: int | None = None,
               max_bytes: int = 4096) -> EncodedItem:
        """
        Encode an image u8[S, S, 3] into packets of at most `packet_bytes` each.

        `probabilities` f32[C] of the local classifier travel in the first packet as side
        information. The first packet is cut to `first_packet_bytes` (default: `packet_bytes`).
        No more than `max_bytes` are made in all, and as many of them are used as possible.
        Raises BadImage for another size or type, ValueError for probabilities of another
        length.
        """
        spec = self._spec
        stream = SymbolStream(spec, self.quantise(image))
        side = None
        if probabilities is not None:
            if np.shape(probabilities) != (spec.labels,):
                raise ValueError(f'{np.shape(probabilities)} probabilities for a codec of '
                                 f'{spec.labels} labels')
            side = side_levels(probabilities, len(spec.side_table))
        packets: list[bytes] = []
        group, left = 0, max_bytes
        limit = packet_bytes if first_packet_bytes is None else first_packet_bytes
        while group < spec.groups or not packets:
            limit = min(limit, left)
            body = stream.encode(group, limit - header_size(group, 0x80), side)
            packet = pack(Packet(side is not None, group, body.groups, body.data),
                          self._identity)
            if len(packet) > limit or not (body.groups or side is not None):
                break
            packets.append(packet)
            group += body.groups
            left -= len(packet)
            side, limit = None, packet_bytes
        return EncodedItem(tuple(packets), group == spec.groups)
