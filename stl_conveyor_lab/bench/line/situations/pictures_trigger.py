# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Items that are found in free-running pictures: `trigger: image`, and `stl-conveyor collect`.

Most play the pure core as `collect` joins it, over pictures made here or rendered by the shipped
simulation; the last ones play the real camera node over DDS. The figure is how many items are
found of how many passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import process_time

from sensor_msgs.msg import Image

from stl_conveyor.cli.collect import ItemCropper
from stl_conveyor.nodes.base.runner import NodeSpec
from stl_conveyor.nodes.device.camera import Camera
from stl_conveyor.vision.item_detector import Travel
from stl_conveyor.vision.item_tracker import ItemTracker
from stl_conveyor_lab.bench.line.frames import frame
from stl_conveyor_lab.bench.line.motion import Motion, Stretch, ramp, stops
from stl_conveyor_lab.bench.line.parts import CELL
from stl_conveyor_lab.bench.line.pictures import BELT, BRIGHT, Picture
from stl_conveyor_lab.bench.line.rendered import (
    FED,
    Placed,
    RenderedScene,
    bars,
    catalogue,
    play_rendered,
)
from stl_conveyor_lab.bench.line.rig import Rig
from stl_conveyor_lab.bench.line.scene import SPEED, Lying, Scene, train
from stl_conveyor_lab.bench.line.situation import Finding, Situation, variations

EMPTY = 3.0  # s
BEGIN_NS = 1_000_000_000_000_000_000
RIGHT = 'n parts, n items'
#: Share of a part that its crop shows, where the part is no longer than the crop.
WHOLE = 0.95
THRESHOLD, MIN_AREA = 24.0, 400
WARMED = 4  # pictures after which the background is there
AT_MOST = 1 / 20 / 3  # s


def crops_of(pictures: Iterable[tuple[float, Picture]], travel: str) -> list[Picture]:
    """Return what is cut out of pictures u8[H, W, 3] with their times (s)."""
    crops: list[Picture] = []
    cropper = ItemCropper(CELL, 'image', travel, THRESHOLD, MIN_AREA, crops.append)
    for time, image in pictures:
        cropper.on_frame(image, BEGIN_NS + round(time * 1e9))
    return crops


def play(scene: Scene) -> Finding:
    """Play a scene to the core."""
    return Finding.items(len(crops_of(scene.pictures(), scene.travel)), scene.expected)


def play_collect(length: float, rate: float, count: int = 4) -> Finding:
    """Play parts to `collect`; each must be kept once, and whole."""
    parts = train(count, length, 0.2, width=0.012)
    seconds = (parts[-1].place + length) / SPEED + 0.3
    crops = crops_of(Scene(parts, seconds, count, rate=rate).pictures(), 'up')
    pixels = length * 0.012 * CELL.camera.pixels_per_metre**2
    level = (BELT + BRIGHT) / 2
    shares = [float((crop[:, :, 0] > level).sum()) / pixels for crop in crops]
    whole = sum(share >= WHOLE for share in shares)
    return Finding.items(len(crops), count, 'pictures').and_also(
        whole == len(crops), f'{whole} show the whole part'
    )


def play_time(factor: int) -> Finding:
    """Measure how long a core works on a picture of a belt with marks and parts on it.

    Args:
        factor: By how many times finer than usual the picture is.
    """
    scene = Scene(train(20, 0.03, 0.04, first=0.05), 2.0, 0, rate=20.0, texture=4.0)
    scale = factor * CELL.camera.pixels_per_metre
    tracker = ItemTracker(Travel.UP, CELL.belt.speed, scale, min_area=MIN_AREA * factor**2)
    times = []
    for time, picture in scene.pictures():
        image = picture.repeat(factor, 0).repeat(factor, 1)
        begin = process_time()
        tracker.update(image, BEGIN_NS + round(time * 1e9))
        times.append(process_time() - begin)
    times = sorted(times[WARMED:])
    median, most = times[len(times) // 2], times[int(0.95 * len(times))]
    return Finding(
        f'{1000 * median:.1f} ms of a core, 95 % within {1000 * most:.1f} ms', median < AT_MOST
    )


def play_node(scene: Scene) -> Finding:
    """Play a scene to the real camera node over DDS, in real time."""
    with Rig(NodeSpec(Camera, {'trigger': 'image', 'travel': scene.travel})) as rig:
        frames = rig.publisher(Image, 'camera/image_raw')
        for time, image in scene.pictures():
            rig.time.wait_until(time)
            frames.publish(frame(image, rig.time.stamp_ns(time)))
        rig.wait(lambda: len(rig.captures()) > scene.expected, 0.5)
        return Finding.items(
            len(rig.captures()), scene.expected, detail='; '.join(rig.account.complaints('camera'))
        )


def _passing(parts: Sequence[Lying], expected: int | None = None, **more: object) -> Scene:
    """Return a scene that ends when the last part is out of the picture."""
    last = max(part.place + part.length / 2 for part in parts)
    motion = more.get('motion', Motion([], SPEED))
    assert isinstance(motion, Motion)
    seconds = motion.time_at(last + 0.08) + 0.2
    return Scene(parts, seconds, len(parts) if expected is None else expected, **more)  # type: ignore[arg-type]


def _step(at: float, change: float, until: float = float('inf')) -> object:
    return lambda time: change if at <= time < until else 0.0


def _lamp(at: float, first: float, then: float) -> object:
    return lambda time: first if time < at else then


def _standing(at: float, stand: float) -> Motion:
    """Return a belt that stops when a part that begins at .3 m is `at` (m) past the middle."""
    return stops((0.3 + 0.012 + at) / SPEED, stand, SPEED)


ONE = train(1, 0.024, 0.0)
EIGHT = train(8, 0.02, 0.18, first=0.8)
TWO_BESIDE = (*train(1, 0.024, 0.0, across=-0.035), *train(1, 0.024, 0.0, across=0.035))
MIXED = (
    Lying(0.35, 0.02),
    Lying(0.43, 0.08, width=0.012),
    Lying(0.55, 0.03, 0.02),
    Lying(0.72, 0.14, width=0.02),
    Lying(0.87, 0.02, -0.03),
)

CORE: dict[str, dict[str, object]] = {
    **{
        f'ten-of-{round(1000 * length)}mm': {'scene': _passing(train(10, length, 0.08))}
        for length in (0.02, 0.04, 0.048, 0.08, 0.14)
    },
    'one': {'scene': _passing(ONE)},
    '60-of-30mm': {'scene': _passing(train(60, 0.03, 0.1))},
    '200-of-24mm': {'scene': _passing(train(200, 0.024, 0.08), rate=20.0)},
    'mixed-lengths': {'scene': _passing(MIXED)},
    '5mm-apart': {'scene': _passing(train(2, 0.024, 0.005))},
    'six-5mm-apart': {'scene': _passing(train(6, 0.024, 0.005))},
    '12mm-apart-textured': {'scene': _passing(train(4, 0.03, 0.012), texture=4.0)},
    'side-by-side': {'scene': _passing(TWO_BESIDE)},
    'side-by-side-half-a-length-behind': {
        'scene': _passing((*train(1, 0.024, 0.0, across=-0.035), Lying(0.324, 0.024, 0.035)))
    },
    'empty-10s': {'scene': Scene((), 10.0, 0)},
    'empty-textured-10s': {'scene': Scene((), 10.0, 0, texture=8.0)},
    'textured-eight': {'scene': _passing(EIGHT, texture=8.0)},
    'stands-2s-just-past-middle': {'scene': _passing(ONE, motion=_standing(0.004, 2.0))},
    'stands-2s-just-before-middle': {'scene': _passing(ONE, motion=_standing(-0.004, 2.0))},
    'stands-2s-half-in': {'scene': _passing(ONE, motion=_standing(-0.06, 2.0))},
    'stands-60s-past-middle': {'scene': _passing(ONE, motion=_standing(0.004, 60.0), rate=10.0)},
    'stands-20s-textured': {
        'scene': _passing(ONE, motion=_standing(0.01, 20.0), rate=20.0, texture=6.0)
    },
    'jogged-back-over-middle': {
        'scene': _passing(
            ONE,
            motion=Motion(
                [Stretch(0.8, SPEED), Stretch(0.5, 0.0), Stretch(0.4, -0.1), Stretch(0.5, 0.0)],
                SPEED,
            ),
        )
    },
    'lamp-step-up-empty': {'scene': Scene((), 8.0, 0, light=_step(1.0, 40.0))},  # type: ignore[arg-type]
    'lamp-step-up-then-eight': {'scene': _passing(EIGHT, light=_step(1.0, 40.0))},
    'lamp-step-down-then-eight': {'scene': _passing(EIGHT, light=_step(1.0, -35.0))},
    'lamp-step-between-parts': {'scene': _passing(EIGHT, light=_step(2.85, 35.0))},
    'lamp-flickers-1-picture': {'scene': _passing(EIGHT, light=_step(1.5, 40.0, 1.53))},
    'dark-first-pictures-then-eight': {'scene': _passing(EIGHT, light=_step(0.0, -60.0, 0.1))},
    'light-drifts-then-eight': {
        'scene': _passing(EIGHT, light=lambda time: min(60.0, 15.0 * time))
    },
    'starts-with-part-past-middle': {
        'scene': Scene((Lying(-0.03),), 6.0, 0, motion=Motion([Stretch(1.0, 0.0)], SPEED))
    },
    'starts-with-part-before-middle': {
        'scene': Scene((Lying(0.03),), 6.0, 1, motion=Motion([Stretch(1.0, 0.0)], SPEED))
    },
    **{
        f'travels-{travel}': {'scene': _passing(EIGHT, travel=travel)}
        for travel in ('down', 'left', 'right')
    },
    '15-pictures-a-second': {'scene': _passing(EIGHT, rate=15.0)},
    '60-pictures-a-second': {'scene': _passing(EIGHT, rate=60.0)},
}

MIXED_BARS = tuple(
    Placed('bar', FED + place, length=length)
    for place, length in (
        (0.1, 0.02),
        (0.2, 0.14),
        (0.33, 0.03),
        (0.43, 0.08),
        (0.55, 0.048),
        (0.69, 0.12),
        (0.8, 0.024),
        (0.9, 0.06),
    )
)
FIVE = catalogue(5, 0.2, 5)
SOFT = 0.2  # s of a stop and a start, at which no part slides on the belt
#: Where the belt stops: with a part before, just past and far past the middle of the picture.
STANDS = Motion(
    [
        stretch
        for run, stand in ((1.24, 2.0), (0.355, 1.0), (0.4, 3.0))
        for stretch in (
            Stretch(run, SPEED),
            *ramp(SOFT, SPEED, 0.0),
            Stretch(stand, 0.0),
            *ramp(SOFT, 0.0, SPEED),
        )
    ],
    SPEED,
)

RENDERED: dict[str, dict[str, object]] = {
    'empty-belt-seed-5': {'scene': RenderedScene((), 5, EMPTY)},
    'empty-belt-seed-6': {'scene': RenderedScene((), 6, EMPTY)},
    'empty-belt-lamp-step': {
        'scene': RenderedScene((), 7, EMPTY, light=_lamp(1.0, 1.0, 0.7))  # type: ignore[arg-type]
    },
    'five-parts': {'scene': RenderedScene(FIVE, 5)},
    '1-to-200-parts': {'scene': RenderedScene(catalogue(200, 0.08, 21), 21)},
    'bars-of-20-to-140mm': {'scene': RenderedScene(MIXED_BARS, 8)},
    'two-5mm-apart': {'scene': RenderedScene(bars(2, 0.024, 0.005), 9)},
    'six-5mm-apart': {'scene': RenderedScene(bars(6, 0.024, 0.005), 10)},
    'three-pairs-side-by-side': {
        'scene': RenderedScene(
            (*bars(3, 0.03, 0.06, across=-0.03), *bars(3, 0.03, 0.06, across=0.03)), 11
        )
    },
    'stands-three-times': {'scene': RenderedScene(FIVE, 12, motion=STANDS)},
    'lamp-step-up-between-parts': {
        'scene': RenderedScene(FIVE, 13, light=_lamp(1.6, 0.7, 1.1))  # type: ignore[arg-type]
    },
    'lamp-step-down-with-a-part-in-the-picture': {
        'scene': RenderedScene(FIVE, 14, light=_lamp(1.35, 1.0, 0.7))  # type: ignore[arg-type]
    },
}

SITUATIONS: tuple[Situation, ...] = (
    *variations('image', RIGHT, play, CORE),
    *variations(
        'image-renders',
        'n parts of the shipped simulation, n items after each of them, in place',
        play_rendered,
        RENDERED,
    ),
    *variations(
        'image-time',
        'less than a third of the time between two pictures, of which 20 come a second',
        play_time,
        {'320x240': {'factor': 1}, '640x480': {'factor': 2}},
    ),
    *variations(
        'image-node',
        'n parts, n items, by the real camera node',
        play_node,
        {
            'ten-of-48mm': {'scene': _passing(train(10, 0.048, 0.08, first=0.2))},
            'stands-5s-past-middle': {'scene': _passing(ONE, motion=_standing(0.004, 5.0))},
            'lamp-step-then-four': {
                'scene': _passing(train(4, 0.02, 0.18, first=0.8), light=_step(1.0, 40.0))
            },
        },
    ),
    *variations(
        'collect',
        'each part kept once, and whole',
        play_collect,
        {
            '20mm-30Hz': {'length': 0.02, 'rate': 30.0},
            '40mm-30Hz': {'length': 0.04, 'rate': 30.0},
            '48mm-30Hz': {'length': 0.048, 'rate': 30.0},
            '40mm-60Hz': {'length': 0.04, 'rate': 60.0},
            '48mm-120Hz': {'length': 0.048, 'rate': 120.0},
            '60mm-15Hz': {'length': 0.06, 'rate': 15.0},
        },
    ),
)
