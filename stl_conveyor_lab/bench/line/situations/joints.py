# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Diverters of ros2_control, whose joint states come among those of an arm.

The figure is how many strokes the real actuator confirms of those that its joints made.
"""

from __future__ import annotations

import math
import threading
import time

from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from stl_conveyor.hardware.outputs.ros2_control import JointSettings
from stl_conveyor.msg import Actuation
from stl_conveyor.nodes.base.runner import NodeSpec
from stl_conveyor.nodes.device.actuator import Actuator
from stl_conveyor_lab.bench.line.parts import Feed, parts_every, send_due
from stl_conveyor_lab.bench.line.rig import Rig
from stl_conveyor_lab.bench.line.situation import Finding, Situation, variations

JOINTS = JointSettings().joints
ARM = ('arm_1', 'arm_2', 'arm_3', 'arm_4', 'arm_5', 'arm_6')
TRAVEL = 0.05  # s for a joint's way
DEAD = 'diverter_b'


class Joints:
    """What the controller moves: each joint is where it was commanded, after TRAVEL."""

    def __init__(self, start: float, dead: str = '') -> None:
        """Begin with all joints at a position.

        Args:
            dead: A joint that never moves.
        """
        self._now = dict.fromkeys(JOINTS, start)
        self._coming: list[tuple[float, str, float]] = []
        self._dead = dead
        self._lock = threading.Lock()

    def command(self, message: Float64MultiArray) -> None:
        """Take a command of the actuator."""
        with self._lock:
            at = time.monotonic() + TRAVEL
            for name, position in zip(JOINTS, message.data):
                if name != self._dead:
                    self._coming.append((at, name, position))

    def positions(self) -> dict[str, float]:
        """Return where the joints are."""
        with self._lock:
            now = time.monotonic()
            for entry in [each for each in self._coming if each[0] <= now]:
                self._coming.remove(entry)
                self._now[entry[1]] = entry[2]
            return dict(self._now)


def play(
    ours: float = 50.0,
    arm: float = 0.0,
    together: bool = False,
    reverse: bool = False,
    start: float = 0.0,
    dead: str = '',
) -> Finding:
    """Play six parts.

    Args:
        ours: Messages a second with the diverters' joints.
        arm: Messages a second with those of an arm, on the same topic.
        together: One message has all of them.
        reverse: The joints stand in the other order.
        start: Position of the joints before the first command.
        dead: A joint that never moves: its strokes must not be confirmed.
    """
    parts = parts_every(0.45, 6)
    with Rig(NodeSpec(Actuator, {'output': 'ros2_control'})) as rig:
        joints = Joints(start, dead)
        rig.listen(Float64MultiArray, 'diverter_controller/commands', joints.command)
        states = rig.publisher(JointState, 'joint_states')
        feed = Feed(rig)
        stop = threading.Event()

        def publish(rate: float, of_arm: bool) -> None:
            begin, count = time.monotonic(), 0
            while not stop.is_set():
                names: list[str] = []
                values: list[float] = []
                if of_arm or together:
                    names += ARM
                    values += [0.15] * len(ARM)
                if not of_arm:
                    positions = joints.positions()
                    order = list(positions)[::-1] if reverse else list(positions)
                    names += order
                    values += [positions[name] for name in order]
                states.publish(JointState(name=names, position=values))
                count += 1
                stop.wait(max(0.0, begin + count / rate - time.monotonic()))

        threads = [threading.Thread(target=publish, args=(ours, False), daemon=True)]
        if arm:
            threads.append(threading.Thread(target=publish, args=(arm, True), daemon=True))
        for thread in threads:
            thread.start()
        waiting = list(parts)
        while waiting:
            rig.time.wait_until(waiting[0].time)
            send_due(feed, waiting, waiting[0].time)
        rig.wait(lambda: len(rig.strokes()) >= len(parts), 3.5)
        stop.set()
        for thread in threads:
            thread.join()
        reports = [heard.message for heard in rig.strokes()]
        confirmed = [r for r in reports if r.status == Actuation.STATUS_CONFIRMED]
        lane = 'ABC'[JOINTS.index(dead)] if dead else ''
        expected = sum(part.lane != lane for part in parts)
        delays = [r.delay for r in confirmed if r.delay >= 0]
        return Finding.items(
            len(confirmed), expected, 'confirmed', '; '.join(rig.account.complaints('actuator'))
        ).and_also(
            all(r.lane != lane for r in confirmed),
            f'after up to {1000 * max(delays, default=0.0):.0f} ms',
        )


SITUATIONS: tuple[Situation, ...] = variations(
    'joints',
    'every stroke that was made confirmed, and no other',
    play,
    {
        'alone-50Hz': {},
        'arm-1kHz-beside': {'arm': 1000.0},
        'arm-in-one-message-1kHz': {'ours': 1000.0, 'together': True},
        'arm-1kHz-other-order-not-a-number-first': {
            'arm': 1000.0,
            'reverse': True,
            'start': math.nan,
        },
        'arm-1kHz-one-joint-dead': {'arm': 1000.0, 'dead': DEAD},
    },
)
