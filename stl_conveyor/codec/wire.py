# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The frame around a codec packet; docs/wire_format.md describes it byte by byte."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stl_conveyor.codec.crc8 import crc8
from stl_conveyor.errors import BadPacket, CodecMismatch

#: The format of packets. It was that of the codec file, 1 or 2, while the check byte was the low
#: byte of a CRC-32, which misses one flipped bit in 160 to 320.
WIRE_VERSION = 3
#: No packet may be longer: far above any link's MTU, low enough to bound the work.
MAX_PACKET_BYTES = 65535
_TAG_MASK = 0x0FFF


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


def pack(packet: Packet, identity: int) -> bytes:
    """Return the packet's bytes; identity is the 64-bit identity of the codec."""
    word = WIRE_VERSION << 13 | int(packet.has_side) << 12 | identity & _TAG_MASK
    data = (
        word.to_bytes(2, 'big')
        + _varint(packet.first_group)
        + _varint(packet.groups)
        + packet.body
    )
    return data + bytes([crc8(data)])


def unpack(data: bytes, identity: int) -> Packet:
    """Take a packet apart.

    Raises:
        BadPacket: For bytes that are not a packet of this format, CodecMismatch for an intact
            packet of another codec.
    """
    if not 5 <= len(data) <= MAX_PACKET_BYTES:
        raise BadPacket(f'packet of {len(data)} bytes, expected 5 to {MAX_PACKET_BYTES}; drop it')
    word = int.from_bytes(data[:2], 'big')
    version = word >> 13
    intact = crc8(data[:-1]) == data[-1]
    if version != WIRE_VERSION:
        raise BadPacket(
            f'packet has wire format {version}, this is format {WIRE_VERSION}; install the same '
            'release on device and edge' + ('' if intact else ', if it was not damaged on the way')
        )
    if not intact:
        raise BadPacket('packet fails its check; it was damaged on the way, drop it')
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
