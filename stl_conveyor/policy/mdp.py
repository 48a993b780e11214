# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The Markov decision process of offloading with i.i.d. rewards, solved to convergence.

State: tokens in the bucket, an integer number n of steps, ``steps_per_token`` to a token. An item
with expected reward x arrives; offloading it earns x and costs a token (or, with refunds, a
random share of it); then the inter-arrival time I fills the bucket:

    n <- min(M, n - P*a + Q*I)    with r = Q/P, b = M/P

(Qiu et al., "Adaptive Edge Offloading for Image Classification Under Rate Limit", IEEE TCAD
2022). The best action is a threshold for each n: offload when x >= theta(n), the worth of the
token in what may still come.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm

import numpy as np

from stl_conveyor.errors import ConfigError
from stl_conveyor.policy.base import (
    Distribution,
    Policy,
    PolicyDecision,
    PolicyInput,
    PolicySettings,
    decide_by_threshold,
)

# The criterion is the long-run average. A discount this close to one keeps the equations regular
# for every (r, b), also where a policy splits the states into parts that never meet.
_DISCOUNT = 1.0 - 1e-7
_TOLERANCE = 1e-9
_MAX_SWEEPS = 200
_MAX_STATES = 4001
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
        values: float64 [M + 1], worth of each level over an empty bucket.
        gain: Average reward per item.
        residual: Largest change of a value by one more sweep of value iteration.
    """

    steps_per_token: int
    thresholds: np.ndarray
    values: np.ndarray
    gain: float
    residual: float


class _Tail:
    """Expected excess E[(X - t)+] and tail P(X >= t) of a distribution, for arrays of t."""

    def __init__(self, rewards: Distribution):
        self._values = rewards.values
        zero = np.zeros(1)
        self._mass = np.concatenate([np.cumsum(rewards.weights[::-1])[::-1], zero])
        moment = rewards.weights * rewards.values
        self._moment = np.concatenate([np.cumsum(moment[::-1])[::-1], zero])

    def __call__(self, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        place = np.searchsorted(self._values, thresholds, side='left')
        mass, moment = self._mass[place], self._moment[place]
        return mass, moment, moment - thresholds * mass


def interpolation(targets: np.ndarray, n_states: int) -> np.ndarray:
    """Return the matrix [targets, n_states] that reads a function of the level between steps."""
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
    discount: float = _DISCOUNT,
) -> MdpSolution:
    """Find the thresholds that earn the most reward per item in the long run.

    The steps per token are the least common denominator of rate and depth, times what it takes
    to reach ``min_steps_per_token`` (useful when costs are shares of a token). Fractional steps,
    from costs or intervals that are not on the grid, are interpolated. With a ``discount`` for
    each item below one, tokens are worth less than in the long run; where items are correlated
    that earns more than the i.i.d. optimum does, because what a full bucket waits for may be
    long in coming.

    Policy iteration, which is Newton's method for the fixed point of value iteration: it stops
    when one more sweep of value iteration changes no value by more than 1e-9.

    Raises:
        ConfigError: When the grid would have more than 4,001 levels.
    """
    steps = lcm(rate.denominator, depth.denominator)
    steps *= -(-min_steps_per_token // steps)
    n_states = int(depth * steps) + 1
    if n_states > _MAX_STATES:
        raise ConfigError(
            f'rate {rate} and depth {depth} make {n_states} bucket levels (limit '
            f'{_MAX_STATES}); use rounder numbers or a shallower bucket'
        )
    levels = np.arange(n_states)
    gained = float(rate * steps)
    arrive = sum(
        weight * interpolation(levels + gained * interval, n_states)
        for interval, weight in zip(intervals.values, intervals.weights)
    )
    payable = levels >= steps
    if costs is None:
        costs = Distribution.of([1.0])
    pay = sum(
        weight * interpolation(levels - steps * cost, n_states)
        for cost, weight in zip(costs.values, costs.weights)
    )
    offload_to = pay @ arrive
    tail = _Tail(rewards)

    # Values relative to the empty bucket; the gain takes the place of that constant.
    values = np.zeros(n_states)
    gain = 0.0
    for _ in range(_MAX_SWEEPS):
        keep = discount * (arrive @ values)
        thresholds = keep - discount * (offload_to @ values)
        mass, moment, excess = tail(thresholds)
        swept = keep + np.where(payable, excess, 0.0)
        residual = float(np.abs(swept - gain - values).max())
        if residual < _TOLERANCE:
            break
        mass = np.where(payable, mass, 0.0)[:, None]
        equations = np.eye(n_states) - discount * ((1 - mass) * arrive + mass * offload_to)
        equations[:, 0] = 1.0
        values = np.linalg.solve(equations, np.where(payable, moment, 0.0))
        gain, values[0] = float(values[0]), 0.0
    thresholds[:steps] = thresholds[steps]
    return MdpSolution(
        steps_per_token=steps, thresholds=thresholds, values=values, gain=gain, residual=residual
    )


class MdpPolicy(Policy):
    """The optimal policy for i.i.d. rewards and inter-arrival times.

    Tokens between two levels of the grid count as the lower one. When offloads turn out to cost
    less than a token, because streams stop early, the MDP is solved again with what they cost.
    """

    name = 'mdp'

    def __init__(self, settings: PolicySettings):
        self._settings = settings
        self._rewards = settings.need_rewards(self.name)
        self.reset()

    def reset(self) -> None:
        """Forget what offloads cost so far."""
        self._cost = self._settings.costs.mean
        self._solve(self._settings.costs)

    def _solve(self, costs: Distribution) -> None:
        self._solved_cost = costs.mean
        whole = costs.values[0] == 1.0
        self.solution = solve_mdp(
            self._settings.rate,
            self._settings.depth,
            self._rewards,
            self._settings.intervals,
            costs,
            min_steps_per_token=1 if whole else _STEPS_WITH_REFUNDS,
        )
        self._steps = self.solution.steps_per_token
        self._thresholds = self.solution.thresholds.tolist()
        self._top = len(self._thresholds) - 1

    @property
    def cost(self) -> float:
        """Return what the threshold is the worth of, in tokens."""
        return self._solved_cost

    def settled(self, cost: float) -> None:
        """Follow the average cost of an offload; solve again when it has drifted."""
        if cost <= 0:  # a stream that never began tells nothing
            return
        self._cost += (min(cost, 1.0) - self._cost) / _COST_MEMORY
        if abs(self._cost - self._solved_cost) > _COST_DRIFT * self._solved_cost:
            self._solve(Distribution.of([max(self._cost, _LEAST_COST)]))

    def decide(self, state: PolicyInput) -> PolicyDecision:
        """Compare with the worth of a token at this level."""
        level = state.level * self._steps // state.denominator
        return decide_by_threshold(state, self._thresholds[min(max(level, 0), self._top)])
