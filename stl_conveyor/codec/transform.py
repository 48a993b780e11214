# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The device's patch transform, in integers.

The analysis matrix is rounded to 8 bits per channel; pixels are bytes. Their sums are exact, so
that every machine makes the same coefficients, and processors with a dot product of bytes make
them several times as fast as in float32. The rounding moves a coefficient by less than the
finest quantiser does.

The sums exist in C too (src/transform.c, the module `_transform`), for speed alone.

What is left of the arithmetic is in fractions, and each step of it is one operation of IEEE 754 in
an order that is written down here, never a matrix product of a library, whose order of summation
depends on the processor: a last bit that differs moves a coefficient by a whole step where it lies
between two integers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.codec.contexts import COARSE_LIMIT
from stl_conveyor.codec.group_order import MAX_PLANES
from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor.errors import BadImage

try:
    from stl_conveyor import _transform  # type: ignore[attr-defined]  # may not be built
except ImportError:
    _transform = None

#: Largest integer of the finest plane.
FINEST_LIMIT = (COARSE_LIMIT * 2 + 1) * 3 ** (MAX_PLANES - 1) // 2
LARGEST_WEIGHT = 127


def available_kernels() -> tuple[str, ...]:
    """Return the names of the compiled kernels that this processor has, best first."""
    return () if _transform is None else _transform.kernels()


def device_analysis(spec: CodecSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return (weights i8[K, 3 patch^2], scale f32[K, 1]), the analysis matrix of the device.

    Their product is near `CodecSpec.analysis`; the largest weight of a channel is 127.
    """
    largest = np.abs(spec.analysis).max(1, keepdims=True)
    scale = np.maximum(largest, np.finfo(np.float32).tiny) / LARGEST_WEIGHT
    return np.rint(spec.analysis / scale).astype(np.int8), scale.astype(np.float32)


def device_offset(spec: CodecSpec) -> NDArray[np.float64]:
    """Return what is taken off each coefficient, f64[K, positions], in units of the coefficient.

    It is the device's analysis of the mean patch, plus `CodecSpec.offset`. A sum of each channel's
    products (exact in double precision) is rounded once, whatever their order is.
    """
    weights, scale = device_analysis(spec)
    mean = spec.mean.astype(np.float64)
    # A row at a time: numbers of Python take four times as much memory as those of a matrix.
    sums = np.array([math.fsum((row * mean).tolist()) for row in weights])[:, None]
    return np.asarray(sums * scale.astype(np.float64) + spec.offset.astype(np.float64))


class PatchTransform:
    """Coefficients of an image on the scale of the finest quantiser, rounded."""

    def __init__(self, spec: CodecSpec, kernel: str | None = None) -> None:
        """Use the named kernel, 'numpy', or the best there is."""
        self._spec = spec
        self._order = order = spec.order.channel_order
        weights, scale = device_analysis(spec)
        self._weights = np.ascontiguousarray(weights[order])
        self._scale = (scale[:, 0] / (255 * spec.finest_step))[order].astype(np.float32)
        self._offset = np.ascontiguousarray(
            (device_offset(spec) / spec.finest_step[:, None])[order].astype(np.float32)
        )
        self._banded = np.flatnonzero(order < len(spec.spatial))
        self._compiled = None
        if _transform is not None and kernel != 'numpy':
            self._compiled = _transform.Transform(
                spec.channels,
                spec.grid,
                spec.patch,
                len(spec.spatial),
                self._weights,
                self._scale,
                self._offset,
                order.astype(np.int16),
                np.ascontiguousarray(spec.spatial, np.float32),
                kernel,
            )
        else:
            self._columns = self._weights.T.astype(np.float64)

    def quantise(self, image: np.ndarray, channels: int | None = None) -> np.ndarray:
        """Return the finest integers i8[K, positions] of an image u8[S, S, 3].

        If `channels` is given, that many of `CodecSpec.channel_order` alone; the others are 0.

        Raises:
            BadImage: .
        """
        spec, image = self._spec, np.asarray(image)
        size = spec.image_size
        if image.shape != (size, size, 3) or image.dtype != np.uint8:
            raise BadImage(
                f'image is {image.dtype}{list(image.shape)}, the codec takes '
                f'uint8[{size}, {size}, 3]; crop and resize it first'
            )
        count = spec.channels if channels is None else channels
        if self._compiled is not None:
            found = self._compiled.quantise(np.ascontiguousarray(image), count, FINEST_LIMIT)
            return np.frombuffer(found, np.int8).reshape(spec.channels, -1)
        patches = image.reshape(spec.grid, spec.patch, spec.grid, spec.patch * 3).swapaxes(1, 2)
        flat = patches.astype(np.float64, order='C').reshape(spec.grid**2, -1)
        # Integers below 2**53: exact, in whatever order they are added.
        sums = (flat @ self._columns[:, :count]).T.astype(np.float32)
        values = sums * self._scale[:count, None] - self._offset[:count]
        banded = self._banded[self._banded < count]
        if len(banded):
            # Products are exact; their sums are rounded, so they are added one by one as in C.
            matrices = spec.spatial[self._order[banded]].astype(np.float64)
            total = np.zeros((len(banded), values.shape[1]))
            for k, column in enumerate(values[banded].astype(np.float64).T):
                total += matrices[:, :, k] * column[:, None]
            values[banded] = total
        result = np.zeros((spec.channels, values.shape[1]), np.int8)
        # Of what is no number fmax takes the other, as C does.
        bounded = np.fmin(np.fmax(np.rint(values), -FINEST_LIMIT), FINEST_LIMIT)
        result[self._order[:count]] = bounded
        return result
