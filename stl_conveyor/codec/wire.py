# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The frame around a codec packet; docs/wire_format.md describes it byte by byte."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stl_conveyor.codec.spec import FORMAT_VERSION
from stl_conveyor.errors import BadPacket, CodecMismatch

#: No packet may be longer: far above any link's MTU, low enough to bound the work.
MAX_PACKET_BYTES = 65535
_TAG_MASK = 0x0FFF


def check_byte(data: bytes) -> int:
    """Return the low byte of the CRC-32 (IEEE 802.3) of some bytes."""
    return zlib.crc32(data) & 0xFF


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([0x80 | value & 0x7F, value >> 7])


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    if at >= len(data):
        raise BadPacket('packet ends inside its header; drop it')
    low = data[at]
    if low < 0x80:
        return low, at + 1
    if at + 1 >= len(data) or data[at + 1] & 0x80 or not data[at + 1]:
        raise BadPacket('packet header holds a broken number; drop it')
    return low & 0x7F | data[at + 1] << 7, at + 2


@dataclass(frozen=True)
class Packet:
    """One packet without its frame."""

    #: Whether the range-coded bytes begin with the local classifier's probabilities.
    has_side: bool
    #: Index of the first group, in the order of importance.
    first_group: int
    #: Number of consecutive groups.
    groups: int
    #: Range-coded bytes.
    body: bytes


def header_size(first_group: int, groups: int) -> int:
    """Return the bytes that the frame adds to the body of a packet."""
    return 3 + (1 if first_group < 0x80 else 2) + (1 if groups < 0x80 else 2)


def pack(packet: Packet, identity: int, version: int = FORMAT_VERSION) -> bytes:
    """Return the packet's bytes; identity is the 64-bit identity of the codec."""
    word = version << 13 | int(packet.has_side) << 12 | identity & _TAG_MASK
    data = (
        word.to_bytes(2, 'big')
        + _varint(packet.first_group)
        + _varint(packet.groups)
        + packet.body
    )
    return data + bytes([check_byte(data)])


def unpack(data: bytes, identity: int, version: int = FORMAT_VERSION) -> Packet:
    """Take a packet apart.

    Raises:
        BadPacket: For bytes that are not a packet of this format, CodecMismatch for an intact
            packet of another codec.
    """
    if not 5 <= len(data) <= MAX_PACKET_BYTES:
        raise BadPacket(f'packet of {len(data)} bytes, expected 5 to {MAX_PACKET_BYTES}; drop it')
    if check_byte(data[:-1]) != data[-1]:
        raise BadPacket('packet fails its check; it was damaged on the way, drop it')
    word = int.from_bytes(data[:2], 'big')
    if word >> 13 != version:
        raise BadPacket(
            f'packet has wire format {word >> 13}, this is format {version}; '
            'install the same release and models on device and edge'
        )
    if word & _TAG_MASK != identity & _TAG_MASK:
        raise CodecMismatch(
            'packet was made by another codec; give device and edge the same models folder'
        )
    first_group, at = _read_varint(data, 2)
    groups, at = _read_varint(data, at)
    return Packet(bool(word >> 12 & 1), first_group, groups, bytes(data[at:-1]))


def side_levels(probabilities: ArrayLike, levels: int) -> NDArray[np.int32]:
    """Quantise probabilities f32[C] to i32[C]: halves of powers of two below the largest.

    Level q stands for `max * 2**(-q / 2)`, the last level for all that is smaller. The largest
    stays the largest: what is smaller has level 1 at least.
    """
    # fmax takes the number where the other one is none.
    values = np.minimum(np.fmax(np.asarray(probabilities, np.float64), 1e-9), 1e300)
    # Level q begins at 2**((2 q - 1) / 4). IEEE 754 says what a square root is, but no logarithm.
    begin = np.sqrt(np.sqrt(np.ldexp(1.0, np.arange(1, 2 * levels - 2, 2))))
    nearest = np.searchsorted(begin, values.max() / values, side='right')
    return np.asarray(np.clip(nearest, values < values.max(), levels - 1), np.int32)


def side_probabilities(quantised: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the f32[C] probabilities (sum 1) that levels i32[C] stand for."""
    values = np.sqrt(np.ldexp(1.0, -np.asarray(quantised, np.int64)))
    return np.asarray(values / math.fsum(values), np.float32)
