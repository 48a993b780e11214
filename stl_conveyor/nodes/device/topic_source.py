# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Frames for the camera node from a topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stl_conveyor.hardware.frame_sources import FrameCallback
from stl_conveyor.nodes.base.outside_input import StampRules
from stl_conveyor.vision.image import image_to_rgb

if TYPE_CHECKING:
    from sensor_msgs.msg import Image

    from stl_conveyor.nodes.base.conveyor_node import ConveyorNode


class TopicSource:
    """Frames of a camera driver, or of the simulation."""

    def __init__(self, node: ConveyorNode, callback: FrameCallback, rules: StampRules) -> None:
        """Take frames from `camera/image_raw`.

        Args:
            rules: How their stamps are judged.
        """
        self._node = node
        self._callback = callback
        self._rules = rules

    def start(self) -> None:
        """Subscribe."""
        self._node.listen_outside('camera/image_raw', self._on_image, self._rules)

    def stop(self) -> None:
        """Leave the subscription to the node, which destroys it."""

    def _on_image(self, message: Image, stamp_ns: int) -> None:
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
