# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Find the items on the belt in each frame of a stream."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.errors import BadImage, ConfigError
from stl_conveyor.vision.belt_background import BeltBackground
from stl_conveyor.vision.belt_motion import STRIPS, BeltMotion
from stl_conveyor.vision.opencv import import_cv2

#: Pixels per metre of belt at which items are looked for; finer pictures are reduced.
WORKING_SCALE = 2000.0
#: Width of an item's outlined shape at its thickest place, holes filled, as a share of the side of
#: the least square that is an item. The outline lies a pixel outside the item; scratches are thin.
LEAST_WIDTH = 0.55
#: Width (m) of a scratch; what an item differs by is asked of places that are wider.
STROKE = 0.0025
#: Width (m) of what is missing in the outline of an item where it looks like the belt.
OUTLINE_GAP = 0.003
#: Grey values per pixel of an edge, as a share of the threshold. Dirt, oil and wear shade off.
SHARP = 0.33
#: Share of an item's outline that is sharp; that of a stain is not.
SHARP_OUTLINE = 0.5
#: The same, of an outline that is open where the item looks like the belt: of its convex hull.
SHARP_HULL = 0.65
#: The belt's own marks: what they stay below by so many times is an edge, and a level, of items.
EDGE_MARGIN, EDGE_SHARE = 1.6, 0.97
LEVEL_MARGIN, LEVEL_SHARE = 1.3, 0.99
#: Grey values by which the tint of an item differs at least, on a belt of one colour.
LEAST_COLOUR = 6.0
#: Share of an item that is not in the dark, from which on its dark border is taken for a shadow.
LIT = 0.4
#: Grey values below which a sensor's noise is as steep as an edge.
DARK = 34.0
#: Width (m) of the shadow that parts two lit items, and the share of it that is in the dark.
SHADE, SHADED = 0.002, 0.3
#: Share of the lit pixels of an item that are bright in places wider than a scratch, from which on
#: the others are not measured.
THICK = 0.6


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

    def across(self, row: float, column: float) -> float:
        """Return the other coordinate of a pixel, in pixels."""
        return (row, column)[1 - self.axis]

    def pixel(self, along: float, across: float) -> tuple[float, float]:
        """Return (row, column) of a place, the inverse of `along` and `across`."""
        return (self.sign * along, across) if self.axis == 0 else (across, self.sign * along)

    def shifted(self, row: float, column: float, pixels: float) -> tuple[float, float]:
        """Return the point that lies `pixels` further along the belt."""
        return (
            (row + self.sign * pixels, column)
            if self.axis == 0
            else (row, column + self.sign * pixels)
        )


@dataclass(frozen=True)
class Region:
    """The part of the image that shows the belt, in pixels, as in sensor_msgs/RegionOfInterest.

    Attributes:
        height: 0 = to the lower edge of the image.
        width: 0 = to the right edge of the image.
    """

    x_offset: int = 0
    y_offset: int = 0
    height: int = 0
    width: int = 0

    def slices(self, shape: tuple[int, ...]) -> tuple[slice, slice]:
        """Return rows and columns of the region in an image.

        Raises:
            ConfigError: If it does not lie within the image.
        """
        bottom = self.y_offset + self.height if self.height else shape[0]
        right = self.x_offset + self.width if self.width else shape[1]
        if not (
            0 <= self.y_offset < bottom <= shape[0] and 0 <= self.x_offset < right <= shape[1]
        ):
            raise ConfigError(
                f'region of interest: rows {self.y_offset}..{bottom} and columns '
                f'{self.x_offset}..{right} do not lie within the {shape[1]} x {shape[0]} image'
            )
        return slice(self.y_offset, bottom), slice(self.x_offset, right)


@dataclass(frozen=True)
class Detection:
    """An item in an image, in pixels of it.

    Attributes:
        row: Of its middle.
        column: The same.
        area: Number of its pixels, holes filled.
        rear: Where it begins along the belt; see `Travel.along`. None: beyond the image.
        front: Where it ends along the belt; None: beyond the image.
        left: Where it begins across the belt; see `Travel.across`.
        right: Where it ends across the belt.
    """

    row: float
    column: float
    area: int
    rear: float | None
    front: float | None
    left: float
    right: float


class Detections(tuple[Detection, ...]):
    """The items in an image, the furthest along first.

    Attributes:
        moved: Pixels by which the belt has moved since the last image; None: the images show
            nothing that could tell.
        ends: First and last pixel of what was looked at, along the belt.
    """

    moved: float | None
    ends: tuple[float, float]

    def __new__(
        cls, items: Sequence[Detection], moved: float | None, ends: tuple[float, float]
    ) -> Detections:
        """Hold items."""
        self = super().__new__(cls, items)
        self.moved = moved
        self.ends = ends
        return self


@dataclass(frozen=True)
class _Tones:
    """What is known of the pixels of a picture, beside its edges.

    Attributes:
        lit: Lighter than the belt, or coloured.
        dark: A shadow, or as dark.
        rails: At an edge of what stands still in the picture.
    """

    lit: NDArray[np.uint8]
    dark: NDArray[np.bool_]
    rails: NDArray[np.bool_]


class ItemDetector:
    """Tell items from the belt.

    An item differs from the belt around it by at least the threshold and has a sharp outline.
    The belt's dirt, oil and wear shade off, and its scratches are thin. How sharp the marks of
    this belt are is learned from the images. An item's shadow is not part of it.
    """

    def __init__(
        self,
        travel: Travel,
        *,
        threshold: float = 24.0,
        min_area: int = 400,
        pixels_per_metre: float = 2000.0,
        region: Region = Region(),
    ) -> None:
        """Start without a background; the first image may show items.

        Args:
            threshold: Difference of grey values between item and belt.
            min_area: Pixels that an item has at least, in the image, holes filled.
            pixels_per_metre: Scale of the image on the belt.
            region: Part of the image that shows the belt.

        Raises:
            MissingDependency: If OpenCV is not installed.
        """
        self._cv2 = import_cv2()
        self._travel = travel
        self._threshold = threshold
        self._factor = max(1, round(pixels_per_metre / WORKING_SCALE))
        scale = pixels_per_metre / self._factor
        self._min_area = min_area / self._factor**2
        size = max(3, round(LEAST_WIDTH * math.sqrt(self._min_area)))
        self._opening = self._cv2.getStructuringElement(
            self._cv2.MORPH_ELLIPSE, (size | 1, size | 1)
        )
        self._shade = SHADE * scale
        stroke = round(STROKE * scale) | 1
        self._stroke = self._cv2.getStructuringElement(self._cv2.MORPH_ELLIPSE, (stroke, stroke))
        gap = round(OUTLINE_GAP * scale) | 1
        self._closing = self._cv2.getStructuringElement(self._cv2.MORPH_ELLIPSE, (gap, gap))
        self._square = np.ones((3, 3), np.uint8)
        self._region = region
        self._background: BeltBackground | None = None
        self._motion = BeltMotion()

    def detect(self, image: NDArray[np.uint8], expected: float | None = None) -> Detections:
        """Return the items in an image.

        Args:
            image: RGB, uint8 `[H, W, 3]`.
            expected: Pixels by which the belt has moved since the last image, where that is
                known; it stands unless the images contradict it.

        Raises:
            BadImage: If the image is too small to hold an item.
            ConfigError: If the region does not lie within the image.
        """
        cv2 = self._cv2
        view, tint, first, edge = self._view(image)
        background = self._background
        if background is None or background.grey.shape != view.shape:
            background = self._background = BeltBackground(view)
            self._motion.reset()
        difference = background.difference(view)
        strips = cv2.resize(difference, (STRIPS, view.shape[0]), interpolation=cv2.INTER_AREA)
        moved = self._motion.update(strips, None if expected is None else expected / self._factor)
        level = np.abs(difference)
        colour = background.colour(tint)
        # As bright as it would have to be to differ as clearly as its colour does.
        clear = max(LEAST_COLOUR, LEVEL_MARGIN * background.spread('colour', colour, LEVEL_SHARE))
        colour *= np.float32(self._threshold / clear)
        solid = cv2.morphologyEx(np.maximum(level, colour), cv2.MORPH_OPEN, self._stroke)
        gradient = self._gradient(self._calmed(difference, view < DARK))
        sharp = max(
            SHARP * self._threshold, EDGE_MARGIN * background.spread('edge', gradient, EDGE_SHARE)
        )
        high = max(self._threshold, LEVEL_MARGIN * background.spread('level', level, LEVEL_SHARE))
        edges = (gradient > sharp).astype(np.uint8)
        turn = self._gradient(self._calmed(colour, view < DARK))
        spread = background.spread('colour edge', turn, EDGE_SHARE)
        edges |= (turn > max(SHARP * self._threshold, EDGE_MARGIN * spread)).astype(np.uint8)
        mask = edges | (level > high) | (colour > self._threshold)
        claimed = np.zeros(view.shape, np.uint8)
        # What ends at a rail has an edge there, whatever it is.
        rails = self._gradient(background.grey) > sharp
        rails = cv2.dilate(rails.astype(np.uint8), self._square).astype(bool)
        tones = _Tones(
            cv2.morphologyEx(
                ((difference > high) | (colour > self._threshold)).astype(np.uint8),
                cv2.MORPH_OPEN,
                self._square,
            ),
            (difference < -self._threshold) & (colour <= self._threshold),
            rails,
        )
        found = self._items(mask, edges, solid, tones, difference, claimed, first, edge)
        if found:
            claimed = cv2.dilate(claimed, self._square, iterations=2)
        way = moved if moved is not None else (expected or 0.0) / self._factor
        background.learn(view, claimed, way)
        found.sort(key=lambda item: self._travel.along(item.row, item.column), reverse=True)
        last = first + self._factor * (view.shape[0] - 1)
        return Detections(found, None if moved is None else moved * self._factor, (first, last))

    def _calmed(self, values: NDArray[np.float32], dark: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return values of which those in the dark have less noise; their edges stay."""
        return np.where(dark, self._cv2.medianBlur(values, 3), values)

    def _gradient(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how steeply values change, per pixel, f32[H, W]."""
        cv2 = self._cv2
        steepness: NDArray[np.float32] = cv2.magnitude(
            cv2.Sobel(values, cv2.CV_32F, 1, 0, scale=0.125),
            cv2.Sobel(values, cv2.CV_32F, 0, 1, scale=0.125),
        )
        return steepness

    def _view(
        self, image: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], float, float]:
        """Return the reduced picture, axis 0 along the belt, and where its first pixel lies.

        Returns:
            Grey values f32[H, W], and how much redder than blue, and than green, f32[2, H, W].
        """
        cv2, factor, travel = self._cv2, self._factor, self._travel
        rows, columns = self._region.slices(image.shape)
        region = np.ascontiguousarray(image[rows, columns])
        height, width = region.shape[0] // factor, region.shape[1] // factor
        if min(height, width) < STRIPS:
            raise BadImage(
                f'{image.shape[1]} x {image.shape[0]} pixels, region of interest '
                f'{region.shape[1]} x {region.shape[0]}: too small to find items in'
            )
        if factor > 1:
            region = cv2.resize(
                region[: height * factor, : width * factor],
                (width, height),
                interpolation=cv2.INTER_AREA,
            )
        # The centre of the first pixel of the reduced picture, in pixels of the image.
        half = (factor - 1) / 2
        start = np.array([rows.start + half, columns.start + half])
        along = float(start[travel.axis])
        across = float(start[1 - travel.axis])
        if travel.axis == 1:
            region = cv2.transpose(region)
        if travel.sign < 0:
            region = cv2.flip(region, 0)
            along = -(along + factor * (region.shape[0] - 1))
        view = cv2.cvtColor(region, cv2.COLOR_RGB2GRAY).astype(np.float32)
        red, green, blue = cv2.split(region)
        tint = np.empty((2, *view.shape), np.float32)
        cv2.subtract(red, blue, dst=tint[0], dtype=cv2.CV_32F)
        cv2.addWeighted(red, 0.5, blue, 0.5, 0.0, dst=tint[1], dtype=cv2.CV_32F)
        cv2.subtract(tint[1], green, dst=tint[1], dtype=cv2.CV_32F)
        return view, tint, along, across

    def _items(
        self,
        mask: NDArray[np.uint8],
        edges: NDArray[np.uint8],
        solid: NDArray[np.float32],
        tones: _Tones,
        difference: NDArray[np.float32],
        claimed: NDArray[np.uint8],
        first: float,
        edge: float,
    ) -> list[Detection]:
        """Return the items in a picture and claim their pixels."""
        cv2 = self._cv2
        joined = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, self._closing)
        contours, _ = cv2.findContours(joined, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        found = []
        for contour in contours:
            left, top, width, height = cv2.boundingRect(contour)
            if width * height < self._min_area:
                continue
            filled = np.zeros((height + 2, width + 2), np.uint8)
            cv2.drawContours(filled, [contour], 0, 1, cv2.FILLED, offset=(1 - left, 1 - top))
            if top == 0 or top + height == mask.shape[0]:
                self._close(filled, 1 if top == 0 else height)
            parts = self._parts(filled[1:-1, 1:-1], mask, edges, solid, tones, top, left)
            if not parts:
                hull = cv2.convexHull(contour)
                cv2.drawContours(filled, [hull], 0, 1, cv2.FILLED, offset=(1 - left, 1 - top))
                parts = self._bodies(
                    filled[1:-1, 1:-1], edges, solid, tones, top, left, SHARP_HULL
                )
            for part, y, x in parts:
                window = (slice(y, y + part.shape[0]), slice(x, x + part.shape[1]))
                claimed[window] |= part
                found.append(
                    self._measure(part, difference[window], (y, x), mask.shape, first, edge)
                )
        return found

    def _parts(
        self,
        shape: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        edges: NDArray[np.uint8],
        solid: NDArray[np.float32],
        tones: _Tones,
        top: int,
        left: int,
    ) -> list[tuple[NDArray[np.uint8], int, int]]:
        """Return the items in a shape with their first row and column.

        Two items that are closer than a gap in an outline may be are told apart where a clean
        line across or along the belt lies between them, or only the shadow of one of them.
        """
        window = (slice(top, top + shape.shape[0]), slice(left, left + shape.shape[1]))
        marks = mask[window] & shape
        lit, dark = tones.lit[window] & shape, tones.dark[window] & shape.astype(bool)
        cuts = [(axis, _stretches(np.atleast_1d(marks.any(axis=1 - axis)))) for axis in (0, 1)]
        cuts += [(axis, self._between_shadows(lit, dark, axis)) for axis in (0, 1)]
        for axis, pieces in cuts:
            if len(pieces) < 2:
                continue
            items = []
            for first, last in pieces:
                piece = shape[first:last] if axis == 0 else shape[:, first:last]
                corner = (top + first, left) if axis == 0 else (top, left + first)
                items.append(self._parts(piece, mask, edges, solid, tones, *corner))
            if sum(map(bool, items)) > 1:
                return [item for group in items for item in group]
        return self._bodies(shape, edges, solid, tones, top, left)

    def _between_shadows(
        self, lit: NDArray[np.uint8], dark: NDArray[np.bool_], axis: int
    ) -> list[tuple[int, int]]:
        """Return first line and end of what is lit, between which there is nothing but shadow."""
        pieces: list[tuple[int, int]] = []
        for first, last in _stretches(np.atleast_1d(lit.any(axis=1 - axis))):
            if pieces:
                before, end = pieces[-1]
                between = dark[end:first] if axis == 0 else dark[:, end:first]
                shaded = between.any(axis=1 - axis).mean()
                if first - end < self._shade or shaded < SHADED:
                    pieces[-1] = (before, last)
                    continue
            pieces.append((first, last))
        return pieces

    def _bodies(
        self,
        shape: NDArray[np.uint8],
        edges: NDArray[np.uint8],
        solid: NDArray[np.float32],
        tones: _Tones,
        top: int,
        left: int,
        least: float = SHARP_OUTLINE,
    ) -> list[tuple[NDArray[np.uint8], int, int]]:
        """Return what is thick enough of a shape and an item; as `_parts`."""
        cv2 = self._cv2
        padded = cv2.copyMakeBorder(shape, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        body = cv2.morphologyEx(padded, cv2.MORPH_OPEN, self._opening)[1:-1, 1:-1]
        count, labels, stats, _ = cv2.connectedComponentsWithStats(body)
        bodies = []
        for label in range(1, count):
            if stats[label, cv2.CC_STAT_AREA] < self._min_area:
                continue
            x, y, w, h = (int(value) for value in stats[label, :4])
            window = (slice(top + y, top + y + h), slice(left + x, left + x + w))
            part = (labels[y : y + h, x : x + w] == label).astype(np.uint8)
            cut_off = (window[0].start == 0, window[0].stop == edges.shape[0])
            if self._is_item(
                part, edges[window], solid[window], tones.rails[window], cut_off, least
            ):
                bodies.append((part, top + y, left + x))
        return bodies

    def _close(self, shape: NDArray[np.uint8], row: int) -> None:
        """Fill a shape whose outline is cut off by an end of the picture."""
        places = np.flatnonzero(shape[row])
        shape[row, places[0] : places[-1] + 1] = 1
        contours, _ = self._cv2.findContours(
            shape, self._cv2.RETR_EXTERNAL, self._cv2.CHAIN_APPROX_NONE
        )
        self._cv2.drawContours(shape, contours, -1, 1, self._cv2.FILLED)

    def _is_item(
        self,
        part: NDArray[np.uint8],
        edges: NDArray[np.uint8],
        solid: NDArray[np.float32],
        rails: NDArray[np.bool_],
        cut_off: tuple[bool, bool],
        least: float,
    ) -> bool:
        """Return whether a shape is an item.

        Args:
            part: The shape.
            edges: Which pixels are sharp edges.
            solid: By how much the pixels differ from the belt, without thin lines.
            rails: Which pixels lie at an edge of what stands still; they tell nothing.
            cut_off: Whether an end of the picture cuts its first or last row off.
            least: Share of its outline that is sharp.
        """
        cv2 = self._cv2
        inside = part.astype(bool)
        values = solid[inside]
        index = int(0.9 * (values.size - 1))
        if np.partition(values, index)[index] < self._threshold:
            return False
        padded = cv2.copyMakeBorder(part, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        outline = inside & (cv2.erode(padded, self._square)[1:-1, 1:-1] == 0)
        for end, cut in zip((0, -1), cut_off):
            outline[end] &= not cut
        outline &= ~rails
        near = cv2.dilate(edges, self._square)
        return bool(outline.any() and near[outline].mean() >= least)

    def _measure(
        self,
        part: NDArray[np.uint8],
        difference: NDArray[np.float32],
        corner: tuple[int, int],
        shape: tuple[int, ...],
        first: float,
        edge: float,
    ) -> Detection:
        cv2, factor = self._cv2, self._factor
        height, width = part.shape
        top, left = corner
        at_rear, at_front = top <= 1, top + height >= shape[0] - 1
        bright = (difference > -self._threshold).astype(np.uint8)
        lit = cv2.morphologyEx(part & bright, cv2.MORPH_OPEN, self._square)
        # A scratch that touches the item, or ends at it, is thin: it is not part of it.
        bright = cv2.morphologyEx(np.maximum(difference, 0.0), cv2.MORPH_OPEN, self._stroke)
        thick = cv2.dilate((bright > self._threshold).astype(np.uint8), self._square)
        if (lit & thick).sum() >= THICK * lit.sum():
            lit &= thick
        if lit.sum() >= LIT * part.sum():
            rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
        else:
            rows, columns = np.arange(height), np.arange(width)
        rear = first + factor * (top + float(rows[0]))
        front = first + factor * (top + float(rows[-1]))
        near = edge + factor * (left + float(columns[0]))
        far = edge + factor * (left + float(columns[-1]))
        row, column = self._travel.pixel((rear + front) / 2, (near + far) / 2)
        return Detection(
            row,
            column,
            int(part.sum()) * factor**2,
            None if at_rear else rear,
            None if at_front else front,
            near,
            far,
        )


def _stretches(marked: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return first index and end of every stretch of lines that are marked."""
    framed = np.zeros(marked.size + 2, np.int8)
    framed[1:-1] = marked
    changes = np.flatnonzero(framed[1:] != framed[:-1])
    return list(zip(changes[::2].tolist(), changes[1::2].tolist()))
