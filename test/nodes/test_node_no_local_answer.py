# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Without the local classifier the edge is asked, and its answer sorts the items."""

from __future__ import annotations

import signal

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')
pytest.importorskip('onnxruntime')

from cell_harness import (  # noqa: E402
    CELL,
    CellHarness,
    device_specs,
    make_capture,
    make_classification,
    node_process,
)
from lone_policy import let_edge_live, lone_policy  # noqa: E402

from stl_conveyor.msg import Classification, OffloadDecision, SortOutcome  # noqa: E402
from stl_conveyor.nodes.device.local_classifier import LocalClassifier  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros

IMAGES, _ = tiny_images(16, len(CELL.classes), seed=1)


class Belt:
    """Brings items to the nodes."""

    def __init__(self, cell):
        self.cell = cell
        self.captures = cell.publisher('capture', readers=4)
        self.items = 0

    def bring(self):
        """Publish a capture; return its number."""
        self.items += 1
        now_ns = self.cell.now_ns()
        image = IMAGES[self.items % len(IMAGES)]
        self.captures.publish(make_capture(self.items, now_ns, image))
        return self.items

    def one(self, topic, item_id):
        """Return what was said of an item."""
        return self.cell.wait(
            lambda: next(iter(self.cell.heard.of(topic, item_id=item_id)), None),
            10,
            f'{topic} of item {item_id}',
        )

    def sorted(self):
        """Bring an item; return what was decided about it, and its outcome."""
        item_id = self.bring()
        return self.one('offload_decision', item_id), self.one('sort_outcome', item_id)


def without_classifier(models, **changes):
    """Return the nodes of a device and an edge, but for the local classifier."""
    specs = device_specs(models, **changes)
    return [spec for spec in specs if spec.node_class is not LocalClassifier]


def wait_for_edge(cell):
    cell.wait_active()
    for topic, publishers, readers in (
        ('features_rx', 1, 2),
        ('feedback_rx', 1, 3),
        ('offload_decision', 1, 3),
        ('edge_classification', 1, 2),
        ('sort_outcome', 1, 1),
    ):
        cell.connect(topic, publishers, readers)
    cell.wait(lambda: cell.runner.node('offload_policy').edge_alive, 10, 'a sign of life')


def test_items_get_the_lanes_of_the_edge_when_the_local_classifier_is_killed(tiny_models):
    with CellHarness(without_classifier(tiny_models)) as cell:
        wait_for_edge(cell)
        belt = Belt(cell)
        arguments = {'domain_id': cell.domain_id, 'parameters': {'models_dir': str(tiny_models)}}
        with node_process('local_classifier', **arguments) as process:
            cell.connect('classification', 1, 3)
            cell.connect('capture', 1, 5)
            for _ in range(20):
                decision, _ = belt.sorted()
                if decision.reason == OffloadDecision.REASON_WORTH_IT:
                    break
            else:
                pytest.fail(f'no local answer came; {cell.complaints()}')
            process.send_signal(signal.SIGKILL)
            process.wait()
        by_edge = 0
        for _ in range(5):
            decision, outcome = belt.sorted()
            assert decision.offload and decision.reason == SortOutcome.REASON_NO_LOCAL_ANSWER
            assert not decision.probabilities
            assert decision.byte_budget > 0
            assert not outcome.missed and outcome.source != SortOutcome.SOURCE_LOCAL
            if outcome.source == SortOutcome.SOURCE_EDGE:
                by_edge += 1
                assert outcome.lane == CELL.lane_of(outcome.class_id) != CELL.reject_lane
                assert outcome.local_delay == -1 and outcome.edge_bytes > 0
        assert by_edge  # a machine that stands still for a moment may miss some


def test_without_a_token_the_edge_is_not_asked(tiny_models):
    poor = {'offload_policy': {'rate': 0.0, 'depth': 1.0}}
    with CellHarness(without_classifier(tiny_models, **poor)) as cell:
        wait_for_edge(cell)
        belt = Belt(cell)
        while cell.runner.node('offload_policy').bucket.state.tokens >= 1.0:
            belt.sorted()
        decision, outcome = belt.sorted()
        assert not decision.offload and decision.reason == OffloadDecision.REASON_NO_TOKENS
        assert outcome.source == SortOutcome.SOURCE_NONE
        assert outcome.reason == SortOutcome.REASON_NO_LOCAL_ANSWER


def test_an_answer_that_comes_after_the_decision_is_no_second_one(tiny_models):
    with lone_policy(tiny_models, policy='always', rate=1000.0, depth=1000.0) as (cell, node):
        let_edge_live(cell, node)
        captures = cell.publisher('capture')
        answers = cell.publisher('classification', Classification)
        stamp_ns = cell.now_ns()
        captures.publish(make_capture(1, stamp_ns, IMAGES[0]))
        (decision,) = cell.wait(lambda: cell.heard.of('offload_decision', item_id=1))
        assert decision.reason == SortOutcome.REASON_NO_LOCAL_ANSWER and decision.offload
        # Nothing is known of it: it is the most worth asking.
        assert decision.expected_reward == pytest.approx(node.worth.distribution.values.max())
        answers.publish(make_classification(1, stamp_ns, CELL.classes[0]))
        # A later item shows that the answer was heard.
        later_ns = cell.now_ns()
        answers.publish(make_classification(2, later_ns, CELL.classes[0]))
        (second,) = cell.wait(lambda: cell.heard.of('offload_decision', item_id=2))
        assert second.reason == OffloadDecision.REASON_WORTH_IT
        # The capture comes after its answer: nothing is awaited any more.
        captures.publish(make_capture(2, later_ns, IMAGES[0]))
        captures.publish(make_capture(3, cell.now_ns(), IMAGES[0]))
        cell.wait(lambda: cell.heard.of('offload_decision', item_id=3))
        assert [m.item_id for m in cell.heard.messages['offload_decision']] == [1, 2, 3]
