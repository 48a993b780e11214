# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What somebody else on the network says takes nothing away from the honest nodes."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import (  # noqa: E402
    CELL,
    GUARDED,
    CellHarness,
    Stranger,
    described,
    make_capture,
    make_classification,
)

from stl_conveyor.msg import Classification, FeatureFeedback, ItemCapture, OffloadDecision  # noqa: E402
from stl_conveyor.nodes.base.clock import to_ns  # noqa: E402
from stl_conveyor.nodes.base.items import item_key  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeSpec  # noqa: E402
from stl_conveyor.nodes.device.actuator import Actuator  # noqa: E402
from stl_conveyor.nodes.device.offload_policy import OffloadPolicy  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros

NOMINAL = 1000


def policy(models, timeout=60.0):
    return NodeSpec(
        OffloadPolicy,
        {
            'models_dir': str(models),
            'policy': 'always',
            'rate': 0.0,
            'depth': 4.0,
            'nominal_bytes': NOMINAL,
            'byte_budgets': False,
            'answer_time': 0.0,
            'diagnostics_period': 0.3,
            **described(edge__timeout=timeout),
        },
    )


class Policy:
    """The policy in a graph of its own, with an edge that lives and items that are sent."""

    def __init__(self, cell):
        self.cell = cell
        cell.wait_active()
        self.node = cell.runner.node('offload_policy')
        self.feedback = cell.publisher('feedback_rx')
        self.accounts = cell.publisher('transfer')
        self.items = cell.publisher('classification')
        cell.connect('offload_decision')
        cell.connect('token_bucket')
        self.sign_of_life(self.node.codec_id)
        cell.wait(lambda: self.node.edge_alive, 10, 'a sign of life')

    def sign_of_life(self, codec_id):
        self.feedback.publish(
            FeatureFeedback(codec_id=codec_id, status=FeatureFeedback.STATUS_ALIVE)
        )

    def offloaded(self, item_id):
        """Return the classification of an item that the policy offloads."""
        now_ns = self.cell.now_ns()
        message = make_classification(
            item_id, now_ns, CELL.classes[0], deadline_ns=now_ns + 9 * 10**9
        )
        self.items.publish(message)
        decision = self.cell.wait(
            lambda: next(iter(self.cell.heard.of('offload_decision', item_id=item_id)), None)
        )
        assert decision.offload
        return message

    def account(self, item, publisher=None, **fields):
        fields = {'status': FeatureFeedback.STATUS_TRANSFER_DONE, **fields}
        (publisher or self.accounts).publish(
            FeatureFeedback(header=item.header, item_id=item.item_id, **fields)
        )

    def wait_spent(self, n_bytes, reserved=0):
        self.cell.wait(
            lambda: any(
                (s.spent_numerator * NOMINAL, s.reserved_numerator * NOMINAL)
                == (n_bytes * s.denominator, reserved * s.denominator)
                for s in self.cell.heard.messages['token_bucket']
            ),
            10,
            f'{n_bytes} bytes spent and {reserved} reserved',
        )


WATCHED = ('offload_decision', 'token_bucket', '/diagnostics')


def test_an_account_of_nothing_gives_no_tokens_away(tiny_models):
    with CellHarness([policy(tiny_models)], watched=WATCHED) as cell:
        policy_node = Policy(cell)
        item = policy_node.offloaded(1)
        policy_node.account(item, stop_reason=FeatureFeedback.STOP_SATISFIED, bytes=0)
        cell.wait_diagnostic('offload_policy', 'implausible_account')
        policy_node.account(item, stop_reason=FeatureFeedback.STOP_SATISFIED, bytes=600)
        policy_node.wait_spent(600)
        # One that can be, and that the honest account contradicts afterwards.
        item = policy_node.offloaded(2)
        policy_node.account(item, stop_reason=FeatureFeedback.STOP_NEXT_ITEM, bytes=0)
        policy_node.wait_spent(600)
        policy_node.account(item, stop_reason=FeatureFeedback.STOP_COMPLETE, bytes=900)
        policy_node.wait_spent(1500)
        cell.wait_diagnostic('offload_policy', 'account_contradicted')
        # One that the edge contradicts; whoever claims more than was promised takes no more.
        item = policy_node.offloaded(3)
        policy_node.account(item, stop_reason=FeatureFeedback.STOP_DEADLINE, bytes=0)
        edge = {'status': FeatureFeedback.STATUS_OK, 'codec_id': policy_node.node.codec_id}
        policy_node.account(item, policy_node.feedback, bytes=2**32 - 1, **edge)
        policy_node.wait_spent(2500)
        # Less than was paid for changes nothing.
        policy_node.account(item, policy_node.feedback, bytes=10, **edge)
        item = policy_node.offloaded(4)
        policy_node.account(item, stop_reason=FeatureFeedback.STOP_COMPLETE, bytes=500)
        policy_node.wait_spent(3000)


def test_an_edge_with_another_codec_does_not_speak_for_the_known_one(tiny_models):
    with CellHarness([policy(tiny_models)], watched=WATCHED) as cell:
        policy_node = Policy(cell)
        for _ in range(3):
            policy_node.sign_of_life(policy_node.node.codec_id ^ 1)
        cell.wait_diagnostic('offload_policy', 'speaks beside the one that has ours')
        assert policy_node.node.edge_alive
        item = policy_node.offloaded(1)
        policy_node.account(item, bytes=1)


def test_an_edge_with_another_codec_alone_is_named(tiny_models):
    with CellHarness([policy(tiny_models, timeout=2.0)], watched=WATCHED) as cell:
        policy_node = Policy(cell)
        cell.wait(lambda: not policy_node.node.edge_alive, 10, 'the end of the time-out')
        policy_node.sign_of_life(policy_node.node.codec_id ^ 1)
        cell.wait_diagnostic('offload_policy', 'give both the same model folder', level=2)
        policy_node.sign_of_life(policy_node.node.codec_id)
        health = policy_node.node.health
        cell.wait(lambda: 'codec_mismatch' not in health._conditions, 10, 'the known edge')
        assert 'second_edge' in health._conditions


def test_an_edge_answer_that_no_stream_asked_for_moves_no_item(tiny_models):
    """Unasked, too many bytes, another model; before the decision and after it."""
    image = tiny_images(1, 2)[0][0]
    with CellHarness([NodeSpec(Actuator, {**GUARDED, 'diagnostics_period': 0.3})]) as cell:
        cell.wait_active()
        captures = cell.publisher('capture', ItemCapture)
        local = cell.publisher('classification', Classification)
        edge = cell.publisher('edge_classification', Classification)
        decisions = cell.publisher('offload_decision', OffloadDecision)
        cell.connect('sort_outcome')
        actuator = cell.runner.node('actuator')

        def show(item_id, budget, *, first, **claimed):
            """Show an item with a local answer, a decision and an edge answer; return its fate."""
            stamp_ns = cell.now_ns()
            captures.publish(make_capture(item_id, stamp_ns, image))
            local.publish(make_classification(item_id, stamp_ns, CELL.classes[0]))
            answer = make_classification(
                item_id, stamp_ns, CELL.classes[-1], source=2, score=0.99, **claimed
            )
            decision = OffloadDecision(
                header=answer.header,
                item_id=item_id,
                deadline=answer.deadline,
                offload=budget > 0,
                byte_budget=budget,
                edge_model_id=7,
            )
            heard = actuator.health.counted('undecided_answer')
            edge_first = [(edge, answer), (decisions, decision)]
            for publisher, message in edge_first if first else edge_first[::-1]:
                publisher.publish(message)
                if first and publisher is edge:
                    cell.wait(lambda: actuator.health.counted('undecided_answer') > heard)
                elif publisher is decisions:
                    cell.wait(lambda: actuator._reasons.get(item_key(answer)) is not None)
            return cell.wait(
                lambda: next(iter(cell.heard.of('sort_outcome', item_id=item_id)), None)
            )

        cases = [
            (0, {'bytes_used': 2**32 - 1, 'model_id': 7}, 'unasked_answer'),
            (512, {'bytes_used': 513, 'model_id': 7}, 'impossible_answer'),
            (512, {'bytes_used': 0, 'model_id': 7}, 'impossible_answer'),
            (512, {'bytes_used': 128, 'model_id': 8}, 'wrong_model_answer'),
            (512, {'bytes_used': 128, 'model_id': 7}, ''),
        ]
        item_id = 0
        for first in (True, False):
            for budget, claimed, refused in cases:
                item_id += 1
                outcome = show(item_id, budget, first=first, **claimed)
                assert outcome.class_id == (CELL.classes[0] if refused else CELL.classes[-1])
                if refused:
                    assert actuator.health.counted(refused)
        assert actuator.health.counted('impossible_answer') == 4


def test_captures_of_an_intruder_push_out_none_of_the_cameras():
    """The next number, a little and much ahead of its time, and more than the ledger holds."""
    image = tiny_images(1, 2)[0][0]
    spec = NodeSpec(Actuator, {**GUARDED, 'diagnostics_period': 0.1})
    watched = ('sort_outcome', '/diagnostics')
    with (
        CellHarness([spec], watched=watched) as cell,
        Stranger(cell, 'intruder') as intruder,
        Stranger(cell, 'camera') as camera,
    ):
        cell.wait_active()
        forged = intruder.publisher(ItemCapture, 'capture')
        honest = camera.publisher(ItemCapture, 'capture')
        cell.connect('sort_outcome')
        actuator = cell.runner.node('actuator')

        def forge(item_id, ahead_ns):
            forged.publish(make_capture(item_id, cell.now_ns() + ahead_ns, image))

        def is_refused():
            forge(999, 0)
            return 'intruder.capture' in actuator.health._conditions

        cell.wait(is_refused, 20, 'the refusal')
        shown = {}
        for item_id, ahead_ns in enumerate((-50_000_000, 100_000_000, 500_000_000), 1):
            forge(item_id, ahead_ns)
            shown[item_id] = cell.now_ns()
            honest.publish(make_capture(item_id, shown[item_id], image))

        def all_acted_on():
            return shown.keys() <= {m.item_id for m in cell.heard.of('sort_outcome')}

        cell.wait(all_acted_on)  # a crowd may push what still waits out of the queue
        for item_id in range(300):
            forge(5000 + item_id, 0)
        shown[4] = cell.now_ns()
        honest.publish(make_capture(4, shown[4], image))
        cell.wait(all_acted_on)
        outcomes = [m for m in cell.heard.of('sort_outcome') if m.item_id != 999]
        assert {m.item_id: to_ns(m.header.stamp) for m in outcomes} == shown
        assert len(outcomes) == len(shown)
        said = cell.wait_diagnostic('actuator', '/intruder publishes it, too, beside /camera')
        assert said.level == b'\2'


def test_a_local_answer_of_an_intruder_is_not_believed_before_or_after_the_classifiers():
    image = tiny_images(1, 2)[0][0]
    spec = NodeSpec(Actuator, {**GUARDED, 'diagnostics_period': 0.1})
    with (
        CellHarness([spec], watched=('sort_outcome', '/diagnostics')) as cell,
        Stranger(cell, 'intruder') as intruder,
        Stranger(cell, 'local_classifier') as classifier,
    ):
        cell.wait_active()
        captures = cell.publisher('capture', ItemCapture)
        forged = intruder.publisher(Classification, 'classification')
        honest = classifier.publisher(Classification, 'classification')
        cell.connect('sort_outcome')
        actuator = cell.runner.node('actuator')

        def is_refused():
            forged.publish(make_classification(999, cell.now_ns(), CELL.classes[-1]))
            return 'intruder.classification' in actuator.health._conditions

        cell.wait(is_refused, 20, 'the refusal')
        for item_id, first in ((1, forged), (2, honest)):
            stamp_ns = cell.now_ns()
            captures.publish(make_capture(item_id, stamp_ns, image))
            for publisher in (first, honest if first is forged else forged):
                name = CELL.classes[0 if publisher is honest else -1]
                publisher.publish(make_classification(item_id, stamp_ns, name))
            outcome = cell.wait(
                lambda: next(iter(cell.heard.of('sort_outcome', item_id=item_id)), None)
            )
            assert outcome.class_id == CELL.classes[0]


def test_captures_that_are_played_without_a_camera_are_heard():
    image = tiny_images(1, 2)[0][0]
    spec = NodeSpec(Actuator, GUARDED)
    with CellHarness([spec], watched=('sort_outcome',)) as cell:
        cell.wait_active()
        cell.connect('sort_outcome')
        with Stranger(cell, 'player') as player:
            player.publisher(ItemCapture, 'capture').publish(make_capture(1, cell.now_ns(), image))
            cell.wait(lambda: cell.heard.of('sort_outcome', item_id=1))
