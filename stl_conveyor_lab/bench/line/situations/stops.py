# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The belt stops with parts on it, counters start again, and the camera goes away meanwhile.

The real actuator drives pins of paper. The belt's reports are exact: what a report says is where
the belt is at the report's stamp. The figure is where the part is when the pusher meets it, the
lead time after its pin rises, less what the node itself says it was late by: a busy machine does
not make a wrong way right, nor a right one wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import cast

from std_msgs.msg import Header

from stl_conveyor.hardware.outputs.gpio import GpioSettings
from stl_conveyor.msg import Actuation, BeltState
from stl_conveyor.nodes.base.clock import to_stamp
from stl_conveyor.nodes.base.runner import NodeSpec
from stl_conveyor.nodes.device.actuator import Actuator
from stl_conveyor_lab.bench.line.motion import Counter, Motion, Stretch, soft_stop, stops
from stl_conveyor_lab.bench.line.parts import CELL, LEAD, Feed, Part, described_cell, send_due
from stl_conveyor_lab.bench.line.pins import mock_pins
from stl_conveyor_lab.bench.line.rig import PlayedTime, Rig
from stl_conveyor_lab.bench.line.situation import Finding, Situation, variations

SPEED = CELL.belt.speed
EXACT = 0.002  # m
REPORT = 0.05  # s between two reports of the belt
FASTEST = 20.0  # times real time, while nothing happens
PINS = GpioSettings().gpio_pins
ONE = (Part(1, 1.0, 'A'),)
RIGHT = 'no stroke on a standing belt; each part pushed once, within 2 mm'


def play(
    motion: Motion,
    parts: Sequence[Part] = ONE,
    counter: Counter = Counter(20.0),
    away: tuple[float, float] | None = None,
    played: bool = False,
    may_fail: bool = False,
    stray: tuple[float, float] | None = None,
    told: bool = False,
) -> Finding:
    """Play a belt with parts on it.

    Args:
        away: From when to when (s) nobody reports the belt; who comes back counts from 0.
        played: Let long stands pass fast.
        may_fail: A stroke that is reported as failed is as good as an exact one.
        told: The cell description says after which length the counter starts again.
        stray: When (s) one report beside the others comes, and how far its stamp is ahead (s).
    """
    parameters: dict[str, object] = {'output': 'gpio', 'gpio_feedback_pins': (-1, -1, -1)}
    with ExitStack() as stack:
        if told:
            length = {'belt.counter_length': counter.span}
            parameters['cell_file'] = stack.enter_context(described_cell(length))
        pins = stack.enter_context(mock_pins())
        rig = stack.enter_context(Rig(NodeSpec(Actuator, parameters), played=played))
        belt, feed = rig.publisher(BeltState, 'belt_state'), Feed(rig)
        waiting = list(parts)
        ends = [motion.time_at(motion.position(part.time) + part.way) for part in parts]
        restart: float | None = None  # position at which a new reporter begins to count
        now = 0.0
        while now < max(ends) + 0.8:
            calm = motion.speed(now - 1.0) == motion.speed(now) == motion.speed(now + 1.0) == 0
            if played:
                cast(PlayedTime, rig.time).pace = FASTEST if calm else 1.0
            now += 2 * REPORT if played and calm else REPORT
            rig.time.wait_until(now)
            position = motion.position(now)
            if away is not None and now >= away[1] and restart is None:
                restart = position
            if away is None or not away[0] <= now < away[1]:
                speed = motion.speed(now)
                shown = counter.shown(position) if restart is None else position - restart
                belt.publish(
                    BeltState(
                        header=Header(stamp=to_stamp(rig.time.stamp_ns(now))),
                        position=shown,
                        speed=speed,
                        state=_state(speed),
                    )
                )
            if stray is not None and now >= stray[0]:
                stamp = to_stamp(rig.time.stamp_ns(now + stray[1]))
                stray = None
                belt.publish(BeltState(header=Header(stamp=stamp), position=0.0, speed=SPEED))
            send_due(feed, waiting, now)
        rig.wait(lambda: len(rig.strokes()) >= len(parts), 1.0)
        rises = [(rig.time.at(moment), 'ABC'[PINS.index(pin)]) for moment, pin in pins.rises(PINS)]
        return _judge(motion, parts, rises, [h.message for h in rig.strokes()], may_fail)


def _state(speed: float) -> int:
    if speed < 0:
        return int(BeltState.STATE_REVERSED)
    return int(BeltState.STATE_STOPPED if speed == 0 else BeltState.STATE_RUNNING)


def _judge(
    motion: Motion,
    parts: Sequence[Part],
    rises: Sequence[tuple[float, str]],
    reports: Sequence[Actuation],
    may_fail: bool,
) -> Finding:
    """Compare the strokes with where the parts were."""
    late = {report.item_id: max(0.0, report.lateness) for report in reports}
    failed = {r.item_id for r in reports if r.status == Actuation.STATUS_FAILED}
    standing = [time for time, _ in rises if motion.speed(time) <= 0]
    left, offs, made = list(rises), [], 0
    for part in parts:
        stroke = next((rise for rise in left if rise[1] == part.lane), None)
        if stroke is None:
            continue
        left.remove(stroke)
        made += 1
        time, _ = stroke
        ahead = LEAD - late.get(part.item_id, 0.0)
        met = motion.position(time + ahead)
        if motion.speed(time) == SPEED:  # nobody can know that it will stop
            met = motion.position(time) + SPEED * ahead
        offs.append(met - motion.position(part.time) - part.way)
    worst = max(offs, key=abs, default=None)
    off = 'no stroke' if worst is None else f'{1000 * worst:+.1f} mm'
    answered = made + (sum(p.item_id in failed for p in parts) if may_fail else 0)
    holds = not standing and not left and answered == len(parts)
    detail = f'late by up to {1000 * max(late.values(), default=0.0):.1f} ms'
    if failed:
        detail += '; failed: ' + '; '.join(r.detail for r in reports if r.item_id in failed)
    return Finding(
        f'{off}, {len(rises)} strokes for {len(parts)}'
        + (f', {len(standing)} on a standing belt' if standing else ''),
        holds and all(abs(off) <= EXACT for off in offs),
        detail,
    )


THREE = (Part(1, 0.5, 'A'), Part(2, 0.9, 'B'), Part(3, 1.3, 'C'))
JOG = Motion(
    [Stretch(1.4, SPEED), Stretch(1.0, 0.0), Stretch(1.0, -0.1), Stretch(0.5, 0.0)], SPEED
)
# The pushers meet their parts while the belt slows down, while it starts, or just after that.
SOFT = {
    'soft': soft_stop(1.2, 0.3, 4.0, 0.5, SPEED),
    'soft-start-.2s': soft_stop(1.2, 0.3, 2.0, 0.2, SPEED),
    'soft-start-1s': soft_stop(1.2, 0.3, 2.0, 1.0, SPEED),
    'soft-start-2s': soft_stop(1.2, 0.3, 2.0, 2.0, SPEED),
    'soft-stop-2s': soft_stop(1.4, 2.0, 2.0, 0.5, SPEED),
    'soft-both-2s': soft_stop(1.0, 1.4, 1.0, 2.0, SPEED),
}

STOPS = variations(
    'stop',
    RIGHT,
    play,
    {
        'never': {'motion': Motion([], SPEED)},
        '2s': {'motion': stops(1.4, 2.0, SPEED)},
        '8s-camera-away': {'motion': stops(1.4, 8.0, SPEED), 'away': (3.4, 5.4)},
        '6s-camera-away-at-once': {'motion': stops(1.4, 6.0, SPEED), 'away': (1.5, 4.0)},
        'just-before-diverter': {'motion': stops(1.74, 3.0, SPEED)},
        'twice-lane-C': {
            'motion': stops(1.4, 2.0, SPEED, (0.9, 2.5)),
            'parts': (Part(1, 1.0, 'C'),),
        },
        'three-parts': {'motion': stops(1.35, 4.0, SPEED), 'parts': THREE},
        **{name: {'motion': motion} for name, motion in SOFT.items()},
        'jog-back': {'motion': JOG},
        '75s': {'motion': stops(1.4, 75.0, SPEED), 'played': True},
        '75s-three-parts': {'motion': stops(1.35, 75.0, SPEED), 'parts': THREE, 'played': True},
        '120s-camera-away': {
            'motion': stops(1.4, 120.0, SPEED),
            'away': (30.0, 33.0),
            'played': True,
        },
        'camera-away-while-running': {
            'motion': Motion([], SPEED),
            'parts': (Part(1, 1.0, 'C'),),
            'away': (1.2, 2.6),
            'may_fail': True,
            'right': 'no stroke at a guess: within 2 mm, or reported as failed',
        },
    },
)


def _near_its_end(span: float, **more: object) -> Counter:
    """Return a counter that starts again while the part is between camera and diverter."""
    low = -span / 2 if more.get('signed') else 0.0
    return Counter(low + span - 0.4 - 0.2, span, **more)  # type: ignore[arg-type]


RUNNING = Motion([], SPEED)
COUNTERS = variations(
    'counter',
    RIGHT,
    play,
    {
        '12bit-1mm': {'motion': RUNNING, 'counter': _near_its_end(4.096, step=0.001)},
        '16bit-0.1mm': {'motion': RUNNING, 'counter': _near_its_end(6.5536)},
        '16bit-0.1mm-signed': {'motion': RUNNING, 'counter': _near_its_end(6.5536, signed=True)},
        '16bit-0.15mm': {'motion': RUNNING, 'counter': _near_its_end(9.8304)},
        '16bit-1mm': {'motion': RUNNING, 'counter': _near_its_end(65.536, step=0.001)},
        '32bit-0.1mm': {'motion': RUNNING, 'counter': _near_its_end(429496.7296)},
        '32bit-0.1mm-signed': {
            'motion': RUNNING,
            'counter': _near_its_end(429496.7296, signed=True),
        },
        'every-metre': {
            'motion': RUNNING,
            'counter': Counter(0.7, 1.0),
            'parts': (Part(1, 1.0, 'C'),),
        },
        '16bit-at-a-stop': {
            'motion': stops(1.4, 4.0, SPEED),
            'counter': Counter(6.5536 - 0.57, 6.5536),
            'told': True,
        },
        '16bit-jog-back-over-zero': {
            'motion': JOG,
            'counter': Counter(6.5536 - 0.55, 6.5536),
            'told': True,
        },
        '16bit-75s-stop': {
            'motion': stops(1.4, 75.0, SPEED),
            'counter': _near_its_end(6.5536),
            'played': True,
        },
    },
)

SITUATIONS: tuple[Situation, ...] = (*STOPS, *COUNTERS)
