# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Collect the items that a running cell captures; `stl-conveyor collect` without a source."""

from __future__ import annotations

from collections.abc import Callable

import rclpy
from rclpy.context import Context

from stl_conveyor.errors import ConveyorError
from stl_conveyor.msg import ItemCapture
from stl_conveyor.nodes.base.items import RecentItems, item_key, rgb_image
from stl_conveyor.nodes.base.onlooker import look_on
from stl_conveyor.nodes.base.qos import make_profile, message_class
from stl_conveyor.nodes.base.topics import subscriber_of
from stl_conveyor.vision.label_folder import Collector

#: Seconds without an item after which it is said that nothing comes.
PATIENCE = 10.0


class ItemCollector:
    """A node that hands the crops on `capture` to a collector. Each item once."""

    NAME = 'item_collector'

    def __init__(
        self, collector: Collector, namespace: str, context: Context, warn: Callable[[str], None]
    ) -> None:
        """Subscribe in the namespace of a cell."""
        self._collector = collector
        self._warn = warn
        self._seen: RecentItems[bool] = RecentItems(128)
        self.node = rclpy.create_node(
            self.NAME, namespace=namespace or None, context=context, use_global_arguments=False
        )
        topic = subscriber_of('capture', self.NAME)
        self.node.create_subscription(
            message_class(topic),
            topic.name,
            self._on_capture,
            make_profile(topic.heard_by(self.NAME)),
        )
        self._timer = self.node.create_timer(PATIENCE, self._complain)

    def _on_capture(self, message: ItemCapture) -> None:
        try:
            key = item_key(message)
            image = rgb_image(message.crop)
        except ConveyorError as error:
            self._warn(f'left out item {message.item_id}: {error}')
            return
        if self._seen.get(key):
            return
        self._seen.put(key, True)
        self._timer.reset()
        self._collector.take(image)

    def _complain(self) -> None:
        topic = self.node.resolve_topic_name('capture')
        publishers = self.node.count_publishers(topic)
        self._warn(
            f'no item on {topic} for {PATIENCE:.0f} s; '
            + (
                'the camera is there: does anything pass?'
                if publishers
                else 'nobody publishes it: is the cell running, in this ROS_DOMAIN_ID and '
                '--namespace?'
            )
        )


def collect_from_cell(
    collector: Collector,
    namespace: str = '',
    *,
    domain_id: int | None = None,
    warn: Callable[[str], None] = print,
) -> None:
    """Collect from a running cell until `collector.done` is set."""
    look_on(
        lambda context: ItemCollector(collector, namespace, context, warn),
        lambda _: collector.done.is_set(),
        domain_id=domain_id,
    )
