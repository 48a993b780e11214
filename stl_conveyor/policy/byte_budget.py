# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How many bytes an item is worth: the decision beyond yes or no.

A progressive stream gives the edge something to answer after every packet. Each item may get one
of several byte budgets, and the edge ends a stream early when it is sure. What a budget brings,
and what it costs after the refund, is known per item from its expected reward x (the metric): two
curves for each budget, fitted on items whose streams were recorded packet by packet.

Two policies choose. ``BudgetMdpPolicy`` solves the Markov decision process over the bucket level
with one action for each budget. ``PricedBudgets`` asks another policy, which need not know of
budgets, what a token is worth now, and takes the budget that brings most after paying for it.

budget.json, arrays in row-major order::

    {"format": 1,
     "nominal_bytes": B,           bytes that one token buys, and the largest budget
     "stop_score": s,              the edge ends a stream at this confidence; above 1 = never
     "shares": [K],                budgets in tokens, rising, the last is 1
     "rewards": [J],               expected rewards x, rising; between them, the nearest counts
     "weights": [J],               share of items at each
     "gains": [J][K],              expected gain in accuracy with each budget
     "costs": [J][K]}              expected cost in tokens after the refund
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from math import lcm
from pathlib import Path

import numpy as np

from stl_conveyor.errors import ConfigError, ModelFileError
from stl_conveyor.policy.base import (
    Distribution,
    Policy,
    PolicyDecision,
    PolicyInput,
    PolicySettings,
    Reason,
)
from stl_conveyor.policy.mdp import interpolation

_FORMAT = 1
_DISCOUNT = 1.0 - 1e-7
_TOLERANCE = 1e-9
_MAX_SWEEPS = 200
_MAX_STATES = 2001
_STEPS_PER_TOKEN = 24
STOP_SCORE = 0.97  # confidence at which the edge ends a stream, as its node has it by default


@dataclass(frozen=True, eq=False)
class BudgetTable:
    """What each budget brings and costs; the fields are those of budget.json.

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

    def for_token(self, nominal_bytes: int) -> BudgetTable:
        """Return the table where a token buys another number of bytes.

        Raises:
            ConfigError: When a token buys less than the smallest budget.
        """
        scale = self.nominal_bytes / nominal_bytes
        fits = self.shares * scale <= 1 + 1e-9
        if not fits.any():
            raise ConfigError(
                f'nominal_bytes {nominal_bytes}: the smallest byte budget that was fitted is '
                f'{self.shares[0] * self.nominal_bytes:.0f}; a token must buy as much'
            )
        return replace(
            self,
            nominal_bytes=nominal_bytes,
            shares=np.minimum(self.shares[fits] * scale, 1.0),
            gains=self.gains[:, fits],
            costs=np.minimum(self.costs[:, fits] * scale, self.shares[fits] * scale),
        )

    def save(self, path: str | Path) -> None:
        """Write budget.json."""
        arrays = {
            name: np.round(getattr(self, name), 9).tolist()
            for name in ('shares', 'rewards', 'weights', 'gains', 'costs')
        }
        content = {
            'format': _FORMAT,
            'nominal_bytes': self.nominal_bytes,
            'stop_score': self.stop_score,
            **arrays,
        }
        Path(path).write_text(json.dumps(content) + '\n', encoding='utf-8')

    @classmethod
    def load(cls, path: str | Path) -> BudgetTable:
        """Read budget.json; raises ModelFileError when it cannot be used."""
        try:
            content = json.loads(Path(path).read_text(encoding='utf-8'))
            if content['format'] != _FORMAT:
                raise ValueError(f'format {content["format"]!r}, not {_FORMAT}')
            return cls(
                nominal_bytes=int(content['nominal_bytes']),
                stop_score=float(content['stop_score']),
                **{
                    name: np.asarray(content[name], dtype=float)
                    for name in ('shares', 'rewards', 'weights', 'gains', 'costs')
                },
            )
        except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
            raise ModelFileError(
                f'{path} is no usable budget.json ({error}); fit it again'
            ) from error


@dataclass(frozen=True, eq=False)
class BudgetSolution:
    """The best budget for each item and level.

    Attributes:
        steps_per_token: Resolution of the levels.
        choice: Int [J, M + 1], index of the budget; -1 for no offload.
        worth: Float [M + 1], worth of each level over an empty bucket.
        gain: Expected gain in accuracy per item.
    """

    steps_per_token: int
    choice: np.ndarray
    worth: np.ndarray
    gain: float


def solve_budgets(
    rate: Fraction, depth: Fraction, table: BudgetTable, intervals: Distribution
) -> BudgetSolution:
    """Solve for the budgets that gain the most accuracy in the long run, items i.i.d.

    Policy iteration as in ``mdp.solve_mdp``.

    Raises:
        ConfigError: For too fine a grid.
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


class _Chooser:
    """What both policies do: find the item's row of the table, and say what was asked for."""

    def __init__(self, table: BudgetTable):
        self.table = table
        self._middle = (table.rewards[1:] + table.rewards[:-1]) / 2
        self._least = np.concatenate([[-np.inf], self._middle])

    def place(self, expected_reward: float) -> int:
        """Row of the table that counts for an expected reward."""
        return int(np.searchsorted(self._middle, expected_reward))

    def asked(self, accepted: np.ndarray) -> float:
        """Least expected reward that is offloaded, from the accepted rows, bool [J]."""
        return float(self._least[accepted.argmax()]) if accepted.any() else np.inf


class BudgetMdpPolicy(Policy):
    """The optimal budget for i.i.d. items; ``share`` of the decision is the budget in tokens."""

    name = 'mdp'

    def __init__(self, settings: PolicySettings, table: BudgetTable):
        self.table = table
        self.solution = solve_budgets(
            settings.rate, settings.depth, self.table, settings.intervals
        )
        self._chooser = _Chooser(table)
        accepted = self.solution.choice >= 0
        self._asked = [self._chooser.asked(column) for column in accepted.T]

    def decide(self, state: PolicyInput) -> PolicyDecision:
        """Look the budget up for this reward and level."""
        solution = self.solution
        level = state.level * solution.steps_per_token // state.denominator
        level = min(max(level, 0), len(self._asked) - 1)
        asked = self._asked[level]
        if not np.isfinite(state.expected_reward):
            return PolicyDecision(False, asked, Reason.BELOW_THRESHOLD)
        place = self._chooser.place(state.expected_reward)
        chosen = int(solution.choice[place, level])
        if chosen >= 0:
            return PolicyDecision(
                True, asked, Reason.WORTH_IT, share=float(self.table.shares[chosen])
            )
        wanted = solution.choice[place, level:].max() >= 0 and level < solution.steps_per_token
        return PolicyDecision(False, asked, Reason.NO_TOKENS if wanted else Reason.BELOW_THRESHOLD)


class PricedBudgets(Policy):
    """Choose the budget by the price that another policy puts on a token.

    That policy plays items which all cost the same; an item x stands in for them with its best
    budget at the reference price p (at which the long-run cost is the rate),

        m(x) = max_k gain_k(x) - p (cost_k(x) - mean cost),

    and the threshold t that it answers is the worth of its average cost c. The budget is the one
    with the most gain_k(x) - t / c cost_k(x), if that is above 0.
    """

    def __init__(self, make_inner, settings: PolicySettings, table: BudgetTable):
        self.table = table
        self._chooser = _Chooser(table)
        price, cost = reference_price(table, float(settings.rate) * settings.intervals.mean)
        worth = (table.gains - price * (table.costs - cost)).max(axis=1)
        # Equal worths, or a fall by noise, would hide the order of the items.
        self._worth = np.maximum.accumulate(worth) + 1e-7 * np.arange(worth.size)
        self.inner = make_inner(
            replace(
                settings,
                rewards=Distribution.of(self._worth, table.weights),
                costs=Distribution.of([cost]),
            )
        )
        self._rows = table.rewards

    @property
    def name(self) -> str:
        """Name of the policy that sets the price."""
        return self.inner.name

    def reset(self) -> None:
        """Forget the items seen so far."""
        self.inner.reset()

    def settled(self, cost: float) -> None:
        """Learn what an offload cost after its refund, in tokens."""
        self.inner.settled(cost)

    def decide(self, state: PolicyInput) -> PolicyDecision:
        """Pay for as many bytes as bring more than they cost at the present price."""
        table, x = self.table, state.expected_reward
        known = x == x
        worth = float(np.interp(x, self._rows, self._worth)) if known else float(self._worth[0])
        inner = self.inner.decide(replace(state, expected_reward=worth))
        price = max(inner.threshold, 0.0) / self.inner.cost
        surplus = table.gains - price * table.costs
        asked = self._chooser.asked(surplus.max(axis=1) > 0)
        if not known:
            return PolicyDecision(False, asked, Reason.BELOW_THRESHOLD)
        row = surplus[self._chooser.place(x)]
        if row.max() <= 0:
            return PolicyDecision(False, asked, Reason.BELOW_THRESHOLD)
        affordable = table.shares * state.denominator <= state.level
        row = np.where(affordable, row, -np.inf)
        best = int(row.argmax())
        if row[best] <= 0:
            return PolicyDecision(False, asked, Reason.NO_TOKENS)
        return PolicyDecision(True, asked, Reason.WORTH_IT, share=float(table.shares[best]))


def reference_price(table: BudgetTable, tokens_per_item: float) -> tuple[float, float]:
    """Return the price of a token at which the cost per item is what the rate brings.

    0 where everything that helps can be paid for. With it, the mean cost of an offload in tokens.
    """

    def bought(price):
        surplus = table.gains - price * table.costs
        best = surplus.argmax(axis=1)
        taken = table.weights * (surplus.max(axis=1) > 0)
        cost = np.take_along_axis(table.costs, best[:, None], axis=1)[:, 0]
        return float(taken @ cost), float(taken.sum())

    low, high = 0.0, 1.0
    while bought(high)[0] > tokens_per_item and high < 1e6:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if bought(middle)[0] > tokens_per_item else (low, middle)
    price = 0.0 if bought(0.0)[0] <= tokens_per_item else high
    spent, share = bought(price)
    return price, spent / share if share > 0 else float(table.shares[0])
