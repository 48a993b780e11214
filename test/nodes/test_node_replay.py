# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A run that was recorded as rosbag2 does, byte by byte, is acted on again when it is replayed."""

from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CELL, GUARDED, CellHarness, device_specs, make_capture, qos  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402

from stl_conveyor.msg import (  # noqa: E402
    Classification,
    FeatureFeedback,
    ItemCapture,
    OffloadDecision,
    SortOutcome,
)
from stl_conveyor.nodes.base.clock import to_ns, to_stamp  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeSpec  # noqa: E402
from stl_conveyor.nodes.device.actuator import Actuator  # noqa: E402
from stl_conveyor.nodes.simulation.cell_monitor import CellMonitor  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros

ITEMS = 5
RECORDED = {
    'capture': ItemCapture,
    'classification': Classification,
    'offload_decision': OffloadDecision,
    'edge_classification': Classification,
    'transfer': FeatureFeedback,
    'sort_outcome': SortOutcome,
}
CLOCK_PERIOD = 0.01  # s


def record(tiny_models):
    """Run a cell; return (time in ns, topic, bytes) of every message, and the outcomes."""
    recorded, lock = [], threading.Lock()
    with CellHarness(device_specs(tiny_models)) as cell:
        cell.wait_active()
        cell.connect('edge_classification', 1, 2)
        for topic, kind in RECORDED.items():

            def keep(message, topic=topic):
                with lock:
                    recorded.append((cell.now_ns(), topic, message))

            cell.probe.create_subscription(kind, topic, keep, qos(topic), raw=True)
        camera = cell.publisher('capture', readers=5)
        images = tiny_images(16, len(CELL.classes), seed=1)[0]
        for number in range(1, ITEMS + 1):
            camera.publish(make_capture(number, cell.now_ns(), images[number]))
            cell.wait(lambda: len(cell.outcomes()) == number, 5, f'outcome {number}')
        cell.wait(
            lambda: sum(topic == 'sort_outcome' for _, topic, _ in recorded) == ITEMS,
            5,
            'the recording',
        )
        return sorted(recorded, key=lambda entry: entry[0]), list(cell.outcomes())


def replay(cell, recorded):
    """Publish what was recorded, without the outcomes, at its times on /clock."""
    probe = cell.probe
    clock = probe.create_publisher(Clock, '/clock', QoSProfile(depth=1))
    publishers = {
        topic: probe.create_publisher(kind, topic, qos(topic))
        for topic, kind in RECORDED.items()
        if topic != 'sort_outcome'
    }
    cell.wait(
        lambda: (
            clock.get_subscription_count() >= 2
            and all(
                publisher.get_subscription_count() >= 2
                for topic, publisher in publishers.items()
                if topic not in ('transfer',)
            )
        ),
        20,
        'readers of the replay',
    )
    now_ns, waiting = recorded[0][0] - 200_000_000, list(recorded)
    end_ns = recorded[-1][0] + 1_500_000_000
    begin, begin_ns = time.monotonic(), now_ns
    while now_ns < end_ns:
        clock.publish(Clock(clock=to_stamp(now_ns)))
        while waiting and waiting[0][0] <= now_ns:
            _, topic, message = waiting.pop(0)
            if topic in publishers:
                publishers[topic].publish(message)
        now_ns += round(CLOCK_PERIOD * 1e9)
        time.sleep(max(0.0, begin + (now_ns - begin_ns) / 1e9 - time.monotonic()))


def test_a_recorded_run_is_acted_on_again_in_its_own_time(tiny_models):
    recorded, outcomes = record(tiny_models)
    assert {topic for _, topic, _ in recorded} >= {'capture', 'classification', 'sort_outcome'}
    specs = [
        NodeSpec(
            kind, {'use_sim_time': True, 'diagnostics_period': 0.3, **settings}, group=kind.NAME
        )
        for kind, settings in ((Actuator, GUARDED), (CellMonitor, {'display': 'none'}))
    ]
    with CellHarness(specs, watched=('sort_outcome', '/diagnostics')) as cell:
        cell.wait_active()
        replay(cell, recorded)
        cell.wait(lambda: len(cell.outcomes()) == ITEMS, 10, 'outcomes of the replay')

        def facts(outcome):
            return (
                outcome.item_id,
                to_ns(outcome.header.stamp),
                to_ns(outcome.deadline),
                outcome.lane,
                outcome.class_id,
                outcome.missed,
            )

        assert [facts(o) for o in cell.outcomes()] == [facts(o) for o in outcomes]
        board = cell.runner.node('cell_monitor').board
        assert len(board.records) == ITEMS
