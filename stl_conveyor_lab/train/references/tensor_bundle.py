# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Read the variables of a TensorFlow checkpoint without TensorFlow.

A checkpoint `variables` is `variables.index`, a sorted string table (the uncompressed table
format of LevelDB) of BundleEntryProto messages by name, and one shard of raw values, as
described in tensorflow/core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_FLOAT = 1
_FOOTER_BYTES = 48
_TRAILER_BYTES = 4


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of a block, whose keys share prefixes with the one before."""
    block = data[offset : offset + size]
    restarts = int.from_bytes(block[-_TRAILER_BYTES:], 'little')
    end = size - _TRAILER_BYTES * (restarts + 1)
    at, key = 0, b''
    while at < end:
        shared, at = _varint(block, at)
        rest, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + rest]
        at += rest
        yield key, block[at : at + length]
        at += length


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (number, value) of the fields of a protocol buffer."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == 0:
            number, at = _varint(message, at)
            yield tag >> 3, number
            continue
        if tag & 7 == 2:
            length, at = _varint(message, at)
        else:
            length = {1: 8, 5: 4}[tag & 7]
        yield tag >> 3, message[at : at + length]
        at += length


def _shape(message: bytes) -> tuple[int, ...]:
    return tuple(
        next(value for number, value in _fields(dim) if number == 1)
        for number, dim in _fields(message)
        if number == 2
    )


def read_tensor_bundle(prefix: Path) -> dict[str, np.ndarray]:
    """Return the float32 variables of a checkpoint by name.

    Args:
        prefix: Path of the checkpoint without `.index`.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the file is no checkpoint.
    """
    index = Path(f'{prefix}.index').read_bytes()
    values = Path(f'{prefix}.data-00000-of-00001').read_bytes()
    if len(index) < _FOOTER_BYTES or index[-8:] != bytes.fromhex('57fb808b247547db'):
        raise ValueError(f'{prefix}.index is no checkpoint index')
    footer, at = index[-_FOOTER_BYTES:], 0
    handle = []
    for _ in range(4):
        value, at = _varint(footer, at)
        handle.append(value)
    result = {}
    for _, where in _block(index, handle[2], handle[3]):
        offset, at = _varint(where, 0)
        size, _ = _varint(where, at)
        for key, entry in _block(index, offset, size):
            fields = dict(_fields(entry))
            if not key or fields.get(1) != _FLOAT:
                continue
            begin, length = fields.get(4, 0), fields[5]
            array = np.frombuffer(values[begin : begin + length], '<f4')
            result[key.decode()] = array.reshape(_shape(fields.get(2, b'')))
    return result
