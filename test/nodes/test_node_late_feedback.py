# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Delays are learned also from late feedback, and those of a stop of the edge do not last."""

from __future__ import annotations

from contextlib import contextmanager

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
SECOND = 1_000_000_000
LONG_NS = 25 * SECOND  # after which old delays are forgotten in any case: 30 s


def learned(estimator, node):
    """Return an estimate that was nothing before it was measured, ns."""
    return estimator.estimate_ns(node.schedule_clock.now_ns())


@contextmanager
def lone_encoder(models):
    """Yield a cell with the encoder alone, its node, and what sends it an item.

    That returns the capture and the account.
    """
    image = tiny_images(1, len(CELL.classes))[0][0]
    parameters = {'models_dir': str(models), 'answer_time': 0.0, 'max_resends': 0}
    with CellHarness(
        [NodeSpec(EncoderNode, parameters)], watched=('transfer', '/diagnostics')
    ) as cell:
        cell.wait_active()
        cell.connect('transfer')
        captures, decisions = cell.publisher('capture'), cell.publisher('offload_decision')

        def send(item_id):
            capture = make_capture(item_id, cell.now_ns(), image)
            captures.publish(capture)
            decisions.publish(
                OffloadDecision(
                    header=capture.header,
                    item_id=item_id,
                    deadline=capture.deadline,
                    offload=True,
                    byte_budget=100,
                )
            )
            (account,) = cell.wait(
                lambda: cell.heard.of('transfer', item_id=item_id), 10, 'the account'
            )
            return capture, account

        yield cell, cell.runner.node('encoder'), send


@pytest.mark.parametrize('status', [FeatureFeedback.STATUS_OK, FeatureFeedback.STATUS_TOO_LATE])
def test_the_encoder_learns_from_a_stream_that_ended_at_once(tiny_models, status):
    with lone_encoder(tiny_models) as (cell, node, send):
        feedback = cell.publisher('feedback_rx')
        capture, account = send(1)
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


def test_the_encoder_learns_the_time_of_the_edge_from_each_answer_once(tiny_models):
    """Every acknowledgement names that of the answer before."""
    with lone_encoder(tiny_models) as (cell, node, send):
        feedback = cell.publisher('feedback_rx')
        capture, _ = send(1)

        def say(**fields):
            feedback.publish(
                FeatureFeedback(
                    header=capture.header,
                    item_id=1,
                    codec_id=node.encoder.identity,
                    packets=1,
                    compute_time=0.025,
                    **fields,
                )
            )

        say()
        cell.wait(lambda: learned(node.round_trip, node) > 0, 10, 'a measured round trip')
        assert learned(node.edge_time, node) == 0
        say(answered=True)
        cell.wait(lambda: learned(node.edge_time, node) > 0, 10, 'a measured answer')
        assert learned(node.edge_time, node) == 25_000_000


def test_the_encoder_tries_again_after_a_stop_of_the_edge(tiny_models):
    """What was measured then keeps everything from being sent, and so from being measured."""
    with lone_encoder(tiny_models) as (cell, node, send):
        now_ns = node.schedule_clock.now_ns()
        for delays in (node.round_trip, node.edge_time):
            for _ in range(32):
                delays.add(3 * SECOND, now_ns)
        number, tried = 0, None
        while tried is None:
            number += 1
            assert node.schedule_clock.now_ns() - now_ns < LONG_NS, 'nothing is sent any more'
            capture, account = send(number)
            if account.packets:
                tried = capture
            else:
                assert account.stop_reason == FeatureFeedback.STOP_DEADLINE
        assert number > 1
        assert learned(node.round_trip, node) == 3 * SECOND
        cell.publisher('feedback_rx').publish(
            FeatureFeedback(
                header=tried.header,
                item_id=number,
                codec_id=node.encoder.identity,
                packets=1,
                answered=True,
                compute_time=1e-6,
            )
        )
        cell.wait(lambda: learned(node.edge_time, node) < SECOND, 10, 'a measured answer')
        assert learned(node.round_trip, node) < 3 * SECOND
        assert node.health.counted('trials') == 1


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


def test_the_policy_tries_again_after_a_stop_of_the_edge(tiny_models):
    """Items that are decided too late are not sent, and so no answer is measured any more."""
    with lone_policy(tiny_models, policy='always') as (cell, node):
        let_edge_live(cell, node)
        items = cell.publisher('classification')
        now_ns = node.schedule_clock.now_ns()
        for _ in range(32):
            node.answer_time.add(3 * SECOND, now_ns)
        number, decision = 0, None
        while decision is None or not decision.offload:
            number += 1
            assert node.schedule_clock.now_ns() - now_ns < LONG_NS, 'nothing is offloaded'
            asked = make_classification(number, cell.now_ns(), CELL.classes[0])
            items.publish(asked)
            (decision,) = cell.wait(
                lambda item_id=number: cell.heard.of('offload_decision', item_id=item_id), 10
            )
            assert decision.offload or decision.reason == OffloadDecision.REASON_TOO_LATE
        assert number > 1
        cell.publisher('feedback_rx').publish(
            FeatureFeedback(
                header=asked.header,
                item_id=number,
                codec_id=node.codec_id,
                packets=1,
                answered=True,
            )
        )
        cell.wait(lambda: learned(node.answer_time, node) < 3 * SECOND, 10, 'a measured answer')
        assert node.health.counted('trials') == 1
