# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The codecs to compare with keep within their bytes and give back an image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stl_conveyor.errors import ConfigError
from stl_conveyor_lab.references import BestQuality, ProgressivePrefix, find_codec, image_codecs
from stl_conveyor_lab.train.tiny import tiny_images

IMAGES = tiny_images(4, 6, seed=9)[0]
CODECS = pytest.mark.parametrize('codec', image_codecs(), ids=lambda codec: codec.name)


@CODECS
@settings(deadline=None, max_examples=8)
@given(number=st.integers(0, 3), size=st.integers(30, 4000))
def test_bytes_hold_and_pixels_come_back(codec, number, size):
    data = codec.encode(IMAGES[number], size)
    if data is None:
        assert size < 1000
        return
    assert len(data) <= size
    image = codec.decode(data, 160)
    assert image.shape == (160, 160, 3) and image.dtype == np.uint8


@CODECS
def test_many_bytes_give_a_good_image(codec):
    image = codec.decode(codec.encode(IMAGES[0], 20_000), 160)
    assert np.abs(image.astype(int) - IMAGES[0]).mean() < 8


@CODECS
def test_several_sizes_at_once_give_what_each_gives_alone(codec):
    sizes = (100, 700, 350, 1500)
    assert codec.encode_all(IMAGES[2], sizes) == [codec.encode(IMAGES[2], n) for n in sizes]


@CODECS
@settings(deadline=None, max_examples=6)
@given(size=st.integers(30, 3000), packet_bytes=st.integers(20, 800))
def test_packets_joined_are_the_stream(codec, size, packet_bytes):
    packets = codec.packets(IMAGES[3], size, packet_bytes)
    assert b''.join(packets) == (codec.encode(IMAGES[3], size) or b'')
    if codec.streams:
        for n in range(1, len(packets) + 1):
            assert codec.decode(b''.join(packets[:n]), 160).shape == (160, 160, 3)
        assert all(len(packet) <= packet_bytes for packet in packets[1:])
    else:
        assert len(packets) <= 1


def test_a_prefix_that_ends_in_the_header_of_the_first_scan_is_none():
    codec = next(codec for codec in image_codecs() if 'prefix' in codec.name)
    shortest = next(size for size in range(3000) if codec.encode(IMAGES[3], size))
    data = codec.encode(IMAGES[3], 3000)
    header = data.index(b'\xff\xda') + 2
    assert shortest == header + int.from_bytes(data[header : header + 2], 'big')
    assert codec.decode(codec.encode(IMAGES[3], shortest), 160).shape == (160, 160, 3)


def test_codecs_are_found_by_their_slugs():
    slugs = [codec.slug for codec in image_codecs()]
    assert len(set(slugs)) == len(slugs) and 'webp_6_may_downscale' in slugs
    assert [find_codec(slug).name for slug in slugs] == [codec.name for codec in image_codecs()]
    with pytest.raises(ConfigError, match='webp_0'):
        find_codec('gif')


def test_a_downscaled_file_has_the_least_error_of_all_scales():
    codec = BestQuality('WEBP', method=0, downscale=True)
    whole = BestQuality('WEBP', method=0)

    def error(data):
        return np.square(codec.decode(data, 160).astype(float) - IMAGES[1]).mean()

    for size in (150, 400, 2000):
        plain = whole.encode(IMAGES[1], size)
        assert plain is None or error(codec.encode(IMAGES[1], size)) <= error(plain)


def test_downscaling_fits_where_the_whole_image_does_not():
    image = np.random.default_rng(0).integers(0, 256, (160, 160, 3)).astype(np.uint8)
    assert BestQuality('JPEG').encode(image, 450) is None
    assert len(BestQuality('JPEG', downscale=True).encode(image, 450)) <= 450


def test_longer_prefixes_come_closer():
    codec = ProgressivePrefix(quality=90)
    whole = codec.encode(IMAGES[1], 1 << 20)
    errors = [
        np.abs(codec.decode(whole[:size], 160).astype(int) - IMAGES[1]).mean()
        for size in (len(whole) // 2, len(whole))
    ]
    assert errors[1] < errors[0]
    assert codec.encode(IMAGES[1], 10) is None
