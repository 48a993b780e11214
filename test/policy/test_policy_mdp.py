# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The converged MDP against plain value iteration, simulation and what is known by hand."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stl_conveyor.errors import ConfigError
from stl_conveyor.policy import Distribution, PolicyInput, Reason, TokenBucket, make_policy
from stl_conveyor.policy.mdp import PLANNED_LEVELS, solve_mdp
from stl_conveyor_lab.papers.bounds import exact_gain
from stl_conveyor_lab.papers.scenarios import CorrelatedRewards, Scenario
from stl_conveyor_lab.papers.simulate import IntegerBucket

UNIT = Distribution.of([1.0])
REWARDS = np.random.default_rng(2).beta(0.4, 1.2, 500)


def value_iteration_gain(p, q, m, rewards, intervals, sweeps):
    """Average reward by the textbook recursion, state by state; returns bounds on it."""
    h = np.zeros(m + 1)
    for _ in range(sweeps):
        new = np.zeros(m + 1)
        for n in range(m + 1):
            for x, wx in zip(rewards.values, rewards.weights):
                keep = take = 0.0
                for i, wi in zip(intervals.values, intervals.weights):
                    keep += wi * h[min(m, n + q * int(i))]
                    if n >= p:
                        take += wi * h[min(m, n - p + q * int(i))]
                new[n] += wx * max(keep, x + take if n >= p else -np.inf)
        change = new - h
        h = (h + new) / 2  # half steps: a fixed interval makes the chain periodic
    return change.min(), change.max()


@pytest.mark.parametrize(
    ('q', 'p', 'm', 'intervals'),
    [(1, 4, 16, UNIT), (2, 5, 9, UNIT), (1, 3, 6, Distribution.of([1, 3], [0.7, 0.3]))],
)
def test_gain_is_that_of_value_iteration(q, p, m, intervals):
    """The converged gain lies within the bounds of many sweeps of value iteration."""
    rewards = Distribution.of([0.0, 0.1, 0.4, 0.9], [4, 3, 2, 1])
    solution = solve_mdp(Fraction(q, p), Fraction(m, p), rewards, intervals)
    low, high = value_iteration_gain(p, q, m, rewards, intervals, 1200)
    assert high - low < 1e-6
    assert low - 1e-6 <= solution.gain <= high + 1e-6
    assert solution.residual < 1e-9
    assert solution.steps_per_token == p


@settings(max_examples=40, deadline=None)
@given(
    rate=st.fractions(0, 2, max_denominator=12),
    depth=st.fractions(1, 8, max_denominator=4),
    values=st.lists(st.floats(0, 1), min_size=1, max_size=20),
)
def test_thresholds_fall_with_the_level(rate, depth, values):
    """More tokens never make a policy choosier, and no threshold is negative."""
    solution = solve_mdp(rate, depth, Distribution.of(values), UNIT)
    assert solution.residual < 1e-6
    assert (np.diff(solution.thresholds) < 1e-6).all()
    assert solution.thresholds.min() > -1e-6
    best = sum(sorted(values)[::-1]) / len(values)
    assert solution.gain <= best + 1e-6


def test_plenty_of_tokens_takes_everything():
    """With a token for each item the gain is the mean reward."""
    rewards = Distribution.of([0.1, 0.5])
    assert solve_mdp(Fraction(1), Fraction(2), rewards, UNIT).gain == pytest.approx(0.3)


def simulate(policy, rewards, rate, depth, cost=1.0, tell=False):
    """Average reward of a policy over a sequence, through the real bucket."""
    bucket = TokenBucket(rate, depth, time_unit_ns=1, nominal_bytes=4)
    total = 0.0
    for now, reward in enumerate(rewards):
        bucket.advance(now)
        state = PolicyInput(
            float(reward), bucket.available, bucket.denominator, now, 1.0 if now else float('nan')
        )
        if policy.decide(state).offload:
            reservation = bucket.reserve(4)
            assert reservation is not None
            bucket.settle(reservation, round(4 * cost))
            if tell:
                policy.settled(cost)
            total += reward
    return total / len(rewards)


def test_the_policy_earns_its_gain_and_beats_the_baseline():
    """In simulation through the bucket the MDP earns what it promised, more than the others."""
    samples = np.random.default_rng(1).beta(0.4, 1.2, 20000)
    rewards = Distribution.of(samples[:5000])
    common = {'rate': '1/4', 'depth': 4, 'rewards': rewards}
    earned = {
        name: simulate(make_policy(name, **common), samples, Fraction(1, 4), 4)
        for name in ('never', 'random', 'always', 'threshold', 'mdp')
    }
    assert earned['mdp'] == pytest.approx(make_policy('mdp', **common).solution.gain, rel=0.03)
    assert earned['never'] == 0
    assert earned['mdp'] > 1.02 * earned['threshold'] > 1.1 * earned['always']


def test_refunds_are_part_of_the_model():
    """Told that an offload costs a quarter token in the end, the MDP offloads more."""
    samples = np.random.default_rng(2).beta(0.4, 1.2, 20000)
    common = {'rate': '1/10', 'depth': 4, 'rewards': Distribution.of(samples)}
    whole = make_policy('mdp', **common)
    quarter = make_policy('mdp', costs=Distribution.of([0.25]), **common)
    earned = simulate(quarter, samples, Fraction(1, 10), 4, cost=0.25)
    assert earned > 1.1 * simulate(whole, samples, Fraction(1, 10), 4, cost=0.25)
    assert earned == pytest.approx(quarter.solution.gain, rel=0.03)


def test_adapts_to_refunds():
    """Told what its offloads cost, the MDP comes to offload as one that knew it all along."""
    samples = np.random.default_rng(2).beta(0.4, 1.2, 20000)
    common = {'rate': '1/10', 'depth': 4, 'rewards': Distribution.of(samples)}
    policy = make_policy('mdp', **common)
    fixed = simulate(policy, samples, Fraction(1, 10), 4, cost=0.25)
    earned = simulate(policy, samples, Fraction(1, 10), 4, cost=0.25, tell=True)
    knew = make_policy('mdp', costs=Distribution.of([0.25]), **common)
    assert earned > fixed + 0.8 * (simulate(knew, samples, Fraction(1, 10), 4, cost=0.25) - fixed)
    policy.reset()
    np.testing.assert_array_equal(
        policy.solution.thresholds, make_policy('mdp', **common).solution.thresholds
    )


def test_a_planner_solves_and_the_solution_before_it_decides_until_then():
    policy = make_policy('mdp', rate='1/10', depth=4, rewards=Distribution.of(REWARDS))
    plans = []
    policy.plan_with(lambda work, adopt: plans.append((work, adopt)))
    before = policy.solution
    state = PolicyInput(0.5, level=2)
    threshold = policy.decide(state).threshold
    for _ in range(40):
        policy.settled(0.25)
        assert policy.solution is before and policy.decide(state).threshold == threshold
    ((work, adopt),) = plans  # one at a time
    solution = work()
    assert policy.solution is before
    adopt(solution)
    assert policy.solution is solution
    assert policy.decide(state).threshold < threshold  # an offload costs less than was thought
    policy.settled(0.25)  # and less still by now
    assert len(plans) == 2
    policy.reset()
    fresh = policy.solution
    plans[1][1](plans[1][0]())  # what was planned for the time before is too late
    assert policy.solution is fresh
    policy.settled(0.25)
    assert policy.cost == 1.0


def test_a_policy_that_was_planned_at_once_is_the_same():
    common = {'rate': '1/10', 'depth': 4, 'rewards': Distribution.of(REWARDS)}
    one, other = make_policy('mdp', **common), make_policy('mdp', **common)
    other.plan_with(lambda work, adopt: adopt(work()))
    for _ in range(40):
        one.settled(0.25)
        other.settled(0.25)
    np.testing.assert_array_equal(one.solution.thresholds, other.solution.thresholds)
    assert one.cost == other.cost < 0.8


@pytest.mark.parametrize('levels', [101, 401])
def test_a_coarse_grid_earns_what_the_exact_one_does(levels):
    rate, depth = Fraction(13, 101), Fraction(4)
    rewards = Distribution.of(REWARDS)
    exact = solve_mdp(rate, depth, rewards, UNIT)
    coarse = solve_mdp(rate, depth, rewards, UNIT, max_levels=levels)
    assert exact.thresholds.size == 405 and coarse.thresholds.size <= levels
    assert coarse.gain == pytest.approx(exact.gain, rel=1e-3)
    tokens = np.arange(1, 4)
    np.testing.assert_allclose(
        coarse.thresholds[tokens * coarse.steps_per_token],
        exact.thresholds[tokens * exact.steps_per_token],
        atol=2e-3,
    )


@pytest.mark.parametrize('rate', ['0.123', '1/9973', '3.1415', '0'])
@pytest.mark.parametrize('depth', ['4', '4.37', '100000'])
@pytest.mark.parametrize('cost', [1.0, 0.4])
def test_every_bucket_is_planned_on_a_bounded_grid(rate, depth, cost):
    """The work grows with the levels: a node cannot wait minutes for what 401 tell as well."""
    policy = make_policy(
        'mdp',
        rate=rate,
        depth=depth,
        rewards=Distribution.of([0.0, 0.2, 0.9]),
        costs=Distribution.of([cost]),
    )
    assert policy.solution.values.size <= PLANNED_LEVELS
    assert policy.solution.residual < 1e-6
    full = PolicyInput(0.9, level=100_000)
    assert policy.decide(full).offload


def test_the_gain_grows_with_the_rate_across_grids():
    """A rate of .123 is planned on a coarse grid, its neighbours on exact ones."""
    rewards = Distribution.of(REWARDS)

    def gain(rate):
        return make_policy('mdp', rate=rate, depth=4, rewards=rewards).solution.gain

    assert gain('0.12') < gain('0.123') < gain('0.125')


def test_an_exact_grid_that_is_too_large_is_refused():
    with pytest.raises(ConfigError, match='rounder'):
        solve_mdp(Fraction(1, 9973), Fraction(4), Distribution.of([1.0]), UNIT)


def test_fractional_levels_floor_to_the_grid():
    """Between two levels the lower one counts, and beyond the top the top."""
    policy = make_policy(
        'mdp', rate='1/4', depth=2, rewards=Distribution.of(np.linspace(0, 1, 50))
    )
    thresholds = policy.solution.thresholds
    for level, expected in [(100, 4), (124, 4), (125, 5), (200, 8), (900, 8), (-1, 0), (99, 3)]:
        assert policy.decide(PolicyInput(0.5, level, 100)).threshold == thresholds[expected]


def test_no_tokens_is_told_apart():
    """An item worth a token that the bucket cannot pay is declined for that reason."""
    policy = make_policy('mdp', rewards=Distribution.of([0.1, 0.9]))
    assert policy.decide(PolicyInput(0.9, 3, 4)).reason == Reason.NO_TOKENS
    assert policy.decide(PolicyInput(0.1, 4, 4)).reason == Reason.BELOW_THRESHOLD
    assert policy.decide(PolicyInput(0.9, 4, 4)).reason == Reason.WORTH_IT
    assert not policy.decide(PolicyInput(float('nan'), 4, 4)).offload


def test_solved_in_time_for_a_node():
    """The cell's MDP is solved within 2 s when the node is configured."""
    start = time.perf_counter()
    make_policy(
        'mdp',
        rate='1/4',
        depth=4,
        rewards=Distribution.of(np.linspace(0, 1, 256)),
        intervals=Distribution.of([1.0, 1.37, 2.2]),
        costs=Distribution.of([0.3, 0.6, 1.0]),
    )
    assert time.perf_counter() - start < 2.0


@pytest.mark.parametrize(
    ('name', 'values', 'message'),
    [
        ('oracle', {}, 'never, always, random'),
        ('mdp', {'speed': 1}, 'speed'),
        ('mdp', {}, 'reward.json'),
        ('threshold', {}, 'reward.json'),
        ('mdp', {'depth': '1/2'}, 'whole token'),
        ('random', {'probability': 2}, 'probability'),
        ('never', {'costs': Distribution.of([2.0])}, 'cost'),
    ],
)
def test_bad_settings_are_refused_by_name(name, values, message):
    """A wrong policy name, setting or value says what to do."""
    with pytest.raises(ConfigError, match=message):
        make_policy(name, **values)


def test_a_discount_pays_where_items_are_correlated():
    """With a discount the thresholds of full buckets are lower; i.i.d. items lose by it."""
    pool = np.sort(np.random.default_rng(2).beta(0.4, 1.2, 600))
    rate, depth = Fraction(1, 10), Fraction(8)
    unit = Distribution.of([1.0])
    long_run = solve_mdp(rate, depth, Distribution.of(pool), unit)
    sooner = solve_mdp(rate, depth, Distribution.of(pool), unit, discount=0.99)
    assert sooner.residual < 1e-9
    assert (sooner.thresholds <= long_run.thresholds + 1e-9).all()
    bucket = IntegerBucket.of(rate, depth)

    def gain(scenario, solution):
        return exact_gain(scenario, pool, bucket, solution.thresholds, locations=40)

    correlated = Scenario(CorrelatedRewards(0.1, 0.01))
    assert gain(correlated, sooner) > gain(correlated, long_run) + 0.001
    assert gain(Scenario(), sooner) < gain(Scenario(), long_run)
