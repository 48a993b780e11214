# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Streams stay what they are, of either codec file, on every machine and in every release."""

from __future__ import annotations

import numpy as np
import pytest

from stl_conveyor.codec.contexts import ALPHABET, CONTEXTS
from stl_conveyor.codec.entropy import GroupCoder, has_extension, split_planes
from stl_conveyor.codec.range_coder import TABLE_TOTAL
from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor.codec.wire import Packet, pack

CHANNELS, GRID, PATCH = 3, 4, 2
PACKETS = {
    1: bytes.fromhex(
        '7def001803f71f0a8ce66e5a4036d2c58fe8b3b5c05668048ad8097f69c370fd99b6446c912e224d83b7'
        'd2286e31487eae879d4e31ba0f7edddfab9b202947005b7a2f768973e982ddc65a2d03eba7fcbbedf486'
        'f316c96af07971e218126c046bb8e1449e52'
    ),
    2: bytes.fromhex(
        '7def001c03f710384d5a198fb185c12ca26053cd220845f6bb823e9ad145a83fdd451193d9761ff60ad5'
        'ab273f3178594cfe6e6f33eb505edd0511b36193a21ddb97de6ecd6dce86b06464c0c0e2f181f675c871'
        '0544e1a3e2da3f98b65399b97d0df834667779'
    ),
}


def made_up_spec(version):
    """Tables and order from integer arithmetic alone; in format 2 channel 0 has three bands."""
    positions = GRID * GRID
    bands = range(2, 5) if version == 2 else range(2)
    groups = [
        (c, p, r) for p in range(4) for c in range(CHANNELS) for r in (range(2) if c else bands)
    ]
    channel, plane, region = np.array(groups).T
    tables = np.zeros((len(groups), CONTEXTS, ALPHABET), np.uint16)
    for g in range(len(groups)):
        for context in range(CONTEXTS):
            legal = range(7) if plane[g] == 0 else range(2, 5)
            for s in legal:
                tables[g, context, s] = 100 + (37 * g + 101 * context + 53 * s) % 900
            tables[g, context, 3] += TABLE_TOTAL - int(tables[g, context].sum())
    size = GRID * PATCH
    return CodecSpec(
        mean=np.zeros(PATCH * PATCH * 3, np.float32),
        analysis=np.eye(CHANNELS, PATCH * PATCH * 3, dtype=np.float32),
        finest_step=np.ones(CHANNELS, np.float32),
        group_channel=channel.astype(np.int16),
        group_plane=plane.astype(np.uint8),
        group_region=region.astype(np.uint8),
        region_map=(np.arange(GRID * GRID) % 3 == 0).astype(np.uint8),
        tables=tables,
        expected_activity=np.where(region < 2, 20 + 5 * np.arange(len(groups)), 0).astype(
            np.uint16
        ),
        shrink=np.zeros((CHANNELS, 4, 2), np.float32),
        side_table=np.array([2048] * 16, np.uint16),
        header=np.array([version, size, 5], np.int32),
        spatial=np.eye(positions, dtype=np.float32)[None] if version == 2 else None,
        band_map=(2 + np.arange(positions) // 6).astype(np.uint8) if version == 2 else None,
    )


def made_up_integers():
    steps = np.arange(CHANNELS * GRID * GRID, dtype=np.int64)
    return ((steps * steps * 31 + steps * 17) % 61 - 30).astype(np.int8).reshape(CHANNELS, -1)


@pytest.fixture(params=[(1, 'python'), (1, 'compiled'), (2, 'python'), (2, 'compiled')])
def coder(request):
    version, how = request.param
    if how == 'compiled' and not has_extension():
        pytest.skip('the compiled inner loops are not built here')
    return GroupCoder(made_up_spec(version), compiled=how == 'compiled')


def test_encoder_still_makes_these_bytes(coder):
    side = np.array([0, 3, 15, 7, 1], np.int32)
    body = coder.stream(made_up_integers()).encode(0, 1000, side)
    assert body.groups == coder.spec.groups
    packet = pack(Packet(True, 0, body.groups, body.data), 0xABCDEF)
    assert packet.hex() == PACKETS[coder.spec.version].hex()


def test_decoder_still_reads_these_bytes(coder):
    spec = coder.spec
    packet = PACKETS[spec.version]
    assert packet[:3].hex() == '7def00'
    assert packet[3] == spec.groups
    side, symbols = coder.decode(0, packet[3], True, packet[4:-1])
    assert side.tolist() == [0, 3, 15, 7, 1]
    planes = split_planes(made_up_integers())
    for group, found in enumerate(np.split(symbols, spec.order.offsets[1:-1])):
        place = spec.order.positions[spec.group_region[group]]
        wanted = planes[spec.group_plane[group], spec.group_channel[group]][place]
        assert np.array_equal(found, wanted)
