# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""PLCs that are slow, close connections, reboot, refuse, or are met again after a restart.

The real actuator commands a real Modbus server. A stroke is made if the PLC's program began it
when it was still of use; whatever was not made must be reported as failed, never as confirmed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from pymodbus.constants import ExcCodes

from stl_conveyor.msg import Actuation
from stl_conveyor.nodes.base.runner import NodeSpec
from stl_conveyor.nodes.device.actuator import Actuator
from stl_conveyor_lab.bench.line.parts import CELL, LEAD, Feed, Part, parts_every
from stl_conveyor_lab.bench.line.plc import Plc
from stl_conveyor_lab.bench.line.rig import SAID_WITHIN, Rig, said_after
from stl_conveyor_lab.bench.line.situation import Finding, Situation, variations

USEFUL = CELL.diverter.paddle_width / 2 / CELL.belt.speed  # s: the paddle still meets the part
FIRST = 4  # coil or register of lane A
HEARTBEAT = 20
RIGHT = 'every stroke made while it is of use, confirmed only when made'
SPACED = 0.45  # s between parts, so that no two lanes are due at once


def actuator(plc: Plc, kind: str, **parameters: object) -> NodeSpec:
    """Return the actuator for a PLC, with lanes at FIRST and the two behind it."""
    addresses = tuple(range(FIRST, FIRST + 3))
    feedback = tuple(address + 32 for address in addresses) if kind == 'register' else addresses
    return NodeSpec(
        Actuator,
        {
            'output': 'modbus',
            'modbus_host': '127.0.0.1',
            'modbus_port': plc.port,
            'modbus_kind': kind,
            'modbus_addresses': addresses,
            'modbus_feedback': feedback,
            **parameters,
        },
    )


def due(part: Part) -> float:
    """Return when (s) a part's diverter must be commanded."""
    return part.time + part.way / CELL.belt.speed - LEAD


def play_strokes(
    kind: str,
    parts: Sequence[Part],
    plc: Callable[[], Plc] | None = None,
    drop_before: float | None = None,
    **settings: object,
) -> Finding:
    """Play parts on their way to diverters behind a PLC.

    Args:
        drop_before: Every connection is closed so many seconds before each stroke.
        settings: Attributes of the PLC, such as its delay.
    """
    with Plc() if plc is None else plc() as server:
        for name, value in settings.items():
            setattr(server, name, value)
        with Rig(actuator(server, kind)) as rig:
            feed = Feed(rig)
            _feed(rig, feed, parts, server, drop_before)
            rig.wait(lambda: len(rig.strokes()) >= len(parts), 1.0)
            return _judge(rig, server, parts)


def _feed(
    rig: Rig, feed: Feed, parts: Sequence[Part], server: Plc, drop_before: float | None
) -> None:
    """Send every part at its time, and close connections before its stroke if that is asked."""
    events: list[tuple[float, Callable[[], None]]] = [
        (part.time, lambda part=part: feed.send(part))  # type: ignore[misc]
        for part in parts
    ]
    if drop_before is not None:
        events += [(due(part) - drop_before, server.drop) for part in parts]
    for moment, act in sorted(events, key=lambda event: event[0]):
        rig.time.wait_until(moment)
        act()
    rig.time.wait_until(max(map(due, parts)) + USEFUL + 0.2)


def _judge(rig: Rig, server: Plc, parts: Sequence[Part]) -> Finding:
    """Compare what the PLC made with what the actuator reported."""
    left = list(server.strokes)
    late: list[float] = []
    made = set()
    for part in parts:
        address = FIRST + 'ABC'.index(part.lane)
        for stroke in left:
            after = rig.time.at(stroke.time) - due(part)
            if stroke.address == address and -0.02 <= after <= USEFUL + 0.1:
                left.remove(stroke)
                made.add(part.item_id)
                late.append(after)
                break
    confirmed = {
        heard.message.item_id
        for heard in rig.strokes()
        if heard.message.status == Actuation.STATUS_CONFIRMED
    }
    lies = confirmed - made
    figure = f'{len(made)} of {len(parts)} strokes made, {len(confirmed)} confirmed'
    if late:
        figure += f', after up to {1000 * max(late):.0f} ms'
    if lies:
        figure += f', {len(lies)} confirmed that were not made'
    if left:
        figure += f', {len(left)} without a part'
    whole = len(made) == len(parts) == len(confirmed) and not lies and not left
    return Finding(figure, whole, '; '.join(rig.account.complaints('actuator')))


def play_restart(kind: str, runs: int) -> Finding:
    """Play our side being started again before a PLC that stays up; each time one stroke."""
    with Plc() as server:
        findings = []
        for run in range(runs):
            with Rig(actuator(server, kind)) as rig:
                before = len(server.strokes)
                part = Part(run + 1, 0.3, 'A')
                _feed(rig, Feed(rig), [part], server, None)
                rig.wait(lambda rig=rig: rig.strokes(), 1.0)  # type: ignore[misc]
                made = len(server.strokes) - before
                confirmed = [
                    h for h in rig.strokes() if h.message.status == Actuation.STATUS_CONFIRMED
                ]
                findings.append((made, len(confirmed)))
        right = sum(finding == (1, 1) for finding in findings)
        told = ', '.join(f'{made} made {confirmed} confirmed' for made, confirmed in findings)
        return Finding(f'{right} of {runs} starts right ({told})', right == runs)


def play_reboot(kind: str, off: float) -> Finding:
    """Play a power cycle of the PLC between two strokes: its registers are 0 again."""
    with Plc() as server, Rig(actuator(server, kind)) as rig:
        feed = Feed(rig)
        parts = [Part(1, 0.3, 'A'), Part(2, 3.4 + off, 'A')]
        _feed(rig, feed, parts[:1], server, None)
        since = time.monotonic()
        server.switch_off()
        rig.time.wait_until(due(parts[0]) + USEFUL + 0.2 + off)
        after, words = said_after(rig, 'actuator', since)
        server.boot()
        _feed(rig, feed, parts[1:], server, None)
        rig.wait(lambda: len(rig.strokes()) >= len(parts), 1.0)
        said = off < SAID_WITHIN or (after is not None and after <= SAID_WITHIN + 0.2)
        return _judge(rig, server, parts).and_also(said, words if off >= SAID_WITHIN else '')


def play_refusal(words: Sequence[str], **settings: object) -> Finding:
    """Play a PLC that answers nothing, or with an exception; that must be said by name."""
    with Plc() as server:
        for name, value in settings.items():
            setattr(server, name, value)
        with Rig(actuator(server, 'register')) as rig:
            rig.wait(lambda: rig.account.first_word('actuator', *words), SAID_WITHIN + 0.4)
            after, said = said_after(rig, 'actuator', rig.began, *words)
            return Finding(said, after is not None, '; '.join(rig.account.complaints('actuator')))


def play_heartbeat(parameters: Mapping[str, object]) -> Finding:
    """Play a PLC whose program watches a register by which it sees that the cell lives."""
    with Plc() as server, ExitStack() as stack:
        rig = stack.enter_context(Rig(actuator(server, 'register', **parameters)))
        time.sleep(3.0)
        beats = [write for write in server.writes if write[1] == HEARTBEAT]
        changes = sum(a[2] != b[2] for a, b in zip(beats, beats[1:]))
        gaps = [b[0] - a[0] for a, b in zip(beats, beats[1:])]
        stack.close()
        del rig
        time.sleep(0.5)
        now = time.monotonic()
        late = [write for write in server.writes if write[1] == HEARTBEAT and write[0] > now - 0.4]
        return Finding(
            f'{changes} beats in 3 s, longest gap {1000 * max(gaps, default=0.0):.0f} ms, '
            f'{len(late)} after the end',
            changes >= 5 and not late and max(gaps, default=9.0) < 1.0,
        )


TEN_TO_A = tuple(Part(number + 1, 0.5 + 0.6 * number, 'A') for number in range(8))

STROKES = variations(
    'plc',
    RIGHT,
    play_strokes,
    {
        'quick-coil': {'kind': 'coil', 'parts': parts_every(SPACED, 6)},
        'quick-register': {'kind': 'register', 'parts': parts_every(SPACED, 6)},
        'slow-50ms-register': {'kind': 'register', 'parts': parts_every(SPACED, 9), 'delay': 0.05},
        'slow-50ms-coil': {'kind': 'coil', 'parts': parts_every(SPACED, 9), 'delay': 0.05},
        'slow-80ms-register': {'kind': 'register', 'parts': parts_every(SPACED, 9), 'delay': 0.08},
        'slow-80ms-coil': {'kind': 'coil', 'parts': parts_every(SPACED, 9), 'delay': 0.08},
        'closed-2ms-before-register': {
            'kind': 'register',
            'parts': TEN_TO_A,
            'drop_before': 0.002,
        },
        'closed-2ms-before-coil': {'kind': 'coil', 'parts': TEN_TO_A, 'drop_before': 0.002},
        'closed-30ms-before-register': {
            'kind': 'register',
            'parts': TEN_TO_A,
            'drop_before': 0.03,
        },
        'idle-closed-300ms': {'kind': 'register', 'parts': TEN_TO_A, 'idle_close': 0.3},
        'closed-after-every-answer': {
            'kind': 'register',
            'parts': TEN_TO_A[:6],
            'close_after_answer': True,
        },
    },
)

RESTARTS = variations(
    'plc-restart',
    'one stroke made and confirmed after every start',
    play_restart,
    {
        'register-3-starts': {'kind': 'register', 'runs': 3},
        'coil-2-starts': {'kind': 'coil', 'runs': 2},
    },
)

REBOOTS = variations(
    'plc-reboot',
    'said while it is off; both strokes made, confirmed only when made',
    play_reboot,
    {'register-2s': {'kind': 'register', 'off': 2.4}, 'coil-2s': {'kind': 'coil', 'off': 2.4}},
)

REFUSALS = variations(
    'plc-refusal',
    'said by name within 2 s',
    play_refusal,
    {
        'gateway-silent': {'words': ('does not answer',), 'silent': True},
        'illegal-address': {
            'words': ('illegal data address', 'illegal_address'),
            'refusal': ExcCodes.ILLEGAL_ADDRESS,
        },
        'device-failure': {'words': ('failure',), 'refusal': ExcCodes.DEVICE_FAILURE},
        'device-busy': {'words': ('busy',), 'refusal': ExcCodes.DEVICE_BUSY},
    },
)

HEARTBEATS = variations(
    'plc-heartbeat',
    'it changes while the node works, and no more when it does not',
    play_heartbeat,
    {'register': {'parameters': {'modbus_heartbeat': HEARTBEAT}}},
)

SITUATIONS: tuple[Situation, ...] = (*STROKES, *RESTARTS, *REBOOTS, *REFUSALS, *HEARTBEATS)
