# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Make 8 bits of wider samples, without turning a 12-bit picture black.

A camera with 10, 12 or 14 bits sends them in samples of 16, and nothing in the message or file
says how many it uses. The largest value tells: it is the smallest of `DEPTHS` that holds it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Bits that cameras put into samples of 16.
DEPTHS = (8, 10, 12, 14, 16)

_TABLES: dict[int, NDArray[np.uint8]] = {}


def bits_of(values: NDArray[np.uint16]) -> int:
    """Return the smallest of `DEPTHS` that holds every value."""
    largest = int(values.max(initial=0))
    return next(bits for bits in DEPTHS if largest < 1 << bits)


def to_8_bits(values: NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    """Return uint8 of the same shape: 2^bits - 1 and what is above becomes 255."""
    table = _TABLES.get(bits)
    if table is None:
        scaled = np.arange(1 << 16) * (255.0 / ((1 << bits) - 1))
        table = _TABLES[bits] = np.minimum(np.rint(scaled), 255).astype(np.uint8)
    # Indices of numpy's own width are not copied once more, and none is out of range.
    return table[values]


class BitDepth:
    """How many bits the samples of one camera have.

    Told as a number it stays so. Found out, it is what the pictures so far have needed: it grows,
    and a dark picture between bright ones is not made brighter than they are.
    """

    def __init__(self, bits: int = 0) -> None:
        """Take the number of bits, 0 = find it out."""
        self._given = bits
        self.bits = bits or DEPTHS[0]

    def narrowed(self, values: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Take in the samples of a picture and return them in 8 bits."""
        if not self._given:
            self.bits = max(self.bits, bits_of(values))
        return to_8_bits(values, self.bits)
