# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A full edge says what its answers cost, and devices keep their tokens for what is worth it."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CELL, CellHarness, NodeSpec, make_classification  # noqa: E402
from lone_policy import lone_policy  # noqa: E402

from stl_conveyor.msg import FeatureFeedback, OffloadDecision  # noqa: E402
from stl_conveyor.nodes.edge.edge_classifier import EdgeClassifier  # noqa: E402

pytestmark = pytest.mark.ros


def test_a_device_sends_what_gains_more_than_the_price_and_keeps_its_tokens(tiny_models):
    parameters = {'policy': 'always', 'rate': 0.0, 'depth': 4.0, 'byte_budgets': False}
    with lone_policy(tiny_models, **parameters) as (cell, node):
        feedback, items = cell.publisher('feedback_rx'), cell.publisher('classification')

        def sign(price, codec_id=None):
            feedback.publish(
                FeatureFeedback(
                    codec_id=node.codec_id if codec_id is None else codec_id,
                    status=FeatureFeedback.STATUS_ALIVE,
                    price=price,
                )
            )

        def decided(item_id):
            now_ns = cell.now_ns()
            items.publish(
                make_classification(
                    item_id, now_ns, CELL.classes[0], deadline_ns=now_ns + 9 * 10**9
                )
            )
            return cell.wait(
                lambda: next(iter(cell.heard.of('offload_decision', item_id=item_id)), None)
            )

        sign(0.0)
        cell.wait(lambda: node.edge_alive, 10, 'a sign of life')
        free = decided(1)
        assert free.offload and free.expected_reward > 0
        level = node.bucket.available
        sign(1.0)
        cell.wait(lambda: node.edge_price == 1.0, 10, 'the price')
        dear = decided(2)
        assert not dear.offload and dear.byte_budget == 0
        assert dear.reason == OffloadDecision.REASON_EDGE_FULL
        assert dear.threshold == pytest.approx(1.0)
        assert node.bucket.available == level
        # What is no price changes none, nor does that of another edge.
        sign(float('nan'))
        sign(0.0, codec_id=node.codec_id ^ 1)
        cell.wait_diagnostic('offload_policy', 'speaks beside the one')
        assert not decided(3).offload
        sign(free.expected_reward / 2)
        cell.wait(lambda: 0 < node.edge_price < 1, 10, 'the lower price')
        assert decided(4).offload


def test_an_edge_whose_workers_are_busy_has_a_price_and_says_that_it_is_full(tiny_models):
    spec = NodeSpec(
        EdgeClassifier,
        {
            'models_dir': str(tiny_models),
            'heartbeat_period': 0.1,
            'diagnostics_period': 0.3,
            'workers': 1,
        },
        remappings={'feedback_tx': 'feedback_rx'},
    )
    with CellHarness([spec], watched=('feedback_rx', '/diagnostics')) as cell:
        cell.wait_active()
        node = cell.runner.node('edge_classifier')
        cell.wait(lambda: cell.heard.of('feedback_rx', price=0.0), 10, 'a sign of life')
        with node._lock:  # as if an answer had taken a minute
            node._admission.served(0, 60.0, node.steady_clock.now().nanoseconds)
        cell.wait(
            lambda: any(m.price > 0.3 for m in cell.heard.messages['feedback_rx']), 30, 'a price'
        )
        cell.wait_diagnostic('edge_classifier: edge_full', 'ask for more answers', level=1)
        cell.wait(lambda: cell.heard.messages['feedback_rx'][-1].price == 0.0, 60, 'room again')
