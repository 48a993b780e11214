# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Make an item of everything that passes under the camera."""
from __future__ import annotations

import array
from collections import deque
from dataclasses import dataclass
import sys

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from stl_conveyor.cell.deadline import sorting_deadline
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.cell.ledger import ItemKey
from stl_conveyor.errors import ConfigError
from stl_conveyor.msg import ItemCapture
from stl_conveyor.nodes.camera_sources import (
    DeviceSource, FolderSource, FrameSource, TopicSource)
from stl_conveyor.nodes.conveyor_node import ConveyorNode
from stl_conveyor.nodes.items import configured_path, RecentItems
from stl_conveyor.nodes.runner import run_node
from stl_conveyor.nodes.settings import NodeSettings, parameter
from stl_conveyor.nodes.time import to_ns, to_stamp
from stl_conveyor.vision.image import crop_square, resize_square
from stl_conveyor.vision.item_detector import ItemDetector, PassageTrigger, Travel

FUTURE_NS = 1_000_000_000
STALE_NS = 60_000_000_000


@dataclass(frozen=True)
class CameraSettings(NodeSettings):
    """Parameters of the camera."""

    cell_file: str = parameter(
        '', 'Cell description (YAML). Empty: the one that the package ships.')
    source: str = parameter(
        'topic', 'Where frames come from: the topic camera/image_raw, a device, or a folder of '
        'images.', choices=('topic', 'device', 'folder'))
    trigger: str = parameter(
        'frame', 'What makes an item of a frame: every frame shows one (a camera with a hardware '
        'trigger), the time on the topic break_beam, or the image itself.',
        choices=('frame', 'beam', 'image'))
    travel: str = parameter(
        'up', 'Where the belt carries things in the image.',
        choices=tuple(item.name.lower() for item in Travel))
    frame_id: str = parameter(
        'camera_optical_frame', 'Optical frame (REP-103), where the frames do not name one.')
    first_item_id: int = parameter(
        1, 'Number of the first item.', minimum=1, maximum=2**62)
    device: str = parameter('/dev/video0', 'Camera, with source device: a path or a number.')
    latency: float = parameter(
        0.03, 'Seconds from mid-exposure until the device hands a frame over.',
        minimum=0.0, maximum=1.0)
    folder: str = parameter('', 'Folder of images, with source folder.')
    rate: float = parameter(
        1.0, 'Images per second, with source folder.', minimum=0.01, maximum=100.0)
    repeat: bool = parameter(False, 'Begin again after the last image of the folder.')
    threshold: float = parameter(
        24.0, 'Difference of grey values between item and belt, with trigger image.',
        minimum=1.0, maximum=255.0)
    min_area: int = parameter(
        400, 'Pixels that an item has at least, with trigger image.', minimum=1,
        maximum=10_000_000)


class Camera(ConveyorNode):
    """See the module."""

    NAME = 'camera'
    SETTINGS = CameraSettings

    def __init__(self, **arguments: object) -> None:
        """Start to count; the count goes on through every reactivation."""
        super().__init__(**arguments)
        self._next_id = self.settings.first_item_id
        self._seen: RecentItems[bool] = RecentItems(128)

    def check_settings(self, settings: CameraSettings) -> None:
        """Refuse a trigger that the source cannot have."""
        if settings.source == 'folder' and settings.trigger != 'frame':
            raise ConfigError('trigger: with source folder every image is an item; use frame')

    def configure(self) -> None:
        """Read the cell and prepare the source."""
        settings = self.settings
        self.cell = CellDescription.load(configured_path(settings.cell_file, 'config/cell.yaml'))
        camera = self.cell.camera
        self.travel = Travel[settings.travel.upper()]
        self._speed = self.cell.belt.speed * camera.pixels_per_metre
        self.detector = ItemDetector(
            self.travel, threshold=settings.threshold, min_area=settings.min_area)
        self.passages = PassageTrigger(self.travel, self._speed)
        self._expected: deque[int] = deque(maxlen=64)
        self._previous_ns: int | None = None
        make_item = {
            'frame': self._whole_frame, 'beam': self._at_beam, 'image': self._in_image,
        }[settings.trigger]
        self._source: FrameSource
        if settings.source == 'topic':
            self._source = TopicSource(self, make_item)
        elif settings.source == 'device':
            self._source = DeviceSource(self, make_item, settings.device, settings.latency)
        else:
            self._source = FolderSource(
                self, self._whole_image, settings.folder, settings.rate, settings.repeat)

    def activate(self) -> None:
        """Look."""
        self._captures = self.publish_on('capture')
        if self.settings.trigger == 'beam':
            self.listen('break_beam', self._on_beam)
        self._source.start()

    def deactivate(self) -> None:
        """Look away."""
        self._source.stop()

    def _on_beam(self, message: Header) -> None:
        travel = self.cell.camera.x - self.cell.break_beam.x
        self._expected.append(to_ns(message.stamp) + round(travel / self.cell.belt.speed * 1e9))

    def _whole_frame(self, image: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> None:
        self._publish(self._crop(image, *_middle(image)), stamp_ns, frame_id)

    def _whole_image(self, image: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> None:
        self._publish(resize_square(image, self.cell.camera.crop_size), stamp_ns, frame_id)

    def _at_beam(self, image: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> None:
        """Take the frame that is nearest to the time at which the item is in the middle."""
        previous_ns, self._previous_ns = self._previous_ns, stamp_ns
        interval_ns = 0 if previous_ns is None else max(0, stamp_ns - previous_ns)
        while self._expected and self._expected[0] <= stamp_ns + interval_ns // 2:
            centred_ns = self._expected.popleft()
            offset = self._speed * (stamp_ns - centred_ns) / 1e9
            if abs(offset) > min(image.shape[:2]) / 2:
                self.error('item_not_seen', 'no frame shows an item that broke the beam; raise '
                           'the frame rate')
                continue
            place = self.travel.shifted(*_middle(image), offset)
            self._publish(self._crop(image, *place), centred_ns, frame_id)

    def _in_image(self, image: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> None:
        middle = self.travel.along(*_middle(image))
        for item in self.passages.passed(
                self.detector.detect(image), image.shape[:2], stamp_ns):
            offset = self.travel.along(item.row, item.column) - middle
            self._publish(
                self._crop(image, item.row, item.column),
                stamp_ns - round(offset / self._speed * 1e9), frame_id)

    def _crop(self, image: NDArray[np.uint8], row: float, column: float) -> NDArray[np.uint8]:
        return crop_square(image, row, column, self.cell.camera.crop_size)

    def _publish(self, crop: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> None:
        now_ns = self.get_clock().now().nanoseconds
        ahead_ns = stamp_ns - now_ns
        # Before the first message on /clock the time is 0, and nothing can be said about stamps.
        if now_ns and not -STALE_NS <= ahead_ns <= FUTURE_NS:
            self.warn('absurd_stamp', f'a frame is {ahead_ns / 1e9:.3f} s ahead of ROS time; '
                      'compare the clocks of driver and device')
            return
        if self._seen.get(ItemKey(1, stamp_ns)):
            self.warn('duplicate_frame', 'a frame came twice')
            return
        self._seen.put(ItemKey(1, stamp_ns), True)
        header = Header(stamp=to_stamp(stamp_ns), frame_id=frame_id or self.settings.frame_id)
        size = crop.shape[0]
        item_id, self._next_id = self._next_id, self._next_id + 1
        self._captures.publish(ItemCapture(
            header=header, item_id=item_id,
            deadline=to_stamp(sorting_deadline(stamp_ns, self.cell)),
            crop=Image(
                header=header, height=size, width=size, encoding='rgb8', step=3 * size,
                data=array.array('B', crop.tobytes()))))
        self.tick('items')
        self.health.set_value('last_item_id', item_id)


def _middle(image: NDArray[np.uint8]) -> tuple[float, float]:
    return (image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2


def main(arguments: list[str] | None = None) -> int:
    """Run the node as a process."""
    return run_node(Camera, arguments)


if __name__ == '__main__':
    sys.exit(main())
