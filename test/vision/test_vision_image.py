# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Pixels are cut out, resized and read from files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.errors import BadImage
from stl_conveyor.vision.image import crop_square, read_image, resize_height, resize_square

RGB = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


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
