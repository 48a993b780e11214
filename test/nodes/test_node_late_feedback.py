# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Delays are learned also from items whose streams ended before the edge was heard."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')
pytest.importorskip('onnxruntime')

from cell_harness import CELL, CellHarness, make_capture, make_classification  # noqa: E402
from lone_policy import let_edge_live, lone_policy  # noqa: E402

from stl_conveyor.msg import FeatureFeedback, OffloadDecision  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeSpec  # noqa: E402
from stl_conveyor.nodes.device.encoder import EncoderNode  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros


def learned(estimator, node):
    """Return an estimate that was nothing before it was measured, ns."""
    return estimator.estimate_ns(node.schedule_clock.now_ns())


@pytest.mark.parametrize('status', [FeatureFeedback.STATUS_OK, FeatureFeedback.STATUS_TOO_LATE])
def test_the_encoder_learns_from_a_stream_that_ended_at_once(tiny_models, status):
    image = tiny_images(1, len(CELL.classes))[0][0]
    parameters = {'models_dir': str(tiny_models), 'answer_time': 0.0, 'max_resends': 0}
    with CellHarness(
        [NodeSpec(EncoderNode, parameters)], watched=('transfer', '/diagnostics')
    ) as cell:
        cell.wait_active()
        node = cell.runner.node('encoder')
        feedback = cell.publisher('feedback_rx')
        cell.connect('transfer')
        capture = make_capture(1, cell.now_ns(), image)
        cell.publisher('capture').publish(capture)
        cell.publisher('offload_decision').publish(
            OffloadDecision(
                header=capture.header,
                item_id=1,
                deadline=capture.deadline,
                offload=True,
                byte_budget=100,
            )
        )
        (account,) = cell.wait(lambda: cell.heard.of('transfer', item_id=1), 10, 'the account')
        assert account.stop_reason == FeatureFeedback.STOP_COMPLETE
        assert learned(node.round_trip, node) == 0
        assert account.packets == 1
        feedback.publish(
            FeatureFeedback(
                header=capture.header,
                item_id=1,
                codec_id=node.encoder.identity,
                status=status,
                sequence=0,
                packets=1,
            )
        )
        cell.wait(lambda: learned(node.round_trip, node) > 0, 10, 'a measured round trip')


@pytest.mark.parametrize('packets', [1, 2])
def test_the_policy_learns_from_an_answer_after_the_account(tiny_models, packets):
    """Also when the edge took two packets in before its first answer."""
    with lone_policy(tiny_models, policy='always') as (cell, node):
        feedback = cell.publisher('feedback_rx')
        let_edge_live(cell, node)
        asked = make_classification(1, cell.now_ns(), CELL.classes[0])
        cell.publisher('classification').publish(asked)
        (decision,) = cell.wait(lambda: cell.heard.of('offload_decision', item_id=1), 10)
        assert decision.offload
        cell.publisher('transfer').publish(
            FeatureFeedback(
                header=asked.header,
                item_id=1,
                bytes=100,
                status=FeatureFeedback.STATUS_TRANSFER_DONE,
            )
        )
        cell.wait(lambda: node.bucket.state.reserved == 0, 10, 'the account')
        answer = FeatureFeedback(
            header=asked.header,
            item_id=1,
            codec_id=node.codec_id,
            status=FeatureFeedback.STATUS_OK,
            packets=packets,
            answered=True,
        )
        feedback.publish(answer)
        cell.wait(lambda: learned(node.answer_time, node) > 0, 10, 'a measured answer')
        first = learned(node.answer_time, node)
        feedback.publish(answer)
        feedback.publish(
            FeatureFeedback(codec_id=node.codec_id + 1, status=FeatureFeedback.STATUS_ALIVE)
        )
        cell.wait_diagnostic('offload_policy', 'speaks beside the one')  # what came after it
        assert learned(node.answer_time, node) == first  # one item, one delay
