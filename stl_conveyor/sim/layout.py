# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Where the parts of the cell stand that its description leaves open, for every simulator.

Frame and units: those of config/cell.yaml (x along the belt, y to its left, z up from the belt's
surface; metres, seconds).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stl_conveyor.cell.description import CellDescription, Lane

Interval = tuple[float, float]

TIME_STEP = 0.002  # s of physics
BELT_THICKNESS = 0.05
FLOOR = -0.40  # z of the floor
BIN_FLOOR = -0.12  # z of the bins' floor
BIN_DEPTH = 0.34  # y extent of a bin
BIN_UPSTREAM = 0.08  # a bin begins this far before its diverter ...
BIN_DOWNSTREAM = 0.16  # ... and ends this far behind it: parts keep the belt's speed
BIN_GAP = 0.004  # between the belt's edge and a bin
REJECT_LENGTH = 0.40
REJECT_MARGIN = 0.08  # the reject bin is this much wider than the belt on either side
FEED_OFFSET = 0.05  # behind the belt's start, where the feeder lets go
PUSHER_HOME = 0.006  # of the paddle's face behind the belt's edge
PUSH_TIME = 0.15  # s for the whole stroke
PUSHER_OUT = 0.9  # of the stroke, where an end switch sits
HOLD_TIME = 0.03
RETRACT_TIME = 0.14
LOST = 'lost'  # the lane of an item that lies in no bin

# RGB of the lanes' bins and pushers, in turn, and of the reject bin.
LANE_COLOURS = (
    '0.16 0.42 0.68',
    '0.20 0.55 0.32',
    '0.80 0.56 0.15',
    '0.50 0.30 0.60',
    '0.25 0.55 0.60',
    '0.60 0.35 0.30',
)
REJECT_COLOUR = '0.68 0.18 0.16'
BIN_FLOOR_COLOUR = '0.30 0.31 0.33'


@dataclass(frozen=True)
class Box:
    """A box along the axes; each interval is (low, high) in metres."""

    name: str
    x: Interval
    y: Interval
    z: Interval
    colour: str  # RGB, 0..1

    @property
    def centre(self) -> tuple[float, float, float]:
        """Return the box's middle, m."""
        x, y, z = ((low + high) / 2 for low, high in (self.x, self.y, self.z))
        return x, y, z

    @property
    def size(self) -> tuple[float, float, float]:
        """Return the lengths of the box's edges, m."""
        x, y, z = (high - low for low, high in (self.x, self.y, self.z))
        return x, y, z


def bin_extent(cell: CellDescription, lane: Lane | None) -> tuple[Interval, Interval]:
    """Return ((x0, x1), (y0, y1)) of a lane's bin; of the reject bin for lane None."""
    half = cell.belt.width / 2
    if lane is None:
        return (
            (cell.belt.end, cell.belt.end + REJECT_LENGTH),
            (-half - REJECT_MARGIN, half + REJECT_MARGIN),
        )
    x = lane.diverter_x
    return ((x - BIN_UPSTREAM, x + BIN_DOWNSTREAM), (-half - BIN_GAP - BIN_DEPTH, -half - BIN_GAP))


def bin_boxes(cell: CellDescription, lane: Lane | None) -> tuple[Box, ...]:
    """Return floor and walls of a lane's bin, of the reject bin for lane None.

    The wall that faces the arriving items is high. Walls and floor are thick: a small part moves
    millimetres in a step.
    """
    wall, rim, high = 0.010, -0.012, 0.10
    x, y = bin_extent(cell, lane)
    name = f'bin_{lane.name if lane else cell.reject_lane}'
    colour = lane_colour(cell, lane)
    back_x, back_y = (lane is None), (lane is not None)
    return (
        Box(f'{name}_floor', x, y, (BIN_FLOOR - 0.08, BIN_FLOOR), BIN_FLOOR_COLOUR),
        Box(f'{name}_wall_0', (x[0], x[0] + wall), y, (BIN_FLOOR, rim), colour),
        Box(
            f'{name}_wall_1', (x[1] - wall, x[1]), y, (BIN_FLOOR, high if back_x else rim), colour
        ),
        Box(
            f'{name}_wall_2', x, (y[0], y[0] + wall), (BIN_FLOOR, high if back_y else rim), colour
        ),
        Box(f'{name}_wall_3', x, (y[1] - wall, y[1]), (BIN_FLOOR, rim - 0.01), colour),
    )


def lane_colour(cell: CellDescription, lane: Lane | None) -> str:
    """Return the RGB of a lane's bin and pusher; of the reject bin for lane None."""
    if lane is None:
        return REJECT_COLOUR
    return LANE_COLOURS[cell.lanes.index(lane) % len(LANE_COLOURS)]


def lane_at(cell: CellDescription, x: float, y: float, z: float) -> str:
    """Return the lane in whose bin a place lies, or 'lost'."""
    if BIN_FLOOR - 0.03 < z < 0:
        for lane in (*cell.lanes, None):
            (x0, x1), (y0, y1) = bin_extent(cell, lane)
            if x0 <= x <= x1 and y0 <= y <= y1:
                return lane.name if lane else cell.reject_lane
    return LOST


def vertical_field_of_view(cell: CellDescription) -> float:
    """Return the camera's angle of view (rad) across the image's height."""
    return 2 * math.atan(cell.camera.field_of_view / 2 / cell.camera.height)


def horizontal_field_of_view(cell: CellDescription) -> float:
    """Return the camera's angle of view (rad) across the image's width; pixels are square."""
    camera = cell.camera
    width = camera.field_of_view * camera.image_width / camera.image_height
    return 2 * math.atan(width / 2 / camera.height)
