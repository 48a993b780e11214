# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Other people's cameras: none, another type or name, encodings, sizes, bursts, free running."""

from __future__ import annotations

import array
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from stl_conveyor.nodes.base.clock import to_ns, to_stamp
from stl_conveyor.nodes.base.runner import NodeSpec
from stl_conveyor.nodes.device.camera import Camera
from stl_conveyor_lab.bench.line.frames import RATE, crop_of, frame
from stl_conveyor_lab.bench.line.parts import CELL, described_cell
from stl_conveyor_lab.bench.line.pictures import (
    COLOUR,
    COLOURLESS,
    Picture,
    Spot,
    middle_of_part,
    picture,
)
from stl_conveyor_lab.bench.line.rig import SAID_WITHIN, Rig, said_after
from stl_conveyor_lab.bench.line.situation import Finding, Situation, variations

TOPIC = 'camera/image_raw'
SLOWEST = SAID_WITHIN + 0.6  # s: what is known is on /diagnostics with the next report
SIDE = 100  # pixels of the coloured part
NEAR = 14  # grey values by which a colour may be off after subsampling and rounding


def play_silence(
    trigger: str, published: str = '', kind: type = Image, words: Sequence[str] = (TOPIC,)
) -> Finding:
    """Play a camera that is not there, or is there under another name or type.

    Args:
        published: What somebody publishes instead, at 10 Hz.
        words: Of which the complaint contains one.
    """
    with Rig(NodeSpec(Camera, {'trigger': trigger})) as rig:
        since = time.monotonic() if published else rig.began
        publisher = rig.stranger(kind, published) if published else None
        there = rig.began if publisher is None else time.monotonic()
        begin = rig.time.now()
        for tick in range(int(10 * SLOWEST)):
            rig.time.wait_until(begin + 0.1 * tick)
            if rig.account.first_word('camera', *words, since=since):
                break
            if publisher is not None:
                publisher.publish(MAKE[kind](rig.now_ns()))
        after, said = said_after(rig, 'camera', since, *words, there=there)
        captures = len(rig.captures())
        complaints = '; '.join(rig.account.complaints('camera'))
        taken = kind is CompressedImage and captures > 0  # as good as a word
        figure = f'{captures} frames taken' if taken else said
        return Finding(figure, taken or (after is not None and after <= SLOWEST), complaints)


def compressed(image: Picture, stamp_ns: int, suffix: str = '.jpg') -> CompressedImage:
    """Return a picture u8[H, W, 3] in RGB as a message, compressed by OpenCV."""
    import cv2

    done, data = cv2.imencode(suffix, image[:, :, ::-1])
    if not done:
        raise ValueError(f'OpenCV writes no {suffix}')
    kind = {'.jpg': 'rgb8; jpeg compressed bgr8', '.png': 'rgb8; png compressed bgr8'}[suffix]
    return CompressedImage(
        header=Header(stamp=to_stamp(stamp_ns), frame_id='camera'),
        format=kind,
        data=array.array('B', data.tobytes()),
    )


MAKE: Mapping[type, Callable[[int], object]] = {
    CompressedImage: lambda stamp_ns: compressed(picture(), stamp_ns),
    Header: lambda stamp_ns: Header(stamp=to_stamp(stamp_ns)),
    Image: lambda stamp_ns: frame(picture(), stamp_ns),
}


def play_encodings(encodings: Sequence[str]) -> Finding:
    """Play a part of one colour, in each encoding; its colour in the crop must be that."""
    image = picture([Spot(120, 160, SIDE, SIDE)], colour=COLOUR)
    with Rig(NodeSpec(Camera)) as rig:
        frames = rig.publisher(Image, TOPIC)
        right: list[str] = []
        wrong: list[str] = []
        for encoding in encodings:
            before = len(rig.captures())
            frames.publish(frame(image, rig.now_ns(), encoding))
            _wait_for(rig, before + 1)
            new = rig.captures()[before:]
            off = _colour_off(crop_of(new[0]), encoding) if new else 'refused'
            (wrong if off else right).append(f'{encoding} {off}'.strip())
        complaints = '; '.join(rig.account.complaints('camera'))
        return Finding.items(len(right), len(encodings), 'taken', '; '.join([*wrong, complaints]))


def _wait_for(rig: Rig, captures: int) -> None:
    rig.wait(lambda: len(rig.captures()) >= captures, 1.0)


def _colour_off(crop: Picture, encoding: str) -> str:
    """Return in words how the colour in the middle of a crop is wrong; empty = it is right."""
    middle = crop.shape[0] // 2
    part = crop[middle - 20 : middle + 20, middle - 20 : middle + 20].astype(float)
    seen = part.reshape(-1, 3).mean(axis=0)
    expected = np.array(COLOUR, float)
    if encoding in COLOURLESS:
        expected = np.full(3, expected @ (0.299, 0.587, 0.114))
    if np.abs(seen - expected).max() <= NEAR:
        return ''
    return 'is ' + '/'.join(f'{value:.0f}' for value in seen)


def play_compressed(suffix: str, parameters: Mapping[str, object]) -> Finding:
    """Play a driver that publishes compressed pictures of a coloured part only."""
    image = picture([Spot(120, 160, SIDE, SIDE)], colour=COLOUR)
    count = 4
    with Rig(NodeSpec(Camera, parameters)) as rig:
        frames = rig.publisher(CompressedImage, f'{TOPIC}/compressed')
        for number in range(count):
            rig.time.wait_until(0.3 * number)
            frames.publish(compressed(image, rig.now_ns(), suffix))
        rig.wait(lambda: len(rig.captures()) >= count, 1.0)
        wrong = [off for c in rig.captures() if (off := _colour_off(crop_of(c), 'rgb8'))]
        return Finding.items(
            len(rig.captures()) - len(wrong),
            count,
            'taken',
            '; '.join([*wrong, *rig.account.complaints('camera')]),
        )


def play_size(size: tuple[int, int]) -> Finding:
    """Play pictures of another size (rows, columns) of the same belt, with a part of 30 mm."""
    scale = size[0] / CELL.camera.image_height
    extent = 0.03 * CELL.camera.pixels_per_metre  # pixels in the cell file's picture
    image = picture([Spot(size[0] / 2, size[1] / 2, extent * scale, extent * scale)], size)
    with Rig(NodeSpec(Camera)) as rig:
        frames = rig.publisher(Image, TOPIC)
        since = time.monotonic()
        for number in range(8):
            rig.time.wait_until(0.3 * number)
            frames.publish(frame(image, rig.now_ns()))
            if rig.wait(lambda: rig.captures() or rig.account.first_word('camera'), 0.25):
                break
        rig.wait(lambda: rig.captures() or rig.account.first_word('camera'), 0.5)
        captures = rig.captures()
        complaints = '; '.join(rig.account.complaints('camera'))
        if not captures:
            after, words = said_after(rig, 'camera', since)
            return Finding(f'refused, {words}', after is not None, complaints)
        crop = crop_of(captures[0])
        seen = float((crop[:, :, 0] > 130).sum()) ** 0.5
        off = middle_of_part(crop)
        return Finding(
            f'a part of 30 mm is {seen:.0f} px, {extent:.0f} is right',
            abs(seen - extent) <= 2 and off is not None,
            complaints,
        )


def play_free_running(rate: float, size: tuple[int, int] = (240, 320)) -> Finding:
    """Play a camera that runs freely over an empty belt, with the defaults of the node."""
    with Rig(NodeSpec(Camera)) as rig:
        frames = rig.publisher(Image, TOPIC)
        since = time.monotonic()
        for number in range(int(SLOWEST * rate)):
            rig.time.wait_until(number / rate)
            frames.publish(frame(picture(size=size), rig.now_ns()))
            if rig.account.first_word('camera', since=since):
                break
        rig.wait(lambda: rig.account.first_word('camera', since=since), 0.3)
        after, words = said_after(rig, 'camera', since)
        return Finding(
            f'{len(rig.captures())} items, {words}',
            after is not None and after <= SLOWEST,
            '; '.join(rig.account.complaints('camera')),
        )


def play_bursts(
    size: tuple[int, int], burst: int, gap: float, bursts: int = 8, best_effort: bool = False
) -> Finding:
    """Play a triggered camera that hands over its pictures in bursts; each shows an item.

    Args:
        gap: Seconds between the pictures of a burst.
    """
    image = frame(picture(size=size), 0)
    described = {'camera.image_height': size[0], 'camera.image_width': size[1]}
    with described_cell(described) as cell_file:
        return _play_bursts(image, burst, gap, bursts, best_effort, cell_file)


def _play_bursts(
    image: Image, burst: int, gap: float, bursts: int, best_effort: bool, cell_file: str
) -> Finding:
    with Rig(NodeSpec(Camera, {'cell_file': cell_file})) as rig:
        frames = rig.publisher(Image, TOPIC, reliable=not best_effort)
        sent = []
        for number in range(bursts):
            rig.time.wait_until(0.3 + 0.35 * number)
            for _ in range(burst):
                stamp_ns = rig.now_ns()
                image.header.stamp = to_stamp(stamp_ns)
                sent.append(stamp_ns)
                frames.publish(image)
                if gap:
                    time.sleep(gap)
        rig.wait(lambda: len(rig.captures()) >= len(sent), 2.0)
        got = {to_ns(capture.header.stamp) for capture in rig.captures()}
        return Finding.items(
            len(got.intersection(sent)),
            len(sent),
            detail='; '.join(rig.account.complaints('camera')),
        )


SILENCE = variations(
    'camera-silent',
    'said within 2 s, with the remedy',
    play_silence,
    {
        'nobody-trigger-frame': {'trigger': 'frame'},
        'nobody-trigger-beam': {'trigger': 'beam'},
        'nobody-trigger-image': {'trigger': 'image'},
        'compressed-only': {
            'trigger': 'frame',
            'published': f'{TOPIC}/compressed',
            'kind': CompressedImage,
            'words': ('compressed',),
        },
        'another-type': {
            'trigger': 'frame',
            'published': TOPIC,
            'kind': CompressedImage,
            'words': ('type', 'CompressedImage'),
        },
        'header-on-its-name': {
            'trigger': 'beam',
            'published': TOPIC,
            'kind': Header,
            'words': ('type', 'Header'),
        },
        'another-name': {
            'trigger': 'frame',
            'published': 'image_raw',
            'words': ('image_raw: nobody',),
        },
    },
)

ENCODINGS = variations(
    'encoding',
    'every one taken, in its colours',
    play_encodings,
    {
        'plain': {'encodings': ('rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8')},
        'opencv': {'encodings': ('8UC1', '8UC3', 'mono16')},
        'yuv422': {'encodings': ('yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv')},
        'nv': {'encodings': ('nv12', 'nv21')},
        'bayer': {'encodings': ('bayer_rggb8', 'bayer_bggr8', 'bayer_gbrg8', 'bayer_grbg8')},
    },
)

COMPRESSED = variations(
    'compressed',
    'every picture taken, in its colours',
    play_compressed,
    {
        'jpeg': {'suffix': '.jpg', 'parameters': {'image_transport': 'compressed'}},
        'png': {'suffix': '.png', 'parameters': {'image_transport': 'compressed'}},
    },
)

SIZES = variations(
    'picture-size',
    'refused with a word, or the crop has the scale of the cell file',
    play_size,
    {
        '320x240': {'size': (240, 320)},
        '640x480': {'size': (480, 640)},
        '160x120': {'size': (120, 160)},
        '1280x720': {'size': (720, 1280)},
    },
)

FREE = variations(
    'free-running',
    'said within 2 s that more items come than the belt can bring',
    play_free_running,
    {'30Hz': {'rate': RATE}, '15Hz': {'rate': 15.0}, '60Hz': {'rate': 60.0}},
)

BURSTS = variations(
    'burst',
    'every picture an item',
    play_bursts,
    {
        '5x320x240': {'size': (240, 320), 'burst': 5, 'gap': 0.0},
        '5x640x480': {'size': (480, 640), 'burst': 5, 'gap': 0.0},
        '3x640x480-2ms': {'size': (480, 640), 'burst': 3, 'gap': 0.002},
        '8x320x240': {'size': (240, 320), 'burst': 8, 'gap': 0.0},
    },
)

SITUATIONS: tuple[Situation, ...] = (*SILENCE, *ENCODINGS, *COMPRESSED, *SIZES, *FREE, *BURSTS)
