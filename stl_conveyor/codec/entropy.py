# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Range coding of groups with contexts from the same packet.

A packet never refers to another one: its coder starts anew, and contexts see only what the
same packet already told. So a lost packet costs what it carries. All context arithmetic is on
integers (held in float32 where that is faster, below 2**24, hence exact).

The inner loops also exist in C (src/coder.c, the module `_coder`), for speed alone: the bytes are
those of the Python code here and in range_coder.py, which is used where the module was not built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.codec.contexts import (
    ACTIVITY_CLASSES,
    ALPHABET,
    COARSE_LIMIT,
    CONTEXTS,
    activity_class,
)
from stl_conveyor.codec.range_coder import TABLE_TOTAL, RangeDecoder, RangeEncoder
from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor.errors import BadPacket

try:
    from stl_conveyor import _coder  # type: ignore[attr-defined]  # may not be built
except ImportError:
    _coder = None

#: Side levels i32[C] or None, and the symbols i8[M] of the groups one after another.
Decoded = tuple[NDArray[np.int32] | None, NDArray[np.int8]]

#: Parts of a bit in which the encoder adds up costs to decide where a packet ends.
COST_UNIT = 256
#: u16[TABLE_TOTAL / 8 + 1], cost of a symbol by eighths of its share of TABLE_TOTAL.
COST_OF_SHARE = np.rint(
    COST_UNIT
    * (np.log2(TABLE_TOTAL / 8) - np.log2(np.maximum(np.arange(TABLE_TOTAL // 8 + 1), 2.0**-8)))
).astype(np.uint16)


def symbol_cost(share: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Return the cost i64 of symbols in COST_UNITths of a bit, from their u16 shares."""
    return np.asarray(COST_OF_SHARE[share >> 3], np.int64)


@dataclass(frozen=True)
class Body:
    """The range-coded part of a packet and how many groups it holds."""

    groups: int
    data: bytes


def has_extension() -> bool:
    """Return whether the compiled inner loops are there; the bytes are the same without."""
    return _coder is not None


class GroupCoder:
    """Range coder of a codec's groups; holds what both directions derive from its tables."""

    def __init__(self, spec: CodecSpec, compiled: bool | None = None) -> None:
        """Use the compiled inner loops if they are there, or as `compiled` says."""
        self.spec = spec
        self._compiled = None
        if has_extension() if compiled is None else compiled:
            sizes = [len(place) for place in spec.order.positions]
            classes = [
                np.full(len(place), -1) if found is None else found
                for place, found in zip(spec.order.positions, spec.contexts.band_class)
            ]
            self._compiled = _coder.Coder(
                spec.channels,
                spec.grid,
                *map(
                    np.ascontiguousarray,
                    (
                        spec.group_channel.astype(np.int16),
                        spec.group_plane.astype(np.uint8),
                        spec.group_region.astype(np.uint8),
                        spec.order.chain_start.astype(np.int32),
                        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32),
                        np.concatenate(spec.order.positions).astype(np.uint16),
                        np.concatenate(classes).astype(np.int8),
                        spec.contexts.expected_before.astype(np.float32),
                        spec.tables.astype(np.uint16),
                        COST_OF_SHARE,
                        spec.side_table.astype(np.uint16),
                    ),
                ),
            )

    @property
    def compiled(self) -> bool:
        """Return whether the compiled inner loops are used."""
        return self._compiled is not None

    def stream(self, quantised: NDArray[np.int8]) -> SymbolStream:
        """Return one item's i8[K, positions] integers of the finest plane, ready to be cut."""
        return SymbolStream(self.spec, quantised, self._compiled)

    def decode(self, first: int, groups: int, has_side: bool, data: bytes) -> Decoded:
        """Decode a packet body.

        Raises:
            BadPacket: When the bytes cannot have come from an encoder with the same tables.
        """
        spec = self.spec
        if first + groups > spec.groups:
            raise BadPacket(
                f'packet holds groups {first} to {first + groups - 1} of a codec '
                f'with {spec.groups}; drop it'
            )
        if self._compiled is None:
            return _decode_body(spec, first, groups, has_side, data)
        found = self._compiled.decode(data, first, groups, spec.labels if has_side else 0)
        if found is None:
            raise BadPacket('packet body does not decode; drop it')
        side, symbols = found
        return (
            np.frombuffer(side, np.uint8).astype(np.int32) if has_side else None,
            np.frombuffer(symbols, np.int8),
        )


class SymbolStream:
    """One item's symbols in the order of importance, ready to be cut into packets."""

    def __init__(
        self, spec: CodecSpec, quantised: NDArray[np.int8], compiled: Any | None = None
    ) -> None:
        """Take i8[K, positions] integers of the finest plane; GroupCoder.stream calls this."""
        self._spec = spec
        self._compiled = compiled
        self._quantised = np.ascontiguousarray(quantised, np.int8)
        if compiled is None:
            self._planes = split_planes(quantised)
            self._states = np.sign(join_planes(self._planes))

    def encode(self, first: int, limit: int, side: NDArray[np.int32] | None) -> Body:
        """Encode groups from `first` on, as many as fit in `limit` bytes (header not counted).

        `side` are the i32[C] levels of the side information or None. The result can hold no
        group at all when the limit is too small.
        """
        if self._compiled is not None:
            return Body(
                *self._compiled.encode(
                    self._quantised, first, limit, None if side is None else side.astype(np.uint8)
                )
            )
        spec, order, contexts = self._spec, self._spec.order, self._spec.contexts
        encoder = RangeEncoder()
        budget = max(limit, 0) * 8 * COST_UNIT - COST_UNIT if limit > 0 else 0
        if side is not None:
            encoder.encode(side, spec.side_intervals)
            budget -= int(symbol_cost(spec.side_table[side]).sum())
        if first >= spec.groups:
            return Body(0, encoder.finish())
        wanted = contexts.usual_bits[first] + 1.2 * max(budget / COST_UNIT, 0)
        span = min(
            spec.groups - first, 8 + int(np.searchsorted(contexts.usual_bits, wanted)) - first
        )
        while True:
            start = order.offsets[first]
            symbols, rows = self._contexts(first, span)
            cost = symbol_cost(contexts.flat_tables[rows * ALPHABET + symbols])
            total = np.cumsum(cost)[order.offsets[first + 1 : first + span + 1] - start - 1]
            count = int(np.searchsorted(total, budget, side='right'))
            if count < span or first + span == spec.groups:
                break
            span = min(spec.groups - first, 2 * span)
        while True:
            stop = int(order.offsets[first + count] - start)
            attempt = encoder.copy()
            attempt.encode(symbols[:stop], contexts.symbol_intervals[rows[:stop]])
            data = attempt.finish()
            if len(data) <= limit or not count:
                return Body(count, data)
            count -= 1

    def _contexts(self, first: int, span: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return symbols (0..ALPHABET-1) and table rows of groups first..first+span-1."""
        spec, order, contexts = self._spec, self._spec.order, self._spec.contexts
        flat = slice(order.offsets[first], order.offsets[first + span])
        index = order.flat_index[flat]
        local = order.flat_group[flat] - first
        cell = local * len(spec.region_map) + order.flat_position[flat]
        value = self._planes.ravel()[index]
        seen = np.zeros((span, len(spec.region_map)), np.float32)
        fixed = contexts.flat_class[flat]
        seen.ravel()[cell] = (value != 0) & (fixed < 0)
        seen = seen @ contexts.neighbours
        total = np.cumsum(seen, axis=0, dtype=np.float32)
        total -= seen
        expected = contexts.expected_before[first : first + span] - contexts.expected_before[first]
        context = activity_class(total.ravel()[cell], expected.ravel()[cell])
        context = np.where(fixed < 0, context, fixed)
        known = np.flatnonzero(order.flat_chain_start[flat] >= first)
        # Seen from a symbol of plane p, the integer joined up to plane p - 1.
        parent = self._states.ravel()[index[known] - self._states[0].size]
        context[known] += ACTIVITY_CLASSES * (2 + parent.astype(np.int64))
        return value.astype(np.int64) + COARSE_LIMIT, (local + first) * CONTEXTS + context


def _decode_body(spec: CodecSpec, first: int, groups: int, has_side: bool, data: bytes) -> Decoded:
    decoder = RangeDecoder(data)
    side = np.array(decoder.decode(spec.side_intervals), np.int32) if has_side else None
    symbols = _decode_groups(spec, decoder, first, groups)
    return side, np.concatenate(symbols) if symbols else np.zeros(0, np.int8)


def _decode_groups(
    spec: CodecSpec, decoder: RangeDecoder, first: int, groups: int
) -> list[NDArray[np.int8]]:
    order, contexts = spec.order, spec.contexts
    seen = np.zeros(len(spec.region_map), np.float32)
    before = contexts.expected_before[first]
    joined: dict[int, NDArray[np.int64]] = {}
    result = []
    for group in range(first, first + groups):
        region = int(spec.group_region[group])
        place = order.positions[region]
        fixed = contexts.band_class[region]
        rows = group * CONTEXTS + (
            fixed
            if fixed is not None
            else activity_class(
                seen[place], contexts.expected_before[group][place] - before[place]
            )
        )
        plane = spec.group_plane[group]
        parent = joined.get(int(order.parents[group])) if plane else None
        if parent is not None:
            rows += (2 + np.sign(parent)) * ACTIVITY_CLASSES
        symbols = np.array(decoder.decode(contexts.symbol_intervals[rows])) - COARSE_LIMIT
        if not plane:
            joined[group] = symbols
        elif parent is not None:
            joined[group] = 3 * parent + symbols
        if fixed is None:
            seen += (symbols != 0) @ contexts.region_neighbours[region]
        result.append(symbols.astype(np.int8))
    return result


def split_planes(quantised: NDArray[np.int8]) -> NDArray[np.int8]:
    """Split finest integers i8[K, positions] into i8[MAX_PLANES, K, positions]."""
    planes = []
    value = quantised.astype(np.int16)
    for _ in range(3):
        coarser = (value + 121) // 3 - 40
        planes.append((value - 3 * coarser).astype(np.int8))
        value = coarser
    planes.append(value.astype(np.int8))
    return np.stack(planes[::-1])


def join_planes(planes: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return i8[MAX_PLANES, K, positions]: the integers known once planes 0..p arrived."""
    joined = [planes[0]]
    for plane in planes[1:]:
        joined.append((3 * joined[-1] + plane).astype(np.int8))
    return np.stack(joined)
