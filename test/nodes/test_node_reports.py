# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What is new is reported when it begins, not with the next report; a flood is not passed on."""

from __future__ import annotations

import time
from concurrent.futures import Future

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CellHarness  # noqa: E402

from stl_conveyor.nodes.base.conveyor_node import ConveyorNode  # noqa: E402
from stl_conveyor.nodes.base.health import Level  # noqa: E402
from stl_conveyor.nodes.base.polled_topic import arrived_ns  # noqa: E402
from stl_conveyor.nodes.base.reporting_node import SHORTLY_S  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeSpec, say_stale_ports  # noqa: E402

pytestmark = pytest.mark.ros


class Quiet(ConveyorNode):
    """A node that reports once a minute."""

    NAME = 'quiet'


def in_its_executor(node, work):
    """Run a function in the thread of a node's executor; return what it returns."""
    done = Future()
    node.executor.create_task(lambda: done.set_result(work()))
    return done.result(60)


def test_what_begins_just_after_a_report_is_reported_all_the_same():
    specs = [NodeSpec(Quiet, {'diagnostics_period': 60.0})]
    with CellHarness(specs, watched=('/diagnostics',)) as cell:
        cell.wait_active()
        node = cell.runner.node('quiet')
        for number in range(3):

            def begin(number=number):
                node.report()
                node.set_condition(f'cause_{number}', Level.WARN, 'it begins')

            in_its_executor(node, begin)
            cell.wait_diagnostic(f'quiet: cause_{number}', 'it begins', level=1)
        # From another thread, too.
        node.report()
        node.warn('event', 'it happens')
        cell.wait_diagnostic('quiet: event', 'it happens', level=1)


def test_a_process_says_that_it_sends_to_nobody_for_as_long_as_it_does():
    specs = [NodeSpec(Quiet, {'diagnostics_period': 60.0})]
    with CellHarness(specs, watched=('/diagnostics',)) as cell:
        cell.wait_active()
        nodes = [cell.runner.node('quiet')]
        say_stale_ports(['fastdds_port7413 (9)'], nodes)
        cell.wait_diagnostic('quiet: stale_port', 'fastdds_port7413 (9)', level=2)
        say_stale_ports([], nodes)
        cell.wait_diagnostic('quiet: stale_port', 'ended', level=0)


def test_what_is_new_is_said_before_the_process_is_asked_to_end(monkeypatch):
    specs = [NodeSpec(Quiet, {'diagnostics_period': 60.0})]
    with CellHarness(specs, watched=('/diagnostics',)) as cell:
        cell.wait_active()
        node, done = cell.runner.node('quiet'), []
        publish = node.report
        monkeypatch.setattr(node, 'report', lambda: (done.append('says'), publish()))
        node.on_end = lambda code: done.append(code)

        def end():
            node.report()
            node.set_condition('last', Level.ERROR, 'the last word')
            node.end(75)
            return done[:]

        assert in_its_executor(node, end) == ['says', 'says', 75]
        cell.wait_diagnostic('quiet: last', 'the last word', level=2)


def test_a_fault_that_comes_and_goes_floods_nobody(monkeypatch):
    specs = [NodeSpec(Quiet, {'diagnostics_period': 60.0})]
    with CellHarness(specs, watched=('/diagnostics',)) as cell:
        cell.wait_active()
        node, reports = cell.runner.node('quiet'), []
        publish = node.report
        monkeypatch.setattr(node, 'report', lambda: (reports.append(1), publish()))

        def flap():
            began = time.monotonic()
            for number in range(300):
                node.set_condition('flapping', Level.WARN, f'cause {number}')
                node.clear_condition('flapping', 'it is well')
            node.set_condition('flapping', Level.WARN, 'the last one')
            return time.monotonic() - began

        seconds = in_its_executor(node, flap)
        assert len(reports) <= 2 + seconds / SHORTLY_S  # one may have been due before
        cell.wait_diagnostic('quiet: flapping', 'the last one', level=1)


def test_a_message_came_before_it_was_taken_but_no_clock_that_was_set_makes_it_old():
    now_ns, most_ns = 10_000_000_000, 250_000_000
    assert arrived_ns(None, now_ns, most_ns) == arrived_ns({}, now_ns, most_ns) == now_ns
    wall_ns = time.time_ns()
    assert arrived_ns({'received_timestamp': 1}, now_ns, most_ns) == now_ns - most_ns
    assert arrived_ns({'received_timestamp': wall_ns + 10**12}, now_ns, most_ns) == now_ns
    waited_ns = now_ns - arrived_ns({'received_timestamp': wall_ns}, now_ns, 10**12)
    assert 0 <= waited_ns <= time.time_ns() - wall_ns
