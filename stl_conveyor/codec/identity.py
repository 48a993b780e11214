# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The number by which device and edge know that they hold the same codec."""

from __future__ import annotations

import hashlib

from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor.codec.wire import WIRE_VERSION
from stl_conveyor.models.model_folder import ModelFolder


def codec_identity(model_folder: ModelFolder) -> int:
    """Return the 64-bit identity of the codec of a model folder.

    It is the first 8 bytes (big endian) of the SHA-256 of the format of packets and that of the
    codec file (1 byte each) and the model ids (8 bytes each, big endian) of `encoder` and `edge`.

    Raises:
        ModelFileError: .
    """
    version = CodecSpec.read_version(model_folder.path('encoder'))
    parts = bytes([WIRE_VERSION, version]) + b''.join(
        model_folder.model_id(role).to_bytes(8, 'big') for role in ('encoder', 'edge')
    )
    return int.from_bytes(hashlib.sha256(parts).digest()[:8], 'big')
