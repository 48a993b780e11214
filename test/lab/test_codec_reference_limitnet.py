# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""LimitNet as real byte strings: the map first, latents by score, what is missing is zero."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_limitnet import make_tiny_limitnet

from stl_conveyor.errors import BadPacket, ModelFileError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor_lab.references import LimitNetCodec, find_codec
from stl_conveyor_lab.references.limitnet import CHANNELS, LimitNetCode, latent_order, map_side
from stl_conveyor_lab.train.tiny import tiny_images

LABELS = ('red', 'green', 'blue')
IMAGES = tiny_images(3, 3, seed=4)[0]
#: 64 values of the map, 5 bits each as all levels are as frequent.
MAP_BYTES = 40


@pytest.fixture(scope='module')
def references(tmp_path_factory):
    return make_tiny_limitnet(tmp_path_factory.mktemp('references'), LABELS)


@pytest.fixture(scope='module')
def codec(references):
    return LimitNetCodec(ModelFolder(references))


def test_the_whole_stream_gives_back_every_latent(codec):
    levels, _ = codec.levels(IMAGES[0])
    data = codec.encode(IMAGES[0], 1 << 20)
    found, arrived = codec.decode_levels(data)
    assert arrived == levels.size == CHANNELS * 20 * 20
    assert np.array_equal(found, levels)


@settings(deadline=None, max_examples=20)
@given(size=st.integers(MAP_BYTES + 2, 4000))
def test_a_prefix_of_any_length_is_the_latents_of_highest_score(codec, size):
    levels, saliency = codec.levels(IMAGES[1])
    data = codec.encode(IMAGES[1], size)
    whole = codec.encode(IMAGES[1], 1 << 20)
    assert data == whole[:size]
    found, arrived = codec.decode_levels(data)
    order = latent_order(saliency, 20)
    assert np.array_equal(found.ravel()[order[:arrived]], levels.ravel()[order[:arrived]])
    assert not found.ravel()[order[arrived:]].any()
    assert arrived == levels.size or len(data) == size


def test_without_the_map_and_a_latent_there_is_nothing(codec):
    first = codec.packets(IMAGES[2], 1 << 20, packet_bytes=1)[0]
    assert len(first) in (MAP_BYTES + 1, MAP_BYTES + 2)
    assert codec.encode(IMAGES[2], len(first)) == first
    assert codec.encode(IMAGES[2], len(first) - 1) is None
    assert codec.packets(IMAGES[2], len(first) - 1) == ()
    with pytest.raises(BadPacket, match='map'):
        codec.decode_levels(first[: MAP_BYTES - 1])
    with pytest.raises(BadPacket, match='latent'):
        codec.decode_levels(first[:MAP_BYTES])


def test_a_stream_may_be_cut_anywhere(codec):
    packets = codec.packets(IMAGES[0], 1000, packet_bytes=128)
    assert [len(packet) for packet in packets] == [128] * 7 + [104]
    assert b''.join(packets) == codec.encode(IMAGES[0], 1000)
    assert codec.streams and not codec.has_parts


def test_more_bytes_come_closer_and_the_image_has_its_size(codec):
    errors = [
        np.abs(codec.decode(codec.encode(IMAGES[1], size), 160).astype(int) - IMAGES[1]).mean()
        for size in (100, 400, 1 << 20)
    ]
    assert errors[2] < errors[1] < errors[0] and errors[2] < 20
    assert codec.decode(codec.encode(IMAGES[1], 100), 160).shape == (160, 160, 3)


def test_salient_latents_and_first_channels_go_first():
    saliency = np.zeros((8, 8), np.uint8)
    saliency[2, 5] = 31
    channel, rest = np.divmod(latent_order(saliency, 8), 64)
    position = list(zip(channel.tolist(), rest.tolist()))
    salient, other = 2 * 8 + 5, 0
    assert position[0] == (0, salient)
    # All of the saliency is worth five channels; of equal scores the first channel goes first.
    assert position.index((4, salient)) < position.index((0, other))
    assert position.index((0, other)) < position.index((5, salient)) < position.index((1, other))
    assert sorted(latent_order(saliency, 28)) == list(range(CHANNELS * 28 * 28))


@pytest.mark.parametrize('grid', (3, 8, 12, 20, 28))
def test_the_map_is_interpolated_linearly(grid):
    side = map_side(grid)
    rng = np.random.default_rng(grid)
    saliency = rng.integers(0, 32, (side, side)).astype(np.uint8)
    at = np.clip((np.arange(grid) + 0.5) * side / grid - 0.5, 0, side - 1)
    rows = np.stack([np.interp(at, np.arange(side), row) for row in saliency])
    large = np.stack([np.interp(at, np.arange(side), row) for row in rows.T]).T
    first = [index for index in latent_order(saliency, grid).tolist() if index < grid * grid]
    values = large.ravel()[first]
    assert (np.diff(values) < 1e-9).all()


def test_a_reference_folder_names_it(references):
    assert find_codec('limitnet', references).name == 'LimitNet'


def test_a_broken_code_file_is_named(tmp_path):
    (tmp_path / 'code.json').write_text('{"name": "LimitNet"}')
    with pytest.raises(ModelFileError, match='references.limitnet'):
        LimitNetCode.load(tmp_path / 'code.json')
