# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Device and edge whose clocks disagree: it is reported, and every item is acted on in time."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CELL, GUARD, CellHarness, device_specs, make_capture  # noqa: E402

from stl_conveyor.msg import SortOutcome  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros

SECOND = 10**9
ITEMS = 5


def set_clock(node, seconds):
    """Let a node's ROS clock be off, as that of another machine would be."""
    true_now_ns = type(node.schedule_clock).ros_now_ns.__get__(node.schedule_clock)
    node.schedule_clock.ros_now_ns = lambda: true_now_ns() + round(seconds * SECOND)


@pytest.mark.parametrize('seconds', [0.5, -0.5, 30.0])
def test_edge_with_another_clock_answers_in_time_and_is_reported(tiny_models, seconds):
    images, _ = tiny_images(1, len(CELL.classes))
    with CellHarness(device_specs(tiny_models, edge_classifier={'heartbeat_period': 0.1})) as cell:
        edge, encoder = (cell.runner.node(name) for name in ('edge_classifier', 'encoder'))
        set_clock(edge, seconds)
        cell.wait_active()
        captures = cell.publisher('capture', readers=5)
        for topic, publishers, readers in (
            ('features_rx', 1, 2),
            ('feedback_rx', 1, 3),
            ('offload_decision', 1, 3),
            ('edge_classification', 1, 2),
            ('classification', 1, 3),
        ):
            cell.connect(topic, publishers, readers)
        cell.wait(lambda: cell.runner.node('offload_policy').edge_alive)
        status = cell.wait_diagnostic('encoder', 'the clock of the edge is', level=1)
        assert ('ahead of' if seconds > 0 else 'behind') in status.message
        for item_id in range(1, ITEMS + 1):
            captures.publish(make_capture(item_id, cell.now_ns(), images[0]))
            cell.wait(lambda: cell.heard.of('sort_outcome', item_id=item_id), 5)
        outcomes = cell.outcomes()
        assert len(outcomes) == ITEMS and not any(o.missed for o in outcomes)
        assert all(0 <= o.slack <= GUARD + 0.01 for o in outcomes)
        by_edge = [o for o in outcomes if o.source == SortOutcome.SOURCE_EDGE]
        assert len(by_edge) >= ITEMS - 2, cell.complaints()
        assert edge.health.counted('too_late') == 0
        apart = dict(encoder.health.report(0).values)['edge_clock_apart']
        assert abs(float(apart.split()[0]) - seconds) < 0.25
        # The clock is set right: that is noticed, and nothing is missed.
        set_clock(edge, 0.0)
        cell.wait(lambda: cell.statuses('encoder')[-1].level == b'\x00', 15)
        captures.publish(make_capture(ITEMS + 1, cell.now_ns(), images[0]))
        (last,) = cell.wait(lambda: cell.heard.of('sort_outcome', item_id=ITEMS + 1), 5)
        assert not last.missed
