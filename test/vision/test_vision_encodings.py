# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Image messages of other people's cameras become pixels, or are refused with the reason."""

from __future__ import annotations

import array
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.errors import BadImage, ConveyorError, MissingDependency
from stl_conveyor.vision.bit_depth import DEPTHS, BitDepth, bits_of, to_8_bits
from stl_conveyor.vision.encodings import ENCODINGS, image_to_rgb, opencv_to_rgb

HEIGHT, WIDTH = 6, 8
#: Random colours of pixels, for what carries each pixel's own.
RGB = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
#: One colour over all, for what shares colours between pixels.
ORANGE = np.full((HEIGHT, WIDTH, 3), (210, 120, 30), np.uint8)
BAYER = {'rggb': (0, 1, 1, 2), 'bggr': (2, 1, 1, 0), 'gbrg': (1, 2, 0, 1), 'grbg': (1, 0, 2, 1)}
PACKED = [
    name
    for name, layout in ENCODINGS.items()
    if layout.rows == 2 and layout.channels != 2 and not name.startswith('bayer')
]
SHARED = [name for name in ENCODINGS if name not in PACKED]


def yuv(rgb):
    """Return Y, U and V as of ITU-R BT.601, 16..235 and 16..240: what cameras send."""
    red, green, blue = (rgb[..., k].astype(float) for k in range(3))
    y = 16 + 0.257 * red + 0.504 * green + 0.098 * blue
    u = 128 - 0.148 * red - 0.291 * green + 0.439 * blue
    v = 128 + 0.439 * red - 0.368 * green - 0.071 * blue
    return tuple(np.rint(plane).astype(np.uint8) for plane in (y, u, v))


def rows_of(encoding, rgb):
    """Return the rows of samples of a picture u8[H, W, 3] in an encoding, whatever its kind."""
    layout = ENCODINGS[encoding]
    height, width = rgb.shape[:2]
    if encoding.startswith('bayer'):
        rows = np.empty((height, width), np.uint8)
        for place, channel in enumerate(BAYER[encoding[6:10]]):
            rows[place // 2 :: 2, place % 2 :: 2] = rgb[place // 2 :: 2, place % 2 :: 2, channel]
    elif encoding in ('nv12', 'nv21', 'nv24'):
        y, u, v = yuv(rgb)
        pair = np.stack([v, u] if encoding == 'nv21' else [u, v], axis=2)
        pair = pair if encoding == 'nv24' else pair[::2, ::2]
        rows = np.concatenate([y, pair.reshape(-1, width)])
    elif layout.channels == 2:
        y, u, v = yuv(rgb)
        colour = np.where(np.arange(width) % 2, v, u)
        first = encoding.startswith(('yuv422_', 'yuy'))
        rows = np.stack([y, colour] if first else [colour, y], axis=2).reshape(height, -1)
    else:
        samples = rgb[:, :, :1] if layout.channels == 1 else rgb
        if encoding.startswith(('bgr', '8UC', '16UC')):
            samples = samples[:, :, ::-1]
        if layout.channels == 4:
            samples = np.concatenate([samples, np.full((height, width, 1), 255, np.uint8)], axis=2)
        rows = samples.reshape(height, -1)
    return rows.astype(np.uint16) * 257 if layout.sample_bytes == 2 else rows


def message_of(encoding, rgb, padding=0, bigendian=False):
    """Return step and data of a picture, with rows that are padded by some bytes."""
    rows = rows_of(encoding, rgb)
    if rows.dtype == np.uint16:
        rows = rows.astype('>u2' if bigendian else '<u2')
    rows = np.frombuffer(rows.tobytes(), np.uint8).reshape(len(rows), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    return rows.shape[1], rows.tobytes()


def converted(encoding, rgb, padding=0, bigendian=False):
    step, data = message_of(encoding, rgb, padding, bigendian)
    return image_to_rgb(encoding, *rgb.shape[:2], step, bigendian, data)


def test_every_encoding_that_cameras_send_is_taken():
    asked = 'rgb8 bgr8 rgba8 bgra8 mono8 mono16 8UC1 8UC3 8UC4 16UC1 yuv422 yuv422_yuy2 uyvy yuyv'
    asked += ' nv12 nv21 nv24 rgb16 bgr16'
    asked += ''.join(f' bayer_{order}{bits}' for order in BAYER for bits in (8, 16))
    assert set(asked.split()) <= set(ENCODINGS)


@pytest.mark.parametrize('bigendian', [False, True])
@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('encoding', PACKED)
def test_packed_pixels_keep_their_colours(encoding, padding, bigendian):
    image = converted(encoding, RGB, padding, bigendian)
    grey = ENCODINGS[encoding].channels == 1
    expected = RGB[:, :, :1].repeat(3, axis=2) if grey else RGB
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    assert np.array_equal(image, expected)


@pytest.mark.parametrize('bigendian', [False, True])
@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('encoding', SHARED)
def test_shared_colours_come_out_as_they_went_in(encoding, padding, bigendian):
    pytest.importorskip('cv2')
    image = converted(encoding, ORANGE, padding, bigendian)
    assert image.shape == ORANGE.shape
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    assert abs(image.astype(int) - ORANGE).max() <= 3
    # Light and dark stay where they are: a bright square on a dark belt.
    scene = np.full((24, 32, 3), 40, np.uint8)
    scene[8:16, 4:12] = 200
    seen = converted(encoding, scene, padding, bigendian)
    assert (seen[9:15, 5:11] > 190).all() and (seen[:6] < 50).all() and (seen[:, 14:] < 50).all()


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_data_may_come_in_whatever_holds_bytes(encoding):
    pytest.importorskip('cv2')
    step, data = message_of(encoding, ORANGE)
    first = image_to_rgb(encoding, HEIGHT, WIDTH, step, 0, data)
    array_of_bytes, pixels = array.array('B', data), np.frombuffer(data, np.uint8)
    for held in (bytearray(data), memoryview(data), array_of_bytes, pixels):
        assert np.array_equal(image_to_rgb(encoding, HEIGHT, WIDTH, step, 0, held), first)


def test_same_as_cv_bridge():
    cv_bridge = pytest.importorskip('cv_bridge', exc_type=ImportError)
    messages = pytest.importorskip('sensor_msgs.msg')
    for encoding in ('rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', 'yuv422', 'bayer_rggb8'):
        step, data = message_of(encoding, ORANGE, 3)
        message = messages.Image(
            encoding=encoding, height=HEIGHT, width=WIDTH, step=step, data=array.array('B', data)
        )
        assert np.array_equal(
            cv_bridge.CvBridge().imgmsg_to_cv2(message, 'rgb8'),
            image_to_rgb(encoding, HEIGHT, WIDTH, step, 0, data),
        )


@pytest.mark.parametrize('bits', DEPTHS)
@pytest.mark.parametrize('encoding', ['mono16', '16UC1', 'bgr16', 'rgba16', 'bayer_grbg16'])
def test_picture_of_fewer_bits_is_as_bright_as_one_of_sixteen(encoding, bits):
    pytest.importorskip('cv2')
    scene = np.full((24, 32, 3), 30, np.uint8)
    scene[8:16, 4:12] = 255

    def seen(rows):
        return image_to_rgb(encoding, 24, 32, 2 * rows.shape[1], 0, rows.astype('<u2').tobytes())

    rows = rows_of(encoding, scene)
    fewer = rows >> (16 - bits)
    if encoding == 'rgba16':
        fewer[:, 3::4] = 65535  # opaque
    assert abs(seen(fewer).astype(int) - seen(rows)).max() <= 1
    assert seen(fewer).max() == 255


def test_dark_picture_of_a_camera_is_not_made_brighter_than_the_others():
    depth = BitDepth()
    bright = np.full((4, 4), 4000, np.uint16)
    dark = np.full((4, 4), 400, np.uint16)

    def seen(values):
        return image_to_rgb('mono16', 4, 4, 8, 0, values.tobytes(), depth)[0, 0, 0]

    assert seen(bright) == round(4000 * 255 / 4095)
    assert seen(dark) == round(400 * 255 / 4095)
    assert depth.bits == 12
    assert image_to_rgb('mono16', 4, 4, 8, 0, dark.tobytes())[0, 0, 0] == round(400 * 255 / 1023)
    told = image_to_rgb('mono16', 4, 4, 8, 0, dark.tobytes(), BitDepth(14))
    assert told[0, 0, 0] == round(400 * 255 / 16383)


@given(st.sampled_from(DEPTHS), st.lists(st.integers(0, 65535), min_size=1, max_size=50))
def test_narrowing_keeps_order_ends_and_proportion(bits, values):
    held = np.array(values, np.uint16)
    narrow = to_8_bits(held, bits)
    largest = (1 << bits) - 1
    expected = np.rint(np.minimum(held, largest) * (255 / largest))
    assert np.array_equal(narrow, expected)
    assert bits_of(held) == min(b for b in DEPTHS if held.max() < 1 << b)


@pytest.mark.parametrize(
    'changes, named',
    [
        ({'encoding': 'yuv422', 'step': 30}, r'data holds 150 bytes|even number'),
        ({'encoding': '32FC1'}, "'32FC1' is not taken; publish one of rgb8, .*bayer_grbg16"),
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
        (
            {'encoding': 'nv12', 'height': 6, 'width': 8, 'step': 8},
            r'9 rows of 8 .*nv12 of 6 rows',
        ),
        ({'encoding': 'nv12', 'height': 5, 'width': 8}, 'even number'),
        ({'encoding': 'uyvy', 'width': 7}, 'even number'),
        ({'encoding': 'mono16', 'step': 13}, 'step 13 is shorter'),
        ({'encoding': 'bayer_rggb8', 'height': 2}, 'each side must be 3'),
    ],
)
def test_fields_that_do_not_fit_are_refused(changes, named):
    fields = {
        'encoding': 'rgb8',
        'height': 5,
        'width': 7,
        'step': 21,
        'is_bigendian': 0,
        'data': RGB[:5, :7].tobytes(),
        **changes,
    }
    with pytest.raises(BadImage, match=named):
        image_to_rgb(**fields)


@given(
    st.sampled_from([*ENCODINGS, 'x']),
    st.integers(-2, 40) | st.integers(-2, 2**33),
    st.integers(-2, 300),
    st.integers(-2, 400) | st.integers(-2, 2**33),
    st.booleans(),
    st.binary(max_size=200),
)
def test_any_fields_give_an_image_or_a_named_error(encoding, height, width, step, big, data):
    try:
        image = image_to_rgb(encoding, height, width, step, big, data)
    except ConveyorError:
        return
    assert image.shape == (height, width, 3)


@given(
    st.sampled_from(list(ENCODINGS)),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(0, 7),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_any_pixels_of_a_size_that_fits_give_an_image(encoding, rows, columns, pad, big, random):
    layout = ENCODINGS[encoding]
    height = max(layout.least, rows * layout.even[0])
    width = max(layout.least, columns * layout.even[1])
    step = width * layout.channels * layout.sample_bytes + pad
    data = random.randbytes(step * height * layout.rows // 2)
    assert image_to_rgb(encoding, height, width, step, big, data).shape == (height, width, 3)


def test_without_opencv_packed_pixels_are_taken_and_others_say_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv2', None)
    for encoding in PACKED:
        assert converted(encoding, RGB).shape == RGB.shape
    for encoding in SHARED:
        with pytest.raises(MissingDependency, match='python3-opencv'):
            converted(encoding, ORANGE)


@pytest.mark.parametrize(
    'samples, named',
    [
        (np.zeros((4, 4, 2), np.uint8), r'uint8 \(4, 4, 2\)'),
        (np.zeros((4, 4), np.float32), 'float32'),
        (np.zeros(4, np.uint8), r'\(4,\)'),
    ],
)
def test_what_opencv_hands_over_and_is_no_picture_is_refused(samples, named):
    with pytest.raises(BadImage, match=named):
        opencv_to_rgb(samples)
