# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Frames for the camera node from a topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stl_conveyor.hardware.frame_sources import FrameCallback
from stl_conveyor.nodes.base.outside_input import NumberMemory, StampRules
from stl_conveyor.vision.bit_depth import BitDepth
from stl_conveyor.vision.compressed import compressed_to_rgb
from stl_conveyor.vision.encodings import image_to_rgb

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sensor_msgs.msg import CompressedImage, Image
    from std_msgs.msg import Header

    from stl_conveyor.nodes.base.conveyor_node import ConveyorNode

BASE_TOPIC = 'camera/image_raw'
#: The parameter image_transport -> what its plugin adds to the name of the topic.
TRANSPORTS = {'raw': '', 'compressed': '/compressed'}


class TopicSource:
    """Frames of a camera driver, or of the simulation.

    Attributes:
        memory: Who keeps the numbers of the pictures, from the next start on.
    """

    def __init__(
        self,
        node: ConveyorNode,
        callback: FrameCallback,
        rules: StampRules,
        transport: str = 'raw',
        sample_bits: int = 0,
    ) -> None:
        """Take frames from `camera/image_raw`, or from what its name is mapped to.

        Args:
            rules: How the stamps of frames are judged.
            transport: One of TRANSPORTS.
            sample_bits: Bits that the camera uses of samples of 16; 0 = find it out.
        """
        self._node = node
        self._callback = callback
        self._rules = rules
        self._transport = transport
        self._depth = BitDepth(sample_bits)
        self.memory: NumberMemory | None = None

    def start(self) -> None:
        """Subscribe."""
        suffix = TRANSPORTS[self._transport]
        self._node.listen_outside(
            BASE_TOPIC + suffix,
            self._on_compressed if suffix else self._on_image,
            self._rules,
            sole=True,
            memory=self.memory,
        )

    def stop(self) -> None:
        """Leave the subscription to the node, which destroys it."""

    def _on_image(self, message: Image, stamp_ns: int) -> None:
        self._take(
            message.header,
            stamp_ns,
            image_to_rgb(
                message.encoding,
                message.height,
                message.width,
                message.step,
                message.is_bigendian,
                message.data,
                self._depth,
            ),
        )

    def _on_compressed(self, message: CompressedImage, stamp_ns: int) -> None:
        self._take(
            message.header, stamp_ns, compressed_to_rgb(message.format, message.data, self._depth)
        )

    def _take(self, header: Header, stamp_ns: int, image: NDArray[np.uint8]) -> None:
        self._callback(image, stamp_ns, header.frame_id)
