# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The check byte finds what docs/wire_format.md says that it finds."""

from __future__ import annotations

import re
from math import comb
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.codec.crc8 import crc8, python_crc8
from stl_conveyor.codec.entropy import has_extension
from stl_conveyor.codec.wire import Packet, pack, unpack
from stl_conveyor.errors import BadPacket

PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'wire_format.md'
LONGEST = 1400
PERIOD = 255

each = pytest.mark.parametrize('check', [python_crc8, crc8])


def traces(length):
    """Return what a flip of each bit of a packet of so many bytes does to check ^ check byte."""
    plain = bytes(length - 1)
    last = crc8(plain)
    found = []
    for bit in range(8 * (length - 1)):
        flipped = bytearray(plain)
        flipped[bit // 8] ^= 0x80 >> bit % 8
        found.append(crc8(bytes(flipped)) ^ last)
    return np.array(found + [0x80 >> bit for bit in range(8)])


@pytest.fixture(scope='module')
def longest():
    return traces(LONGEST)


@each
def test_it_is_the_published_one(check):
    assert check(b'123456789') == 0x4B
    assert check(b'') == 0


@given(data=st.binary(max_size=300))
def test_c_and_python_agree(data):
    assert crc8(data) == python_crc8(data)


def test_the_compiled_one_is_used_where_it_was_built():
    assert (crc8 is not python_crc8) == has_extension()


@pytest.mark.parametrize('size', [5, 31, 64, 256, LONGEST])
def test_every_flipped_bit_is_found(size):
    packet = pack(Packet(True, 3, 4, bytes(k % 251 for k in range(size - 5))), 0xABC)
    assert len(packet) == size
    for bit in range(8 * size):
        flipped = bytearray(packet)
        flipped[bit // 8] ^= 0x80 >> bit % 8
        with pytest.raises(BadPacket):
            unpack(bytes(flipped), 0xABC)


@given(
    body=st.binary(max_size=100),
    at=st.integers(0, 1000),
    damage=st.integers(1, 255),
    shift=st.integers(0, 7),
)
def test_every_burst_of_eight_bits_is_found(body, at, damage, shift):
    packet = pack(Packet(False, 1, 2, body), 5)
    mask = (damage << 8 >> shift).to_bytes(2, 'big')
    at %= len(packet) - 1
    spoilt = bytearray(packet)
    spoilt[at] ^= mask[0]
    spoilt[at + 1] ^= mask[1]
    with pytest.raises(BadPacket):
        unpack(bytes(spoilt), 5)


def test_two_flips_pass_only_a_multiple_of_the_period_apart(longest):
    assert longest.min() > 0  # a flip alone is found
    assert len(set(longest[:PERIOD])) == PERIOD
    assert np.array_equal(longest[PERIOD:], longest[:-PERIOD])


def shares(trace):
    """Return which shares of all pairs and triples of flips pass."""
    count = np.bincount(trace, minlength=256)
    pairs = int((count * (count - 1) // 2).sum())
    together = np.zeros(256, np.int64)  # ordered pairs of flips by what they do together
    for one in range(256):
        together[np.arange(256) ^ one] += count[one] * count
    triples = int((together * count).sum()) // 6
    return pairs / comb(len(trace), 2), triples / comb(len(trace), 3)


def test_the_page_says_how_many_pairs_and_triples_pass():
    text = PAGE.read_text(encoding='utf-8')
    table = {
        row.split('|')[1].strip(): [float(share) for share in re.findall(r'([\d.]+) % pass', row)]
        for row in text.splitlines()
        if row.startswith('| two bits') or row.startswith('| three bits')
    }
    found = np.array([shares(traces(size)) for size in (64, 256, LONGEST)]).T
    assert [round(100 * share, 2) for share in found[0]] == table['two bits']
    assert [round(100 * share, 2) for share in found[1]] == table['three bits']
