# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Read what a network computes inside, without another file and without the ONNX library.

An ONNX file is one protocol buffer, and of a message that comes twice in a buffer the repeated
fields are joined (Protocol Buffers encoding, "Last One Wins"): so a graph gains an output by a few
bytes after its end. The file on disk, its hash and the identity of the codec stay what they are.
"""

from __future__ import annotations

from collections.abc import Sequence

_GRAPH = 7  # of ModelProto
_OUTPUT = 12  # of GraphProto
_NAME = 1  # of ValueInfoProto
_BYTES = 2  # wire type of what has a length


def with_outputs(model: bytes, names: Sequence[str]) -> bytes:
    """Return an ONNX model whose graph has further outputs.

    Args:
        model: The file.
        names: Of tensors that the graph computes; onnxruntime refuses one that it does not.
    """
    return model + b''.join(
        _field(_GRAPH, _field(_OUTPUT, _field(_NAME, name.encode()))) for name in names
    )


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    result = bytearray()
    while value > 127:
        result.append(value & 127 | 128)
        value >>= 7
    return bytes([*result, value])
