# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The order of importance: which group of symbols is sent when, and what follows from it.

A *group* is one plane of one channel in one region of the grid of patches. The stream is the
groups' symbols one group after another; a packet holds some groups that follow each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

#: Planes of a coefficient, the coarsest first.
MAX_PLANES = 4


@dataclass(frozen=True, eq=False)
class GroupOrder:
    """Groups in the order in which they are sent.

    Two channels on a grid of 2 x 2 patches, each patch a position; the upper row is region 0, the
    lower one region 1. Channel 1 sends its coarsest plane of both regions, then channel 0 that of
    region 0, then channel 1 refines region 0:

        >>> order = GroupOrder(
        ...     channel=np.array([1, 1, 0, 1], np.int16), plane=np.array([0, 0, 0, 1], np.uint8),
        ...     region=np.array([0, 1, 0, 0], np.uint8),
        ...     region_map=np.array([0, 0, 1, 1], np.uint8), band_map=None, channels=2)
        >>> [place.tolist() for place in order.positions]
        [[0, 1], [2, 3]]
        >>> order.offsets.tolist()            # each group has two symbols
        [0, 2, 4, 6, 8]
        >>> order.flat_position.tolist()      # where they lie on the grid
        [0, 1, 2, 3, 0, 1, 0, 1]
        >>> order.parents.tolist()            # the last group refines the first
        [-1, -1, -1, 0]
        >>> order.chain_start.tolist()        # and is understood only by who has the first
        [0, 1, 2, 0]
        >>> order.channel_order.tolist(), order.channel_reach.tolist()
        ([1, 0], [0, 1, 1, 2, 2])

    Attributes:
        channel: i16[G], channel of each group in order of importance.
        plane: u8[G], plane of each group, 0 = coarsest.
        region: u8[G], region of each group.
        region_map: u8[grid*grid], region of each position, row by row.
        band_map: u8[grid*grid], region of each index of the spatial transform, numbered behind
            those of the grid; None without such a transform.
        channels: K, how many channels there are.
    """

    channel: NDArray[np.int16]
    plane: NDArray[np.uint8]
    region: NDArray[np.uint8]
    region_map: NDArray[np.uint8]
    band_map: NDArray[np.uint8] | None
    channels: int

    @property
    def count(self) -> int:
        """G, the number of groups of the whole stream."""
        return len(self.channel)

    @cached_property
    def keys(self) -> NDArray[np.int64]:
        """i64[G], one number per (channel, plane, region)."""
        return (self.channel.astype(np.int64) * MAX_PLANES + self.plane) * 256 + self.region

    @cached_property
    def positions(self) -> tuple[NDArray[np.int64], ...]:
        """Return for each region the i64 array of its positions; then of each band its indices."""
        regions = int(self.region_map.max()) + 1
        bands = range(regions, int(self.band_map.max()) + 1) if self.band_map is not None else ()
        return (
            *(np.flatnonzero(self.region_map == r) for r in range(regions)),
            *(np.flatnonzero(self.band_map == r) for r in bands),
        )

    @cached_property
    def banded(self) -> NDArray[np.bool_]:
        """bool[G], whether a group's region is a band."""
        return np.asarray(self.region > self.region_map.max())

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """i64[G + 1], index of each group's first symbol in the flat stream."""
        sizes = np.array([len(p) for p in self.positions], np.int64)[self.region]
        return np.concatenate([[0], np.cumsum(sizes)])

    @cached_property
    def flat_group(self) -> NDArray[np.int64]:
        """i64[M], group of each symbol of the flat stream."""
        return np.repeat(np.arange(self.count), np.diff(self.offsets))

    @cached_property
    def flat_position(self) -> NDArray[np.int64]:
        """i64[M], position of each symbol of the flat stream."""
        return np.concatenate([self.positions[r] for r in self.region])

    @cached_property
    def parents(self) -> NDArray[np.int64]:
        """i64[G], the group of the next coarser plane of the same coefficients.

        -1 for plane 0 (it has no parent); `groups` where the parent is sent later or never.
        """
        index = {key: g for g, key in enumerate(self.keys.tolist())}
        result = np.full(self.count, -1, np.int64)
        for g in range(self.count):
            if self.plane[g]:
                parent = index.get(int(self.keys[g]) - 256, self.count)
                result[g] = parent if parent < g else self.count
        return result

    @cached_property
    def chain_start(self) -> NDArray[np.int64]:
        """i64[G], the first sent of the coarser planes of a group's coefficients.

        -1 where one of them is never sent or sent later; the group itself for plane 0.
        """
        result = np.arange(self.count)
        for g in range(self.count):
            if self.plane[g]:
                parent = int(self.parents[g])
                result[g] = -1 if parent == self.count else result[parent]
        return result

    @cached_property
    def flat_index(self) -> NDArray[np.int64]:
        """i64[M], where each symbol of the flat stream lies in [MAX_PLANES, K, positions]."""
        return (
            self.plane.astype(np.int64)[self.flat_group] * self.channels
            + self.channel[self.flat_group]
        ) * len(self.region_map) + self.flat_position

    @cached_property
    def flat_chain_start(self) -> NDArray[np.int64]:
        """i64[M], chain_start of each symbol's group; -1 for plane 0, which has no parent."""
        start = np.where(self.plane > 0, self.chain_start, -1)
        return start[self.flat_group]

    @cached_property
    def channel_order(self) -> NDArray[np.int64]:
        """i64[K], all channels, those that the stream needs first in front."""
        _, first = np.unique(self.channel, return_index=True)
        used = self.channel[np.sort(first)].astype(np.int64)
        others = np.ones(self.channels, bool)
        others[used] = False
        return np.concatenate([used, np.flatnonzero(others)])

    @cached_property
    def channel_reach(self) -> NDArray[np.int64]:
        """i64[G + 1], how many of `channel_order` the groups before each one come from."""
        place = np.argsort(self.channel_order)[self.channel]
        return np.concatenate([[0], 1 + np.maximum.accumulate(place)])
