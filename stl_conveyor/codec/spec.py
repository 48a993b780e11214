# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The fitted constants of a codec: transform, quantiser, order of importance, tables."""

from __future__ import annotations

import zipfile
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np

from stl_conveyor.codec.range_coder import TABLE_TOTAL, row_intervals
from stl_conveyor.errors import ModelFileError

#: The format that new codec files are made in, and all that can be read.
FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)

#: Plane 0 holds -COARSE_LIMIT..COARSE_LIMIT, each finer plane splits every bin in three.
COARSE_LIMIT = 3
ALPHABET = 2 * COARSE_LIMIT + 1
MAX_PLANES = 4

#: Contexts: what the same packet already told about the coefficient, times the activity class.
PARENT_STATES = 4
#: Activity ratio (seen / expected) above which the next class begins, in 64ths.
ACTIVITY_THRESHOLDS = np.array([22, 38, 54, 70, 90, 122], np.float32) / 64
ACTIVITY_CLASSES = len(ACTIVITY_THRESHOLDS) + 1
CONTEXTS = PARENT_STATES * ACTIVITY_CLASSES
#: Expected activity that is added to both sides of the ratio, so that it starts at 1.
ACTIVITY_PRIOR = np.float32(2 * 256 * 8)
UNIT = np.float32(256)

SIDE_LEVELS = 16

_UNREADABLE = (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile, EOFError)


def _not_ours(path: Path, error: Exception) -> ModelFileError:
    return ModelFileError(
        f'{path} is not a codec file ({error}); export it again with '
        'python -m stl_conveyor_lab.train.codec.codec'
    )


@dataclass(frozen=True)
class CodecSpec:
    """Everything that encoder and decoder must share, read from the codec file of a model folder.

    An image of side `image_size` is cut into `grid` x `grid` patches; each patch, flattened in
    (row, column, colour) order and scaled to 0..1, is centred and multiplied by `analysis`. The
    result less `offset` is quantised with `finest_step` per channel, and the integers are split
    into planes: the coarsest holds -3..3, every finer one -1..1. A *group* is one plane of one
    channel in one region of the grid; groups are sent in the order of the arrays below.

    The first M channels vary so slowly over the image that each is transformed once more, over
    all positions, with its matrix of `spatial`. Their regions are bands of that transform's
    index (`band_map`), numbered behind the regions of the grid. Format 1 has no such channels
    and no offset.
    """

    #: f32[P*P*3], mean patch.
    mean: np.ndarray
    #: f32[K, P*P*3].
    analysis: np.ndarray
    #: f32[K], width of a bin of the finest plane.
    finest_step: np.ndarray
    #: i16[G], channel of each group in order of importance.
    group_channel: np.ndarray
    #: u8[G], plane of each group, 0 = coarsest.
    group_plane: np.ndarray
    #: u8[G], region of each group.
    group_region: np.ndarray
    #: u8[grid*grid], region of each position, row by row.
    region_map: np.ndarray
    #: u16[G, CONTEXTS, ALPHABET], rows sum to TABLE_TOTAL, no zero where a symbol is legal.
    tables: np.ndarray
    #: u16[G], share of symbols other than zero, in 256ths.
    expected_activity: np.ndarray
    #: f32[K, MAX_PLANES, 2], centroid shift towards zero of bins 1 and >= 2, in bins.
    shrink: np.ndarray
    #: u16[SIDE_LEVELS], table of the side information.
    side_table: np.ndarray
    #: i32[3]: format version, image size, number of labels.
    header: np.ndarray
    #: f32[K, grid*grid], mean of each coefficient (format 2).
    offset: np.ndarray | None = None
    #: f32[M, grid*grid, grid*grid], transform over positions of the first channels (format 2);
    #: rows are orthogonal, and longer where the coefficients are to be quantised finer.
    spatial: np.ndarray | None = None
    #: u8[grid*grid], region of each index of that transform (format 2).
    band_map: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Fill in what format 1 does not have."""
        positions = len(self.region_map)
        for name, value in (
            ('offset', np.zeros((len(self.analysis), positions), np.float32)),
            ('spatial', np.zeros((0, positions, positions), np.float32)),
            ('band_map', np.zeros(positions, np.uint8)),
        ):
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    @classmethod
    def load(cls, path: Path) -> CodecSpec:
        """Read a codec file; raise ModelFileError when it is not one of ours."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                values = {
                    f.name: archive[f.name]
                    for f in fields(cls)
                    if f.default is MISSING or f.name in archive
                }
        except _UNREADABLE as error:
            raise _not_ours(path, error) from error
        for name in ('analysis', 'offset', 'spatial'):
            if name in values:
                values[name] = values[name].astype(np.float32)
        spec = cls(**values)
        spec._check(path)
        return spec

    @staticmethod
    def read_version(path: Path) -> int:
        """Return the format of a codec file without reading the rest."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                return int(archive['header'][0])
        except _UNREADABLE as error:
            raise _not_ours(path, error) from error

    def save(self, path: Path) -> None:
        """Write the codec file; the same contents give the same bytes."""
        values = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.default is MISSING or self.version > 1
        }
        for name in ('analysis', 'offset', 'spatial'):
            if name in values:
                values[name] = values[name].astype(np.float16)
        with open(path, 'wb') as stream:
            np.savez_compressed(stream, **values)

    def _check(self, path: Path) -> None:
        def refuse(reason: str) -> None:
            raise ModelFileError(
                f'{path}: {reason}; export it again with '
                'python -m stl_conveyor_lab.train.codec.codec'
            )

        if self.header.shape != (3,) or self.version not in READABLE_VERSIONS:
            refuse(f'codec file format {self.header.tolist()} is none of {READABLE_VERSIONS}')
        channels, groups, positions = len(self.analysis), self.groups, len(self.region_map)
        shapes = {
            'mean': (self.patch * self.patch * 3,),
            'analysis': (channels, self.patch * self.patch * 3),
            'finest_step': (channels,),
            'group_channel': (groups,),
            'group_plane': (groups,),
            'group_region': (groups,),
            'region_map': (positions,),
            'tables': (groups, CONTEXTS, ALPHABET),
            'expected_activity': (groups,),
            'shrink': (channels, MAX_PLANES, 2),
            'side_table': (SIDE_LEVELS,),
            'offset': (channels, positions),
            'band_map': (positions,),
            'spatial': (len(self.spatial), positions, positions),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                refuse(f'{name} has shape {getattr(self, name).shape}, expected {shape}')
        for name in ('mean', 'analysis', 'finest_step', 'shrink', 'offset', 'spatial'):
            if not np.isfinite(getattr(self, name)).all():
                refuse(f'{name} holds a number that is not finite')
        if self.grid**2 != positions or self.patch * self.grid != self.image_size:
            refuse('grid and image size do not fit')
        if (
            not 0 < groups < 1 << 14
            or self.group_channel.max() >= channels
            or self.group_channel.min() < 0
            or self.group_plane.max() >= MAX_PLANES
            or self.group_region.max() >= len(self.positions)
        ):
            refuse('the order of groups names something that does not exist')
        if (
            len(self.spatial)
            and self.band_map.min() <= self.region_map.max()
            or np.any(self.banded != (self.group_channel < len(self.spatial)))
        ):
            refuse('bands and regions are mixed up')
        if len(set(self.group_keys.tolist())) != groups:
            refuse('the order of groups names a group twice')
        if (
            np.any(self.tables.sum(-1, dtype=np.int64) != TABLE_TOTAL)
            or self.side_table.sum(dtype=np.int64) != TABLE_TOTAL
        ):
            refuse(f'a row of its tables does not sum to {TABLE_TOTAL}')

    @property
    def version(self) -> int:
        """Return the format of file and packets."""
        return int(self.header[0])

    @property
    def image_size(self) -> int:
        """Side of the square image in pixels."""
        return int(self.header[1])

    @property
    def labels(self) -> int:
        """Return the number of classes of the side information."""
        return int(self.header[2])

    @property
    def groups(self) -> int:
        """Return the number of groups of the whole stream."""
        return len(self.group_channel)

    @property
    def channels(self) -> int:
        """Return the number of channels of the transform."""
        return len(self.analysis)

    @cached_property
    def grid(self) -> int:
        """Patches along one side of the image."""
        return int(round(len(self.region_map) ** 0.5))

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return self.image_size // self.grid

    @cached_property
    def group_keys(self) -> np.ndarray:
        """i64[G], one number per (channel, plane, region)."""
        return (
            self.group_channel.astype(np.int64) * MAX_PLANES + self.group_plane
        ) * 256 + self.group_region

    @cached_property
    def positions(self) -> tuple:
        """Return for each region the i64 array of its positions; then of each band its indices."""
        regions = int(self.region_map.max()) + 1
        bands = range(regions, int(self.band_map.max()) + 1) if len(self.spatial) else ()
        return (
            *(np.flatnonzero(self.region_map == r) for r in range(regions)),
            *(np.flatnonzero(self.band_map == r) for r in bands),
        )

    @cached_property
    def spatial_inverse(self) -> np.ndarray:
        """f32[M, grid*grid, grid*grid], rows that a channel's quantised coefficients weigh."""
        return (
            self.spatial / np.maximum(np.square(self.spatial).sum(2, keepdims=True), 1e-12)
        ).astype(np.float32)

    @cached_property
    def banded(self) -> np.ndarray:
        """bool[G], whether a group's region is a band."""
        return self.group_region > self.region_map.max()

    @cached_property
    def band_class(self) -> tuple:
        """Return for each region None, for each band the context class i64 of its indices."""
        regions = int(self.region_map.max()) + 1
        return tuple(
            None if r < regions else np.arange(len(place)) * ACTIVITY_CLASSES // len(place)
            for r, place in enumerate(self.positions)
        )

    @cached_property
    def offsets(self) -> np.ndarray:
        """i64[G + 1], index of each group's first symbol in the flat stream."""
        sizes = np.array([len(p) for p in self.positions], np.int64)[self.group_region]
        return np.concatenate([[0], np.cumsum(sizes)])

    @cached_property
    def flat_group(self) -> np.ndarray:
        """i64[M], group of each symbol of the flat stream."""
        return np.repeat(np.arange(self.groups), np.diff(self.offsets))

    @cached_property
    def flat_position(self) -> np.ndarray:
        """i64[M], position of each symbol of the flat stream."""
        return np.concatenate([self.positions[r] for r in self.group_region])

    @cached_property
    def flat_class(self) -> np.ndarray:
        """i64[M], context class of each symbol of a band; -1 where activity decides."""
        none = [
            np.full(len(place), -1) if found is None else found
            for place, found in zip(self.positions, self.band_class)
        ]
        return np.concatenate([none[r] for r in self.group_region])

    @cached_property
    def parents(self) -> np.ndarray:
        """i64[G], the group of the next coarser plane of the same coefficients.

        -1 for plane 0 (it has no parent); `groups` where the parent is sent later or never.
        """
        index = {key: g for g, key in enumerate(self.group_keys.tolist())}
        result = np.full(self.groups, -1, np.int64)
        for g in range(self.groups):
            if self.group_plane[g]:
                parent = index.get(int(self.group_keys[g]) - 256, self.groups)
                result[g] = parent if parent < g else self.groups
        return result

    @cached_property
    def chain_start(self) -> np.ndarray:
        """i64[G], the first sent of the coarser planes of a group's coefficients.

        -1 where one of them is never sent or sent later; the group itself for plane 0.
        """
        result = np.arange(self.groups)
        for g in range(self.groups):
            if self.group_plane[g]:
                parent = int(self.parents[g])
                result[g] = -1 if parent == self.groups else result[parent]
        return result

    @cached_property
    def flat_index(self) -> np.ndarray:
        """i64[M], where each symbol of the flat stream lies in [MAX_PLANES, K, positions]."""
        return (
            self.group_plane.astype(np.int64)[self.flat_group] * self.channels
            + self.group_channel[self.flat_group]
        ) * len(self.region_map) + self.flat_position

    @cached_property
    def flat_chain_start(self) -> np.ndarray:
        """i64[M], chain_start of each symbol's group; -1 for plane 0, which has no parent."""
        start = np.where(self.group_plane > 0, self.chain_start, -1)
        return start[self.flat_group]

    @cached_property
    def neighbours(self) -> np.ndarray:
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
    def region_neighbours(self) -> tuple:
        """Return for each region the rows of `neighbours` of its positions."""
        return tuple(np.ascontiguousarray(self.neighbours[place]) for place in self.positions)

    @cached_property
    def expected_before(self) -> np.ndarray:
        """f32[G + 1, grid*grid], weighted expected activity of all groups before each one."""
        share = np.zeros((self.groups + 1, len(self.region_map)), np.float32)
        share[1 + self.flat_group, self.flat_position] = self.expected_activity[
            self.flat_group
        ].astype(np.float32)
        return np.cumsum(share, axis=0, dtype=np.float32) @ self.neighbours

    @cached_property
    def symbol_intervals(self) -> np.ndarray:
        """u32[G * CONTEXTS, ALPHABET + 1], the tables as the range coder wants them."""
        return row_intervals(self.tables.reshape(-1, ALPHABET))

    @cached_property
    def side_intervals(self) -> np.ndarray:
        """u32[labels, SIDE_LEVELS + 1], the table of the side information for each label."""
        return np.tile(row_intervals(self.side_table), (self.labels, 1))

    @cached_property
    def flat_tables(self) -> np.ndarray:
        """u16[G * CONTEXTS * ALPHABET], the tables."""
        return self.tables.ravel()

    @cached_property
    def usual_bits(self) -> np.ndarray:
        """f64[G + 1], bits of all groups before each one, of an item without surprises."""
        neutral = int(np.sum(ACTIVITY_THRESHOLDS <= 1))
        state = np.where(self.group_plane > 0, 2, 0)
        row = self.tables[np.arange(self.groups), state * ACTIVITY_CLASSES + neutral] / TABLE_TOTAL
        entropy = -np.sum(row * np.log2(np.maximum(row, 1e-9)), axis=1)
        return np.concatenate([[0], np.cumsum(entropy * np.diff(self.offsets))])

    @cached_property
    def bin_points(self) -> np.ndarray:
        """f32[MAX_PLANES, K, 241], where integers -120..120 of each plane put a coefficient."""
        number = np.arange(-120, 121)
        shrink = np.where(np.abs(number) == 1, self.shrink[..., :1], self.shrink[..., 1:])
        points = (number - np.sign(number) * shrink) * self.plane_step[..., None]
        return np.ascontiguousarray(points.swapaxes(0, 1).astype(np.float32))

    @cached_property
    def channel_order(self) -> np.ndarray:
        """i64[K], all channels, those that the stream needs first in front."""
        _, first = np.unique(self.group_channel, return_index=True)
        used = self.group_channel[np.sort(first)].astype(np.int64)
        return np.concatenate([used, np.setdiff1d(np.arange(self.channels), used)])

    @cached_property
    def channel_reach(self) -> np.ndarray:
        """i64[G + 1], how many of `channel_order` the groups before each one come from."""
        place = np.argsort(self.channel_order)[self.group_channel]
        return np.concatenate([[0], 1 + np.maximum.accumulate(place)])

    @cached_property
    def plane_step(self) -> np.ndarray:
        """f32[K, MAX_PLANES], width of a bin once planes 0..p have arrived."""
        scale = 3.0 ** np.arange(MAX_PLANES - 1, -1, -1)
        return (self.finest_step[:, None] * scale[None, :]).astype(np.float32)


def activity_class(seen: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the activity class (0..ACTIVITY_CLASSES-1) from weighted counts.

    Both arguments are float32 arrays that hold integers below 2**24, and so is every
    intermediate sum; the products are compared after one correctly rounded multiplication, so
    that every IEEE 754 machine returns the same class.
    """
    ratio_left = seen * UNIT + ACTIVITY_PRIOR
    ratio_right = expected + ACTIVITY_PRIOR
    if seen.size < 256:
        return (ratio_left[..., None] >= ratio_right[..., None] * ACTIVITY_THRESHOLDS).sum(-1)
    result = np.zeros(seen.shape, np.uint8)
    for threshold in ACTIVITY_THRESHOLDS:
        result += ratio_left >= ratio_right * threshold
    return result.astype(np.int64)
