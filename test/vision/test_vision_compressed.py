# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""JPEG and PNG pictures in messages, with the formats that image_transport writes."""

from __future__ import annotations

import array
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

cv2 = pytest.importorskip('cv2', reason='compressed pictures need OpenCV')

from PIL import Image  # noqa: E402

from stl_conveyor.errors import BadImage, ConveyorError  # noqa: E402
from stl_conveyor.vision.bit_depth import BitDepth  # noqa: E402
from stl_conveyor.vision.compressed import compressed_to_rgb  # noqa: E402

HEIGHT, WIDTH = 40, 48


def scene():
    """Return RGB u8[H, W, 3]: an orange part on a blue belt, in areas that a JPEG keeps."""
    image = np.full((HEIGHT, WIDTH, 3), (20, 40, 160), np.uint8)
    image[16:32, 8:24] = (220, 120, 30)
    return image


SCENE = scene()


def encoded(pixels, suffix):
    """Return the file that OpenCV makes of pixels in its own order, as the plugins do."""
    good, data = cv2.imencode(suffix, pixels)
    assert good
    return data.tobytes()


@pytest.mark.parametrize(
    'format_text, suffix, pixels, tolerance',
    [
        ('bgr8; jpeg compressed bgr8', '.jpg', SCENE[:, :, ::-1], 12),
        ('rgb8; jpeg compressed bgr8', '.jpg', SCENE[:, :, ::-1], 12),
        # Of a publisher that has compressed RGB as if it were BGR.
        ('rgb8; jpeg compressed rgb8', '.jpg', SCENE, 12),
        ('jpeg', '.jpg', SCENE[:, :, ::-1], 12),
        ('jpg', '.jpg', SCENE[:, :, ::-1], 12),
        ('', '.jpg', SCENE[:, :, ::-1], 12),
        ('rgb8; png compressed bgr8', '.png', SCENE[:, :, ::-1], 0),
        ('rgb8; png compressed rgb8', '.png', SCENE, 0),
        ('png', '.png', SCENE[:, :, ::-1], 0),
        # The head of the file counts, not what is said of it.
        ('bgr8; jpeg compressed bgr8', '.png', SCENE[:, :, ::-1], 0),
        ('bgra8; png compressed bgr8', '.png', np.dstack([SCENE[:, :, ::-1], SCENE[:, :, 0]]), 0),
        ('bgr16; png compressed bgr16', '.png', SCENE[:, :, ::-1] * np.uint16(257), 0),
    ],
)
def test_colours_come_out_as_the_publisher_saw_them(format_text, suffix, pixels, tolerance):
    data = encoded(np.ascontiguousarray(pixels), suffix)
    for held in (data, array.array('B', data), np.frombuffer(data, np.uint8)):
        image = compressed_to_rgb(format_text, held)
        assert image.shape == SCENE.shape and image.dtype == np.uint8
        assert image.flags.c_contiguous
        # A JPEG shares colours between pixels, so not at the edge of the part.
        for area in ((slice(20, 28), slice(12, 20)), (slice(0, 12), slice(0, 48))):
            assert abs(image[area].astype(int) - SCENE[area]).max() <= tolerance


@pytest.mark.parametrize('bits', [8, 10, 12, 14, 16])
@pytest.mark.parametrize('format_text', ['mono16; png compressed ', 'mono16; png compressed'])
def test_grey_of_few_bits_is_not_black(format_text, bits):
    grey = SCENE[:, :, 0].astype(np.uint16) * 257
    grey[0, 0] = 65535
    image = compressed_to_rgb(format_text, encoded(grey >> (16 - bits), '.png'))
    assert abs(image.astype(int) - (grey >> 8)[:, :, np.newaxis]).max() <= 1


def test_depth_of_the_camera_is_kept_from_picture_to_picture():
    depth = BitDepth()
    compressed_to_rgb('png', encoded(np.full((4, 4), 4095, np.uint16), '.png'), depth)
    dark = compressed_to_rgb('png', encoded(np.full((4, 4), 800, np.uint16), '.png'), depth)
    assert dark[0, 0, 0] == round(800 * 255 / 4095)


@pytest.mark.parametrize('suffix, tolerance', [('.png', 0), ('.jpg', 30)])
@pytest.mark.parametrize('encoding', ['bayer_rggb8', 'bayer_gbrg16'])
def test_mosaic_that_was_compressed_as_it_is_gets_its_colours(encoding, suffix, tolerance):
    orange = (220, 120, 30)
    mosaic = np.empty((HEIGHT, WIDTH), np.uint8)
    for place, letter in enumerate(encoding[6:10]):
        mosaic[place // 2 :: 2, place % 2 :: 2] = orange['rgb'.index(letter)]
    kind = suffix.lstrip('.').replace('jpg', 'jpeg')
    if encoding.endswith('16') and kind == 'png':
        mosaic = mosaic.astype(np.uint16) * 257
    image = compressed_to_rgb(f'{encoding}; {kind} compressed ', encoded(mosaic, suffix))
    assert abs(image[4:-4, 4:-4].astype(int) - orange).max() <= tolerance


def png_of(width, height):
    """Return a PNG file of a few bytes whose head promises many pixels."""
    head = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    chunks = ((b'IHDR', head), (b'IDAT', zlib.compress(b'')), (b'IEND', b''))
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(body)) + name + body + struct.pack('>I', zlib.crc32(name + body))
        for name, body in chunks
    )


JPEG = encoded(SCENE[:, :, ::-1], '.jpg')
PNG = encoded(SCENE[:, :, ::-1], '.png')


def bitmap():
    held = io.BytesIO()
    Image.fromarray(SCENE).save(held, 'BMP')
    return held.getvalue()


@pytest.mark.parametrize(
    'format_text, data, named',
    [
        ('jpeg', b'', "'jpeg': 0 bytes"),
        ('jpeg', b'\xff\xd8', 'no picture of JPEG or PNG'),
        ('jpeg', JPEG[:-20], 'JPEG of .* cut off'),
        ('png', PNG[: len(PNG) // 2], 'PNG of .* cut off'),
        ('bmp', bitmap(), 'no picture of JPEG or PNG'),
        ('png', png_of(60_000, 60_000), 'pixels'),
        ('png', png_of(9_000, 9_000), '9000 x 9000 pixels: each side'),
        ('16UC1; compressedDepth png', PNG, 'distances'),
        ('jpeg', None, 'bytes'),
        ('jpeg', 'text', 'bytes'),
    ],
)
def test_what_is_no_picture_is_refused_by_name(format_text, data, named):
    with pytest.raises(BadImage, match=named):
        compressed_to_rgb(format_text, data)


def test_zeros_behind_a_jpeg_do_no_harm():
    assert compressed_to_rgb('jpeg', JPEG + bytes(512)).shape == SCENE.shape


@given(
    st.sampled_from([JPEG, PNG]),
    st.integers(0, 2**32),
    st.integers(0, 255),
    st.text(max_size=40) | st.sampled_from(['bayer_rggb8; jpeg compressed ', 'jpeg']),
)
def test_any_damage_gives_a_picture_or_a_named_error(data, place, value, format_text):
    damaged = bytearray(data)
    damaged[place % len(damaged)] = value
    try:
        image = compressed_to_rgb(format_text, damaged)
    except ConveyorError:
        return
    assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
