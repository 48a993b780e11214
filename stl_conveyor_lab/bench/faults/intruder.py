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
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.msg import Classification, FeatureFeedback, ItemCapture, ProgressiveFeature
from stl_conveyor.nodes.base.clock import to_ns, to_stamp
from stl_conveyor.nodes.base.qos import message_class
from stl_conveyor.nodes.base.topics import TOPICS, is_installed
from stl_conveyor.resources import share_path

CELL = CellDescription.load(share_path('config/cell.yaml'))
#: Kind → messages per second; 0 = as many as it can.
RATES = {
    'tiny frames': 1000.0,
    'frames': 100.0,
    'tiny packets': 300.0,
    'odd bytes': 300.0,
    'forged': 50.0,
}
#: Kind → topics on which it publishes; None = all that a node of the cell listens to.
TOPICS_OF: Mapping[str, tuple[str, ...] | None] = {
    'tiny frames': ('camera/image_raw',),
    'frames': ('camera/image_raw',),
    'tiny packets': ('features_rx',),
    'odd bytes': None,
    'forged': ('capture', 'edge_classification', 'transfer', 'feedback_rx'),
}
PACKET_LIFE_NS = 2_000_000_000  # until the deadline of an item that is not there
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
        self._own: deque[tuple[int, int]] = deque(maxlen=1000)  # captures that it forged
        self._packet: ProgressiveFeature | None = None

    def _on_capture(self, message: ItemCapture) -> None:
        if (message.item_id, to_ns(message.header.stamp)) not in self._own:
            self._captures.append(message)

    def _on_packet(self, message: ProgressiveFeature) -> None:
        if self._packet is None or len(message.data) < len(self._packet.data):
            self._packet = message

    def begin(self, kind: str) -> Callable[[], None]:
        """Return what publishes one more message of a kind."""
        work = {
            'tiny frames': lambda: self._frame((1, 1)),
            'frames': lambda: self._frame((240, 320)),
            'tiny packets': self._tiny_packet,
            'odd bytes': self._odd_bytes,
            'forged': self._forge,
        }[kind]
        topics = TOPICS_OF[kind]
        for topic in TOPICS:
            heard = topic.subscribers and topic.name not in LEFT_OUT and is_installed(topic)
            if topic.name in topics if topics is not None else heard:
                self._publisher(topic.name)
        if kind == 'forged':
            self._node.create_subscription(ItemCapture, 'capture', self._on_capture, 16)
        if kind == 'tiny packets':
            self._node.create_subscription(
                ProgressiveFeature,
                'features_rx',
                self._on_packet,
                QoSProfile(depth=16, reliability=ReliabilityPolicy.BEST_EFFORT),
            )
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

    def _tiny_packet(self) -> None:
        """Send the shortest packet that was heard, as one of another item."""
        if self._packet is None:
            return
        now_ns = time.time_ns()
        self._send(
            'features_rx',
            ProgressiveFeature(
                header=Header(stamp=to_stamp(now_ns)),
                item_id=self._random.randrange(10**6, 10**9),
                codec_id=self._packet.codec_id,
                deadline=to_stamp(now_ns + PACKET_LIFE_NS),
                data=self._packet.data,
            ),
        )

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
        with suppress(
            rclpy_implementation.RCLError
        ):  # more than a message of a fixed size can have is not even sent
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
            self._own.append((capture.item_id + 1, stamp_ns))
            self._send(
                'capture',
                ItemCapture(
                    header=Header(stamp=to_stamp(stamp_ns), frame_id=capture.header.frame_id),
                    item_id=capture.item_id + 1,
                    crop=capture.crop,
                    deadline=to_stamp(to_ns(capture.deadline) + 200_000_000),
                ),
            )
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
