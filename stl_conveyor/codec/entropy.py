# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""
Range coding of groups with contexts from the same packet.

A packet never refers to another one: its coder starts anew, and contexts see only what the
same packet already told. So a lost packet costs what it carries. All context arithmetic is on
integers (held in float32 where that is faster, below 2**24, hence exact).
"""
from dataclasses import dataclass

import constriction
import numpy as np

from stl_conveyor.codec.spec import (
    activity_class, ACTIVITY_CLASSES, ALPHABET, COARSE_LIMIT, CodecSpec, CONTEXTS, SIDE_LEVELS)
from stl_conveyor.errors import BadPacket

_FAMILY = constriction.stream.model.Categorical(perfect=False)


def _shortest_tail(words: np.ndarray, position: tuple) -> bytes:
    """Return the fewest bytes that the decoder, which reads zeros past the end, accepts."""
    whole, (lower, width) = position
    data = words.astype('>u4').tobytes()
    tail = int.from_bytes(data[4 * whole:4 * whole + 8].ljust(8, b'\0'), 'big')
    if not lower <= tail < lower + width:
        return data
    for size in range(9):
        unit = 1 << (64 - 8 * size)
        value = -(-lower // unit) * unit
        if value < lower + width and value < 1 << 64:
            data = data[:4 * whole] + value.to_bytes(8, 'big')[:size]
            break
    return data.rstrip(b'\0')


@dataclass(frozen=True)
class Body:
    """The range-coded part of a packet and how many groups it holds."""

    groups: int
    data: bytes


class SymbolStream:
    """One item's symbols in the order of importance, ready to be cut into packets."""

    def __init__(self, spec: CodecSpec, quantised: np.ndarray) -> None:
        """Take i8[K, positions] integers of the finest plane."""
        self._spec = spec
        self._planes = split_planes(quantised)
        self._states = np.sign(join_planes(self._planes))

    def encode(self, first: int, limit: int, side: np.ndarray | None) -> Body:
        """
        Encode groups from `first` on, as many as fit in `limit` bytes (header not counted).

        `side` are the i32[C] levels of the side information or None. The result can hold no
        group at all when the limit is too small.
        """
        spec = self._spec
        encoder = constriction.stream.queue.RangeEncoder()
        side_bits = 0.
        if side is not None:
            table = np.broadcast_to(spec.side_table.astype(np.float32), (len(side), SIDE_LEVELS))
            encoder.encode(side.astype(np.int32), _FAMILY, np.ascontiguousarray(table))
            side_bits = float(np.sum(15 - np.log2(
                np.maximum(spec.side_table[side].astype(np.float64), 1))))
        if first >= spec.groups:
            return Body(0, self._finish(encoder))
        budget = 8. * limit - 8. - side_bits
        wanted = spec.usual_bits[first] + 1.2 * max(budget, 0)
        span = min(spec.groups - first, 8 + int(np.searchsorted(spec.usual_bits, wanted)) - first)
        while True:
            start = spec.offsets[first]
            symbols, rows = self._contexts(first, span)
            bits = spec.costs[rows * ALPHABET + symbols]
            total = np.cumsum(bits)[spec.offsets[first + 1:first + span + 1] - start - 1]
            count = int(np.searchsorted(total, budget, side='right'))
            if count < span or first + span == spec.groups:
                break
            span = min(spec.groups - first, 2 * span)
        while True:
            stop = int(spec.offsets[first + count] - start)
            attempt = encoder.clone()
            if stop:
                attempt.encode(symbols[:stop].astype(np.int32), _FAMILY,
                               spec.float_tables[rows[:stop]])
            data = self._finish(attempt)
            if len(data) <= limit or not count:
                return Body(count, data)
            count -= 1

    @staticmethod
    def _finish(encoder: constriction.stream.queue.RangeEncoder) -> bytes:
        return _shortest_tail(encoder.get_compressed(), encoder.pos())

    def _contexts(self, first: int, span: int) -> tuple:
        """Return symbols (0..ALPHABET-1) and table rows of groups first..first+span-1."""
        spec = self._spec
        flat = slice(spec.offsets[first], spec.offsets[first + span])
        index = spec.flat_index[flat]
        local = spec.flat_group[flat] - first
        cell = local * len(spec.region_map) + spec.flat_position[flat]
        value = self._planes.ravel()[index]
        seen = np.zeros((span, len(spec.region_map)), np.float32)
        seen.ravel()[cell] = value != 0
        seen = seen @ spec.neighbours
        total = np.cumsum(seen, axis=0, dtype=np.float32)
        total -= seen
        expected = spec.expected_before[first:first + span] - spec.expected_before[first]
        context = activity_class(total.ravel()[cell], expected.ravel()[cell])
        known = np.flatnonzero(spec.flat_chain_start[flat] >= first)
        # Seen from a symbol of plane p, the integer joined up to plane p - 1.
        parent = self._states.ravel()[index[known] - self._states[0].size]
        context[known] += ACTIVITY_CLASSES * (2 + parent.astype(np.int64))
        return value.astype(np.int64) + COARSE_LIMIT, (local + first) * CONTEXTS + context


def decode_body(spec: CodecSpec, first: int, groups: int, has_side: bool, data: bytes) -> tuple:
    """
    Decode a packet body.

    Returns (side levels i32[C] or None, list of i8 symbol arrays, one per group). Raises
    BadPacket when the bytes cannot have come from an encoder with the same tables.
    """
    if first + groups > spec.groups:
        raise BadPacket(f'packet holds groups {first} to {first + groups - 1} of a codec with '
                        f'{spec.groups}; drop it')
    padded = data + bytes(-len(data) % 4)
    decoder = constriction.stream.queue.RangeDecoder(
        np.frombuffer(padded, '>u4').astype(np.uint32))
    try:
        side = None
        if has_side:
            table = np.broadcast_to(
                spec.side_table.astype(np.float32), (spec.labels, SIDE_LEVELS))
            side = decoder.decode(_FAMILY, np.ascontiguousarray(table))
        return side, _decode_groups(spec, decoder, first, groups)
    except AssertionError as error:
        raise BadPacket('packet body does not decode; drop it') from error


def _decode_groups(spec: CodecSpec, decoder, first: int, groups: int) -> list:
    seen = np.zeros(len(spec.region_map), np.float32)
    before = spec.expected_before[first]
    joined: dict[int, np.ndarray] = {}
    result = []
    for group in range(first, first + groups):
        region = int(spec.group_region[group])
        place = spec.positions[region]
        rows = activity_class(seen[place], spec.expected_before[group][place] - before[place])
        rows += group * CONTEXTS
        plane = spec.group_plane[group]
        parent = joined.get(int(spec.parents[group])) if plane else None
        if parent is not None:
            rows += (2 + np.sign(parent)) * ACTIVITY_CLASSES
        symbols = decoder.decode(_FAMILY, spec.float_tables[rows]) - COARSE_LIMIT
        if not plane:
            joined[group] = symbols
        elif parent is not None:
            joined[group] = 3 * parent + symbols
        seen += (symbols != 0) @ spec.region_neighbours[region]
        result.append(symbols.astype(np.int8))
    return result


def split_planes(quantised: np.ndarray) -> np.ndarray:
    """Split finest integers i8[K, positions] into i8[MAX_PLANES, K, positions]."""
    planes = []
    value = quantised.astype(np.int16)
    for _ in range(3):
        coarser = (value + 121) // 3 - 40
        planes.append((value - 3 * coarser).astype(np.int8))
        value = coarser
    planes.append(value.astype(np.int8))
    return np.stack(planes[::-1])


def join_planes(planes: np.ndarray) -> np.ndarray:
    """Return i8[MAX_PLANES, K, positions]: the integers known once planes 0..p arrived."""
    joined = [planes[0]]
    for plane in planes[1:]:
        joined.append((3 * joined[-1] + plane).astype(np.int8))
    return np.stack(joined)
