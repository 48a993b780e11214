# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Listen to a running cell, and print what became of each item.

    export ROS_DOMAIN_ID=7    # in both terminals: of this one, and of the one with `make run`
    scripts/env python examples/04_listen_to_a_cell.py [--ros-args -r __ns:=/line_1]

Type and QoS of the topic come from the list that the nodes use. Ctrl-C ends it.
"""

from __future__ import annotations

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from stl_conveyor.msg import SortOutcome
from stl_conveyor.nodes.base.qos import make_profile, message_class
from stl_conveyor.nodes.base.topics import TOPICS

SOURCES = {
    SortOutcome.SOURCE_NONE: 'nobody',
    SortOutcome.SOURCE_LOCAL: 'the device',
    SortOutcome.SOURCE_EDGE: 'the edge',
}


class Listener(Node):
    """A node that only listens."""

    def __init__(self) -> None:
        super().__init__('listener')
        (topic,) = (each for each in TOPICS if each.name == 'sort_outcome')
        self.create_subscription(
            message_class(topic), topic.name, self.on_outcome, make_profile(topic.profile)
        )

    def on_outcome(self, message: SortOutcome) -> None:
        """Print one item."""
        print(
            f'item {message.item_id}: {message.class_id or "unknown"} {message.score:.2f} '
            f'→ {message.lane}, by {SOURCES[message.source]} ({message.edge_bytes} bytes), '
            f'{1000 * message.slack:.0f} ms before its deadline {message.detail}'.rstrip(),
            flush=True,
        )


if __name__ == '__main__':
    rclpy.init()
    try:
        rclpy.spin(Listener())
    except (KeyboardInterrupt, ExternalShutdownException):
        print('stopped')
