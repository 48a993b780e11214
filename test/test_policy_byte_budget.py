# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Byte budgets: recorded streams, curves, the decision process and its gain."""

from fractions import Fraction
import json

import numpy as np
import pytest

from stl_conveyor.errors import ConfigError, ModelFileError
from stl_conveyor.policy import Distribution, PolicyInput, PolicySettings, Reason, TokenBucket
from stl_conveyor.policy.byte_budget import (
    BudgetPolicy, BudgetTable, RecordedStreams, solve_budgets,
)
from stl_conveyor.policy.mdp import solve_mdp

UNIT = Distribution.of([1.0])
BUDGETS = (200, 400, 800, 1600)


def recorded(count, seed=0):
    """Draw items that need more bytes the harder they are; the edge's confidence tells."""
    generator = np.random.default_rng(seed)
    reward = generator.beta(0.6, 1.4, count)
    weak = generator.random(count) > reward
    need = 100 + 1500 * generator.random(count) ** 2
    sizes = np.broadcast_to(np.arange(1, 9) * 200, (count, 8)).copy()
    enough = sizes >= need[:, None]
    lucky = generator.random((count, 1)) < 0.3
    correct = enough | lucky
    score = np.where(enough, 0.95, 0.5)
    return reward, weak, RecordedStreams(sizes, correct, score)


def test_streams_stop_at_the_budget_or_when_the_edge_is_sure():
    """The bytes used and the answer are those at the stop."""
    streams = RecordedStreams(
        np.array([[100, 200, 300], [150, 300, 300]]),
        np.array([[False, True, True], [False, False, True]]),
        np.array([[0.4, 0.9, 0.99], [0.3, 0.5, 0.6]]),
    )
    for budget, stop, used, right in (
        (300, 1.1, [300, 300], [True, True]), (300, 0.9, [200, 300], [True, True]),
        (140, 0.9, [100, 0], [False, False]), (250, 1.1, [200, 150], [True, False]),
        (50, 0.0, [0, 0], [False, False]),
    ):
        bytes_used, correct = streams.stop(budget, stop)
        assert bytes_used.tolist() == used
        assert correct.tolist() == right


def test_one_budget_is_the_plain_process():
    """With the whole token as the only budget the solution is the MDP of yes or no."""
    rewards = np.linspace(0.05, 0.95, 10)
    table = BudgetTable(
        1000, 1.1, np.array([1.0]), rewards, np.full(10, 0.1), rewards[:, None], np.ones((10, 1))
    )
    solution = solve_budgets(Fraction(1, 4), Fraction(2), table, UNIT)
    plain = solve_mdp(Fraction(1, 4), Fraction(2), Distribution.of(rewards), UNIT)
    assert solution.gain == pytest.approx(plain.gain, abs=1e-7)


def test_curves_are_those_of_the_items():
    """More bytes bring more and cost more, and the edge's stop makes them cheaper."""
    reward, weak, streams = recorded(6000)
    never = BudgetTable.fit(reward, weak, streams, BUDGETS)
    stops = BudgetTable.fit(reward, weak, streams, BUDGETS, stop_score=0.9)
    assert (np.diff(never.gains @ np.ones(4) / 4) > -0.05).all()
    assert (np.diff(never.weights @ never.gains) > 0).all()
    np.testing.assert_allclose(never.costs, np.broadcast_to(never.shares, never.costs.shape))
    np.testing.assert_allclose(
        stops.weights @ stops.gains, never.weights @ never.gains, atol=0.02
    )
    assert stops.weights @ stops.costs[:, -1] < 0.6


def play(policy, reward, weak, streams, rate, depth):
    """Accuracy gained per item through the real bucket; returns it and the tokens spent."""
    bucket = TokenBucket(rate, depth, 1, BUDGETS[-1], start_ns=0)
    gained = 0.0
    used = {
        budget: streams.stop(budget, policy.table.stop_score) for budget in BUDGETS
    }
    for i, x in enumerate(reward):
        bucket.advance(i)
        decision = policy.decide(PolicyInput(float(x), bucket.available, bucket.denominator, i))
        if decision.offload:
            budget = round(decision.share * BUDGETS[-1])
            reservation = bucket.reserve(budget)
            assert reservation is not None
            bucket.settle(reservation, int(used[budget][0][i]))
            gained += used[budget][1][i] - float(weak[i])
    return gained / len(reward), bucket.spent / bucket.denominator


def make(path, table, rate, depth):
    """Save a table and make its policy."""
    table.save(path)
    return BudgetPolicy(PolicySettings(rate=rate, depth=depth, model=str(path)))


def test_budgets_win_over_all_or_nothing(tmp_path):
    """At the same (r, b) choosing the bytes gains more, and no more is spent than arrived."""
    rate, depth = Fraction(1, 10), Fraction(4)
    fitted, tested = recorded(6000, 1), recorded(12000, 2)
    gained = {}
    for name, budgets, stop in (
        ('all or nothing', BUDGETS[-1:], 1.1), ('budgets', BUDGETS, 1.1),
        ('both', BUDGETS, 0.9),
    ):
        table = BudgetTable.fit(*fitted, budgets, stop_score=stop)
        policy = make(tmp_path / 'budget.json', table, rate, depth)
        gained[name], spent = play(policy, *tested, rate, depth)
        assert gained[name] == pytest.approx(policy.solution.gain, abs=0.02)
        assert spent <= 12000 * rate + depth
    assert gained['budgets'] > 1.1 * gained['all or nothing']
    assert gained['both'] > 1.1 * gained['budgets']


def test_reasons(tmp_path):
    """A poor item is below the threshold; a good one without tokens is told apart."""
    table = BudgetTable.fit(*recorded(4000), BUDGETS, stop_score=0.9)
    policy = make(tmp_path / 'budget.json', table, Fraction(1, 10), Fraction(4))
    rich = policy.decide(PolicyInput(0.95, 4, 1))
    assert rich.offload and rich.reason == Reason.WORTH_IT and 0 < rich.share <= 1
    assert policy.decide(PolicyInput(0.95, 0, 1)).reason == Reason.NO_TOKENS
    assert policy.decide(PolicyInput(0.0, 1, 1)).reason == Reason.BELOW_THRESHOLD
    assert not policy.decide(PolicyInput(float('nan'), 4, 1)).offload


def test_bad_tables_are_refused(tmp_path):
    """A file that is not what it should be is refused by name."""
    path = tmp_path / 'budget.json'
    BudgetTable.fit(*recorded(500), BUDGETS).save(path)
    content = json.loads(path.read_text())
    for change in ({'format': 9}, {'shares': [0.5, 0.2, 0.7, 1.0]}, {'gains': [[1.0]]}):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(ModelFileError, match='fit it again'):
            BudgetTable.load(path)
    with pytest.raises(ConfigError, match='budget.json'):
        BudgetPolicy(PolicySettings())
