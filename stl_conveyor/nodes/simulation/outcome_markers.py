# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Outcomes as RViz shows them: over each bin what was sent there last, and how it went."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from builtin_interfaces.msg import Time
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from stl_conveyor.assess.scoring import ItemRecord
from stl_conveyor.cell.description import CellDescription, Lane
from stl_conveyor.msg import SortOutcome
from stl_conveyor.sim.gazebo.world import WORLD
from stl_conveyor.sim.layout import bin_extent

FRAME = WORLD
LAMP = 0.03  # m, diameter of the sphere that tells right from wrong
LAMP_HEIGHT = 0.13  # m above the belt
TEXT_HEIGHT = 0.34  # so that it hides nothing of the belt from where one looks
LETTER = 0.03  # m, height of a capital
TEXT_STEP = 0.08  # m from one lane's text to the next: they are wider than the bins
SOURCES = {
    SortOutcome.SOURCE_NONE: 'no answer',
    SortOutcome.SOURCE_LOCAL: 'local',
    SortOutcome.SOURCE_EDGE: 'edge',
}


class Colour(NamedTuple):
    """Red, green, blue: 0..1."""

    red: float
    green: float
    blue: float


RIGHT = Colour(0.2, 0.8, 0.2)
WRONG = Colour(0.9, 0.1, 0.1)
UNKNOWN = Colour(0.6, 0.6, 0.6)  # on its way, or nobody knows where it belongs
WHITE = Colour(1.0, 1.0, 1.0)


def outcome_markers(
    records: Iterable[ItemRecord], cell: CellDescription, stamp: Time
) -> MarkerArray:
    """Return two markers for each lane with an outcome: a lamp and a text over its bin.

    Args:
        records: Of all items, in the order of their captures.
    """
    by_lane: dict[str, list[ItemRecord]] = {}
    for record in records:
        if record.action is not None:
            by_lane.setdefault(record.action.lane, []).append(record)
    markers = []
    for number, lane in enumerate((*cell.lanes, None)):
        name = lane.name if lane else cell.reject_lane
        if sent := by_lane.get(name):
            markers += [
                _marker(
                    2 * number,
                    Marker.SPHERE,
                    cell,
                    lane,
                    LAMP_HEIGHT,
                    LAMP,
                    _colour(sent[-1]),
                    stamp,
                ),
                _marker(
                    2 * number + 1,
                    Marker.TEXT_VIEW_FACING,
                    cell,
                    lane,
                    TEXT_HEIGHT + TEXT_STEP * number,
                    LETTER,
                    WHITE,
                    stamp,
                    _text(name, sent),
                ),
            ]
    return MarkerArray(markers=markers)


def _colour(record: ItemRecord) -> Colour:
    if not record.rested or not record.lane:
        return UNKNOWN
    return RIGHT if record.correct else WRONG


def _text(name: str, sent: list[ItemRecord]) -> str:
    last = sent[-1].action
    assert last is not None
    rested = [record for record in sent if record.rested and record.lane]
    lines = [
        f'{name}: {len(sent)} sent',
        f'{last.class_id or "unknown"} {last.score:.2f} ({SOURCES.get(last.source, "?")})',
    ]
    if rested:
        lines[0] += f', {sum(record.correct for record in rested)} of {len(rested)} right'
    return '\n'.join(lines)


def _marker(
    number: int,
    kind: int,
    cell: CellDescription,
    lane: Lane | None,
    height: float,
    size: float,
    colour: Colour,
    stamp: Time,
    text: str = '',
) -> Marker:
    (x0, x1), (y0, y1) = bin_extent(cell, lane)
    marker = Marker(
        ns='outcome',
        id=number,
        type=kind,
        action=Marker.ADD,
        text=text,
        color=ColorRGBA(r=colour.red, g=colour.green, b=colour.blue, a=1.0),
    )
    marker.header.frame_id, marker.header.stamp = FRAME, stamp
    marker.pose.position.x = (x0 + x1) / 2
    marker.pose.position.y = (y0 + y1) / 2
    marker.pose.position.z = height
    marker.pose.orientation.w = 1.0
    marker.scale.x = marker.scale.y = marker.scale.z = size
    return marker
