# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What RViz is shown of the outcomes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')
pytest.importorskip('visualization_msgs')

import yaml  # noqa: E402
from builtin_interfaces.msg import Time  # noqa: E402
from cell_harness import CELL, CellHarness, NodeSpec  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from visualization_msgs.msg import Marker, MarkerArray  # noqa: E402

from stl_conveyor.assess.scoring import Action, ItemRecord  # noqa: E402
from stl_conveyor.msg import ItemTruth, SortOutcome  # noqa: E402
from stl_conveyor.nodes.base.clock import to_stamp  # noqa: E402
from stl_conveyor.nodes.base.qos import make_profile  # noqa: E402
from stl_conveyor.nodes.base.topics import publisher_of  # noqa: E402
from stl_conveyor.nodes.simulation.cell_monitor import CellMonitor  # noqa: E402
from stl_conveyor.nodes.simulation.outcome_markers import (  # noqa: E402
    FRAME,
    RIGHT,
    UNKNOWN,
    WRONG,
    outcome_markers,
)
from stl_conveyor.sim.layout import bin_extent  # noqa: E402

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[2]
LANE = CELL.lanes[0]


def record(number, lane, true_lane='', rest_lane=''):
    return ItemRecord(
        stamp_ns=number,
        serial=number,
        lane=true_lane,
        rest_lane=rest_lane,
        actions=1,
        action=Action(lane, CELL.classes[0], 0.75, SortOutcome.SOURCE_EDGE, 0.04, False, '', 0),
    )


def shown(*records):
    return outcome_markers(records, CELL, Time(sec=3)).markers


def colours(markers):
    return [(m.color.r, m.color.g, m.color.b) for m in markers if m.type == Marker.SPHERE]


def test_nothing_is_shown_where_nothing_was_sent():
    assert shown() == []
    assert shown(ItemRecord(stamp_ns=1)) == []


def test_the_texts_of_the_lanes_do_not_cover_each_other():
    """They face who looks, and are wider than the bins: two lines each, one above the other."""
    names = [*(lane.name for lane in CELL.lanes), CELL.reject_lane]
    markers = shown(*(record(n, name) for n, name in enumerate(names, 1)))
    texts = [m for m in markers if m.type == Marker.TEXT_VIEW_FACING]
    heights = sorted(m.pose.position.z for m in texts)
    assert len(heights) == len(names)
    assert all(b - a > 2 * texts[0].scale.z for a, b in zip(heights, heights[1:]))


def test_a_lane_says_what_came_last_and_how_many_were_right():
    lamp, text = shown(
        record(1, LANE.name, LANE.name, LANE.name),
        record(2, LANE.name, CELL.reject_lane, LANE.name),
        record(3, LANE.name, LANE.name),
    )
    assert (lamp.type, text.type) == (Marker.SPHERE, Marker.TEXT_VIEW_FACING)
    assert text.text == f'{LANE.name}: 3 sent, 1 of 2 right\n{CELL.classes[0]} 0.75 (edge)'
    for marker in (lamp, text):
        assert marker.header.frame_id == FRAME and marker.header.stamp.sec == 3
        (x0, x1), (y0, y1) = bin_extent(CELL, LANE)
        assert x0 < marker.pose.position.x < x1 and y0 < marker.pose.position.y < y1
        assert marker.scale.x > 0 and marker.color.a == 1.0


def test_the_lamp_is_that_of_the_last_item():
    for last, colour in (
        (record(2, LANE.name, LANE.name, LANE.name), RIGHT),
        (record(2, LANE.name, CELL.reject_lane, LANE.name), WRONG),
        (record(2, LANE.name, LANE.name), UNKNOWN),
        # a cell in which nobody knows the truth
        (record(2, LANE.name), UNKNOWN),
    ):
        assert colours(shown(record(1, LANE.name), last)) == [pytest.approx(colour)]


def test_every_lane_has_markers_of_its_own():
    names = [lane.name for lane in CELL.lanes] + [CELL.reject_lane]
    markers = shown(*(record(number, name) for number, name in enumerate(names, 1)))
    assert len({marker.id for marker in markers}) == len(markers) == 2 * len(names)
    assert len({(marker.pose.position.x, marker.pose.position.z) for marker in markers}) == len(
        markers
    )


def test_the_monitor_shows_outcomes_also_to_who_comes_late():
    with CellHarness(
        [NodeSpec(CellMonitor, {'display': 'none'})], watched=('/diagnostics',)
    ) as cell:
        cell.wait_active()
        outcomes = cell.publisher('sort_outcome', SortOutcome)
        truths = cell.publisher('item_truth', ItemTruth)
        header = Header(stamp=to_stamp(cell.now_ns()))
        outcomes.publish(
            SortOutcome(
                header=header,
                item_id=1,
                lane=LANE.name,
                class_id=CELL.classes[0],
                score=0.5,
                source=SortOutcome.SOURCE_LOCAL,
            )
        )
        truths.publish(
            ItemTruth(
                header=header,
                serial=1,
                class_id=CELL.classes[0],
                lane=LANE.name,
                event=ItemTruth.EVENT_RESTED,
                rest_lane=LANE.name,
            )
        )
        board = cell.runner.node('cell_monitor').board
        cell.wait(lambda: board.rested == 1 and board.acted == 1, 10, 'an item at rest')
        seen = []
        cell.probe.create_subscription(
            MarkerArray,
            'outcome_markers',
            seen.append,
            make_profile(publisher_of('outcome_markers', 'cell_monitor').profile),
        )
        cell.wait(lambda: seen, 10, 'markers')
        lamp, text = seen[-1].markers
        assert (lamp.color.r, lamp.color.g, lamp.color.b) == pytest.approx(RIGHT)
        assert text.text.startswith(f'{LANE.name}: 1 sent, 1 of 1 right')


def test_rviz_listens_to_the_markers():
    config = yaml.safe_load((ROOT / 'rviz' / 'cell.rviz').read_text(encoding='utf-8'))
    (display,) = [
        display
        for display in config['Visualization Manager']['Displays']
        if display.get('Topic', {}).get('Value') == 'outcome_markers'
    ]
    assert display['Class'] == 'rviz_default_plugins/MarkerArray'
    assert display['Topic']['Durability Policy'] == 'Transient Local'
