# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Of two actuators on one machine one acts, though the graph has not let them meet.

How long that takes is the middleware's. Here it never happens: what the two would know each other
by has another name at the second one.
"""

from __future__ import annotations

import signal
from contextlib import ExitStack

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CellHarness, make_capture, node_process, qos  # noqa: E402

from stl_conveyor.cell import sole_claim  # noqa: E402
from stl_conveyor.msg import ItemCapture, SortOutcome  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeRunner, NodeSpec  # noqa: E402
from stl_conveyor.nodes.device.actuator import Actuator  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros
IMAGE = tiny_images(1, 2)[0][0]
QUICK = {'diagnostics_period': 0.3}
UNSEEN = {'heartbeat': 'beside/heartbeat', 'sort_outcome': 'beside/sort_outcome'}
STANDS_BY = 'actuator: stands_by.sort_outcome'
LONG = 60.0
WATCHED = ('sort_outcome', '/diagnostics')


class Line:
    """Shows items to the actuators of a cell, and hears what each of the two makes of them."""

    def __init__(self, cell):
        self.cell = cell
        self.second = []
        self._shown = 0
        cell.probe.create_subscription(
            SortOutcome, 'beside/sort_outcome', self.second.append, qos('sort_outcome')
        )

    @property
    def first(self):
        return self.cell.outcomes()

    def show(self, actuators=1):
        """Show an item to so many; return its number."""
        captures = self.cell.publisher('capture', ItemCapture, readers=actuators, timeout=LONG)
        self._shown += 1
        captures.publish(make_capture(self._shown, self.cell.now_ns(), IMAGE))
        return self._shown

    def sort(self, outcomes):
        """Show items, and one after the other: who is to act may not have found its turn yet."""
        before = len(outcomes)
        due_ns = 0

        def acted():
            nonlocal due_ns
            if self.cell.now_ns() > due_ns:
                due_ns = self.cell.now_ns() + 10**9
                self.show()
            return len(outcomes) > before

        self.cell.wait(acted, LONG, 'an outcome')

    def wait_stands_by(self, stands_by):
        """Wait until the latest word on it is that one stands by, or that none does."""
        level = bytes([2 if stands_by else 0])
        self.cell.wait(
            lambda: [each.level for each in self.cell.statuses(STANDS_BY)][-1:] == [level],
            LONG,
            f'{STANDS_BY}: {stands_by}',
        )

    def process(self, **arguments):
        return node_process(
            'actuator', domain_id=self.cell.domain_id, parameters=QUICK, **arguments
        )


def test_a_second_one_leaves_items_to_the_first_before_it_has_met_it(monkeypatch):
    monkeypatch.setattr(sole_claim, 'SILENCE_NS', 10**12)  # a busy machine is not silent
    with CellHarness([NodeSpec(Actuator, QUICK)], watched=WATCHED) as cell:
        line = Line(cell)
        cell.wait_active()
        line.sort(line.first)
        with NodeRunner(
            [NodeSpec(Actuator, QUICK, remappings=UNSEEN)], domain_id=cell.domain_id
        ) as runner:
            second = runner.node('actuator')
            shown = [line.show(2) for _ in range(2)]
            cell.wait(
                lambda: second.health.counted('left_to_another_actuator') == 2, LONG, 'two left'
            )
            cell.wait(lambda: {each.item_id for each in line.first} >= {*shown}, LONG, 'outcomes')
            assert line.second == []
            cell.wait_diagnostic(STANDS_BY, '/actuator publishes /beside/sort_outcome', 2, LONG)
            monkeypatch.undo()
            cell.runner.node('actuator').trigger_deactivate()
            cell.wait(lambda: second._sole.may_publish(), LONG, 'the turn of the second')
            line.sort(line.second)


def test_who_was_killed_leaves_its_place_and_who_comes_back_finds_it_taken():
    with CellHarness([], watched=WATCHED) as cell, ExitStack() as stack:
        line = Line(cell)
        first = stack.enter_context(line.process())
        line.sort(line.first)
        second = stack.enter_context(line.process(remappings=UNSEEN))
        line.wait_stands_by(True)
        first.kill()
        first.wait()
        line.wait_stands_by(False)
        line.sort(line.second)
        stack.enter_context(line.process())
        line.wait_stands_by(True)
        second.kill()
        second.wait()
        line.wait_stands_by(False)
        line.sort(line.first)


def test_one_that_is_frozen_holds_back_the_other_for_a_second_only():
    with CellHarness([], watched=WATCHED) as cell, ExitStack() as stack:
        line = Line(cell)
        first = stack.enter_context(line.process())
        line.sort(line.first)
        first.send_signal(signal.SIGSTOP)
        stack.enter_context(line.process(remappings=UNSEEN))
        line.wait_stands_by(False)
        line.sort(line.second)
        first.send_signal(signal.SIGCONT)
        line.wait_stands_by(True)
        line.sort(line.first)


def test_where_no_file_can_be_had_an_actuator_acts(tmp_path, monkeypatch):
    (tmp_path / 'stl_conveyor').write_text('no folder')
    monkeypatch.setenv('XDG_RUNTIME_DIR', str(tmp_path))
    with CellHarness([NodeSpec(Actuator, QUICK)], watched=WATCHED) as cell:
        line = Line(cell)
        cell.wait_diagnostic('actuator: journal', 'will not survive', 1, LONG)
        line.sort(line.first)
