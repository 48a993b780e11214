# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Shows a cell to RViz and Foxglove: belt, pushers, bins, items as they move, and its frames."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo
from visualization_msgs.msg import Marker, MarkerArray

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.nodes.base.clock import clock_ns, to_stamp
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.items import configured_path
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.settings import NodeSettings, onlooker_niceness, parameter
from stl_conveyor.nodes.panel.cell_listener import hear_cell
from stl_conveyor.nodes.panel.cell_markers import (
    camera_info,
    item_markers,
    still_markers,
    transforms,
)
from stl_conveyor.nodes.panel.recipe_watch import RecipeWatch
from stl_conveyor.panel.live_cell import LiveCell

HEARD = ('capture', 'sort_outcome', 'actuation', 'belt_state')
CAMERA_S = 1.0  # between two messages about the camera
CAMERA_INFO = 'camera/camera_info'
FRAMES = 'tf_static'


@dataclass(frozen=True)
class CellViewSettings(NodeSettings):
    """Parameters of cell_view."""

    niceness: int = onlooker_niceness()
    cell_file: str = parameter('', 'Description of the cell (YAML); empty = config/cell.yaml.')
    frame_id: str = parameter(
        'camera_optical_frame', 'Frame of the camera, as its pictures have it.'
    )
    rate: float = parameter(
        10.0, 'Pictures of the cell in a second, while somebody looks.', minimum=1.0, maximum=60.0
    )


class CellView(ConveyorNode):
    """Publishes markers while somebody looks, what the camera is, and where things stand."""

    NAME = 'cell_view'
    SETTINGS = CellViewSettings
    HEARTBEATS = False  # nobody waits for it

    def __init__(self, **arguments: Any) -> None:
        """See `ConveyorNode`.

        Raises:
            ConfigError: Naming the parameter that is unknown or has a wrong value.
        """
        self.live: LiveCell | None = None
        super().__init__(**arguments)

    def configure(self) -> None:
        """Load what is drawn."""
        cell = CellDescription.load(configured_path(self.settings.cell_file, 'config/cell.yaml'))
        self.live = LiveCell(cell, now_ns=lambda: clock_ns(self.get_clock()))
        self._drawn, self._still = cell, still_markers(cell)

    def activate(self) -> None:
        """Draw what is heard."""
        assert self.live is not None
        hear_cell(self, self.live, topics=HEARD, crops=False)
        RecipeWatch(self, [('', self.live)])
        self._markers = self.publish_on('cell_markers')
        self._camera = self.publish_on(CAMERA_INFO)
        self._frames: Publisher | None = None
        try:
            self._frames = self.publish_on(FRAMES)
        except ModuleNotFoundError as error:
            self.get_logger().info(
                f'{FRAMES}: where camera and light barrier stand is not told, as {error.name} is '
                'not installed, a package of ROS 2'
            )
        self._framed: CellDescription | None = None
        self.every(1.0 / self.settings.rate, self._draw)
        self.every(CAMERA_S, self._tell_what_stands)
        self._tell_what_stands()

    def cleanup(self) -> None:
        """Forget what was drawn."""
        self.live = None

    def _draw(self) -> None:
        if self._markers.get_subscription_count():
            self._markers.publish(self.markers())

    def markers(self) -> MarkerArray:
        """Return the cell as it is now."""
        assert self.live is not None
        now_ns = clock_ns(self.get_clock())
        before = []
        if self.live.cell is not self._drawn:  # lanes and bins that are no more
            self._drawn, self._still = self.live.cell, still_markers(self.live.cell)
            before = [Marker(action=Marker.DELETEALL)]
        moving = item_markers(self.live, now_ns, 1.0 / self.settings.rate)
        return MarkerArray(markers=[*before, *self._still, *moving])

    def _tell_what_stands(self) -> None:
        self._tell_camera()
        self._tell_frames()

    def _tell_frames(self) -> None:
        """Say where camera and light barrier stand, once for each description of the cell."""
        assert self.live is not None
        if self._frames is None or self.live.cell is self._framed:
            return
        self._framed = self.live.cell
        told = transforms(self._framed, self.settings.frame_id)
        for transform in told:
            transform.header.stamp = to_stamp(clock_ns(self.get_clock()))
        self._frames.publish(self._frames.msg_type(transforms=told))

    def _tell_camera(self) -> None:
        """Say what the camera is, unless its driver does."""
        if self.count_publishers(CAMERA_INFO) > 1:
            return
        assert self.live is not None
        message: CameraInfo = camera_info(self.live.cell)
        message.header.frame_id = self.settings.frame_id
        message.header.stamp = to_stamp(clock_ns(self.get_clock()))
        self._camera.publish(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run_node(CellView, arguments)


if __name__ == '__main__':
    sys.exit(main())
