# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The belt stops with a part in the light barrier, or between it and the camera.

The real camera node reads barrier and belt encoder from pins of paper, and frames from a topic.
They follow a clock that the situation plays, in which every edge comes exactly when it must. The
figures: where the part is at the stamp of its capture, and where it lies in the crop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from sensor_msgs.msg import Image

from stl_conveyor.nodes.base.clock import to_ns
from stl_conveyor.nodes.base.runner import NodeSpec
from stl_conveyor.nodes.device.camera import Camera
from stl_conveyor.nodes.device.camera_settings import CameraSettings
from stl_conveyor_lab.bench.line.frames import RATE, crop_of, frame
from stl_conveyor_lab.bench.line.motion import Motion, stops
from stl_conveyor_lab.bench.line.parts import CELL
from stl_conveyor_lab.bench.line.pictures import Spot, middle_of_part, picture
from stl_conveyor_lab.bench.line.pins import mock_pins
from stl_conveyor_lab.bench.line.rig import PlayedTime, Rig
from stl_conveyor_lab.bench.line.situation import Finding, Situation, variations

SPEED = CELL.belt.speed
SCALE = CELL.camera.pixels_per_metre
STEPS = 500.0  # of the belt encoder per metre
BEGIN = 0.3  # m from a part's middle to the barrier, at time 0
EXACT = 0.002  # m
STANDING = 5.0  # times real time, while the belt stands
ENCODER, BEAM = 20, CameraSettings().beam_pin
RIGHT = 'one capture for a part, its middle within 2 mm'


def play(
    solids: Sequence[tuple[float, float]], stop: float | None, stand: float, gap: float = 0.0
) -> Finding:
    """Play one part, or two.

    Args:
        solids: What of a part breaks the beam: from and to (m), from its middle, foremost first.
        stop: Position of the belt (m) at which it stops; a part's middle breaks the beam at BEGIN.
        stand: Seconds for which it stands.
        gap: Metres from the part's middle to that of a second one; 0 = there is none.
    """
    motion = Motion([], SPEED) if stop is None else stops(stop / SPEED, stand, SPEED)
    middles = [BEGIN, *([BEGIN + gap] if gap else [])]
    beam_to_camera = CELL.camera.x - CELL.break_beam.x
    end = motion.time_at(middles[-1] + beam_to_camera + CELL.camera.field_of_view) + 0.3
    parameters = {
        'trigger': 'gpio',
        'belt_speed_source': 'encoder',
        'encoder_pins': (ENCODER, -1),
        'encoder_steps_per_metre': STEPS,
    }
    with mock_pins() as pins, Rig(NodeSpec(Camera, parameters), played=True) as rig:
        frames = rig.publisher(Image, 'camera/image_raw')
        for time, what in sorted(_events(motion, middles, solids, end)):
            cast(PlayedTime, rig.time).pace = 1.0 if motion.speed(time) else STANDING
            rig.time.wait_until(time)
            if what == 'step':
                pins.pulse(ENCODER)
            elif what == 'frame':
                spots = _spots(motion.position(time), middles, solids)
                frames.publish(frame(picture(spots), rig.time.stamp_ns(time)))
            else:
                pins.drive(BEAM, what == 'light')
        rig.wait(lambda: len(rig.captures()) >= len(middles), 1.0)
        offs, blank = [], 0
        for capture, middle in zip(rig.captures(), middles):
            seconds = (to_ns(capture.header.stamp) - rig.time.stamp_ns(0.0)) / 1e9
            offs.append(motion.position(seconds) - middle - beam_to_camera)
            row = middle_of_part(crop_of(capture))
            if row is None:
                blank += 1
            else:  # the centre of the picture lies between two rows; the belt runs up
                offs.append(((CELL.camera.crop_size - 1) / 2 - row) / SCALE)
        captures = len(rig.captures())
        worst = max(offs, key=abs, default=0.0)
        return Finding.items(
            captures, len(middles), 'captures', '; '.join(rig.account.complaints('camera'))
        ).and_also(
            bool(offs) and not blank and abs(worst) <= EXACT,
            f'{1000 * worst:+.1f} mm' + (f', {blank} crops without the part' if blank else ''),
        )


def _events(
    motion: Motion, middles: Sequence[float], solids: Sequence[tuple[float, float]], end: float
) -> Iterator[tuple[float, str]]:
    """Yield when (s) the encoder steps, the beam changes and a frame is taken."""
    for step in range(1, int(motion.position(end) * STEPS)):
        yield motion.time_at(step / STEPS), 'step'
    for middle in middles:
        for back, front in solids:
            yield motion.time_at(middle - front), 'dark'
            yield motion.time_at(middle - back), 'light'
    for number in range(int(end * RATE)):
        yield number / RATE, 'frame'


def _spots(
    position: float, middles: Sequence[float], solids: Sequence[tuple[float, float]]
) -> list[Spot]:
    """Return what the camera sees; travel is up."""
    spots = []
    for middle in middles:
        x = position - middle + CELL.break_beam.x - CELL.camera.x
        for back, front in solids:
            row = (CELL.camera.image_height - 1) / 2 - (x + (back + front) / 2) * SCALE
            spots.append(Spot(row + 0.5, 160, (front - back) * SCALE, 60))
    return spots


def solid(length: float) -> tuple[tuple[float, float], ...]:
    """Return a part of a length (m) without a hole."""
    return ((-length / 2, length / 2),)


def washer(diameter: float, hole: float) -> tuple[tuple[float, float], ...]:
    """Return a part with a hole in its middle (m)."""
    return ((hole / 2, diameter / 2), (-diameter / 2, -hole / 2))


def _in_beam(length: float, through: float) -> float:
    """Return where the belt stands when that much (m) of a part is through the beam."""
    return BEGIN - length / 2 + through


SITUATIONS: tuple[Situation, ...] = variations(
    'barrier',
    RIGHT,
    play,
    {
        'no-stop': {'solids': solid(0.04), 'stop': None, 'stand': 0.0},
        'before-camera-5s': {'solids': solid(0.04), 'stop': BEGIN + 0.06, 'stand': 5.0},
        'under-camera-2s': {'solids': solid(0.04), 'stop': BEGIN + 0.119, 'stand': 2.0},
        'nearly-through-3s': {'solids': solid(0.04), 'stop': _in_beam(0.04, 0.035), 'stand': 3.0},
        'just-in-3s': {'solids': solid(0.06), 'stop': _in_beam(0.06, 0.005), 'stand': 3.0},
        'half-in-2s': {'solids': solid(0.06), 'stop': _in_beam(0.06, 0.03), 'stand': 2.0},
        'long-part-2s': {'solids': solid(0.1), 'stop': _in_beam(0.1, 0.09), 'stand': 2.0},
        'hole-in-beam-2s': {'solids': washer(0.0164, 0.0084), 'stop': BEGIN, 'stand': 2.0},
        'hole-in-beam-5s': {'solids': washer(0.03, 0.0104), 'stop': BEGIN + 0.002, 'stand': 5.0},
        'two-parts-2s': {'solids': solid(0.03), 'stop': BEGIN + 0.02, 'stand': 2.0, 'gap': 0.06},
    },
)
