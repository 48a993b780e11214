# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The codecs to compare with keep within their bytes and give back an image."""
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from stl_conveyor.codec.reference import BestQuality, ProgressivePrefix, reference_codecs
from stl_conveyor.training.tiny import tiny_images

IMAGES = tiny_images(4, 6, seed=9)[0]


@pytest.mark.parametrize('codec', reference_codecs(), ids=lambda codec: codec.name)
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


@pytest.mark.parametrize('codec', reference_codecs(), ids=lambda codec: codec.name)
def test_many_bytes_give_a_good_image(codec):
    image = codec.decode(codec.encode(IMAGES[0], 20_000), 160)
    assert np.abs(image.astype(int) - IMAGES[0]).mean() < 8


def test_downscaling_fits_where_the_whole_image_does_not():
    image = np.random.default_rng(0).integers(0, 256, (160, 160, 3)).astype(np.uint8)
    assert BestQuality('JPEG').encode(image, 450) is None
    assert len(BestQuality('JPEG', downscale=True).encode(image, 450)) <= 450


def test_longer_prefixes_come_closer():
    codec = ProgressivePrefix(90)
    whole = codec.encode(IMAGES[1], 1 << 20)
    errors = [np.abs(codec.decode(whole[:size], 160).astype(int) - IMAGES[1]).mean()
              for size in (len(whole) // 2, len(whole))]
    assert errors[1] < errors[0]
    assert codec.encode(IMAGES[1], 10) is None
