# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Image messages become pixels, or are refused with the reason."""

from __future__ import annotations

import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.errors import BadImage, ConveyorError
from stl_conveyor.vision.image import (
    CHANNELS,
    crop_square,
    image_to_rgb,
    read_image,
    resize_height,
    resize_square,
)

RGB = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


def encoded(encoding, padding=0):
    """Return data and step of RGB in an encoding, with padded rows."""
    if encoding == 'mono8':
        pixels = RGB[:, :, :1]
    else:
        pixels = RGB[:, :, ::-1] if encoding.startswith('bgr') else RGB
        if CHANNELS[encoding] == 4:
            pixels = np.concatenate([pixels, np.full((5, 7, 1), 9, np.uint8)], axis=2)
    rows = np.pad(pixels.reshape(5, -1), ((0, 0), (0, padding)), constant_values=99)
    return rows.tobytes(), rows.shape[1]


@pytest.mark.parametrize('encoding', CHANNELS)
@pytest.mark.parametrize('padding', [0, 5])
def test_every_encoding_with_and_without_padding(encoding, padding):
    data, step = encoded(encoding, padding)
    expected = RGB if encoding != 'mono8' else RGB[:, :, :1].repeat(3, axis=2)
    for given_data in (data, array.array('B', data), np.frombuffer(data, np.uint8), list(data)):
        if isinstance(given_data, list):
            given_data = np.array(given_data, np.uint8)
        image = image_to_rgb(encoding, 5, 7, step, False, given_data)
        assert image.dtype == np.uint8 and image.flags.c_contiguous
        assert np.array_equal(image, expected)


def test_same_as_cv_bridge():
    cv_bridge = pytest.importorskip('cv_bridge', exc_type=ImportError)
    messages = pytest.importorskip('sensor_msgs.msg')
    for encoding in CHANNELS:
        data, step = encoded(encoding, 3)
        message = messages.Image(
            encoding=encoding, height=5, width=7, step=step, data=array.array('B', data)
        )
        assert np.array_equal(
            cv_bridge.CvBridge().imgmsg_to_cv2(message, 'rgb8'),
            image_to_rgb(encoding, 5, 7, step, 0, data),
        )


@pytest.mark.parametrize(
    'changes, named',
    [
        ({'encoding': 'yuv422'}, 'yuv422'),
        ({'encoding': ''}, 'encoding'),
        ({'height': 0}, '7 x 0'),
        ({'width': 10**6}, '1000000 x 5'),
        ({'step': 20}, 'step 20'),
        ({'step': 22}, 'data holds 105'),
        ({'data': b''}, 'data holds 0'),
        ({'data': np.zeros(105)}, 'data'),
        ({'data': None}, 'bytes'),
        ({'data': 'text'}, 'bytes'),
        ({'height': 2**31, 'step': 2**31}, 'pixels'),
    ],
)
def test_fields_that_do_not_fit_are_refused(changes, named):
    fields = {
        'encoding': 'rgb8',
        'height': 5,
        'width': 7,
        'step': 21,
        'is_bigendian': 0,
        'data': RGB.tobytes(),
        **changes,
    }
    with pytest.raises(BadImage, match=named):
        image_to_rgb(**fields)


@given(
    st.sampled_from([*CHANNELS, 'x']),
    st.integers(-2, 2**33),
    st.integers(-2, 300),
    st.integers(-2, 2**33),
    st.binary(max_size=200),
)
def test_any_fields_give_an_image_or_a_named_error(encoding, height, width, step, data):
    try:
        image = image_to_rgb(encoding, height, width, step, 0, data)
    except ConveyorError:
        return
    assert image.shape == (height, width, 3)


def test_crop_inside_and_beyond_the_border():
    image = np.arange(10 * 12 * 3, dtype=np.uint8).reshape(10, 12, 3)
    assert np.array_equal(crop_square(image, 4.5, 5.5, 4), image[3:7, 4:8])
    corner = crop_square(image, 0, 0, 5)
    assert corner.shape == (5, 5, 3)
    assert np.array_equal(corner[2:, 2:], image[:3, :3])
    assert (corner[:3, :3] == image[0, 0]).all()
    assert crop_square(image, 500, -500, 4).shape == (4, 4, 3)


def test_resize_keeps_the_right_size_and_the_middle():
    same = np.zeros((16, 16, 3), np.uint8)
    assert resize_square(same, 16) is same
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    assert (resize_square(wide, 5) == 200).all()
    assert resize_square(np.zeros((7, 3, 3), np.uint8), 32).shape == (32, 32, 3)


def test_image_files(tmp_path):
    pillow = pytest.importorskip('PIL.Image')
    pillow.fromarray(RGB).save(tmp_path / 'a.png')
    assert np.array_equal(read_image(tmp_path / 'a.png'), RGB)
    (tmp_path / 'b.png').write_bytes(b'not a picture')
    for name in ('b.png', 'none.png'):
        with pytest.raises(BadImage, match=name):
            read_image(tmp_path / name)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_resized_to_a_height_both_scales_are_the_same(height, width, wanted):
    image = resize_height(np.full((height, width, 3), 77, np.uint8), wanted)
    assert image.shape == (wanted, max(1, round(width * wanted / height)), 3)
    assert (image == 77).all()


@pytest.mark.parametrize('factor', [0.5, 2, 3, 4.5])
def test_a_place_keeps_its_part_of_the_picture(factor):
    height, width = round(240 * factor), round(320 * factor)
    image = np.zeros((height, width, 3), np.uint8)
    row, column, side = round(70 * factor), round(200 * factor), round(20 * factor)
    image[row : row + side, column : column + side] = 255
    weights = resize_height(image, 240)[:, :, 0].astype(float)
    rows, columns = np.mgrid[:240, :320]
    middle = [(grid * weights).sum() / weights.sum() + 0.5 for grid in (rows, columns)]
    expected = [(first + side / 2) / factor for first in (row, column)]
    assert middle == pytest.approx(expected, abs=0.1)
