# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Find items on the belt in a stream of frames, each item once."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class Travel(enum.Enum):
    """Where the belt carries things in the image; (axis of the image, sign along it)."""

    UP = (0, -1)
    DOWN = (0, 1)
    LEFT = (1, -1)
    RIGHT = (1, 1)

    def __init__(self, axis: int, sign: int) -> None:
        """Take the tuple apart."""
        self.axis = axis
        self.sign = sign

    def along(self, row: float, column: float) -> float:
        """Return how far along the belt a pixel lies, in pixels, growing with travel."""
        return self.sign * (row, column)[self.axis]

    def shifted(self, row: float, column: float, pixels: float) -> tuple[float, float]:
        """Return the point that lies `pixels` further along the belt."""
        return (
            (row + self.sign * pixels, column)
            if self.axis == 0
            else (row, column + self.sign * pixels)
        )


@dataclass(frozen=True)
class Detection:
    """An item in an image: its centre (pixels) and the number of its pixels."""

    row: float
    column: float
    area: int


class ItemDetector:
    """Tell items from the belt by their difference to a running background.

    The background follows the image slowly where there is no item, so that light and wear may
    change. Items must be apart along the belt.
    """

    STRIDE = 2

    def __init__(
        self,
        travel: Travel,
        *,
        threshold: float = 24.0,
        min_area: int = 400,
        gap: int = 6,
        adaptation: float = 0.05,
    ) -> None:
        """Start without a background: the first frame is taken for an empty belt.

        Args:
            threshold: Difference of grey values from which a pixel belongs to an item.
            min_area: Pixels that an item has at least.
            gap: Pixels of belt between two items at least.
            adaptation: Share of a new frame in the background.
        """
        self._travel = travel
        self._threshold = threshold
        self._min_area = min_area
        self._gap = gap
        self._adaptation = adaptation
        self._background: NDArray[np.float32] | None = None

    def detect(self, image: NDArray[np.uint8]) -> tuple[Detection, ...]:
        """Return the items in an RGB image uint8 `[H, W, 3]`, the furthest along first."""
        grey = image[:: self.STRIDE, :: self.STRIDE].mean(axis=2, dtype=np.float32)
        if self._background is None or self._background.shape != grey.shape:
            self._background = grey
            return ()
        foreground = np.abs(grey - self._background) > self._threshold
        self._background = np.where(
            foreground,
            self._background,
            self._background + self._adaptation * (grey - self._background),
        )
        detections = [
            self._measure(foreground, first, last) for first, last in self._segments(foreground)
        ]
        found = [item for item in detections if item.area >= self._min_area]
        return tuple(
            sorted(found, key=lambda item: self._travel.along(item.row, item.column), reverse=True)
        )

    def _segments(self, foreground: NDArray[np.bool_]) -> list[tuple[int, int]]:
        """Return first and last index, along the belt's axis, of each stretch with pixels."""
        noise = 2
        places = np.flatnonzero(foreground.sum(axis=1 - self._travel.axis) >= noise)
        if not places.size:
            return []
        breaks = np.flatnonzero(np.diff(places) > max(1, self._gap // self.STRIDE))
        firsts = places[np.r_[0, breaks + 1]]
        lasts = places[np.r_[breaks, places.size - 1]]
        return list(zip(firsts.tolist(), lasts.tolist()))

    def _measure(self, foreground: NDArray[np.bool_], first: int, last: int) -> Detection:
        window = [slice(None), slice(None)]
        window[self._travel.axis] = slice(first, last + 1)
        rows, columns = np.nonzero(foreground[tuple(window)])
        if self._travel.axis == 0:
            rows = rows + first
        else:
            columns = columns + first
        centre = [(values.min() + values.max()) / 2 * self.STRIDE for values in (rows, columns)]
        return Detection(float(centre[0]), float(centre[1]), rows.size * self.STRIDE**2)


class PassageTrigger:
    """Report each item once, in the first frame in which its centre has passed the middle."""

    def __init__(self, travel: Travel, pixels_per_second: float, tolerance: float = 20.0) -> None:
        """Start with no item seen.

        Args:
            pixels_per_second: Speed of the belt in the image.
            tolerance: Pixels by which an item may be off the place where it is expected.
        """
        self._travel = travel
        self._speed = pixels_per_second
        self._tolerance = tolerance
        self._reported: tuple[float, int, float] | None = None  # place, time in ns, belt

    def passed(
        self,
        detections: tuple[Detection, ...],
        shape: tuple[int, int],
        time_ns: int,
        belt: float | None = None,
    ) -> tuple[Detection, ...]:
        """Return the items that have newly passed the middle, the foremost first.

        Args:
            shape: Height and width of the image.
            time_ns: When the frame was taken.
            belt: Pixels by which the belt has moved until then, where that is measured.
        """
        if belt is None:
            belt = self._speed * time_ns / 1e9
        middle = self._travel.along((shape[0] - 1) / 2, (shape[1] - 1) / 2)
        new = []
        for item in detections:
            place = self._travel.along(item.row, item.column)
            if place < middle:
                continue
            if self._reported is not None:
                last_place, last_ns, last_belt = self._reported
                expected = last_place + belt - last_belt
                if time_ns >= last_ns and place > expected - self._tolerance:
                    continue
            new.append(item)
        if new:
            rear = new[-1]
            self._reported = (self._travel.along(rear.row, rear.column), time_ns, belt)
        return tuple(new)
