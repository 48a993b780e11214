# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The fitted constants of a codec: transform, quantiser, order of importance, tables."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.codec.contexts import ALPHABET, CONTEXTS, ContextModel
from stl_conveyor.codec.group_order import MAX_PLANES, GroupOrder
from stl_conveyor.codec.range_coder import TABLE_TOTAL, row_intervals
from stl_conveyor.errors import ModelFileError
from stl_conveyor.outside_files import UnusableFile, read_arrays

#: The format that new codec files are made in, and all that can be read. Packets have a format of
#: their own (codec/wire.py).
FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)

SIDE_LEVELS = 16
#: Fractions are smaller, and the steps of the quantiser are larger: of these every coefficient and
#: its quotient is a number of single precision, so that the device can round it to an integer.
LARGEST_FRACTION = 1e6
SMALLEST_STEP = 1e-6


def _not_ours(path: Path, error: Exception) -> ModelFileError:
    return ModelFileError(
        f'{path} is not a codec file ({error}); export it again with '
        'python -m stl_conveyor_lab.train.codec.codec'
    )


#: The type of each array; those with a half stand in the file in half precision.
_TYPES: dict[str, Any] = {
    'mean': np.float32,
    'analysis': np.float32,
    'finest_step': np.float32,
    'group_channel': np.int16,
    'group_plane': np.uint8,
    'group_region': np.uint8,
    'region_map': np.uint8,
    'tables': np.uint16,
    'expected_activity': np.uint16,
    'shrink': np.float32,
    'side_table': np.uint16,
    'header': np.int32,
    'offset': np.float32,
    'spatial': np.float32,
    'band_map': np.uint8,
}


def _as_type(name: str, value: NDArray[Any]) -> NDArray[Any]:
    """Return an array of a codec file in its own type.

    Raises:
        UnusableFile: If it holds something else than such numbers.
    """
    wanted = np.dtype(_TYPES[name])
    if wanted.kind == 'f':
        if value.dtype.kind != 'f':
            raise UnusableFile(f'{name} is {value.dtype}, not {wanted}')
    elif value.dtype.kind not in 'iu' or (
        value.size
        and not (np.iinfo(wanted).min <= value.min() and value.max() <= np.iinfo(wanted).max)
    ):
        raise UnusableFile(f'{name} does not hold numbers of {wanted}')
    return value.astype(wanted, copy=False)


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
    mean: NDArray[np.float32]
    #: f32[K, P*P*3].
    analysis: NDArray[np.float32]
    #: f32[K], width of a bin of the finest plane.
    finest_step: NDArray[np.float32]
    #: i16[G], channel of each group in order of importance.
    group_channel: NDArray[np.int16]
    #: u8[G], plane of each group, 0 = coarsest.
    group_plane: NDArray[np.uint8]
    #: u8[G], region of each group.
    group_region: NDArray[np.uint8]
    #: u8[grid*grid], region of each position, row by row.
    region_map: NDArray[np.uint8]
    #: u16[G, CONTEXTS, ALPHABET], rows sum to TABLE_TOTAL, no zero where a symbol is legal.
    tables: NDArray[np.uint16]
    #: u16[G], share of symbols other than zero, in 256ths.
    expected_activity: NDArray[np.uint16]
    #: f32[K, MAX_PLANES, 2], centroid shift towards zero of bins 1 and >= 2, in bins.
    shrink: NDArray[np.float32]
    #: u16[SIDE_LEVELS], table of the side information.
    side_table: NDArray[np.uint16]
    #: i32[3]: format version, image size, number of labels.
    header: NDArray[np.int32]
    #: f32[K, grid*grid], mean of each coefficient (format 2).
    offset: NDArray[np.float32] = None  # type: ignore[assignment]  # __post_init__ fills it in
    #: f32[M, grid*grid, grid*grid], transform over positions of the first channels (format 2);
    #: rows are orthogonal, and longer where the coefficients are to be quantised finer.
    spatial: NDArray[np.float32] = None  # type: ignore[assignment]
    #: u8[grid*grid], region of each index of that transform (format 2).
    band_map: NDArray[np.uint8] = None  # type: ignore[assignment]

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
            values = read_arrays(path, _TYPES)
            missing = [
                f.name for f in fields(cls) if f.default is MISSING and f.name not in values
            ]
            if missing:
                raise UnusableFile(f'has no {missing[0]}')
            for name, value in values.items():
                values[name] = _as_type(name, value)
        except UnusableFile as error:
            raise _not_ours(path, error) from error
        spec = cls(**values)
        spec._check(path)
        return spec

    @staticmethod
    def read_version(path: Path) -> int:
        """Return the format of a codec file without reading the rest."""
        try:
            return int(read_arrays(path, ['header'])['header'][0])
        except (UnusableFile, KeyError, IndexError, ValueError, TypeError) as error:
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
            if np.abs(getattr(self, name)).max(initial=0.0) >= LARGEST_FRACTION:
                refuse(f'{name} holds a number of {LARGEST_FRACTION:g} or more')
        if not np.all(self.finest_step > 0):
            refuse('finest_step holds a width of zero or less')
        if not np.all(self.finest_step > SMALLEST_STEP):
            refuse(f'finest_step holds a width of {SMALLEST_STEP:g} or less')
        if not 2 <= self.labels <= 1 << 16 or not 8 <= self.image_size <= 4096:
            refuse(f'{self.labels} labels and {self.image_size} pixels are none of ours')
        if self.grid**2 != positions or self.patch * self.grid != self.image_size:
            refuse('grid and image size do not fit')
        if (
            not 0 < groups < 1 << 14
            or self.group_channel.max() >= channels
            or self.group_channel.min() < 0
            or self.group_plane.max() >= MAX_PLANES
            or self.group_region.max() >= len(self.order.positions)
        ):
            refuse('the order of groups names something that does not exist')
        if (
            len(self.spatial)
            and self.band_map.min() <= self.region_map.max()
            or np.any(self.order.banded != (self.group_channel < len(self.spatial)))
        ):
            refuse('bands and regions are mixed up')
        if len(set(self.order.keys.tolist())) != groups:
            refuse('the order of groups names a group twice')
        if (
            np.any(self.tables.sum(-1, dtype=np.int64) != TABLE_TOTAL)
            or self.side_table.sum(dtype=np.int64) != TABLE_TOTAL
        ):
            refuse(f'a row of its tables does not sum to {TABLE_TOTAL}')

    @property
    def version(self) -> int:
        """Return the format of the file."""
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
    def order(self) -> GroupOrder:
        """The groups in the order in which they are sent, and what follows from it."""
        return GroupOrder(
            self.group_channel,
            self.group_plane,
            self.group_region,
            self.region_map,
            self.band_map if len(self.spatial) else None,
            self.channels,
        )

    @cached_property
    def contexts(self) -> ContextModel:
        """The tables of the groups, and what choosing among them needs."""
        return ContextModel(self.order, self.grid, self.tables, self.expected_activity)

    @cached_property
    def side_intervals(self) -> NDArray[np.uint32]:
        """u32[labels, SIDE_LEVELS + 1], the table of the side information for each label."""
        return np.tile(row_intervals(self.side_table), (self.labels, 1))

    @cached_property
    def spatial_inverse(self) -> NDArray[np.float32]:
        """f32[M, grid*grid, grid*grid], rows that a channel's quantised coefficients weigh."""
        length = np.maximum(np.square(self.spatial).sum(2, keepdims=True), 1e-12)
        return np.asarray(self.spatial / length, np.float32)

    @cached_property
    def bin_points(self) -> NDArray[np.float32]:
        """f32[MAX_PLANES, K, 241], where integers -120..120 of each plane put a coefficient."""
        number = np.arange(-120, 121)
        shrink = np.where(np.abs(number) == 1, self.shrink[..., :1], self.shrink[..., 1:])
        points = (number - np.sign(number) * shrink) * self.plane_step[..., None]
        return np.ascontiguousarray(points.swapaxes(0, 1).astype(np.float32))

    @cached_property
    def plane_step(self) -> NDArray[np.float32]:
        """f32[K, MAX_PLANES], width of a bin once planes 0..p have arrived."""
        scale = 3.0 ** np.arange(MAX_PLANES - 1, -1, -1)
        return (self.finest_step[:, None] * scale[None, :]).astype(np.float32)
