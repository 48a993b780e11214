# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The guard says which node is gone and which item was lost, over real DDS and processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CELL, CellHarness, make_capture, make_classification, node_process  # noqa: E402
from std_msgs.msg import Bool, Header  # noqa: E402

from stl_conveyor.msg import ItemCapture, SortOutcome  # noqa: E402
from stl_conveyor.nodes.base.qos import make_profile  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeSpec  # noqa: E402
from stl_conveyor.nodes.base.topics import Profile  # noqa: E402
from stl_conveyor.nodes.device.actuator import Actuator  # noqa: E402
from stl_conveyor.nodes.device.cell_guard import CellGuard  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros
IMAGE = tiny_images(1, 2)[0][0]


def guard(**changes):
    return NodeSpec(
        CellGuard,
        {
            'expected_nodes': ('actuator',),
            'essential_nodes': ('actuator',),
            'unsafe_for': 0.0,
            'diagnostics_period': 0.3,
            **changes,
        },
        group='guard',
    )


class Safety:
    """What safe_to_run said, with the times at which it came."""

    def __init__(self, cell):
        self.said = []
        self.cell = cell
        cell.probe.create_subscription(Bool, 'safe_to_run', self._on, make_profile(Profile.STATE))

    def _on(self, message):
        self.said.append((time.monotonic(), message.data))

    def wait(self, safe, timeout=30.0):
        self.cell.wait(
            lambda: self.said and self.said[-1][1] is safe, timeout, f'safe_to_run {safe}'
        )
        return self.said[-1][0]


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP])
def test_a_node_that_is_gone_is_named_within_a_second(number):
    with CellHarness([guard()], watched=('/diagnostics',)) as cell, ExitStack() as stack:
        cell.wait_active()
        safety = Safety(cell)
        actuator = stack.enter_context(node_process('actuator', domain_id=cell.domain_id))
        safety.wait(True)
        ended = time.monotonic()
        os.kill(actuator.pid, number)
        fell = safety.wait(False)
        cell.wait_diagnostic('cell_guard', 'actuator is gone', level=2)
        # .6 s of silence and .2 s between two looks; the rest is the machine's.
        assert fell - ended < 5, f'{fell - ended:.2f} s'
        if number == signal.SIGSTOP:
            os.kill(actuator.pid, signal.SIGCONT)
        else:
            stack.enter_context(node_process('actuator', domain_id=cell.domain_id))
        safety.wait(True)


def test_an_executor_that_stands_still_is_told_from_a_dead_node():
    specs = [guard(), NodeSpec(Actuator, group='act')]
    with CellHarness(specs, watched=('/diagnostics',)) as cell:
        safety, go_on = Safety(cell), threading.Event()
        safety.wait(True)
        actuator = cell.runner.node('actuator')
        actuator.executor.create_task(actuator.guarded(lambda: go_on.wait(60)))
        try:
            safety.wait(False)
            cell.wait_diagnostic('cell_guard', 'node_stuck: actuator is stuck', level=2)
        finally:
            go_on.set()
        safety.wait(True)


def test_a_node_that_never_comes_is_named_and_one_that_is_idle_too():
    specs = [
        guard(expected_nodes=('actuator', 'camera'), patience=1.0),
        NodeSpec(Actuator, {'autostart': False}, group='act'),
    ]
    with CellHarness(specs, watched=('/diagnostics',)) as cell:
        safety = Safety(cell)
        cell.wait_diagnostic('cell_guard', 'camera is missing', level=2)
        cell.wait_diagnostic('cell_guard', 'actuator is not active', level=2)
        safety.wait(False)


def test_two_of_a_kind_are_named():
    specs = [guard(), NodeSpec(Actuator, group='one'), NodeSpec(Actuator, group='two')]
    with CellHarness(specs, watched=('sort_outcome', '/diagnostics')) as cell:
        cell.wait_diagnostic('cell_guard', 'actuator is there twice', level=2)
        cell.wait_diagnostic('cell_guard', '2 publish on sort_outcome', level=2)
        Safety(cell).wait(False)
        captures = cell.publisher('capture', ItemCapture, readers=3)
        captures.publish(make_capture(1, cell.now_ns(), IMAGE))
        cell.wait_diagnostic('cell_guard', 'items 1 had two outcomes', level=2)


def test_lost_items_are_named_by_number():
    """No actuator: the test is the camera, the classifier and, for one item, the actuator."""
    with CellHarness(
        [guard(expected_nodes=(), essential_nodes=(), unsafe_for=60.0)], watched=('/diagnostics',)
    ) as cell:
        cell.wait_active()
        safety = Safety(cell)
        safety.wait(True)
        captures = cell.publisher('capture', ItemCapture)
        answers = cell.publisher('classification')
        outcomes = cell.publisher('sort_outcome', SortOutcome)
        now_ns = cell.now_ns()
        for number in (1, 2, 5):
            captures.publish(make_capture(number, now_ns + number, IMAGE))
            answers.publish(make_classification(number, now_ns + number, CELL.classes[0]))
        cell.wait_diagnostic('cell_guard', 'items 3, 4 were captured, by their numbers')
        for number, stamp_ns in ((1, now_ns + 1), (77, now_ns)):
            header = Header()
            header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns, 10**9)
            outcomes.publish(SortOutcome(header=header, item_id=number, lane='A'))
        cell.wait_diagnostic('cell_guard', 'items 2, 5 had no outcome by their deadline', level=2)
        safety.wait(False)
        node = cell.runner.node('cell_guard')
        assert node._account.totals['items'] == 3
        assert node._account.totals['unclassified'] == 0
