# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Clocks that are wrong: stamps ahead, zero, since boot, late; looped bags; bouncing beams.

A frame is published when it would come, with the stamp that a driver would give it; the real
camera and actuator do the rest, and the figure is where the part is when its pin rises, less what
the actuator says it was late by. What must not be taken must be said within two seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from stl_conveyor.hardware.outputs.gpio import GpioSettings
from stl_conveyor.msg import Classification, ItemCapture
from stl_conveyor.nodes.base.clock import to_stamp
from stl_conveyor.nodes.base.runner import NodeSpec
from stl_conveyor.nodes.device.actuator import Actuator
from stl_conveyor.nodes.device.camera import Camera
from stl_conveyor_lab.bench.line.frames import RATE, frame
from stl_conveyor_lab.bench.line.motion import Motion
from stl_conveyor_lab.bench.line.parts import CELL, LEAD, answer
from stl_conveyor_lab.bench.line.pictures import picture
from stl_conveyor_lab.bench.line.pins import mock_pins
from stl_conveyor_lab.bench.line.rig import SAID_WITHIN, Rig, said_after
from stl_conveyor_lab.bench.line.situation import Finding, Situation, variations
from stl_conveyor_lab.bench.line.situations import stops

S = 1_000_000_000
SPEED = CELL.belt.speed
PINS = GpioSettings().gpio_pins
EXACT = 0.002  # m
SOON = 0.012  # m: what arrives is stamped as well as this machine hands it over
EXPOSURE_TO_TOPIC = 0.03  # s
FRAMES = 3
TAKEN = 'every frame taken, each stroke within 2 mm'
REFUSED = 'refused and said within 2 s; no stroke in a wrong place'

Stamp = Callable[[int], int]  # the true ROS time of an exposure (ns) → the stamp


def ahead(seconds: float) -> Stamp:
    """Return a clock that is ahead (s); the frame comes when it is exposed."""
    return lambda true_ns: true_ns + round(seconds * S)


def play_frames(
    stamp: Stamp,
    taken: bool | None,
    delay: float = 0.0,
    parameters: Mapping[str, object] | None = None,
    exact: float = EXACT,
    must_say: bool | None = None,
) -> Finding:
    """Play frames of which each shows a part.

    Args:
        stamp: Of the driver.
        taken: Whether each must become an item; None = either, if strokes are in their place.
        delay: Seconds from the exposure until the driver publishes.
        parameters: Of the camera, beside its defaults.
        exact: Metres by which a stroke may be off.
        must_say: Whether something must be said; by default if the frames are not to be taken.
    """
    must_say = taken is False if must_say is None else must_say
    with (
        mock_pins() as pins,
        Rig(
            NodeSpec(Camera, dict(parameters or {}), group='camera'),
            NodeSpec(
                Actuator, {'output': 'gpio', 'gpio_feedback_pins': (-1, -1, -1)}, group='actuator'
            ),
        ) as rig,
    ):
        frames = rig.publisher(Image, 'camera/image_raw')
        answers = rig.publisher(Classification, 'classification')
        rig.listen(ItemCapture, 'capture', lambda capture: answers.publish(answer(capture, 'A')))
        since = time.monotonic()
        exposures = [0.2 + 0.45 * number for number in range(FRAMES)]
        for exposure in exposures:
            rig.time.wait_until(exposure + delay)
            frames.publish(frame(picture(), stamp(rig.time.stamp_ns(exposure))))
        way = CELL.lane('A').diverter_x - CELL.camera.x
        rig.time.wait_until(exposures[-1] + way / SPEED + 0.2)
        rig.wait(lambda: rig.account.first_word('camera') or not must_say, SAID_WITHIN)
        captures = len(rig.captures())
        rises = [rig.time.at(moment) for moment, _ in pins.rises(PINS)]
        late = [max(0.0, stroke.message.lateness) for stroke in rig.strokes()]
        offs = []
        for rise, lateness in zip(rises, [*late, *[0.0] * len(rises)]):
            # The part that is nearest to its diverter is the one that is meant.
            offs.append(
                min(((rise - t + LEAD - lateness) * SPEED - way for t in exposures), key=abs)
            )
        worst = max(offs, key=abs, default=None)
        complaints = '; '.join(rig.account.complaints())
        figure = f'{captures} of {FRAMES} taken'
        if worst is not None:
            figure += f', stroke {1000 * worst:+.1f} mm'
        in_place = all(abs(off) <= exact for off in offs)
        if taken:
            holds = captures == len(rises) == FRAMES and in_place
        else:
            holds = in_place and (taken is None or captures == 0)
        finding = Finding(figure, holds, complaints)
        if not must_say:
            return finding
        after, words = said_after(rig, 'camera', since)
        return finding.and_also(after is not None and after <= SAID_WITHIN + 0.2, words)


def play_beam(
    bad: Sequence[tuple[float, Stamp]], all_of: Stamp | None = None, parts: int = 8
) -> Finding:
    """Play a light barrier that sends its times, and a free-running camera.

    Args:
        bad: At what time (s) a message with which stamp comes beside the true ones.
        all_of: The stamp of every message; None = the true one.
    """
    with Rig(NodeSpec(Camera, {'trigger': 'beam'})) as rig:
        frames = rig.publisher(Image, 'camera/image_raw')
        beam = rig.publisher(Header, 'break_beam')
        since = time.monotonic()
        breaks = [(1.0 + 0.5 * n, all_of or ahead(0.0)) for n in range(parts)]
        _stream(rig, frames, beam, [*bad, *breaks], seconds=1.0 + 0.5 * parts + 0.5)
        rig.wait(lambda: len(rig.captures()) >= parts, 0.5)
        after, words = said_after(rig, 'camera', since)
        told = Finding.items(
            len(rig.captures()), parts, detail='; '.join(rig.account.complaints('camera'))
        )
        if all_of is not None:  # taken as they come, or refused with a word
            told = Finding(told.figure, told.holds or after is not None, told.detail)
        return told.and_also(after is not None, words)


def play_bounce(spacing: float, times: int) -> Finding:
    """Play three parts of which each breaks the beam several times, some milliseconds apart."""
    with Rig(NodeSpec(Camera, {'trigger': 'beam'})) as rig:
        frames = rig.publisher(Image, 'camera/image_raw')
        beam = rig.publisher(Header, 'break_beam')
        breaks = [
            (0.5 + part + spacing * number, ahead(0.0))
            for part in range(3)
            for number in range(times)
        ]
        _stream(rig, frames, beam, breaks, seconds=4.0)
        rig.wait(lambda: len(rig.captures()) > 3, 0.5)
        return Finding.items(
            len(rig.captures()), 3, detail='; '.join(rig.account.complaints('camera'))
        )


def play_jump(seconds: float) -> Finding:
    """Play a driver whose stamps jump ahead for .4 s and come back; ten parts break the beam."""
    with Rig(NodeSpec(Camera, {'trigger': 'beam'})) as rig:
        frames = rig.publisher(Image, 'camera/image_raw')
        beam = rig.publisher(Header, 'break_beam')
        since = time.monotonic()
        breaks = [(0.5 + 0.5 * n, ahead(0.0)) for n in range(10)]
        _stream(
            rig,
            frames,
            beam,
            breaks,
            seconds=6.0,
            stamp=lambda t: ahead(seconds if 2.0 < t < 2.4 else 0.0),
        )
        rig.wait(lambda: len(rig.captures()) >= 10, 0.5)
        captures = len(rig.captures())
        missed = int(rig.account.values.get('camera', {}).get('item_not_seen', 0))
        _, words = said_after(rig, 'camera', since)
        return Finding(
            f'{captures} of 10 items, {missed} named as not seen, {words}',
            captures >= 9 and captures + missed == 10,
            '; '.join(rig.account.complaints('camera')),
        )


def _stream(
    rig: Rig,
    frames: object,
    beam: object,
    breaks: Sequence[tuple[float, Stamp]],
    seconds: float,
    stamp: Callable[[float], Stamp] = lambda _: ahead(0.0),
) -> None:
    """Publish frames at RATE and breaks of the beam, each at its time."""
    image = picture()
    events: list[tuple[float, str, Stamp]] = [(t, 'beam', of) for t, of in breaks]
    events += [(n / RATE, 'frame', stamp(n / RATE)) for n in range(int(seconds * RATE))]
    for moment, what, of in sorted(events, key=lambda event: event[0]):
        rig.time.wait_until(moment)
        stamp_ns = of(rig.time.stamp_ns(moment))
        if what == 'frame':
            frames.publish(frame(image, stamp_ns))  # type: ignore[attr-defined]
        else:
            beam.publish(Header(stamp=to_stamp(stamp_ns)))  # type: ignore[attr-defined]


def play_loop(trigger: str, rounds: int = 3, back_to: float = 100.0) -> Finding:
    """Play a bag several times with its clock, as `ros2 bag play --loop --clock` does."""
    breaks, length, fps = (15, 45, 75), 3.5, 30
    with Rig(NodeSpec(Camera, {'trigger': trigger, 'use_sim_time': True})) as rig:
        clock = rig.publisher(Clock, '/clock')
        frames = rig.publisher(Image, 'camera/image_raw')
        beam = rig.publisher(Header, 'break_beam') if trigger == 'beam' else None
        counts = []
        for number in range(1, rounds + 1):
            before = len(rig.captures())
            for n in range(int(length * fps)):
                now_ns = round(back_to * S) + n * S // fps
                clock.publish(Clock(clock=to_stamp(now_ns)))
                time.sleep(0.012)
                if beam is not None and n in breaks:
                    beam.publish(Header(stamp=to_stamp(now_ns)))
                    time.sleep(0.01)
                if trigger == 'beam' or n in breaks:
                    frames.publish(frame(picture(), now_ns))
                time.sleep(0.008)
            rig.wait(lambda: len(rig.captures()) >= number * len(breaks), 0.5)
            counts.append(len(rig.captures()) - before)
        return Finding(
            ' + '.join(map(str, counts)) + f' of {rounds} x {len(breaks)} items',
            counts == [len(breaks)] * rounds,
            '; '.join(rig.account.complaints('camera')),
        )


SINCE_BOOT: Stamp = lambda _: time.monotonic_ns()  # noqa: E731
SIMULATED: Stamp = lambda _: 12 * S  # noqa: E731
ZERO: Stamp = lambda _: 0  # noqa: E731
ARRIVAL = {'stamp': 'arrival', 'latency': EXPOSURE_TO_TOPIC}

FRAME_STAMPS = variations(
    'frame-stamp',
    REFUSED,
    play_frames,
    {
        'true': {'stamp': ahead(0.0), 'taken': True, 'delay': 0.03, 'right': TAKEN},
        '2ms-ahead': {'stamp': ahead(0.002), 'taken': True, 'right': TAKEN},
        **{
            f'{int(1000 * offset)}ms-ahead': {'stamp': ahead(offset), 'taken': False}
            for offset in (0.05, 0.2, 0.34, 0.9)
        },
        'hour-ahead': {'stamp': ahead(3600.0), 'taken': False},
        'tai': {'stamp': ahead(37.0), 'taken': False},
        'since-boot': {'stamp': SINCE_BOOT, 'taken': False},
        'simulated-time': {'stamp': SIMULATED, 'taken': False},
        '300ms-late': {'stamp': ahead(0.0), 'taken': True, 'delay': 0.3, 'right': TAKEN},
        '10s-late': {'stamp': ahead(-10.0), 'taken': False},
        'zero': {
            'stamp': ZERO,
            'taken': None,
            'delay': EXPOSURE_TO_TOPIC,
            'must_say': True,
            'exact': 2 * SOON,
            'right': 'said within 2 s; taken as they come, or refused',
        },
        **{
            f'{name}-by-arrival': {
                'stamp': stamp,
                'taken': True,
                'delay': EXPOSURE_TO_TOPIC,
                'parameters': ARRIVAL,
                'exact': SOON,
                'right': 'every frame taken, each stroke within 12 mm (30 ms)',
            }
            for name, stamp in (
                ('ahead', ahead(0.3)),
                ('tai', ahead(37.0)),
                ('zero', ZERO),
                ('late', ahead(-10.0)),
            )
        },
    },
)

BEAM_STAMPS = variations(
    'beam-stamp',
    'every true item captured, the wrong stamp said by name',
    play_beam,
    {
        'hour-ahead': {'bad': [(0.5, ahead(3600.0))]},
        '2s-ahead': {'bad': [(0.5, ahead(2.0))]},
        '200ms-ahead-between': {'bad': [(2.2, ahead(0.2))]},
        'since-boot': {'bad': [(1.2, SINCE_BOOT)]},
        '30s-late': {'bad': [(1.2, ahead(-30.0))]},
        'all-zero': {
            'bad': [],
            'all_of': ZERO,
            'parts': 5,
            'right': 'said by name; captured as they come, or refused',
        },
        'all-tai': {'bad': [], 'all_of': ahead(37.0), 'parts': 5, 'right': 'refused by name'},
    },
)

BOUNCE = variations(
    'beam-bounce',
    'one item for each part',
    play_bounce,
    {
        'three-in-3ms': {'spacing': 0.0015, 'times': 3},
        'five-in-8ms': {'spacing': 0.002, 'times': 5},
    },
)

LOOPS = variations(
    'looped-bag',
    'every round gives its items',
    play_loop,
    {
        'frames': {'trigger': 'frame'},
        'beam': {'trigger': 'beam'},
        'frames-near-zero': {'trigger': 'frame', 'back_to': 1.0},
    },
)

JUMPS = variations(
    'stamp-jump',
    'every item captured, or named as not seen',
    play_jump,
    {'4.4s-for-400ms': {'seconds': 4.4}, '500ms-for-400ms': {'seconds': 0.5}},
)

BELT_STAMPS = variations(
    'belt-stamp',
    'the part pushed once, within 2 mm, as if the wrong report had not come',
    stops.play,
    {
        'one-hour-ahead': {'motion': Motion([], SPEED), 'stray': (0.5, 3600.0)},
        'one-300ms-ahead': {'motion': Motion([], SPEED), 'stray': (1.3, 0.3)},
        'one-20s-late': {'motion': Motion([], SPEED), 'stray': (1.3, -20.0)},
    },
)

SITUATIONS: tuple[Situation, ...] = (
    *FRAME_STAMPS,
    *BEAM_STAMPS,
    *BOUNCE,
    *LOOPS,
    *JUMPS,
    *BELT_STAMPS,
)
