# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""ST as real byte strings: whole features, static codes, what is missing is zero."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_st import make_tiny_st

from stl_conveyor.errors import BadPacket, ModelFileError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor_lab.references import StCodec, find_codec, trained_codecs
from stl_conveyor_lab.references.huffman import HuffmanTable, code_lengths
from stl_conveyor_lab.references.st import StCode, padded, padded_side
from stl_conveyor_lab.train.tiny import tiny_images

LABELS = ('red', 'green', 'blue')
IMAGES = tiny_images(3, 3, seed=4)[0]


@pytest.fixture(scope='module')
def references(tmp_path_factory):
    folder = make_tiny_st(tmp_path_factory.mktemp('references'), LABELS)
    make_tiny_st(folder, LABELS, role='st_fixed_2', features=2)
    return folder


@pytest.fixture(scope='module')
def codec(references):
    return StCodec(ModelFolder(references))


@settings(deadline=None, max_examples=40)
@given(counts=st.lists(st.integers(1, 10_000), min_size=2, max_size=64), data=st.data())
def test_huffman_gives_back_what_was_coded(counts, data):
    table = HuffmanTable(counts)
    symbols = np.array(
        data.draw(st.lists(st.integers(0, len(counts) - 1), min_size=1, max_size=50))
    )
    coded = table.encode(symbols)
    found, used = table.decode(coded + b'what follows', len(symbols))
    assert np.array_equal(found, symbols) and used == len(coded)
    if len(coded) > 1:
        assert table.decode(coded[:-1], len(symbols)) is None


@settings(deadline=None, max_examples=40)
@given(counts=st.lists(st.integers(1, 10_000), min_size=1, max_size=64))
def test_an_independent_huffman_code_has_words_as_long(counts):
    library = pytest.importorskip('constriction', reason='has wheels for some platforms only')
    share = np.asarray(counts, np.float64) / np.sum(counts)
    tree = library.symbol.huffman.EncoderHuffmanTree(share.astype(np.float32))
    for symbol, length in enumerate(code_lengths(counts)):
        queue = library.symbol.QueueEncoder()
        queue.encode_symbol(symbol, tree)
        assert queue.get_compressed()[1] == length


def test_frequent_levels_get_short_codes():
    table = HuffmanTable([1000, 10, 10, 1])
    assert len(table.encode(np.zeros(80, int))) == 10
    assert len(table.encode(np.full(80, 3))) == 30


@pytest.mark.parametrize('size, side', [(160, 161), (224, 224), (7, 7), (8, 14)])
def test_sides_become_multiples_of_seven(size, side):
    images = np.arange(size * size * 3, dtype=np.uint8).reshape(1, size, size, 3)
    assert padded_side(size) == side
    made = padded(images)
    assert made.shape == (1, side, side, 3)
    assert np.array_equal(made[:, :size, :size], images)
    assert (made[0, -1] == made[0, size - 1]).all()


def test_features_arrive_whole_or_not_at_all(codec):
    packets = codec.packets(IMAGES[0], 1 << 20)
    ends = np.cumsum([len(packet) for packet in packets])
    assert len(packets) == 10
    levels = codec.levels(IMAGES[0])
    for k in (0, 1, 2, 9):
        for size in (int(ends[k]), int(ends[k]) + 3):
            data = codec.encode(IMAGES[0], size)
            assert data == b''.join(packets[: k + 1])
            found = codec.decode_levels(data)
            assert np.array_equal(found[: k + 1], levels[: k + 1]) and not found[k + 1 :].any()
    cut = codec.decode_levels(b''.join(packets)[: int(ends[1]) + 5])
    assert np.array_equal(cut[:2], levels[:2]) and not cut[2:].any()
    assert codec.encode(IMAGES[0], int(ends[0]) - 1) is None
    with pytest.raises(BadPacket):
        codec.decode_levels(packets[0][:-1])


def test_more_features_come_closer_and_the_image_has_its_size(codec):
    packets = codec.packets(IMAGES[1], 1 << 20)
    errors = [
        np.abs(codec.decode(b''.join(packets[:k]), 160).astype(int) - IMAGES[1]).mean()
        for k in (1, 3)
    ]
    assert errors[1] < errors[0] and errors[1] < 20


def test_without_tail_drop_all_features_go_together(references):
    codec = StCodec(ModelFolder(references), 'st_fixed_2')
    (whole,) = codec.packets(IMAGES[2], 1 << 20)
    assert not codec.streams
    assert codec.encode(IMAGES[2], len(whole) - 1) is None
    assert not codec.decode_levels(whole)[2:].any() and codec.decode_levels(whole)[1].any()


def test_a_reference_folder_names_its_codecs(references):
    assert [codec.slug for codec in trained_codecs(ModelFolder(references))] == [
        'st',
        'st_fixed_2',
    ]
    assert find_codec('st_fixed_2', references).name == 'ST, no tail drop, K = 2'


def test_a_broken_code_file_is_named(tmp_path):
    (tmp_path / 'code.json').write_text('{"name": "ST"}')
    with pytest.raises(ModelFileError, match='references.st'):
        StCode.load(tmp_path / 'code.json')
