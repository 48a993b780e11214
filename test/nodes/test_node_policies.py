# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Every policy in its node, over real DDS: what OffloadDecision says is what was decided on."""

from __future__ import annotations

import array
import hashlib
import json
import math
import shutil
import threading
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')
pytest.importorskip('onnxruntime')

from cell_harness import CELL, ROOT, make_classification  # noqa: E402
from lone_policy import let_edge_live, lone_policy  # noqa: E402

from stl_conveyor.models.model_folder import ModelFolder  # noqa: E402
from stl_conveyor.msg import FeatureFeedback, OffloadDecision  # noqa: E402
from stl_conveyor.nodes.device.encoder import EncoderSettings  # noqa: E402
from stl_conveyor.nodes.device.offload_policy import OffloadPolicySettings  # noqa: E402
from stl_conveyor.nodes.edge.edge_classifier import EdgeClassifierSettings  # noqa: E402
from stl_conveyor.policy import (  # noqa: E402
    LEARNED_POLICIES,
    POLICIES,
    BudgetTable,
    Distribution,
    PolicyInput,
    PolicySettings,
    Reason,
)
from stl_conveyor.policy.byte_budget import STOP_SCORE  # noqa: E402
from stl_conveyor.policy.for_cell import (  # noqa: E402
    ADAPTIVE_NETWORK,
    load_budgets,
    load_rewards,
    make_cell_policy,
)
from stl_conveyor.policy.mdp import MdpPolicy  # noqa: E402
from stl_conveyor.policy.reward import PosteriorReward  # noqa: E402

pytestmark = pytest.mark.ros

RATE, DEPTH, UNIT = Fraction(1, 4), Fraction(4), 60.0  # so slow that the test sees no refill
NOMINAL_BYTES = OffloadPolicySettings().nominal_bytes
DQN = ROOT / 'models' / 'policy' / 'dqn_arrivals_3_r0.25_b4.onnx'
SCORES = (0.35, 0.97, 0.5, 0.45, 0.9, 0.4, 0.55, 0.36, 0.38, 0.42, 0.48, 0.5)


@pytest.fixture(scope='module')
def models(tiny_models, tmp_path_factory):
    """Return the tiny model folder with byte budgets, and rewards by the posterior."""
    folder = tmp_path_factory.mktemp('budgets') / 'models'
    shutil.copytree(tiny_models, folder)
    entropy = load_rewards(ModelFolder(folder))
    PosteriorReward(
        entropy.classes,
        Distribution.of(np.linspace(0, 0.8, 40) ** 2),
        entropy,
        np.array([0.0, 1.0]),
        np.array([0.0, 0.9]),
    ).save(folder / 'reward.json')
    rewards = np.linspace(0, 0.64, 12)
    at = np.linspace(rewards[0], rewards[-1], 12)
    shares = np.array([0.125, 0.25, 0.5, 1.0])
    BudgetTable(
        NOMINAL_BYTES,
        STOP_SCORE,
        shares,
        at,
        np.full(12, 1 / 12),
        np.maximum(at, 0)[:, None] * np.array([0.6, 0.8, 0.95, 1.0]),
        np.broadcast_to(shares, (12, 4)).copy(),
    ).save(folder / 'budget.json')
    manifest = json.loads((folder / 'manifest.json').read_text())
    for role in ('budget', 'reward'):
        digest = hashlib.sha256((folder / f'{role}.json').read_bytes()).hexdigest()
        manifest['files'][role] = {'path': f'{role}.json', 'sha256': digest}
    (folder / 'manifest.json').write_text(json.dumps(manifest))
    return folder


def twin(name, models, byte_budgets):
    """Make the same policy outside the node."""
    folder = ModelFolder(models)
    return make_cell_policy(
        name,
        PolicySettings(rate=RATE, depth=DEPTH),
        load_rewards(folder),
        load_budgets(folder, name) if byte_budgets else None,
        DQN if name == 'dqn' else '',
    )


@pytest.mark.parametrize(
    ('name', 'byte_budgets'),
    [(name, False) for name in POLICIES] + [('mdp', True), ('adaptive', True)],
)
def test_decisions_say_what_was_decided_on(models, name, byte_budgets):
    """Reason, expected reward, threshold, tokens and bytes are those of the policy's twin."""
    parameters = {
        'policy': name,
        'rate': float(RATE),
        'depth': float(DEPTH),
        'time_unit': UNIT,
        'byte_budgets': byte_budgets,
        'policy_model': str(DQN) if name == 'dqn' else '',
    }
    reference = twin(name, models, byte_budgets)
    rewards = load_rewards(ModelFolder(models))
    spent = 0
    with lone_policy(models, 'token_bucket', **parameters) as (cell, node):
        classifications = cell.publisher('classification')
        accounts = cell.publisher('transfer')
        let_edge_live(cell, node)
        start_ns = cell.now_ns() - int(3600e9)
        for i, score in enumerate(SCORES):
            item_id = i + 1
            # Stamps are a time unit apart; the deadline is a second ahead.
            message = make_classification(
                item_id,
                start_ns + int(i * UNIT * 1e9),
                CELL.classes[i % 3],
                score=score,
                deadline_ns=cell.now_ns() + int(2e9),
            )
            if i % 2:
                message.posterior = array.array('f', np.roll(message.probabilities, i))
            classifications.publish(message)
            decision = cell.wait(
                lambda: next(iter(cell.heard.of('offload_decision', item_id=item_id)), None),
                10,
                f'decision {item_id}',
            )
            expected = rewards.expected_reward(
                np.asarray(message.probabilities), message.posterior if i % 2 else None
            )
            assert decision.policy == name
            assert decision.header.stamp == message.header.stamp
            assert decision.expected_reward == pytest.approx(expected, abs=1e-6)
            assert list(decision.probabilities) == list(message.probabilities)
            # What was spent is known exactly; the refill of a few seconds is below 0.02 tokens.
            tokens = float(DEPTH) - spent / NOMINAL_BYTES
            assert tokens - 1e-5 <= decision.tokens <= min(tokens + 0.02, float(DEPTH))
            choice = reference.decide(
                PolicyInput(
                    expected,
                    round(decision.tokens * 10**7),
                    10**7,
                    interarrival=1.0 if i else math.nan,
                )
            )
            assert decision.offload == choice.offload
            assert decision.reason == int(choice.reason)
            assert decision.threshold == pytest.approx(choice.threshold, abs=1e-5)
            if decision.offload:
                budget = round(choice.share * NOMINAL_BYTES)
                assert decision.reason == OffloadDecision.REASON_WORTH_IT
                assert decision.expected_reward >= decision.threshold - 1e-6
                assert decision.byte_budget == budget
                used = budget * 3 // 4
                spent += used
                reference.settled(used / NOMINAL_BYTES)
                accounts.publish(
                    FeatureFeedback(
                        header=message.header,
                        item_id=item_id,
                        bytes=used,
                        status=FeatureFeedback.STATUS_TRANSFER_DONE,
                    )
                )
                cell.wait(
                    lambda: any(
                        s.reserved_numerator == 0
                        and s.spent_numerator * NOMINAL_BYTES == spent * s.denominator
                        for s in cell.heard.messages['token_bucket']
                    ),
                    10,
                    f'{spent} bytes spent',
                )
            else:
                assert decision.byte_budget == 0
    decisions = cell.heard.messages['offload_decision']
    reasons = {decision.reason for decision in decisions}
    budgets = {decision.byte_budget for decision in decisions if decision.offload}
    if name == 'never':
        assert reasons == {int(Reason.BELOW_THRESHOLD)}
    elif name == 'always':
        assert reasons == {int(Reason.WORTH_IT), int(Reason.NO_TOKENS)}
    elif byte_budgets:
        assert budgets and max(budgets) <= NOMINAL_BYTES and min(budgets) < NOMINAL_BYTES
    else:
        assert budgets <= {NOMINAL_BYTES}


def test_the_node_decides_while_its_policy_is_planned_anew(models, monkeypatch):
    """No callback waits for the solution of a decision process."""
    planner, may_solve, solvers = MdpPolicy._solve, threading.Event(), []

    def solve(policy, costs):
        solvers.append(threading.get_ident())
        if len(solvers) > 1:  # the first solution is that of the configuration
            assert may_solve.wait(60)
        return planner(policy, costs)

    monkeypatch.setattr(MdpPolicy, '_solve', solve)
    parameters = {'policy': 'mdp', 'byte_budgets': False, 'rate': 1000.0, 'depth': 4.0}
    with lone_policy(models, **parameters) as (cell, node):
        classifications, accounts = cell.publisher('classification'), cell.publisher('transfer')
        let_edge_live(cell, node)
        before = node.policy.solution

        def decide(item_id):
            message = make_classification(item_id, cell.now_ns(), CELL.classes[0], score=0.35)
            classifications.publish(message)
            cell.wait(lambda: cell.heard.of('offload_decision', item_id=item_id), 10, 'decision')
            accounts.publish(
                FeatureFeedback(
                    header=message.header,
                    item_id=item_id,
                    bytes=1,
                    status=FeatureFeedback.STATUS_TRANSFER_DONE,
                )
            )
            cell.wait(lambda: node.bucket.state.reserved == 0, 10, 'the account')

        item_id = 0
        try:
            while len(solvers) < 2:
                item_id += 1
                assert item_id < 30, 'the cost has drifted, and nothing was solved'
                decide(item_id)
            for _ in range(3):  # the worker is at it, and the node goes on with what it has
                item_id += 1
                decide(item_id)
                assert node.policy.solution is before
        finally:
            may_solve.set()
        cell.wait(lambda: node.policy.solution is not before, 10, 'the new solution')
        assert solvers[1] not in (solvers[0], threading.get_ident())


def test_a_posterior_that_is_none_is_refused(models):
    """A posterior of another length is bad input, like such probabilities."""
    with lone_policy(models) as (cell, _):
        message = make_classification(1, cell.now_ns(), CELL.classes[0])
        message.posterior = array.array('f', [0.5, 0.5])
        cell.publisher('classification').publish(message)
        decision = cell.wait(lambda: next(iter(cell.heard.of('offload_decision')), None), 10)
        assert decision.reason == OffloadDecision.REASON_BAD_INPUT and not decision.offload


def test_the_shipped_policy_is_the_one_for_all():
    """Without settings the node runs the adaptive policy with the network that ships."""
    settings = OffloadPolicySettings()
    assert settings.policy == 'adaptive' and settings.policy in LEARNED_POLICIES
    assert settings.policy_model == '' and settings.byte_budgets
    assert (ROOT / ADAPTIVE_NETWORK).is_file()


def test_budgets_are_fitted_for_the_defaults_of_the_nodes():
    """The edge stops where the fit assumes, and packets are cut as the fit cuts them."""
    from stl_conveyor_lab.data.streams import PACKET_BYTES

    assert EdgeClassifierSettings().satisfied_score == STOP_SCORE
    assert EncoderSettings().packet_bytes == PACKET_BYTES
