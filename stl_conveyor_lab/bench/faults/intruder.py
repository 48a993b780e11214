# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Somebody in the cell's network who means no good, in a process of its own.

``python -m stl_conveyor_lab.bench.faults.intruder KIND SEED SECONDS`` says `begins` when it does.
"""

from __future__ import annotations

import array
import random
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.msg import Classification, FeatureFeedback, ItemCapture
from stl_conveyor.nodes.base.clock import to_ns, to_stamp
from stl_conveyor.nodes.base.qos import message_class
from stl_conveyor.nodes.base.topics import TOPICS
from stl_conveyor.resources import share_path

CELL = CellDescription.load(share_path('config/cell.yaml'))
#: Kind → messages per second; 0 = as many as it can.
RATES = {'tiny frames': 1000.0, 'frames': 100.0, 'odd bytes': 300.0, 'forged': 50.0}
#: What no node of the cell listens to in a fault run, or what would step its clock.
LEFT_OUT = ('/clock', 'camera/image_raw/compressed')


class Intruder:
    """Listens where it is useful, and publishes what nobody asked for."""

    def __init__(self, node: Node, seed: int) -> None:
        """Join the network."""
        self._node = node
        self._random = random.Random(seed)
        self._publishers: dict[str, tuple[Publisher, type]] = {}
        self._captures: deque[ItemCapture] = deque(maxlen=8)
        # rclpy asks a callback for its signature, which a method of a deque does not have.
        node.create_subscription(ItemCapture, 'capture', lambda m: self._captures.append(m), 16)

    def begin(self, kind: str) -> Callable[[], None]:
        """Return what publishes one more message of a kind."""
        work = {
            'tiny frames': lambda: self._frame((1, 1)),
            'frames': lambda: self._frame((240, 320)),
            'odd bytes': self._odd_bytes,
            'forged': self._forge,
        }[kind]
        for topic in TOPICS:
            if kind != 'odd bytes' or (topic.subscribers and topic.name not in LEFT_OUT):
                if kind in ('odd bytes', 'forged') or topic.name == 'camera/image_raw':
                    self._publisher(topic.name)
        return work

    def _publisher(self, name: str) -> tuple[Publisher, type]:
        if name not in self._publishers:
            topic = next(each for each in TOPICS if each.name == name)
            reliable = topic.profile.reliable
            qos = QoSProfile(
                depth=16,
                reliability=(
                    ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
                ),
            )
            kind = message_class(topic)
            self._publishers[name] = self._node.create_publisher(kind, name, qos), kind
        return self._publishers[name]

    def _send(self, name: str, message: Any) -> None:
        self._publisher(name)[0].publish(message)

    def _frame(self, size: tuple[int, int]) -> None:
        height, width = size
        message = Image(height=height, width=width, step=3 * width, encoding='rgb8')
        message.data = array.array('B', bytes(3 * height * width))
        message.header.stamp = to_stamp(time.time_ns())
        self._send('camera/image_raw', message)

    def _odd_bytes(self) -> None:
        name = self._random.choice(list(self._publishers))
        publisher, kind = self._publishers[name]
        data = bytearray(serialize_message(kind()))
        way = self._random.randrange(4)
        if way == 0:
            del data[self._random.randrange(len(data)) :]
        elif way == 1:
            data = bytearray(self._random.randbytes(self._random.randrange(300)))
        elif way == 2:
            place = self._random.randrange(len(data))
            data[place : place + 4] = b'\xff\xff\xff\x7f'
        else:
            for _ in range(8):
                data[self._random.randrange(len(data))] = self._random.randrange(256)
        publisher.publish(bytes(data))

    def _forge(self) -> None:
        if not self._captures:
            return
        capture = self._random.choice(self._captures)
        way = self._random.randrange(4)
        labels = CELL.classes
        if way == 0:  # the edge, sure of something else, by more bytes than were promised
            probabilities = [0.0] * len(labels)
            probabilities[self._random.randrange(len(labels))] = 1.0
            self._send(
                'edge_classification',
                Classification(
                    header=capture.header,
                    item_id=capture.item_id,
                    deadline=capture.deadline,
                    source=Classification.SOURCE_EDGE,
                    class_id=labels[probabilities.index(1.0)],
                    score=1.0,
                    probabilities=array.array('f', probabilities),
                    bytes_used=60_000,
                    final=True,
                ),
            )
        elif way == 1:  # the next item, before the camera has it
            stamp_ns = to_ns(capture.header.stamp) + self._random.randrange(1, 400_000_000)
            forged = ItemCapture(
                header=capture.header, item_id=capture.item_id + 1, crop=capture.crop
            )
            forged.header.stamp = to_stamp(stamp_ns)
            forged.deadline = to_stamp(to_ns(capture.deadline) + 200_000_000)
            self._send('capture', forged)
        elif way == 2:  # an account that gives all tokens back
            self._send(
                'transfer',
                FeatureFeedback(
                    header=capture.header,
                    item_id=capture.item_id,
                    status=FeatureFeedback.STATUS_TRANSFER_DONE,
                ),
            )
        else:  # a heartbeat of an edge with another codec
            self._send(
                'feedback_rx', FeatureFeedback(codec_id=1, status=FeatureFeedback.STATUS_ALIVE)
            )


def main() -> int:
    """Publish for as long as told."""
    kind, seed, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    rclpy.init(args=[])
    node = Node('intruder', use_global_arguments=False)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    send = Intruder(node, seed).begin(kind)
    executor.spin_once(timeout_sec=0.5)  # has found others
    print('begins', flush=True)
    begin, sent = time.monotonic(), 0
    while time.monotonic() - begin < seconds:
        executor.spin_once(timeout_sec=0.0)
        send()
        sent += 1
        time.sleep(max(0.0, begin + sent / RATES[kind] - time.monotonic()))
    rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
