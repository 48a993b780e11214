# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Make items of a stream of frames: each once, with the time and the picture of its passage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.vision.item_detector import ItemDetector, Region, Travel
from stl_conveyor.vision.passage_trigger import PassageTrigger


@dataclass(frozen=True, eq=False)
class TrackedItem:
    """An item that has passed the middle of the image.

    Attributes:
        time_ns: When its middle was at the middle of the image; no two items of a frame have the
            same.
        image: The frame in which it is nearest to it, uint8 `[H, W, 3]`.
        row: Of its middle in that frame, in pixels.
        column: The same.
    """

    time_ns: int
    image: NDArray[np.uint8]
    row: float
    column: float


class ItemTracker:
    """Find items and follow them past the middle of the image.

    The belt is followed by what measures it, where that is handed in; else by the images, and
    only where they show nothing by the speed of the description.
    """

    def __init__(
        self,
        travel: Travel,
        belt_speed: float,
        pixels_per_metre: float,
        *,
        threshold: float = 24.0,
        min_area: int = 400,
        region: Region = Region(),
    ) -> None:
        """Start with no item seen.

        Args:
            travel: Where the belt carries things in the image.
            belt_speed: Of the description, m/s.
            pixels_per_metre: Scale of the image on the belt.
            threshold: Difference of grey values between item and belt.
            min_area: Pixels that an item has at least, holes filled.
            region: Part of the image that shows the belt.

        Raises:
            MissingDependency: If OpenCV is not installed.
        """
        self._travel = travel
        self._scale = pixels_per_metre
        self._detector = ItemDetector(
            travel,
            threshold=threshold,
            min_area=min_area,
            pixels_per_metre=pixels_per_metre,
            region=region,
        )
        self._passages = PassageTrigger(
            travel, belt_speed * pixels_per_metre, pixels_per_metre=pixels_per_metre
        )
        self._previous: NDArray[np.uint8] | None = None

    def update(
        self, image: NDArray[np.uint8], time_ns: int, belt: float | None = None
    ) -> tuple[TrackedItem, ...]:
        """Return the items that have newly passed the middle, the foremost first.

        Args:
            image: RGB, uint8 `[H, W, 3]`; it is kept until the next one.
            time_ns: When the frame was taken.
            belt: Metres by which the belt has moved until then, where that is measured.

        Raises:
            BadImage: If the image is too small to hold an item.
            ConfigError: If the region of interest does not lie within the image.
        """
        if not self._passages.follows(time_ns):
            return ()
        way = None if belt is None else belt * self._scale
        detections = self._detector.detect(image, self._passages.expected(time_ns, way))
        items: list[TrackedItem] = []
        middle = self._travel.along((image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2)
        previous, self._previous = self._previous, image
        for item in self._passages.passed(detections, image.shape[:2], time_ns, way):
            offset = self._travel.along(item.row, item.column) - middle
            chosen, row, column = image, item.row, item.column
            if (
                previous is not None
                and previous.shape == image.shape
                and abs(offset - item.moved) < abs(offset)
            ):
                chosen = previous
                row, column = self._travel.shifted(row, column, -item.moved)
            reached_ns = item.time_ns
            while any(reached_ns == other.time_ns for other in items):
                reached_ns += 1
            items.append(TrackedItem(reached_ns, chosen, row, column))
        return tuple(items)
