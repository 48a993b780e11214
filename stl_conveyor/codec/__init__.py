# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Progressive compression for classification: encode, decode, wire format."""

from __future__ import annotations

from stl_conveyor.codec.decoder import Decoder, DecoderSession
from stl_conveyor.codec.encoder import EncodedItem, Encoder

__all__ = ['Decoder', 'DecoderSession', 'EncodedItem', 'Encoder']
