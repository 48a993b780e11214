# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The Markov decision process of offloading with i.i.d. items, solved to convergence.

State: tokens in the bucket, an integer number n of steps, ``steps_per_token`` to a token. An item
with expected reward x arrives; offloading it earns x and costs a token (or, with refunds, a
random share of it); then the inter-arrival time I fills the bucket:

    n <- min(M, n - P*a + Q*I)    with r = Q/P, b = M/P

(Qiu et al., "Adaptive Edge Offloading for Image Classification Under Rate Limit", IEEE TCAD
2022). The best action is a threshold for each n: offload when x >= theta(n), the value of the
token in what may still come.

``policy_iteration`` solves the process for whatever actions an item has; ``solve_mdp`` gives it
the one action that is published, ``byte_budget.solve_budgets`` one for each byte budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.errors import ConfigError
from stl_conveyor.policy.base import (
    Distribution,
    Planner,
    Policy,
    PolicyDecision,
    PolicyInput,
    PolicySettings,
    decide_by_threshold,
    plan_at_once,
)

# The criterion is the long-run average. A discount this close to one keeps the equations regular
# for every (r, b), also where a policy splits the states into parts that never meet.
DISCOUNT = 1.0 - 1e-7
_TOLERANCE = 1e-9
_MAX_SWEEPS = 200
_MAX_STATES = 4001
# What a node can solve within a second. Finer grids earn no more than .1 % more.
PLANNED_LEVELS = 401
_LEAST_STEPS = 8  # of a token, where offloads cost shares of it
_STEPS_WITH_REFUNDS = 12
_COST_MEMORY = 50  # offloads over which the average cost is taken
_COST_DRIFT = 0.1  # relative change of the average cost that is worth another solution
_LEAST_COST = 0.05


@dataclass(frozen=True, eq=False)
class MdpSolution:
    """Thresholds of the optimal policy.

    Attributes:
        steps_per_token: Resolution of the state; level n means n / steps_per_token tokens.
        thresholds: float64 [M + 1], the expected reward asked for at level n; below one token the
            value at one token, which is what the item would have had to reach.
        values: float64 [M + 1], value of each level over an empty bucket.
        gain: Average reward per item.
        residual: Largest change of a value by one more sweep of value iteration.
    """

    steps_per_token: int
    thresholds: NDArray[np.float64]
    values: NDArray[np.float64]
    gain: float
    residual: float


@dataclass(frozen=True, eq=False)
class BucketGrid:
    """Levels of a bucket, M + 1 of them, and how the arrival of tokens moves them.

    Attributes:
        steps_per_token: Resolution; level n means n / steps_per_token tokens.
        levels: int64 [M + 1], 0 to M.
        arrive: float64 [M + 1, M + 1], probabilities of the level before the next item (columns)
            by the level after this one (rows).
    """

    steps_per_token: int
    levels: NDArray[np.int64]
    arrive: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        rate: Fraction,
        depth: Fraction,
        intervals: Distribution,
        min_steps_per_token: int,
        max_levels: int | None = None,
    ) -> BucketGrid:
        """Lay a grid on which rate and depth are whole numbers of steps, if it is not too large.

        The steps per token are the least common denominator of rate and depth, times what it
        takes to reach ``min_steps_per_token``. With ``max_levels`` a grid that would have more is
        laid coarser; then the rate is no whole number of steps, and what it brings is
        interpolated, as it is for intervals that are not on the grid. A bucket too deep for that
        is planned as one that is as deep as the grid reaches.

        Args:
            rate: Tokens per time unit, r.
            depth: Most tokens kept, b.
            intervals: Distribution of the inter-arrival time, in time units.
            min_steps_per_token: Least resolution of a grid that is not laid coarser.
            max_levels: Most levels; None lays an exact grid or none.

        Returns:
            The grid.

        Raises:
            ConfigError: Without ``max_levels``, when the grid would have more than 4,001 levels.
        """
        steps = lcm(rate.denominator, depth.denominator)
        steps *= -(-min_steps_per_token // steps)
        n_levels = int(depth * steps) + 1
        if max_levels is not None and n_levels > max_levels:
            steps = _coarse_steps(rate, depth, min(min_steps_per_token, _LEAST_STEPS), max_levels)
            n_levels = min(int(depth * steps) + 1, max_levels)
        elif n_levels > _MAX_STATES:
            raise ConfigError(
                f'rate {rate} and depth {depth} make {n_levels} bucket levels (limit '
                f'{_MAX_STATES}); use rounder numbers or a shallower bucket'
            )
        levels = np.arange(n_levels)
        gained = float(rate * steps)
        arrive = np.zeros((n_levels, n_levels))
        for interval, weight in zip(intervals.values, intervals.weights):
            arrive += weight * interpolation(levels + gained * interval, n_levels)
        return cls(steps, levels, arrive)


def _coarse_steps(rate: Fraction, depth: Fraction, least: int, max_levels: int) -> int:
    """Return the steps per token of a coarse grid, on which the rate is nearly a whole number."""
    most = int((max_levels - 1) / depth)
    if most < least:
        return least
    # Interpolation spreads the levels; it does so the less, the nearer a whole number is.
    return min(
        range(max(least, (most + 1) // 2), most + 1),
        key=lambda steps: (abs(rate * steps - round(rate * steps)), -steps),
    )


@dataclass(frozen=True, eq=False)
class GreedyStep:
    """What the policy that is greedy for some values does in one step, by level [M + 1].

    Attributes:
        swept: float64 [M + 1], expected reward of the item and value of what follows it.
        earned: float64 [M + 1], expected reward of the item alone.
        transition: float64 [M + 1, M + 1], probabilities of the level before the next item.
    """

    swept: NDArray[np.float64]
    earned: NDArray[np.float64]
    transition: NDArray[np.float64]


def policy_iteration(
    greedy: Callable[[NDArray[np.float64]], GreedyStep], n_levels: int, discount: float = DISCOUNT
) -> tuple[NDArray[np.float64], float, float]:
    """Find the values of the levels under the policy that earns most in the long run.

    Policy iteration is Newton's method for the fixed point of value iteration. It stops when one
    more sweep of value iteration changes no value by more than 1e-9.

    Args:
        greedy: Takes values float64 [M + 1] and tells what the policy that is greedy for them
            does.
        n_levels: Number of levels, M + 1.
        discount: For each item.

    Returns:
        The values float64 [M + 1] over an empty bucket, the reward per item, and the largest
        change of a value by the last sweep.
    """
    # The values are relative to the empty bucket; the gain takes the place of that constant.
    values: NDArray[np.float64] = np.zeros(n_levels)
    gain, residual = 0.0, np.inf
    for _ in range(_MAX_SWEEPS):
        step = greedy(values)
        residual = float(np.abs(step.swept - gain - values).max())
        if residual < _TOLERANCE:
            break
        equations = np.eye(n_levels) - discount * step.transition
        equations[:, 0] = 1.0
        values = np.asarray(np.linalg.solve(equations, step.earned), dtype=np.float64)
        gain, values[0] = float(values[0]), 0.0
    return values, gain, residual


class _Tail:
    """Expected excess E[(X - t)+] and tail P(X >= t) of a distribution, for arrays of t."""

    def __init__(self, rewards: Distribution) -> None:
        self._values = rewards.values
        zero = np.zeros(1)
        self._mass = np.concatenate([np.cumsum(rewards.weights[::-1])[::-1], zero])
        moment = rewards.weights * rewards.values
        self._moment = np.concatenate([np.cumsum(moment[::-1])[::-1], zero])

    def __call__(
        self, thresholds: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return P(X >= t), E[X; X >= t] and E[(X - t)+] at the thresholds, all [K]."""
        place = np.searchsorted(self._values, thresholds, side='left')
        mass, moment = self._mass[place], self._moment[place]
        return mass, moment, moment - thresholds * mass


def interpolation(targets: NDArray[np.float64], n_states: int) -> NDArray[np.float64]:
    """Return the matrix [targets, n_states] that reads a function of the level between steps.

    Args:
        targets: float64 [K], levels, also between steps and beyond the ends.
        n_states: Number of levels.

    Returns:
        float64 [K, n_states], rows that sum to 1.
    """
    targets = np.clip(targets, 0, n_states - 1)
    low = np.minimum(np.floor(targets).astype(int), n_states - 1)
    high = np.minimum(low + 1, n_states - 1)
    part = targets - low
    matrix = np.zeros((targets.size, n_states))
    rows = np.arange(targets.size)
    np.add.at(matrix, (rows, low), 1 - part)
    np.add.at(matrix, (rows, high), part)
    return matrix


def solve_mdp(
    rate: Fraction,
    depth: Fraction,
    rewards: Distribution,
    intervals: Distribution,
    costs: Distribution | None = None,
    min_steps_per_token: int = 1,
    discount: float = DISCOUNT,
    max_levels: int | None = None,
) -> MdpSolution:
    """Find the thresholds that earn the most reward per item in the long run.

    With a ``discount`` below one, a token has less value than in the long run; where items are
    correlated that earns more than the i.i.d. optimum does, because what a full bucket waits for
    may be long in coming.

    Args:
        rate: Tokens per time unit, r.
        depth: Most tokens kept, b.
        rewards: Distribution of the expected rewards.
        intervals: Distribution of the inter-arrival time, in time units.
        costs: Distribution of what an offload costs, in tokens; None is a whole one.
        min_steps_per_token: Least resolution, for costs that are shares of a token.
        discount: For each item.
        max_levels: Most levels of the grid, which may be coarser for it; None solves exactly.

    Returns:
        Thresholds and values by level.

    Raises:
        ConfigError: Without ``max_levels``, when the grid would have more than 4,001 levels.
    """
    grid = BucketGrid.of(rate, depth, intervals, min_steps_per_token, max_levels)
    steps, levels, arrive = grid.steps_per_token, grid.levels, grid.arrive
    payable = levels >= steps
    if costs is None:
        costs = Distribution.of([1.0])
    pay = np.zeros_like(arrive)
    for cost, weight in zip(costs.values, costs.weights):
        pay += weight * interpolation(levels - steps * cost, levels.size)
    offload_to = pay @ arrive
    tail = _Tail(rewards)

    def ask(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the value of each level when the item is kept, and that of the token in it."""
        keep = discount * (arrive @ values)
        return keep, keep - discount * (offload_to @ values)

    def greedy(values: NDArray[np.float64]) -> GreedyStep:
        keep, thresholds = ask(values)
        mass, moment, excess = tail(thresholds)
        share = np.where(payable, mass, 0.0)[:, None]
        return GreedyStep(
            swept=keep + np.where(payable, excess, 0.0),
            earned=np.where(payable, moment, 0.0),
            transition=(1 - share) * arrive + share * offload_to,
        )

    values, gain, residual = policy_iteration(greedy, levels.size, discount)
    _, thresholds = ask(values)
    thresholds[:steps] = thresholds[steps]
    return MdpSolution(
        steps_per_token=steps, thresholds=thresholds, values=values, gain=gain, residual=residual
    )


class MdpPolicy(Policy):
    """The optimal policy for i.i.d. rewards and inter-arrival times.

    Tokens between two levels of the grid count as the lower one. When offloads turn out to cost
    less than a token, because streams stop early, the MDP is solved again with what they cost:
    by the planner, and until that is done the solution before it decides.

    Examples:
        >>> rewards = Distribution.of([0.0, 0.1, 0.4, 0.9])
        >>> policy = MdpPolicy(PolicySettings(rate='1/4', depth=2, rewards=rewards))
        >>> policy.decide(PolicyInput(expected_reward=0.4, level=2)).offload
        True
        >>> decision = policy.decide(PolicyInput(expected_reward=0.1, level=1))
        >>> decision.offload, decision.reason.name
        (False, 'BELOW_THRESHOLD')
    """

    name = 'mdp'

    def __init__(self, settings: PolicySettings) -> None:
        self._settings = settings
        self._rewards = settings.need_rewards(self.name)
        self._planner: Planner = plan_at_once
        self.reset()

    def reset(self) -> None:
        """Forget what offloads cost so far."""
        costs = self._settings.costs
        self._cost = costs.mean
        self._under_way: object | None = None
        self._adopt(costs.mean, self._solve(costs))

    def plan_with(self, planner: Planner) -> None:
        """Have the MDP solved by a planner; what another one has under way is not awaited."""
        self._planner = planner
        self._under_way = None

    def _solve(self, costs: Distribution) -> MdpSolution:
        whole = costs.values[0] == 1.0
        return solve_mdp(
            self._settings.rate,
            self._settings.depth,
            self._rewards,
            self._settings.intervals,
            costs,
            min_steps_per_token=1 if whole else _STEPS_WITH_REFUNDS,
            max_levels=PLANNED_LEVELS,
        )

    def _adopt(self, cost: float, solution: MdpSolution) -> None:
        self._solved_cost = cost
        self.solution = solution
        self._steps = solution.steps_per_token
        self._thresholds = solution.thresholds.tolist()
        self._top = len(self._thresholds) - 1

    @property
    def cost(self) -> float:
        """Return what the threshold is the value of, in tokens."""
        return self._solved_cost

    def settled(self, cost: float) -> None:
        """Follow the average cost of an offload; have the MDP solved again when it has drifted."""
        if cost <= 0:  # a stream that never began tells nothing
            return
        self._cost += (min(cost, 1.0) - self._cost) / _COST_MEMORY
        drifted = abs(self._cost - self._solved_cost) > _COST_DRIFT * self._solved_cost
        if drifted and self._under_way is None:
            self._plan(max(self._cost, _LEAST_COST))

    def _plan(self, cost: float) -> None:
        plan = self._under_way = object()

        def adopt(solution: MdpSolution) -> None:
            if self._under_way is plan:  # else the policy was reset meanwhile
                self._under_way = None
                self._adopt(cost, solution)

        self._planner(lambda: self._solve(Distribution.of([cost])), adopt)

    def decide(self, state: PolicyInput) -> PolicyDecision:
        """Compare the reward with the value of a token at this level."""
        level = state.level * self._steps // state.denominator
        return decide_by_threshold(state, self._thresholds[min(max(level, 0), self._top)])
