# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Contexts: by what a symbol's table is chosen, from what the same packet already told.

A context is a state of the parent (the same coefficient's coarser plane: not in the packet,
negative, zero or positive) times a class of activity: whether more or fewer symbols around were
other than zero than is usual, or, in a band of the spatial transform, how fine the band is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.codec.group_order import GroupOrder
from stl_conveyor.codec.range_coder import TABLE_TOTAL, row_intervals

#: Plane 0 holds -COARSE_LIMIT..COARSE_LIMIT, each finer plane splits every bin in three.
COARSE_LIMIT = 3
ALPHABET = 2 * COARSE_LIMIT + 1

#: Contexts: what the same packet already told about the coefficient, times the activity class.
PARENT_STATES = 4
#: Activity ratio (seen / expected) above which the next class begins, in 64ths.
ACTIVITY_THRESHOLDS = np.array([22, 38, 54, 70, 90, 122], np.float32) / 64
ACTIVITY_CLASSES = len(ACTIVITY_THRESHOLDS) + 1
CONTEXTS = PARENT_STATES * ACTIVITY_CLASSES
#: Expected activity that is added to both sides of the ratio, so that it starts at 1.
ACTIVITY_PRIOR = np.float32(2 * 256 * 8)
UNIT = np.float32(256)


def activity_class(seen: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the activity class (0..ACTIVITY_CLASSES-1) from weighted counts.

    Both arguments are float32 arrays that hold integers below 2**24, and so is every
    intermediate sum; the products are compared after one correctly rounded multiplication, so
    that every IEEE 754 machine returns the same class.
    """
    ratio_left = seen * UNIT + ACTIVITY_PRIOR
    ratio_right = expected + ACTIVITY_PRIOR
    if seen.size < 256:
        above = ratio_left[..., None] >= ratio_right[..., None] * ACTIVITY_THRESHOLDS
        return np.asarray(above.sum(-1), np.int64)
    result = np.zeros(seen.shape, np.uint8)
    for threshold in ACTIVITY_THRESHOLDS:
        result += ratio_left >= ratio_right * threshold
    return result.astype(np.int64)


@dataclass(frozen=True, eq=False)
class ContextModel:
    """The tables of a codec's groups, and what choosing among them needs.

    Attributes:
        order: The groups in the order in which they are sent.
        grid: Patches along one side of the image.
        tables: u16[G, CONTEXTS, ALPHABET], rows sum to TABLE_TOTAL.
        expected_activity: u16[G], share of symbols other than zero, in 256ths.
    """

    order: GroupOrder
    grid: int
    tables: NDArray[np.uint16]
    expected_activity: NDArray[np.uint16]

    @cached_property
    def neighbours(self) -> NDArray[np.float32]:
        """f32[grid*grid, grid*grid], integer weights of the activity around a position."""
        size = self.grid
        weights = np.zeros((size * size, size * size), np.float32)
        for row in range(size):
            for column in range(size):
                here = row * size + column
                weights[here, here] = 4
                for r, c in (
                    (row - 1, column),
                    (row + 1, column),
                    (row, column - 1),
                    (row, column + 1),
                ):
                    if 0 <= r < size and 0 <= c < size:
                        weights[r * size + c, here] += 1
        return weights

    @cached_property
    def region_neighbours(self) -> tuple[NDArray[np.float32], ...]:
        """Return for each region the rows of `neighbours` of its positions."""
        return tuple(
            np.ascontiguousarray(self.neighbours[place]) for place in self.order.positions
        )

    @cached_property
    def band_class(self) -> tuple[NDArray[np.int64] | None, ...]:
        """Return for each region None, for each band the context class i64 of its indices."""
        regions = int(self.order.region_map.max()) + 1
        return tuple(
            None if r < regions else np.arange(len(place)) * ACTIVITY_CLASSES // len(place)
            for r, place in enumerate(self.order.positions)
        )

    @cached_property
    def flat_class(self) -> NDArray[np.int64]:
        """i64[M], context class of each symbol of a band; -1 where activity decides."""
        none = [
            np.full(len(place), -1) if found is None else found
            for place, found in zip(self.order.positions, self.band_class)
        ]
        return np.concatenate([none[r] for r in self.order.region])

    @cached_property
    def expected_before(self) -> NDArray[np.float32]:
        """f32[G + 1, grid*grid], weighted expected activity of all groups before each one."""
        share = np.zeros((self.order.count + 1, len(self.order.region_map)), np.float32)
        share[1 + self.order.flat_group, self.order.flat_position] = self.expected_activity[
            self.order.flat_group
        ].astype(np.float32)
        return np.cumsum(share, axis=0, dtype=np.float32) @ self.neighbours

    @cached_property
    def flat_tables(self) -> NDArray[np.uint16]:
        """u16[G * CONTEXTS * ALPHABET], the tables."""
        return self.tables.ravel()

    @cached_property
    def usual_bits(self) -> NDArray[np.float64]:
        """f64[G + 1], bits of all groups before each one, of an item without surprises."""
        neutral = int(np.sum(ACTIVITY_THRESHOLDS <= 1))
        state = np.where(self.order.plane > 0, 2, 0)
        row = (
            self.tables[np.arange(self.order.count), state * ACTIVITY_CLASSES + neutral]
            / TABLE_TOTAL
        )
        entropy = -np.sum(row * np.log2(np.maximum(row, 1e-9)), axis=1)
        return np.concatenate([[0], np.cumsum(entropy * np.diff(self.order.offsets))])

    @cached_property
    def symbol_intervals(self) -> NDArray[np.uint32]:
        """u32[G * CONTEXTS, ALPHABET + 1], the tables as the range coder wants them."""
        return row_intervals(self.tables.reshape(-1, ALPHABET))
