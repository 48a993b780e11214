# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Of two actuators on one machine one acts, though the graph has not let them meet.

How long that takes is the middleware's. Here it never happens: what the two would know each other
by has another name at the second one.
"""

from __future__ import annotations

import signal
from contextlib import ExitStack
from functools import partial

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import (  # noqa: E402
    CellHarness,
    described,
    make_capture,
    make_classification,
    node_process,
    qos,
)

from stl_conveyor.cell import sole_claim  # noqa: E402
from stl_conveyor.cell.deadline import longest_decision_ns, sorting_deadline  # noqa: E402
from stl_conveyor.cell.description import CellDescription  # noqa: E402
from stl_conveyor.cell.ledger import ItemKey  # noqa: E402
from stl_conveyor.msg import Actuation, ItemCapture, SortOutcome  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeRunner, NodeSpec  # noqa: E402
from stl_conveyor.nodes.device.actuator import CONNECTED_NS, Actuator  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros
IMAGE = tiny_images(1, 2)[0][0]
# So slow that a process can be started while an item is on its way.
SLOW = described(belt__speed=0.01, guard=1.0)
SLOW_CELL = CellDescription.load(SLOW['cell_file'])
BUDGET = sorting_deadline(0, SLOW_CELL)  # lane B is 24 s further
CLASS_B = SLOW_CELL.lane('B').classes[0]
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
        self._answer = {}  # number → what publishes the answer to it
        cell.probe.create_subscription(
            SortOutcome, 'beside/sort_outcome', self.second.append, qos('sort_outcome')
        )

    @property
    def first(self):
        return self.cell.outcomes()

    def show(self, actuators=1, stamp_ns=None, deadline_ns=None):
        """Show an item to so many; return its number."""
        captures = self.cell.publisher('capture', ItemCapture, readers=actuators, timeout=LONG)
        self._shown += 1
        stamp_ns = self.cell.now_ns() if stamp_ns is None else stamp_ns
        captures.publish(make_capture(self._shown, stamp_ns, IMAGE, deadline_ns))
        return self._shown

    def show_slow(self, left, actuators=1):
        """Show an item for lane B, whose deadline is `left` s away, and answer it."""
        answers = self.cell.publisher('classification', readers=actuators, timeout=LONG)
        self.cell.publisher('capture', ItemCapture, readers=actuators, timeout=LONG)
        stamp_ns = self.cell.now_ns() + round(left * 1e9) - BUDGET
        number = self.show(actuators, stamp_ns, stamp_ns + BUDGET)
        answer = make_classification(number, stamp_ns, CLASS_B, deadline_ns=stamp_ns + BUDGET)
        self._answer[number] = partial(answers.publish, answer)
        self._answer[number]()
        return number

    def wait(self, outcomes, number):
        self.cell.wait(
            lambda: [each for each in outcomes if each.item_id == number], LONG, f'item {number}'
        )

    def wait_answered(self, journal, number):
        """Wait until a journal has the answer to an item, which is given until it does."""
        begin = f'["answered",{number},'
        due_ns = self.cell.now_ns() + 10**9

        def is_told():
            nonlocal due_ns
            if self.cell.now_ns() > due_ns:  # the reader may not have known the publisher yet
                due_ns = self.cell.now_ns() + 10**9
                self._answer[number]()
            return begin in journal.read_text()

        self.cell.wait(is_told, LONG, f'answer to {number}')

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

    def process(self, parameters=QUICK, **arguments):
        domain_id = self.cell.domain_id
        return node_process('actuator', domain_id=domain_id, parameters=parameters, **arguments)


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


def test_what_one_owed_that_was_killed_is_taken_over_with_its_journal(tmp_path, monkeypatch):
    pytest.importorskip('gpiozero')
    monkeypatch.setenv('GPIOZERO_PIN_FACTORY', 'mock')
    parameters = {
        **QUICK,
        **SLOW,
        'journal': str(tmp_path / 'journal'),
        'output': 'gpio',
        'gpio_feedback_pins': [-1, -1, -1],
    }
    with CellHarness([], watched=(*WATCHED, 'actuation')) as cell, ExitStack() as stack:
        line = Line(cell)
        first = stack.enter_context(line.process(parameters=parameters))
        unheard = line.show_slow(33.0)
        line.wait_answered(tmp_path / 'journal', unheard)
        stack.enter_context(line.process(parameters=parameters, remappings=UNSEEN))
        line.wait_stands_by(True)
        before = line.show_slow(2.0, 2)
        line.wait(line.first, before)  # its stroke is still to come
        frozen, after = line.show_slow(4.0, 2), line.show_slow(25.0, 2)
        line.wait_answered(tmp_path / 'journal', after)
        first.send_signal(signal.SIGSTOP)
        line.wait(line.second, frozen)
        first.kill()
        first.wait()
        cell.wait_diagnostic('actuator: taken_up', f'items {unheard}, {before}, {after}', 1, LONG)
        line.wait(line.second, unheard)
        line.wait(line.second, after)
        for number in (before, frozen):
            (pushed,) = cell.wait(
                lambda number=number: cell.heard.of('actuation', item_id=number), LONG, 'strokes'
            )
            assert pushed.status == Actuation.STATUS_CONFIRMED
        assert [each.item_id for each in line.first] == [before]
        assert sorted(each.item_id for each in line.second) == [unheard, frozen, after]


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


def test_one_that_ends_leaves_what_is_open_to_one_that_has_stood_by(monkeypatch):
    monkeypatch.setattr(sole_claim, 'SILENCE_NS', 10**12)  # a busy machine is not silent
    slow = described(belt__speed=0.05, guard=1.0)
    description = CellDescription.load(slow['cell_file'])
    longest_ns = longest_decision_ns(description) + CONNECTED_NS

    def follows_ns(node):
        return node._sole._claim.followed_ns(node._sole._now_ns())

    actuator = NodeSpec(Actuator, {**QUICK, **slow})
    with CellHarness([actuator], watched=WATCHED) as cell:
        line = Line(cell)
        cell.wait_active()
        with NodeRunner([actuator], domain_id=cell.domain_id) as runner:
            both = [cell.runner.node('actuator'), runner.node('actuator')]
            cell.wait(lambda: all(each.is_active for each in both), LONG, 'activation')
            cell.wait(
                lambda: max(map(follows_ns, both)) > longest_ns, LONG, 'one that has stood by'
            )
            # Two that begin at the same time are told apart by chance.
            second, first = sorted(both, key=follows_ns)
            stamp_ns = cell.now_ns()
            number = line.show(2, stamp_ns, sorting_deadline(stamp_ns, description))
            for each in (first, second):
                cell.wait(lambda each=each: each.ledger.open_items, LONG, 'an open item')
            first.trigger_deactivate()
            line.wait(line.first, number)
            assert second._acted.get(ItemKey(number, stamp_ns))
            assert [each.item_id for each in line.first] == [number]
            assert first.health.counted('left_to_another_actuator') == 1


def test_where_no_file_can_be_had_an_actuator_acts(tmp_path, monkeypatch):
    (tmp_path / 'stl_conveyor').write_text('no folder')
    monkeypatch.setenv('XDG_RUNTIME_DIR', str(tmp_path))
    with CellHarness([NodeSpec(Actuator, QUICK)], watched=WATCHED) as cell:
        line = Line(cell)
        cell.wait_diagnostic('actuator: journal', 'will not survive', 1, LONG)
        line.sort(line.first)
