# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Crops as pictures: as they were captured, and as the edge saw them after some bytes."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from stl_conveyor.codec import Decoder, Encoder
from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.vision.image import resize_square

LARGEST_STREAM = 20_000  # bytes


def png(image: np.ndarray) -> bytes:
    """Return an image uint8 [H, W, 3] as PNG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'PNG', compress_level=1)
    return file.getvalue()


class EdgeEyes:
    """Shows what bytes of the codec tell of a crop.

    The crop is encoded again, as the device does it, and cut after as many bytes; of what the
    decoder has then, the picture is the one of least squares.
    """

    def __init__(self, folder: ModelFolder) -> None:
        """Load codec and models.

        Raises:
            ModelFileError: If they cannot be used.
        """
        self._encoder = Encoder(folder)
        self._decoder = Decoder(folder)
        self._synthesis = np.linalg.pinv(self._decoder.spec.analysis.astype(np.float64))

    def picture(self, crop: np.ndarray, byte_count: int) -> np.ndarray:
        """Return uint8 [S, S, 3] after so many bytes.

        Args:
            crop: uint8 [S, S, 3] RGB.
            byte_count: Of the stream; more than LARGEST_STREAM adds nothing.
        """
        spec = self._decoder.spec
        image = resize_square(crop, spec.image_size)
        limit = max(min(byte_count, LARGEST_STREAM), 1)
        session = self._decoder.start()
        for packet in self._encoder.encode(image, packet_bytes=limit, max_bytes=limit).packets:
            session.add(packet)
        return unpatched(session.latents(), spec, self._synthesis)


def unpatched(latents: np.ndarray, spec: CodecSpec, synthesis: np.ndarray) -> np.ndarray:
    """Return the image uint8 [S, S, 3] of coefficients f32 [K, grid, grid].

    Args:
        synthesis: f64 [3 patch^2, K], the pseudo-inverse of the analysis.
    """
    coefficients = latents.reshape(spec.channels, -1).astype(np.float64)
    patches = synthesis @ coefficients + spec.mean.astype(np.float64)[:, None]
    side, grid = spec.patch, spec.grid
    tiles = patches.T.reshape(grid, grid, side, side, 3)
    image = tiles.swapaxes(1, 2).reshape(grid * side, grid * side, 3)
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
