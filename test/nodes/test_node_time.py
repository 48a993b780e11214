# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Deadlines hold when clocks jump, in simulated and in real time."""

from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import (  # noqa: E402
    CELL,
    GUARD,
    GUARDED,
    CellHarness,
    NodeSpec,
    device_specs,
    make_capture,
    make_classification,
    to_stamp,
)
from rosgraph_msgs.msg import Clock  # noqa: E402

from stl_conveyor.msg import SortOutcome  # noqa: E402
from stl_conveyor.nodes.device.actuator import Actuator  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros

SECOND = 10**9
LABELS = len(CELL.classes)


class SimulatedClock:
    """Publishes /clock from a thread, as fast as real time."""

    def __init__(self, cell):
        self.publisher = cell.probe.create_publisher(Clock, '/clock', 10)
        self.now_ns = 100 * SECOND
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        before = time.monotonic_ns()
        while not self.stopped.wait(0.005):
            with self.lock:
                now = time.monotonic_ns()
                self.now_ns += now - before
                before = now
                self.publisher.publish(Clock(clock=to_stamp(self.now_ns)))

    def jump(self, step_ns):
        with self.lock:
            self.now_ns += step_ns

    def stop(self):
        self.stopped.set()
        self.thread.join()


def test_simulated_clock_jumps_forward_and_back(tiny_models):
    specs = [
        NodeSpec(
            s.node_class,
            {**s.parameters, 'use_sim_time': True},
            group=s.group,
            remappings=s.remappings,
        )
        for s in device_specs(tiny_models)
    ]
    image = tiny_images(1, LABELS)[0][0]
    with CellHarness(specs) as cell:
        clock = SimulatedClock(cell)
        try:
            cell.wait_active()
            nodes = cell.runner.nodes
            captures = cell.publisher('capture', readers=4)
            for topic, publishers, readers in (
                ('feedback_rx', 1, 3),
                ('offload_decision', 1, 3),
                ('transfer', 1, 2),
                ('edge_classification', 1, 2),
                ('classification', 1, 3),
            ):
                cell.connect(topic, publishers, readers)
            cell.wait(lambda: cell.runner.node('offload_policy').edge_alive)
            fed = []

            def synchronised():
                cell.wait(
                    lambda: all(
                        abs(n.get_clock().now().nanoseconds - clock.now_ns) < SECOND // 4
                        for n in nodes
                    ),
                    10,
                    'that all nodes follow /clock',
                )

            def feed():
                fed.append(len(fed) + 1)
                captures.publish(make_capture(fed[-1], clock.now_ns, image))

            def outcome():
                return cell.wait(lambda: cell.heard.of('sort_outcome', item_id=fed[-1]), 5)[0]

            def feed_until_edge():
                for _ in range(25):
                    feed()
                    if outcome().source == SortOutcome.SOURCE_EDGE:
                        return
                raise AssertionError(cell.complaints())

            synchronised()
            feed_until_edge()

            feed()
            cell.wait(lambda: cell.heard.of('classification', item_id=fed[-1]))
            clock.jump(3600 * SECOND)
            assert outcome().item_id == fed[-1]
            synchronised()
            feed_until_edge()

            feed()
            cell.wait(lambda: cell.heard.of('classification', item_id=fed[-1]))
            clock.jump(-1800 * SECOND)
            interrupted = outcome()
            assert 'clock set back' in interrupted.reason
            assert interrupted.source != SortOutcome.SOURCE_NONE
            cell.wait_diagnostic('actuator', 'clock_set_back')
            synchronised()
            feed_until_edge()

            assert sorted(o.item_id for o in cell.outcomes()) == fed
            late = [o.item_id for o in cell.outcomes() if o.missed]
            assert len(late) <= 1, 'only the item over which the clock jumped may be late'
            for node in nodes:
                assert node.is_active and node.health.counted('exception') == 0
        finally:
            clock.stop()


@pytest.mark.parametrize('step', [3600, -3600])
def test_step_of_the_system_clock_moves_no_deadline(step):
    image = tiny_images(1, LABELS)[0][0]
    with CellHarness([NodeSpec(Actuator, GUARDED)]) as cell:
        cell.wait_active()
        actuator = cell.runner.node('actuator')
        captures = cell.publisher('capture', readers=2)
        answers = cell.publisher('classification', readers=2)
        began = time.monotonic_ns()  # first: the machine may pause between the two
        stamp_ns = cell.now_ns()
        captures.publish(make_capture(1, stamp_ns, image))
        cell.wait(lambda: actuator.ledger.open_items == 1)
        ros_now_ns = actuator.schedule_clock.ros_now_ns
        actuator.schedule_clock.ros_now_ns = lambda: ros_now_ns() + step * SECOND
        answers.publish(make_classification(1, stamp_ns, CELL.classes[0]))
        (outcome,) = cell.wait(cell.outcomes)
        took = (time.monotonic_ns() - began) / SECOND
        budget = CELL.decision_time_ns / SECOND - GUARD
        assert budget - 0.01 < took < budget + GUARD
        assert 0 <= outcome.slack <= GUARD and not outcome.missed
        assert outcome.source == SortOutcome.SOURCE_LOCAL
        assert 0 < outcome.local_delay < budget
