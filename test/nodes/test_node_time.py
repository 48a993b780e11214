# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Deadlines hold when clocks jump, in simulated and in real time."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import (  # noqa: E402
    CELL,
    GUARD,
    GUARDED,
    CellHarness,
    NodeSpec,
    described,
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
PATIENT = described(guard=GUARD, edge__timeout=60.0)  # a busy machine may be silent for long
LONG = 60  # s, for what takes a moment unless the machine is very busy


class SimulatedClock:
    """Publishes /clock from a thread; it runs slowly, so that a busy machine keeps up with it."""

    RATE = 0.25  # simulated seconds per second

    def __init__(self, cell):
        self.publisher = cell.probe.create_publisher(Clock, '/clock', 10)
        self.now_ns = 100 * SECOND
        self.lock = threading.Lock()
        self.held = False
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        before = time.monotonic_ns()
        while not self.stopped.wait(0.005):
            with self.lock:
                now = time.monotonic_ns()
                self.now_ns += 0 if self.held else round(self.RATE * (now - before))
                before = now
                self.publisher.publish(Clock(clock=to_stamp(self.now_ns)))

    def jump(self, step_ns):
        with self.lock:
            self.now_ns += step_ns

    @contextmanager
    def standing(self):
        """Let no time pass: what is open stays open, however long the machine takes."""
        with self.lock:
            self.held = True
        try:
            yield
        finally:
            with self.lock:
                self.held = False

    def stop(self):
        self.stopped.set()
        self.thread.join()


@contextmanager
def busy(executor):
    """Have an executor do nothing but this block; what comes meanwhile comes at once after it."""
    began, done = threading.Event(), threading.Event()

    def wait():
        began.set()
        assert done.wait(LONG)

    executor.create_task(wait)
    assert began.wait(LONG)
    try:
        yield
    finally:
        done.set()


@pytest.mark.parametrize('forward', [3600, 5])
def test_simulated_clock_jumps_forward_and_back(tiny_models, forward):
    specs = [
        NodeSpec(
            s.node_class,
            {**s.parameters, 'use_sim_time': True},
            group=s.group,
            remappings=s.remappings,
        )
        for s in device_specs(tiny_models, encoder=PATIENT, offload_policy=PATIENT)
    ]
    image = tiny_images(1, LABELS)[0][0]
    with CellHarness(specs) as cell:
        clock = SimulatedClock(cell)
        try:
            cell.wait_active(LONG)
            nodes = cell.runner.nodes
            actuator, policy = (cell.runner.node(n) for n in ('actuator', 'offload_policy'))
            encoder, edge = (cell.runner.node(n) for n in ('encoder', 'edge_classifier'))
            captures = cell.publisher('capture', readers=5, timeout=LONG)
            for topic, publishers, readers in (
                ('feedback_rx', 1, 3),
                ('offload_decision', 1, 3),
                ('transfer', 1, 2),
                ('edge_classification', 1, 2),
                ('classification', 1, 3),
            ):
                cell.connect(topic, publishers, readers)
            cell.wait(lambda: policy.edge_alive, LONG, 'a sign of life of the edge')
            fed = []

            def synchronised():
                cell.wait(
                    lambda: all(
                        abs(n.get_clock().now().nanoseconds - clock.now_ns) < SECOND // 4
                        for n in nodes
                    ),
                    LONG,
                    'that all nodes follow /clock',
                )

            def answers(source):
                return actuator.health.counted(f'{source}.accepted')

            def feed():
                """Feed an item; return the decision about it, once the actuator has an answer."""
                before = answers('local')
                fed.append(len(fed) + 1)
                captures.publish(make_capture(fed[-1], clock.now_ns, image))
                cell.wait(lambda: answers('local') > before, LONG, 'a local answer')
                return cell.wait(lambda: cell.heard.of('offload_decision', item_id=fed[-1]), LONG)[
                    0
                ]

            def outcome():
                return cell.wait(lambda: cell.heard.of('sort_outcome', item_id=fed[-1]), LONG)[0]

            def feed_until_edge(tries):
                for _ in range(tries):
                    with clock.standing():
                        before = answers('edge')
                        if feed().offload:
                            cell.wait(
                                lambda before=before: (
                                    answers('edge') > before
                                    or cell.heard.of('transfer', item_id=fed[-1], packets=0)
                                ),
                                LONG,
                                'an edge answer, or word that nothing was sent',
                            )
                    if outcome().source == SortOutcome.SOURCE_EDGE:
                        return
                stops = [t.stop_reason for t in cell.heard.of('transfer', packets=0)]
                raise AssertionError(f'nothing sent, for {stops}; {cell.complaints()}')

            synchronised()
            # A packet under way over which the clock jumps says nothing about how long one takes.
            with clock.standing(), ExitStack() as until_jumped:
                with busy(edge.executor):
                    assert feed().offload
                    cell.wait(lambda: encoder.health.counted('packets'), LONG, 'a packet')
                    until_jumped.enter_context(busy(encoder.executor))
                cell.wait(
                    lambda: cell.heard.of('feedback_rx', item_id=fed[-1], answered=True), LONG
                )
                clock.jump(forward * SECOND)
                assert outcome().item_id == fed[-1]
            synchronised()
            feed_until_edge(5)

            with clock.standing():
                feed()
                clock.jump(-forward * SECOND // 2)
                interrupted = outcome()
            assert interrupted.reason == SortOutcome.REASON_CLOCK_SET_BACK
            assert 'clock set back' in interrupted.detail
            assert interrupted.source != SortOutcome.SOURCE_NONE
            cell.wait_diagnostic('actuator', 'clock_set_back')
            synchronised()
            feed_until_edge(60)  # a slow moment of the edge is forgotten after 30 s

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
