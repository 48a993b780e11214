# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Frames for the camera node from a topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stl_conveyor.hardware.frame_sources import FrameCallback
from stl_conveyor.nodes.base.clock import to_ns
from stl_conveyor.vision.image import image_to_rgb

if TYPE_CHECKING:
    from sensor_msgs.msg import Image

    from stl_conveyor.nodes.base.conveyor_node import ConveyorNode


class TopicSource:
    """Frames of a camera driver, or of the simulation."""

    def __init__(self, node: ConveyorNode, callback: FrameCallback) -> None:
        """Take frames from `camera/image_raw`."""
        self._node = node
        self._callback = callback

    def start(self) -> None:
        """Subscribe."""
        self._node.listen('camera/image_raw', self._on_image)

    def stop(self) -> None:
        """Leave the subscription to the node, which destroys it."""

    def _on_image(self, message: Image) -> None:
        stamp_ns = to_ns(message.header.stamp)
        if stamp_ns == 0:  # the driver does not stamp
            stamp_ns = self._node.get_clock().now().nanoseconds
        self._callback(
            image_to_rgb(
                message.encoding,
                message.height,
                message.width,
                message.step,
                message.is_bigendian,
                message.data,
            ),
            stamp_ns,
            message.header.frame_id,
        )
