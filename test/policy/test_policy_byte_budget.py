# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Byte budgets: recorded streams, curves, the decision process and its gain."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest

from stl_conveyor.errors import ConfigError, ModelFileError
from stl_conveyor.policy import (
    BUDGET_POLICIES,
    Distribution,
    PolicyInput,
    PolicySettings,
    Reason,
    TokenBucket,
    make_policy,
)
from stl_conveyor.policy.byte_budget import (
    BudgetMdpPolicy,
    BudgetTable,
    PricedBudgets,
    reference_price,
    solve_budgets,
)
from stl_conveyor.policy.mdp import PLANNED_LEVELS, MdpPolicy, solve_mdp
from stl_conveyor_lab.data.recorded_streams import RecordedStreams
from stl_conveyor_lab.train.reward.budgets import fit_budgets

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


def cut(streams, budgets=BUDGETS):
    """Give each budget its streams; here packets do not depend on it."""
    return dict.fromkeys(budgets, streams)


def test_streams_stop_at_the_budget_or_when_the_edge_is_sure():
    """The bytes used and the answer are those at the stop."""
    streams = RecordedStreams(
        np.array([[100, 200, 300], [150, 300, 300]]),
        np.array([[False, True, True], [False, False, True]]),
        np.array([[0.4, 0.9, 0.99], [0.3, 0.5, 0.6]]),
    )
    for budget, stop, used, right in (
        (300, 1.1, [300, 300], [True, True]),
        (300, 0.9, [200, 300], [True, True]),
        (140, 0.9, [100, 0], [False, False]),
        (250, 1.1, [200, 150], [True, False]),
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


def test_a_coarse_grid_gains_what_the_exact_one_does():
    """Rates with many digits are planned on a bounded grid, and lose nothing worth a minute."""
    rewards = np.linspace(0.05, 0.95, 10)
    shares = np.array([0.25, 1.0])
    gains = rewards[:, None] * np.array([0.6, 1.0])
    table = BudgetTable(
        1000, 1.1, shares, rewards, np.full(10, 0.1), gains, np.tile(shares, (10, 1))
    )
    rate, depth = Fraction(13, 101), Fraction(4)
    exact = solve_budgets(rate, depth, table, UNIT, max_levels=405)
    coarse = solve_budgets(rate, depth, table, UNIT, max_levels=150)
    assert exact.values.size == 405 and coarse.values.size <= 150
    assert coarse.gain == pytest.approx(exact.gain, rel=1e-3)
    policy = BudgetMdpPolicy(PolicySettings(rate='0.123', depth='4.37'), table)
    assert policy.solution.values.size <= PLANNED_LEVELS


def test_curves_are_those_of_the_items():
    """More bytes bring more and cost more, and the edge's stop makes them cheaper."""
    reward, weak, streams = recorded(6000)
    never = fit_budgets(reward, weak, cut(streams), stop_score=1.1)
    stops = fit_budgets(reward, weak, cut(streams), stop_score=0.9)
    assert (np.diff(never.gains @ np.ones(4) / 4) > -0.05).all()
    assert (np.diff(never.weights @ never.gains) > 0).all()
    np.testing.assert_allclose(never.costs, np.broadcast_to(never.shares, never.costs.shape))
    np.testing.assert_allclose(stops.weights @ stops.gains, never.weights @ never.gains, atol=0.02)
    assert stops.weights @ stops.costs[:, -1] < 0.6


def play(policy, reward, weak, streams, rate, depth, stop):
    """Accuracy gained per item through the real bucket; returns it and the tokens spent."""
    bucket = TokenBucket(rate, depth, 1, BUDGETS[-1], start_ns=0)
    gained = 0.0
    used = {budget: streams.stop(budget, stop) for budget in BUDGETS}
    for i, x in enumerate(reward):
        bucket.advance(i)
        decision = policy.decide(
            PolicyInput(
                float(x), bucket.available, bucket.denominator, i, 1.0 if i else float('nan')
            )
        )
        assert decision.offload == (decision.reason == Reason.WORTH_IT)
        assert decision.offload <= (x >= decision.threshold)
        if decision.offload:
            budget = round(decision.share * BUDGETS[-1])
            reservation = bucket.reserve(budget)
            assert reservation is not None
            bucket.settle(reservation, int(used[budget][0][i]))
            policy.settled(used[budget][0][i] / BUDGETS[-1])
            gained += used[budget][1][i] - float(weak[i])
    return gained / len(reward), bucket.spent / bucket.denominator


def priced(rate, depth, table):
    """Make the policy that takes its price from the MDP of yes or no."""
    return PricedBudgets(MdpPolicy, PolicySettings(rate=rate, depth=depth), table)


def exact(rate, depth, table):
    """Make the MDP with one action for each budget."""
    return BudgetMdpPolicy(PolicySettings(rate=rate, depth=depth), table)


def test_budgets_win_over_all_or_nothing():
    """At the same (r, b) choosing the bytes gains more, and no more is spent than arrived."""
    rate, depth = Fraction(1, 10), Fraction(4)
    fitted, tested = recorded(6000, 1), recorded(12000, 2)
    gained = {}
    for name, budgets, stop, make in (
        ('all or nothing', BUDGETS[-1:], 1.1, exact),
        ('budgets', BUDGETS, 1.1, exact),
        ('both', BUDGETS, 0.9, exact),
        ('priced', BUDGETS, 1.1, priced),
        ('both, priced', BUDGETS, 0.9, priced),
    ):
        reward, weak, streams = fitted
        table = fit_budgets(reward, weak, cut(streams, budgets), stop_score=stop)
        policy = make(rate, depth, table)
        gained[name], spent = play(policy, *tested, rate, depth, stop)
        if make is exact:
            assert gained[name] == pytest.approx(policy.solution.gain, abs=0.02)
        assert spent <= 12000 * rate + depth
    assert gained['budgets'] > 1.1 * gained['all or nothing']
    assert gained['both'] > 1.1 * gained['budgets']
    assert gained['priced'] > 0.97 * gained['budgets']
    assert gained['both, priced'] > 0.97 * gained['both']


@pytest.mark.parametrize('make', [exact, priced])
def test_reasons(make):
    """A poor item is below the threshold; a good one without tokens is told apart."""
    reward, weak, streams = recorded(4000)
    table = fit_budgets(reward, weak, cut(streams), stop_score=0.9)
    policy = make(Fraction(1, 10), Fraction(4), table)
    assert policy.name == 'mdp'
    rich = policy.decide(PolicyInput(0.95, 4, 1))
    assert rich.offload and rich.reason == Reason.WORTH_IT and 0 < rich.share <= 1
    assert policy.decide(PolicyInput(0.95, 0, 1)).reason == Reason.NO_TOKENS
    assert policy.decide(PolicyInput(0.0, 1, 1)).reason == Reason.BELOW_THRESHOLD
    assert not policy.decide(PolicyInput(float('nan'), 4, 1)).offload
    # With less than a token, what can be paid for is still bought.
    poor = policy.decide(PolicyInput(0.95, 1, 4))
    assert poor.offload and poor.share <= 0.25


def test_reference_price():
    """At the price the cost per item is the rate; it is 0 where all can be paid for."""
    reward, weak, streams = recorded(6000)
    table = fit_budgets(reward, weak, cut(streams), stop_score=0.9)
    previous = np.inf
    for rate in (0.02, 0.1, 0.3):
        price, cost = reference_price(table, rate)
        assert 0 < price < previous and 0 < cost <= 1
        surplus = table.gains - price * table.costs
        rows = np.arange(len(surplus))
        spent = (table.weights * table.costs[rows, surplus.argmax(1)])[surplus.max(1) > 0].sum()
        assert spent <= rate + 1e-9
        previous = price
    assert reference_price(table, 5.0)[0] == 0.0


def test_a_token_of_another_size():
    """The budgets stay what they are in bytes, and what does not fit a token is left out."""
    reward, weak, streams = recorded(2000)
    table = fit_budgets(reward, weak, cut(streams))
    assert table.nominal_bytes == 1600
    for nominal, budgets in ((3200, [200, 400, 800, 1600]), (800, [200, 400, 800])):
        other = table.for_token(nominal)
        np.testing.assert_allclose(other.shares * nominal, budgets)
        np.testing.assert_allclose(
            other.costs * nominal, table.costs[:, : len(budgets)] * 1600, atol=1e-6
        )
    with pytest.raises(ConfigError, match='nominal_bytes 100'):
        table.for_token(100)


def test_policies_by_name():
    """With a table, only the policies that put a price on a token choose bytes."""
    reward, weak, streams = recorded(2000)
    table = fit_budgets(reward, weak, cut(streams))
    settings = {'rate': '1/10', 'depth': 4, 'rewards': Distribution.of(reward), 'budgets': table}
    for name in ('never', 'always', 'random', 'threshold', 'mdp'):
        policy = make_policy(name, **settings)
        assert policy.name == name
        shares = {
            policy.decide(PolicyInput(float(x), 3 + i % 6, 3)).share
            for i, x in enumerate(reward[:300])
        }
        assert (len(shares) > 1) == (name in BUDGET_POLICIES)


def test_bad_tables_are_refused(tmp_path):
    """A file that is not what it should be is refused by name."""
    path = tmp_path / 'budget.json'
    reward, weak, streams = recorded(500)
    fit_budgets(reward, weak, cut(streams)).save(path)
    content = json.loads(path.read_text())
    for change in ({'format': 9}, {'shares': [0.5, 0.2, 0.7, 1.0]}, {'gains': [[1.0]]}):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(ModelFileError, match='fit it again'):
            BudgetTable.load(path)
    with pytest.raises(ModelFileError, match='fit it again'):
        BudgetTable.load(tmp_path / 'none.json')
