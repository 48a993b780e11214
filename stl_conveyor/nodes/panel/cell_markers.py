# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A cell as markers, in the frame of its description."""

from __future__ import annotations

import math

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker

from stl_conveyor.cell.description import CellDescription, Lane
from stl_conveyor.nodes.base.clock import to_stamp
from stl_conveyor.panel.items import Item
from stl_conveyor.panel.live_cell import LiveCell
from stl_conveyor.sim.gazebo.world import OPTICAL_FRAME, WORLD, still_frames
from stl_conveyor.sim.layout import (
    BELT_THICKNESS,
    PUSHER_HOME,
    Box,
    bin_boxes,
    bin_extent,
    lane_colour,
)

FRAME = WORLD
BELT_COLOUR = '0.13 0.14 0.15'
PUSHER_SIZE = (0.03, 0.04)  # m across the belt, and up
ITEM_SIZE = 0.03  # m
ITEM_LETTER = 0.02  # m, height of a capital
LETTER = 0.04
UNDECIDED = '0.85 0.85 0.85'
FIRED_S = 0.4  # in which a pusher is drawn out after its item
STAYS_M = 0.5  # of belt, for which an item that was pushed off is drawn in its bin
LIVES = 4  # periods after which an item is gone that is drawn no more


def still_markers(cell: CellDescription) -> list[Marker]:
    """Return what does not move: belt, bins with their names, light barrier and camera."""
    half = cell.belt.width / 2
    boxes = [
        Box(
            'belt',
            (cell.belt.start, cell.belt.end),
            (-half, half),
            (-BELT_THICKNESS, 0.0),
            BELT_COLOUR,
        ),
        Box(
            'light_barrier',
            (cell.break_beam.x - 0.002, cell.break_beam.x + 0.002),
            (-half - 0.02, half + 0.02),
            (0.004, 0.008),
            '0.9 0.1 0.1',
        ),
        Box(
            'camera',
            (cell.camera.x - 0.02, cell.camera.x + 0.02),
            (-0.02, 0.02),
            (cell.camera.height, cell.camera.height + 0.05),
            '0.3 0.3 0.8',
        ),
    ]
    lanes: list[Lane | None] = [*cell.lanes, None]
    for lane in lanes:
        boxes += bin_boxes(cell, lane)
    markers = [_box(number, 'cell', box) for number, box in enumerate(boxes)]
    for number, lane in enumerate(lanes):
        (x0, x1), (y0, _) = bin_extent(cell, lane)
        name = lane.name if lane else cell.reject_lane
        markers.append(_text(number, 'lane', (x0 + x1) / 2, y0, 0.04, LETTER, name))
    return markers


def item_markers(live: LiveCell, now_ns: int, period: float) -> list[Marker]:
    """Return what moves: the items, and a pusher that is out.

    Args:
        live: What is known of the cell.
        now_ns: ROS time.
        period: Seconds to the next picture.
    """
    cell = live.cell
    out: dict[str, bool] = {lane.name: False for lane in cell.lanes}
    markers: list[Marker] = []
    for x, item in live.on_belt():
        lane = _lane_of(item, cell)
        if lane is not None and x > lane.diverter_x:
            pushed = item.stroke is None or item.stroke.status == 1
            out[lane.name] |= pushed and (x - lane.diverter_x) / cell.belt.speed < FIRED_S
            if pushed and x > lane.diverter_x + STAYS_M:
                continue
        else:
            pushed = False
        markers += _item(item, cell, lane, x, pushed)
    markers += [
        _pusher(number, cell, lane, out[lane.name]) for number, lane in enumerate(cell.lanes)
    ]
    stamp, lifetime_ns = to_stamp(now_ns), round(LIVES * period * 1e9)
    for marker in markers:
        marker.header.stamp = stamp
        if marker.ns != 'pusher':
            marker.lifetime = Duration(sec=lifetime_ns // 10**9, nanosec=lifetime_ns % 10**9)
    return markers


def camera_info(cell: CellDescription) -> CameraInfo:
    """Return what the camera of the description is: a pinhole without distortion."""
    camera = cell.camera
    focal = camera.pixels_per_metre * camera.height  # pixels
    x, y = camera.image_width / 2, camera.image_height / 2
    return CameraInfo(
        width=camera.image_width,
        height=camera.image_height,
        distortion_model='plumb_bob',
        d=[0.0] * 5,
        k=[focal, 0.0, x, 0.0, focal, y, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[focal, 0.0, x, 0.0, 0.0, focal, y, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def transforms(cell: CellDescription, optical: str = OPTICAL_FRAME) -> list[TransformStamped]:
    """Return where camera and light barrier are.

    Args:
        optical: Frame of the camera's pictures.
    """
    found = []
    for frame in still_frames(cell):
        child = optical if frame.child == OPTICAL_FRAME else frame.child
        transform = TransformStamped(child_frame_id=child)
        transform.header.frame_id = frame.parent
        place, turn = transform.transform.translation, transform.transform.rotation
        place.x, place.y, place.z = map(float, frame.place)
        turn.x, turn.y, turn.z, turn.w = _quaternion(*frame.turn)
        found.append(transform)
    return found


def _quaternion(roll: float, pitch: float, yaw: float) -> tuple[float, float, float, float]:
    """Return x, y, z and w of turns about the fixed axes x, y and z, in that order (rad)."""
    (sr, cr), (sp, cp), (sy, cy) = (
        (math.sin(angle / 2), math.cos(angle / 2)) for angle in (roll, pitch, yaw)
    )
    return (
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
        cr * cp * cy + sr * sp * sy,
    )


def _lane_of(item: Item, cell: CellDescription) -> Lane | None:
    wanted = None if item.outcome is None else item.outcome.lane
    return next((lane for lane in cell.lanes if lane.name == wanted), None)


def _item(
    item: Item, cell: CellDescription, lane: Lane | None, x: float, pushed: bool
) -> list[Marker]:
    """Return a cube and, once it is decided, the name of its lane over it."""
    y, z = 0.0, ITEM_SIZE / 2
    if pushed and lane is not None:
        (x0, x1), (y0, y1) = bin_extent(cell, lane)
        x, y, z = (x0 + x1) / 2, (y0 + y1) / 2, 0.0
    decided = item.outcome is not None
    colour = lane_colour(cell, lane) if decided else UNDECIDED
    number = item.stamp_ns // 1_000_000 % 2**31
    half = ITEM_SIZE / 2
    box = Box('', (x - half, x + half), (y - half, y + half), (z - half, z + half), colour)
    found = [_box(number, 'item', box)]
    if item.outcome is not None:
        text = f'{item.outcome.lane} {item.outcome.class_id}'.strip()
        found.append(_text(number, 'item_text', x, y, z + 0.04, ITEM_LETTER, text))
    return found


def _pusher(number: int, cell: CellDescription, lane: Lane, out: bool) -> Marker:
    width, height = PUSHER_SIZE
    y = cell.belt.width / 2 + PUSHER_HOME - (cell.diverter.stroke if out else 0.0)
    half = cell.diverter.paddle_width / 2
    x = lane.diverter_x
    box = Box('', (x - half, x + half), (y, y + width), (0.004, height), lane_colour(cell, lane))
    return _box(number, 'pusher', box)


def _box(number: int, namespace: str, box: Box) -> Marker:
    marker = _marker(number, namespace, Marker.CUBE, *box.centre, box.colour)
    marker.scale.x, marker.scale.y, marker.scale.z = box.size
    return marker


def _text(
    number: int, namespace: str, x: float, y: float, z: float, letter: float, text: str
) -> Marker:
    marker = _marker(number, namespace, Marker.TEXT_VIEW_FACING, x, y, z, '1 1 1')
    marker.scale.z, marker.text = letter, text
    return marker


def _marker(
    number: int, namespace: str, kind: int, x: float, y: float, z: float, colour: str
) -> Marker:
    red, green, blue = map(float, colour.split())
    marker = Marker(
        ns=namespace,
        id=number,
        type=kind,
        action=Marker.ADD,
        color=ColorRGBA(r=red, g=green, b=blue, a=1.0),
    )
    marker.header.frame_id = FRAME
    marker.pose.position.x, marker.pose.position.y, marker.pose.position.z = x, y, z
    marker.pose.orientation.w = 1.0
    return marker
