# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Tell whoever looks on of many items, much faster than a belt brings them, and see what grows."""

from __future__ import annotations

import array
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import rclpy
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from stl_conveyor.cell.deadline import sorting_deadline
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.msg import (
    Classification,
    FeatureFeedback,
    ItemCapture,
    ItemTruth,
    OffloadDecision,
    SortOutcome,
)
from stl_conveyor.nodes.base.clock import to_stamp
from stl_conveyor.nodes.base.middleware import join
from stl_conveyor.nodes.base.qos import make_profile, message_class
from stl_conveyor.nodes.base.topics import TOPICS
from stl_conveyor_lab.bench.faults.process_use import read_use
from stl_conveyor_lab.bench.views.marks import Memory

PERIOD_S = 0.004  # between two items; what a queue cannot hold is not missed
SAID = (
    'capture',
    'classification',
    'offload_decision',
    'transfer',
    'edge_classification',
    'sort_outcome',
    'item_truth',
)


def flood(
    cell: CellDescription,
    items: int,
    pids: Mapping[str, int],
    also: Callable[[], Mapping[str, float]] = dict,
) -> list[Memory]:
    """Tell of items; return what each process held after a fifth of them, and after all.

    Args:
        cell: The cell that the items belong to.
        items: How many.
        pids: Of the processes that listen, by name.
        also: Returns KiB of whatever else is looked at, by name.
    """

    def held() -> dict[str, float]:
        uses = {name: read_use(pid, 0.0) for name, pid in pids.items()}
        return {**{n: use.own for n, use in uses.items() if use is not None}, **also()}

    context = join()
    node = rclpy.create_node('flood', context=context, use_global_arguments=False)
    pause = threading.Event()
    try:
        profiles = {topic.name: topic for topic in TOPICS if topic.name in SAID}
        publishers: dict[str, Publisher] = {
            name: node.create_publisher(message_class(topic), name, make_profile(topic.profile))
            for name, topic in profiles.items()
        }
        while any(not publisher.get_subscription_count() for publisher in publishers.values()):
            pause.wait(0.1)
        early: dict[str, float] = {}
        for number in range(items):
            if number == items // 5:
                pause.wait(1.0)  # what is under way arrives
                early = held()
            for name, message in _item(cell, number, node.get_clock().now().nanoseconds).items():
                publishers[name].publish(message)
            pause.wait(PERIOD_S)
        pause.wait(1.0)
        late = held()
        return [Memory(name, early[name], late[name]) for name in late if name in early]
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def _item(cell: CellDescription, number: int, stamp_ns: int) -> dict[str, Any]:
    """Return everything that is said of an item, by topic."""
    header = Header(stamp=to_stamp(stamp_ns), frame_id='camera_optical_frame')
    classes, size = cell.classes, cell.camera.crop_size
    class_id = classes[number % len(classes)]
    lane = cell.lane_of(class_id)
    pixels = np.full(3 * size * size, number % 251, np.uint8)
    crop = Image(header=header, height=size, width=size, encoding='rgb8', step=3 * size)
    crop.data = array.array('B', pixels.tobytes())
    deadline = to_stamp(sorting_deadline(stamp_ns, cell))
    probabilities = array.array('f', [1.0 if name == class_id else 0.0 for name in classes])

    def answer(source: int) -> Classification:
        return Classification(
            header=header,
            item_id=number,
            deadline=deadline,
            source=source,
            class_id=class_id,
            score=1.0,
            probabilities=probabilities,
            bytes_used=300,
        )

    return {
        'capture': ItemCapture(header=header, item_id=number, deadline=deadline, crop=crop),
        'classification': answer(Classification.SOURCE_LOCAL),
        'offload_decision': OffloadDecision(header=header, item_id=number, offload=True),
        'transfer': FeatureFeedback(
            header=header, item_id=number, bytes=300, status=FeatureFeedback.STATUS_TRANSFER_DONE
        ),
        'edge_classification': answer(Classification.SOURCE_EDGE),
        'sort_outcome': SortOutcome(
            header=header, item_id=number, lane=lane, class_id=class_id, slack=0.04
        ),
        'item_truth': ItemTruth(
            header=header,
            serial=number + 1,
            event=ItemTruth.EVENT_RESTED,
            class_id=class_id,
            lane=lane,
            rest_lane=lane,
        ),
    }
