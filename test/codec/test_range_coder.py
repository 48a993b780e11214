# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The range coder in Python: whatever is coded comes back, in the bytes that C makes."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stl_conveyor.codec import range_coder
from stl_conveyor.codec.contexts import ALPHABET, CONTEXTS
from stl_conveyor.codec.entropy import GroupCoder, has_extension
from stl_conveyor.codec.range_coder import TABLE_TOTAL, RangeDecoder, RangeEncoder, row_intervals
from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor.errors import BadPacket

RELAXED = settings(deadline=None, max_examples=200)
#: Bytes whose decoded symbols, coded again, keep a carry open from the first word to the last.
ON_THE_EDGE = [
    b'\x80',
    b'\x7f' + b'\xff' * 60,
    b'\x40\0\0\0\x80',
    b'\x3f\xff\xff\xff\xff\xff\xff\xff\xff',
]
NOISE = st.one_of(st.binary(max_size=60), st.sampled_from([*ON_THE_EDGE, b'\xff' * 60]))


@st.composite
def rows_of(draw, least_symbols=2, most_symbols=16):
    """u16[n, alphabet] of random tables, many of them with shares of 0 and of nearly all."""
    symbols = draw(st.integers(least_symbols, most_symbols))
    count = draw(st.integers(1, 4))
    rows = np.zeros((count, symbols), np.uint16)
    for row in rows:
        cuts = sorted(
            draw(
                st.lists(
                    st.one_of(st.integers(0, TABLE_TOTAL), st.sampled_from([0, 1, TABLE_TOTAL])),
                    min_size=symbols - 1,
                    max_size=symbols - 1,
                )
            )
        )
        row[:] = np.diff([0, *cuts, TABLE_TOTAL])
    return rows


def coded(symbols, intervals):
    encoder = RangeEncoder()
    encoder.encode(np.array(symbols, np.int64), intervals)
    return encoder.finish()


def drawn_rows(data, tables, count):
    picks = data.draw(st.lists(st.integers(0, len(tables) - 1), min_size=count, max_size=count))
    return tables[np.array(picks, np.int64)]


def test_its_example_is_true():
    assert doctest.testmod(range_coder) == (0, 7)


@RELAXED
@given(tables=rows_of())
def test_every_symbol_has_room_and_no_place_has_two(tables):
    intervals = row_intervals(tables).astype(np.int64)
    assert (intervals[:, 0] == 0).all() and (intervals[:, -1] == 1 << 24).all()
    assert (np.diff(intervals) > 0).all()
    wanted = tables.astype(np.int64) * ((1 << 24) - tables.shape[1]) / TABLE_TOTAL
    assert np.abs(np.diff(intervals) - wanted).max() <= 3


@RELAXED
@given(tables=rows_of(), data=st.data())
def test_what_was_coded_comes_back(tables, data):
    symbols = data.draw(st.lists(st.integers(0, tables.shape[1] - 1), max_size=80))
    intervals = row_intervals(drawn_rows(data, tables, len(symbols)))
    made = coded(symbols, intervals)
    assert RangeDecoder(made).decode(intervals) == symbols
    shares = np.diff(intervals.astype(np.int64))[np.arange(len(symbols)), symbols]
    bits = float((24 - np.log2(shares)).sum())
    # The end costs a byte, or up to five where a shorter one would need one more carry.
    assert 8 * len(made) <= bits + 40 + len(symbols) / 100
    # In pieces, and with a copy that went another way, it is the same.
    encoder = RangeEncoder()
    half = len(symbols) // 2
    encoder.encode(np.array(symbols[:half], np.int64), intervals[:half])
    other = encoder.copy()
    other.encode(np.zeros(half, np.int64), intervals[:half])
    encoder.encode(np.array(symbols[half:], np.int64), intervals[half:])
    assert encoder.finish() == made
    decoder = RangeDecoder(made + bytes(3))
    assert decoder.decode(intervals[:half]) + decoder.decode(intervals[half:]) == symbols


@RELAXED
@given(tables=rows_of(), noise=NOISE, count=st.integers(0, 100), data=st.data())
def test_any_bytes_are_symbols_or_a_bad_packet(tables, noise, count, data):
    intervals = row_intervals(drawn_rows(data, tables, count))
    try:
        found = RangeDecoder(noise).decode(intervals)
    except BadPacket:
        return
    assert len(found) == count and all(0 <= s < tables.shape[1] for s in found)
    assert RangeDecoder(coded(found, intervals)).decode(intervals) == found


@pytest.mark.parametrize('noise', ON_THE_EDGE)
@pytest.mark.parametrize('share', [1, 4000, 16384, 32767])
def test_a_carry_goes_through_all_words(noise, share):
    """An interval that keeps 2**63 inside leaves it open what the first word is."""
    intervals = np.repeat(
        row_intervals(np.array([[share, TABLE_TOTAL - share]], np.uint16)), 40, axis=0
    )
    for count in range(1, 41):
        found = RangeDecoder(noise).decode(intervals[:count])
        assert RangeDecoder(coded(found, intervals[:count])).decode(intervals[:count]) == found


def test_bytes_that_no_encoder_writes_are_refused():
    rows = row_intervals(np.full((1, 4), TABLE_TOTAL // 4, np.uint16))
    with pytest.raises(BadPacket, match='drop it'):
        RangeDecoder(b'\xff' * 9).decode(rows)


def one_channel(tables):
    """Return a codec of as many groups of 16 symbols as there are tables u16[G, ALPHABET]."""
    groups = len(tables)
    return CodecSpec(
        mean=np.zeros(12, np.float32),
        analysis=np.zeros((groups, 12), np.float32),
        finest_step=np.ones(groups, np.float32),
        group_channel=np.arange(groups, dtype=np.int16),
        group_plane=np.zeros(groups, np.uint8),
        group_region=np.zeros(groups, np.uint8),
        region_map=np.zeros(16, np.uint8),
        tables=np.repeat(tables[:, None], CONTEXTS, axis=1),
        expected_activity=np.zeros(groups, np.uint16),
        shrink=np.zeros((groups, 4, 2), np.float32),
        side_table=np.full(16, 2048, np.uint16),
        header=np.array([1, 8, 3], np.int32),
    )


@pytest.mark.skipif(not has_extension(), reason='the compiled inner loops are not built here')
@RELAXED
@given(tables=rows_of(ALPHABET, ALPHABET), noise=NOISE)
@example(tables=np.array([[0, 0, 0, 32768, 0, 0, 0]] * 4, np.uint16), noise=b'\x80')
def test_c_makes_and_reads_the_same_bytes(tables, noise):
    spec = one_channel(tables)
    compiled = GroupCoder(spec, compiled=True)
    rows = np.repeat(row_intervals(tables), 16, axis=0)
    try:
        found = RangeDecoder(noise).decode(rows)
    except BadPacket:
        with pytest.raises(BadPacket):
            compiled.decode(0, spec.groups, False, noise)
        return
    assert (compiled.decode(0, spec.groups, False, noise)[1] + 3).tolist() == found
    # An integer of the coarsest plane is 27 steps of the finest.
    integers = (27 * (np.array(found) - 3)).reshape(spec.groups, 16).astype(np.int8)
    body = compiled.stream(integers).encode(0, 1000, None)
    assert (body.groups, body.data) == (spec.groups, coded(found, rows))


@RELAXED
@given(tables=rows_of(), noise=NOISE, count=st.integers(1, 60), data=st.data())
def test_an_independent_coder_agrees(tables, noise, count, data):
    """The coder of a published library makes the same words and reads the same symbols."""
    queue = pytest.importorskip('constriction', reason='has wheels for some platforms only').stream
    family = queue.model.Categorical(perfect=False)
    rows = drawn_rows(data, tables, count)
    theirs = queue.queue.RangeDecoder(
        np.frombuffer(noise + bytes(-len(noise) % 4), '>u4').astype(np.uint32)
    )
    try:
        found = RangeDecoder(noise).decode(row_intervals(rows))
    except BadPacket:
        with pytest.raises(AssertionError):
            theirs.decode(family, rows.astype(np.float32))
        return
    assert theirs.decode(family, rows.astype(np.float32)).tolist() == found
    encoder = queue.queue.RangeEncoder()
    encoder.encode(np.array(found, np.int32), family, rows.astype(np.float32))
    words = encoder.get_compressed().astype('>u4').tobytes()
    made = coded(found, row_intervals(rows))
    # Theirs has whole words of an inner point, ours is cut to what the interval needs.
    assert len(made) <= len(words)
    whole = 4 * encoder.pos()[0]
    assert made.ljust(whole, b'\0')[:whole] == words[:whole]
