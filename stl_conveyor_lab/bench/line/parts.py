# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What stands for a part on the belt: its capture, the answer about it, and its stroke."""

from __future__ import annotations

import array
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from stl_conveyor.calibration.parameter_file import set_cell_values
from stl_conveyor.cell.deadline import sorting_deadline
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.msg import Classification, ItemCapture
from stl_conveyor.nodes.base.clock import to_stamp
from stl_conveyor.resources import share_path
from stl_conveyor_lab.bench.line.rig import Rig

CELL = CellDescription.load(share_path('config/cell.yaml'))
LEAD = CELL.diverter.lead_time  # s from a command until the part is met


@contextmanager
def described_cell(values: Mapping[str, float]) -> Iterator[str]:
    """Yield the path of the shipped cell description with other values, such as 'belt.speed'."""
    with tempfile.TemporaryDirectory(prefix='bench_line_') as folder:
        path = Path(folder) / 'cell.yaml'
        set_cell_values(path, values)
        yield str(path)


@dataclass(frozen=True)
class Part:
    """A part that passes the camera's middle at a time (s) and belongs into a lane."""

    item_id: int
    time: float
    lane: str

    @property
    def way(self) -> float:
        """Return the metres from the camera to its diverter."""
        return CELL.lane(self.lane).diverter_x - CELL.camera.x


class Feed:
    """Publishes captures and answers in place of the camera and the classifier."""

    def __init__(self, rig: Rig) -> None:
        """Connect to the actuator."""
        self._rig = rig
        self._answers = rig.publisher(Classification, 'classification')
        self._captures: Publisher = rig.publisher(ItemCapture, 'capture')

    def send(self, part: Part) -> None:
        """Publish a part's capture, as of its time, and the device's answer about it."""
        stamp_ns = self._rig.time.stamp_ns(part.time)
        header = Header(stamp=to_stamp(stamp_ns), frame_id='camera_optical_frame')
        size = 8  # the actuator looks at no picture
        capture = ItemCapture(
            header=header,
            item_id=part.item_id,
            deadline=to_stamp(sorting_deadline(stamp_ns, CELL)),
            crop=Image(
                header=header,
                height=size,
                width=size,
                step=3 * size,
                encoding='rgb8',
                data=array.array('B', bytes(3 * size * size)),
            ),
        )
        self._captures.publish(capture)
        self._answers.publish(answer(capture, part.lane))


def answer(capture: ItemCapture, lane: str) -> Classification:
    """Return the device's answer that a captured item belongs into a lane."""
    classes, class_id = CELL.classes, CELL.lane(lane).classes[0]
    probabilities = np.full(len(classes), 0.1 / (len(classes) - 1), np.float32)
    probabilities[classes.index(class_id)] = 0.9
    return Classification(
        header=capture.header,
        item_id=capture.item_id,
        deadline=capture.deadline,
        source=Classification.SOURCE_LOCAL,
        class_id=class_id,
        score=0.9,
        probabilities=array.array('f', probabilities.tobytes()),
    )


def parts_every(
    period: float, count: int, *, first: float = 0.5, lanes: str = 'ABC'
) -> list[Part]:
    """Return parts that pass the camera every `period` seconds, for the lanes in turn."""
    return [
        Part(index + 1, first + period * index, lanes[index % len(lanes)])
        for index in range(count)
    ]


def send_due(feed: Feed, waiting: list[Part], now: float) -> Sequence[Part]:
    """Send the parts whose time has come, and take them from those that wait."""
    due = [part for part in waiting if part.time <= now]
    for part in due:
        waiting.remove(part)
        feed.send(part)
    return due
