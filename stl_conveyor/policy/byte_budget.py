# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""
How many bytes an item is worth: the decision beyond yes or no.

A progressive stream gives the edge something to answer after every packet. Each item may get one
of several byte budgets, and the edge ends a stream early when it is sure. What a budget brings,
and what it costs after the refund, is known per item from its expected reward x (the metric): two
curves for each budget, fitted on items whose streams were recorded packet by packet. The decision
is that of a Markov decision process over the bucket level, with one action for each budget.

budget.json, arrays in row-major order::

    {"format": 1,
     "nominal_bytes": B,           bytes that one token buys, and the largest budget
     "stop_score": s,              the edge ends a stream at this confidence; 1 = never
     "shares": [K],                budgets in tokens, rising, the last is 1
     "rewards": [J],               expected rewards x, rising; between them, the nearest counts
     "weights": [J],               share of items at each
     "gains": [J][K],              expected gain in accuracy with each budget
     "costs": [J][K]}              expected cost in tokens after the refund
"""

from dataclasses import dataclass
from fractions import Fraction
import json
from math import lcm
from pathlib import Path

import numpy as np

from stl_conveyor.errors import ConfigError, ModelFileError
from stl_conveyor.policy.base import (
    Distribution, Policy, PolicyDecision, PolicyInput, PolicySettings, Reason,
)
from stl_conveyor.policy.mdp import interpolation
from stl_conveyor.policy.reward import kernel_regression

_FORMAT = 1
_DISCOUNT = 1.0 - 1e-7
_TOLERANCE = 1e-9
_MAX_SWEEPS = 200
_MAX_STATES = 2001
_STEPS_PER_TOKEN = 24


@dataclass(frozen=True, eq=False)
class RecordedStreams:
    """
    What the edge answered after each packet of N items' streams.

    bytes    int [N, K], payload bytes up to and with each packet, rising; after the end of a
             stream the last value repeats
    correct  bool [N, K], whether the answer after each packet is right
    score    float [N, K], the edge's confidence after each packet
    """

    bytes: np.ndarray
    correct: np.ndarray
    score: np.ndarray

    def stop(self, budget: int, stop_score: float) -> 'tuple[np.ndarray, np.ndarray]':
        """
        End each stream at a byte budget, or earlier when the edge is sure.

        Returns the bytes used [N] and whether the last answer is right [N]; an item whose first
        packet does not fit uses nothing and is never right.
        """
        fits = self.bytes <= budget
        sure = self.score >= stop_score
        # The first packet at which the edge is sure, else the last that fits.
        last = np.where(
            (sure & fits).any(axis=1), (sure & fits).argmax(axis=1), fits.sum(axis=1) - 1
        )
        each = np.arange(len(self.bytes))
        used = np.where(last >= 0, self.bytes[each, last], 0)
        return used, np.where(last >= 0, self.correct[each, last], False)


@dataclass(frozen=True, eq=False)
class BudgetTable:
    """
    What each budget brings and costs; the fields are those of budget.json.

    shares [K], rewards [J], weights [J], gains [J, K], costs [J, K]
    """

    nominal_bytes: int
    stop_score: float
    shares: np.ndarray
    rewards: np.ndarray
    weights: np.ndarray
    gains: np.ndarray
    costs: np.ndarray

    def __post_init__(self):
        size = (self.rewards.size, self.shares.size)
        if self.gains.shape != size or self.costs.shape != size or min(size) < 1:
            raise ConfigError(f'gains and costs must be {size[0]} x {size[1]}')
        if not (0 < self.shares[0] and (np.diff(self.shares) > 0).all() and self.shares[-1] <= 1):
            raise ConfigError('byte budgets must rise, above 0 and at most one token')
        if (self.costs < 0).any() or (self.costs > self.shares + 1e-9).any():
            raise ConfigError('an offload costs between nothing and its budget')

    @classmethod
    def fit(
        cls, rewards: np.ndarray, weak_correct: np.ndarray, streams: RecordedStreams,
        budgets: 'tuple[int, ...]', stop_score: float = 1.1, points: int = 24,
    ) -> 'BudgetTable':
        """
        Fit the curves.

        rewards       expected rewards of the items [N], from the reward estimator
        weak_correct  whether the weak classifier is right [N]
        budgets       in bytes, rising; the last is what a token buys
        stop_score    confidence at which the edge ends a stream; above 1 it never does
        """
        rewards = np.asarray(rewards, dtype=float)
        weak = np.asarray(weak_correct, dtype=float)
        parts = np.array_split(np.sort(rewards), points)
        at = np.unique([part.mean() for part in parts if part.size])
        place = np.abs(rewards[:, None] - at[None]).argmin(axis=1)
        weights = np.bincount(place, minlength=at.size) / rewards.size
        at, weights = at[weights > 0], weights[weights > 0]
        gains, costs = [], []
        for budget in budgets:
            used, correct = streams.stop(budget, stop_score)
            # Without an answer of the edge the weak classifier's stands.
            gain = np.where(used > 0, correct - weak, 0.0)
            gains.append(kernel_regression(rewards, gain, at)[0])
            costs.append(kernel_regression(rewards, used / budgets[-1], at)[0])
        shares = np.asarray(budgets, dtype=float) / budgets[-1]
        return cls(
            nominal_bytes=int(budgets[-1]), stop_score=float(stop_score), shares=shares,
            rewards=at, weights=weights, gains=np.stack(gains, axis=1),
            costs=np.clip(np.stack(costs, axis=1), 0.0, shares),
        )

    def save(self, path: 'str | Path') -> None:
        """Write budget.json."""
        arrays = {
            name: np.round(getattr(self, name), 9).tolist()
            for name in ('shares', 'rewards', 'weights', 'gains', 'costs')
        }
        content = {'format': _FORMAT, 'nominal_bytes': self.nominal_bytes,
                   'stop_score': self.stop_score, **arrays}
        Path(path).write_text(json.dumps(content) + '\n', encoding='utf-8')

    @classmethod
    def load(cls, path: 'str | Path') -> 'BudgetTable':
        """Read budget.json; raises ModelFileError when it cannot be used."""
        try:
            content = json.loads(Path(path).read_text(encoding='utf-8'))
            if content['format'] != _FORMAT:
                raise ValueError(f'format {content["format"]!r}, not {_FORMAT}')
            return cls(
                nominal_bytes=int(content['nominal_bytes']),
                stop_score=float(content['stop_score']),
                **{name: np.asarray(content[name], dtype=float)
                   for name in ('shares', 'rewards', 'weights', 'gains', 'costs')},
            )
        except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
            raise ModelFileError(
                f'{path} is no usable budget.json ({error}); fit it again'
            ) from error


@dataclass(frozen=True, eq=False)
class BudgetSolution:
    """
    The best budget for each item and level.

    steps_per_token  resolution of the levels
    choice           int [J, M + 1], index of the budget; -1 for no offload
    worth            float [M + 1], worth of each level over an empty bucket
    gain             expected gain in accuracy per item
    """

    steps_per_token: int
    choice: np.ndarray
    worth: np.ndarray
    gain: float


def solve_budgets(
    rate: Fraction, depth: Fraction, table: BudgetTable, intervals: Distribution
) -> BudgetSolution:
    """
    Solve for the budgets that gain the most accuracy in the long run, items i.i.d.

    Policy iteration as in ``mdp.solve_mdp``. Raises ConfigError for too fine a grid.
    """
    steps = lcm(rate.denominator, depth.denominator)
    steps *= -(-_STEPS_PER_TOKEN // steps)
    n_states = int(depth * steps) + 1
    if n_states > _MAX_STATES:
        raise ConfigError(
            f'rate {rate} and depth {depth} make {n_states} bucket levels (limit '
            f'{_MAX_STATES}); use rounder numbers or a shallower bucket'
        )
    levels = np.arange(n_states)
    arrive = sum(
        weight * interpolation(levels + float(rate * steps) * interval, n_states)
        for interval, weight in zip(intervals.values, intervals.weights)
    )
    payable = levels[None, None, :] >= np.ceil(table.shares * steps - 1e-9)[None, :, None]
    # Levels after each offload [J, K, M + 1], read between the steps.
    after = np.clip(levels[None, None, :] - table.costs[:, :, None] * steps, 0, None)
    low = np.floor(after).astype(int)
    high = np.minimum(low + 1, n_states - 1)
    part = after - low
    weights = table.weights[:, None]
    worth, gain = np.zeros(n_states), 0.0
    for _ in range(_MAX_SWEEPS):
        keep = _DISCOUNT * (arrive @ worth)
        options = table.gains[:, :, None] + (1 - part) * keep[low] + part * keep[high]
        options = np.where(payable, options, -np.inf)
        best = options.max(axis=1)
        choice = np.where(best > keep, options.argmax(axis=1), -1)
        swept = table.weights @ np.maximum(best, keep)
        if np.abs(swept - gain - worth).max() < _TOLERANCE:
            break
        taken = np.maximum(choice, 0)[:, None, :]

        def chosen(array, taken=taken):
            return np.take_along_axis(array, taken, axis=1)[:, 0]

        offload = choice >= 0
        step = np.zeros((n_states, n_states))
        rows = np.broadcast_to(levels, choice.shape)
        for target, share in (
            (np.where(offload, chosen(low), levels), np.where(offload, 1 - chosen(part), 1.0)),
            (np.where(offload, chosen(high), levels), np.where(offload, chosen(part), 0.0)),
        ):
            np.add.at(step, (rows, target), weights * share)
        gains = np.broadcast_to(table.gains[:, :, None], options.shape)
        earned = (weights * np.where(offload, chosen(gains), 0.0)).sum(axis=0)
        equations = np.eye(n_states) - _DISCOUNT * (step @ arrive)
        equations[:, 0] = 1.0
        worth = np.linalg.solve(equations, earned)
        gain, worth[0] = float(worth[0]), 0.0
    return BudgetSolution(steps, choice, worth, gain)


class BudgetPolicy(Policy):
    """Choose the byte budget that is worth its tokens; ``share`` of the decision is the budget."""

    name = 'budget'

    def __init__(self, settings: PolicySettings):
        if settings.model is None:
            raise ConfigError(
                f'policy {self.name!r} needs the path of budget.json: set the model parameter'
            )
        self.table = BudgetTable.load(settings.model)
        self.solution = solve_budgets(
            settings.rate, settings.depth, self.table, settings.intervals
        )
        middle = (self.table.rewards[1:] + self.table.rewards[:-1]) / 2
        self._edges = middle
        # The least expected reward that is offloaded at each level.
        accepted = self.solution.choice >= 0
        least = np.concatenate([[-np.inf], middle])[accepted.argmax(axis=0)]
        self._asked = np.where(accepted.any(axis=0), least, np.inf)

    def decide(self, state: PolicyInput) -> PolicyDecision:
        """Look the budget up for this reward and level."""
        solution = self.solution
        level = state.level * solution.steps_per_token // state.denominator
        level = min(max(level, 0), len(self._asked) - 1)
        asked = float(self._asked[level])
        if not np.isfinite(state.expected_reward):
            return PolicyDecision(False, asked, Reason.BELOW_THRESHOLD)
        place = int(np.searchsorted(self._edges, state.expected_reward))
        chosen = int(solution.choice[place, level])
        if chosen >= 0:
            return PolicyDecision(
                True, asked, Reason.WORTH_IT, share=float(self.table.shares[chosen])
            )
        wanted = solution.choice[place, level:].max() >= 0 and level < solution.steps_per_token
        return PolicyDecision(
            False, asked, Reason.NO_TOKENS if wanted else Reason.BELOW_THRESHOLD
        )
