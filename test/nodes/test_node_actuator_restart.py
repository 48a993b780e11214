# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""An actuator that is killed with items on the belt goes on with them, and names the others."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CellHarness, described, make_capture, make_classification, node_process  # noqa: E402

from stl_conveyor.cell.deadline import sorting_deadline  # noqa: E402
from stl_conveyor.cell.description import CellDescription  # noqa: E402
from stl_conveyor.msg import Actuation, ItemCapture, SortOutcome  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeSpec  # noqa: E402
from stl_conveyor.nodes.device.actuator import Actuator  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros
IMAGE = tiny_images(1, 2)[0][0]
SECOND = 10**9
# So slow that a process can be started while an item is on its way.
SLOW = described(belt__speed=0.01, guard=1.0)
CELL = CellDescription.load(SLOW['cell_file'])
BUDGET = sorting_deadline(0, CELL)  # 35.88 s from capture to deadline; lane B is 24 s further


def class_of(lane):
    return next(each for each in CELL.lanes if each.name == lane).classes[0]


class Items:
    """Shows items to the cell, and answers for the classifier."""

    def __init__(self, cell, actuators):
        """Wait for actuators; one that was killed counts until its lease has run out."""
        self.cell = cell
        self.captures = cell.publisher('capture', ItemCapture, readers=actuators, timeout=60)
        self.answers = cell.publisher('classification', readers=actuators, timeout=60)

    def show(self, number, left, lane):
        """Show an item whose deadline is `left` seconds away."""
        stamp_ns = self.cell.now_ns() + round(left * SECOND) - BUDGET
        self.captures.publish(make_capture(number, stamp_ns, IMAGE, stamp_ns + BUDGET))
        answer = make_classification(
            number, stamp_ns, class_of(lane), deadline_ns=stamp_ns + BUDGET
        )
        self.answers.publish(answer)
        return stamp_ns + BUDGET


def journal_says(path, kind, number):
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return False
    return any(json.loads(line)[:2] == [kind, number] for line in lines)


def test_open_items_and_strokes_survive_a_kill_and_what_passed_is_named(tmp_path, monkeypatch):
    pytest.importorskip('gpiozero')
    monkeypatch.setenv('GPIOZERO_PIN_FACTORY', 'mock')
    path = tmp_path / 'journal'
    parameters = {
        **SLOW,
        'journal': str(path),
        'output': 'gpio',
        'gpio_feedback_pins': [-1, -1, -1],
        'diagnostics_period': 0.3,
    }
    with CellHarness([], watched=('sort_outcome', 'actuation', '/diagnostics')) as cell:
        with ExitStack() as stack:

            def start(number):
                process = stack.enter_context(
                    node_process('actuator', domain_id=cell.domain_id, parameters=parameters)
                )
                return process, Items(cell, number)

            first, items = start(1)
            items.show(1, 1.5, 'B')  # has its outcome before the kill, and its stroke 24 s later
            cell.wait(lambda: cell.heard.of('sort_outcome', item_id=1), 30, 'outcome of 1')
            passes = items.show(2, 3.0, 'A')
            items.show(3, 33.0, 'A')
            for number in (2, 3):
                cell.wait(
                    lambda number=number: journal_says(path, 'answered', number),
                    30,
                    f'answer of {number}',
                )
            first.kill()
            first.wait()
            late_ns = passes + round(CELL.diverter.paddle_width / 2 / CELL.belt.speed * SECOND)
            cell.wait(lambda: cell.now_ns() > late_ns, 30, 'item 2 past its diverter')
            items.captures.publish(make_capture(4, cell.now_ns(), IMAGE, cell.now_ns() + BUDGET))
            second, items = start(2)
            cell.wait_diagnostic('actuator', 'items 1, 3 were open when this node ended')
            cell.wait_diagnostic('actuator', 'items 2 passed their diverters while', level=2)
            (late,) = cell.wait(lambda: cell.heard.of('sort_outcome', item_id=2), 30, 'item 2')
            assert late.missed and late.lane == 'A'
            items.show(5, 33.0, 'A')
            cell.wait_diagnostic('actuator', 'items 4 were captured, by their numbers', level=2)
            (pushed,) = cell.wait(lambda: cell.heard.of('actuation', item_id=1), 60, 'stroke of 1')
            assert pushed.status == Actuation.STATUS_CONFIRMED and pushed.lane == 'B'
            (kept,) = cell.wait(lambda: cell.heard.of('sort_outcome', item_id=3), 60, 'item 3')
            assert (kept.lane, kept.missed) == ('A', False) and kept.class_id == class_of('A')
            second.terminate()
            assert second.wait(30) == 0
        assert len(cell.heard.of('sort_outcome', item_id=1)) == 1
        assert not path.exists()  # nothing is owed


def test_an_answer_that_came_before_its_capture_survives_too(tmp_path):
    path = tmp_path / 'journal'
    parameters = {**SLOW, 'journal': str(path)}
    with CellHarness([NodeSpec(Actuator, parameters)], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        items = Items(cell, 1)
        stamp_ns = cell.now_ns() + 30 * SECOND - BUDGET
        items.answers.publish(
            make_classification(7, stamp_ns, class_of('B'), deadline_ns=stamp_ns + BUDGET)
        )
        actuator = cell.runner.node('actuator')
        cell.wait(lambda: actuator.health.counted('local.early_answer') == 1, 30, 'the answer')
        items.captures.publish(make_capture(7, stamp_ns, IMAGE, stamp_ns + BUDGET))
        cell.wait(lambda: journal_says(path, 'answered', 7), 30, 'the answer in the journal')


def test_what_passed_meanwhile_is_said_once_that_somebody_hears_it(tmp_path):
    parameters = {**SLOW, 'journal': str(tmp_path / 'journal'), 'diagnostics_period': 0.3}
    with CellHarness([], watched=('/diagnostics',)) as cell, ExitStack() as stack:

        def start(number):
            return (
                stack.enter_context(
                    node_process('actuator', domain_id=cell.domain_id, parameters=parameters)
                ),
                Items(cell, number),
            )

        heard = []
        before = cell.probe.create_subscription(SortOutcome, 'sort_outcome', heard.append, 10)
        first, items = start(1)
        items.show(1, 1.0, 'B')
        cell.wait(lambda: heard, 30, 'outcome of 1')
        passes = items.show(2, 3.0, 'A')
        cell.wait(lambda: journal_says(tmp_path / 'journal', 'answered', 2), 30, 'its answer')
        first.kill()
        first.wait()
        cell.probe.destroy_subscription(before)
        late_ns = passes + round(CELL.diverter.paddle_width / CELL.belt.speed * SECOND)
        cell.wait(lambda: cell.now_ns() > late_ns, 30, 'item 2 past its diverter')
        start(2)
        cell.wait_diagnostic('actuator', 'items 2 passed their diverters while', timeout=30)
        # As long as a busy machine can need to find its readers again.
        later_ns = cell.now_ns() + 3 * SECOND
        cell.wait(lambda: cell.now_ns() > later_ns, 30, 'three seconds')
        cell.probe.create_subscription(SortOutcome, 'sort_outcome', heard.append, 10)
        (late,) = cell.wait(lambda: [m for m in heard if m.item_id == 2], 30, 'item 2')
        assert late.missed and late.lane == 'A'
