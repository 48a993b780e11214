# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The check byte of a packet: a cyclic redundancy check with eight bits.

It is CRC-8/SAE-J1850: polynomial x^8 + x^4 + x^3 + x^2 + 1, all ones at the beginning, inverted at
the end. The polynomial is primitive, so that two flipped bits pass only where they lie a multiple
of 255 bits apart: no polynomial of eight bits does better. docs/wire_format.md says what the check
finds in packets of each length. src/coder.c does the same in C.
"""

from __future__ import annotations

from collections.abc import Callable

_POLYNOMIAL = 0x1D
_FIRST = 0xFF
_INVERTED = 0xFF


def _remainder(byte: int) -> int:
    """Return what eight steps of the division leave of one byte."""
    for _ in range(8):
        byte = byte << 1 ^ (_POLYNOMIAL if byte & 0x80 else 0)
    return byte & 0xFF


_REMAINDERS = tuple(_remainder(byte) for byte in range(256))


def python_crc8(data: bytes) -> int:
    """Return the check of some bytes, computed in Python.

    Args:
        data: Any number of bytes.

    Returns:
        0..255.

    Examples:
        >>> hex(python_crc8(b'123456789'))  # the check value that is published for it
        '0x4b'
    """
    crc = _FIRST
    for byte in data:
        crc = _REMAINDERS[crc ^ byte]
    return crc ^ _INVERTED


try:
    from stl_conveyor import _coder  # type: ignore[attr-defined]  # may not be built, or be older

    crc8: Callable[[bytes], int] = _coder.crc8
except (ImportError, AttributeError):
    crc8 = python_crc8
