# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Sparkplug B 3.0 as far as an edge node needs it: payloads, topics, sequence, birth and death.

The payload is a Protocol Buffers message (`org.eclipse.tahu.protobuf.Payload`); what is written
here are its fields by number, and nothing else of that format is needed.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from stl_conveyor.errors import BadMessage

Scalar = int | float | bool | str
BD_SEQ = 'bdSeq'
REBIRTH = 'Node Control/Rebirth'


class DataType(enum.IntEnum):
    """Those data types of Sparkplug that are used here."""

    INT64 = 4
    UINT64 = 8
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12


@dataclass(frozen=True)
class Metric:
    """A metric; value None is null."""

    name: str
    value: Scalar | None
    kind: DataType


def encode(metrics: Iterable[Metric], time_ms: int, seq: int | None) -> bytes:
    """Return a payload.

    Args:
        metrics: In their order.
        time_ms: Milliseconds since 1970.
        seq: 0 to 255; None: without, as in a death certificate.
    """
    body = [_number(1, time_ms)]
    for metric in metrics:
        fields = [_text(1, metric.name), _number(3, time_ms), _number(4, metric.kind)]
        if metric.value is None:
            fields.append(_number(7, 1))
        elif metric.kind is DataType.STRING:
            fields.append(_text(15, str(metric.value)))
        elif metric.kind is DataType.BOOLEAN:
            fields.append(_number(14, int(metric.value)))
        elif metric.kind is DataType.DOUBLE:
            fields.append(_key(13, 1) + struct.pack('<d', metric.value))
        else:
            fields.append(_number(11, int(metric.value) & (1 << 64) - 1))
        body.append(_bytes(2, b''.join(fields)))
    if seq is not None:
        body.append(_number(3, seq))
    return b''.join(body)


def decode(payload: bytes) -> tuple[list[Metric], int | None]:
    """Return the metrics of a payload, and its sequence number.

    Metrics of other data types than those above are left out.

    Raises:
        BadMessage: If it is no payload.
    """
    metrics: list[Metric] = []
    seq: int | None = None
    try:
        for field, value in _fields(payload):
            if field == 3 and isinstance(value, int):
                seq = value
            elif field == 2 and isinstance(value, bytes):
                metric = _metric(value)
                if metric is not None:
                    metrics.append(metric)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise BadMessage(f'what came is no Sparkplug payload: {error}') from error
    return metrics, seq


def _metric(data: bytes) -> Metric | None:
    found = dict(_fields(data))
    name = found.get(1, b'')
    try:
        kind = DataType(int(found.get(4, 0)))
    except (ValueError, TypeError):
        return None
    if not isinstance(name, bytes):
        return None
    value: Scalar | None = None
    text, real = found.get(15), found.get(13)
    if kind is DataType.STRING and isinstance(text, bytes):
        value = text.decode()
    elif kind is DataType.BOOLEAN and 14 in found:
        value = bool(found[14])
    elif kind is DataType.DOUBLE and isinstance(real, bytes):
        (value,) = struct.unpack('<d', real)
    elif isinstance(found.get(11), int):
        number = int(found[11])
        signed = kind is DataType.INT64 and number >= 1 << 63
        value = number - (1 << 64) if signed else number
    return Metric(name.decode(), value, kind)


def _key(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _number(field: int, value: int) -> bytes:
    return _key(field, 0) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value & (1 << 64) - 1, at
        if shift > 63:
            raise IndexError('a number does not end')


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a message of Protocol Buffers: numbers, or bytes."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        wire = key & 7
        if wire == 0:
            number, at = _read_varint(data, at)
            yield key >> 3, number
            continue
        if wire == 2:
            length, at = _read_varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise IndexError(f'a field of kind {wire}')
        if at + length > len(data):
            raise IndexError('a field goes beyond the end')
        yield key >> 3, data[at : at + length]
        at += length


class EdgeNode:
    """Topics and numbers of an edge node (Sparkplug B 3.0, sections 5 and 6).

    A session begins with `birth` and ends with the certificate that was left with the broker.
    """

    def __init__(self, group: str, node: str) -> None:
        """Take the names: of the group and of the edge node."""
        self._group, self._node = group, node
        self._seq = 0
        self._bd_seq = -1

    def topic(self, kind: str) -> str:
        """Return a topic, such as for kind 'NDATA'."""
        return f'spBv1.0/{self._group}/{kind}/{self._node}'

    def will(self, time_ms: int) -> bytes:
        """Begin a new session, and return the death certificate of it to leave with the broker."""
        self._bd_seq = (self._bd_seq + 1) % 256
        return encode([self._session()], time_ms, None)

    def death(self, time_ms: int) -> bytes:
        """Return the death certificate of this session."""
        return encode([self._session()], time_ms, None)

    def birth(self, metrics: Iterable[Metric], time_ms: int) -> bytes:
        """Return the birth certificate: every metric that there is, and sequence number 0."""
        self._seq = 0
        rebirth = Metric(REBIRTH, False, DataType.BOOLEAN)
        return encode([self._session(), rebirth, *metrics], time_ms, 0)

    def data(self, metrics: Iterable[Metric], time_ms: int) -> bytes:
        """Return what changed since."""
        self._seq = (self._seq + 1) % 256
        return encode(metrics, time_ms, self._seq)

    def _session(self) -> Metric:
        return Metric(BD_SEQ, max(self._bd_seq, 0), DataType.INT64)
