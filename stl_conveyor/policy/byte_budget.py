# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How many bytes an item is worth: the decision beyond yes or no.

A progressive stream gives the edge something to answer after every packet. Each item may get one
of several byte budgets, and the edge ends a stream early when it is sure. What a budget brings,
and what it costs after the refund, is known per item from its expected reward x (the metric): two
curves for each budget, fitted on items whose streams were recorded packet by packet.

Two policies choose. ``BudgetMdpPolicy`` solves the Markov decision process over the bucket level
with one action for each budget. ``PricedBudgets`` asks another policy, which need not know of
budgets, for the present value of a token, and takes the budget that brings most after paying for
it.

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
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.errors import ConfigError, ConveyorError, ModelFileError
from stl_conveyor.outside_files import read_json
from stl_conveyor.policy.base import (
    Distribution,
    Planner,
    Policy,
    PolicyDecision,
    PolicyInput,
    PolicySettings,
    Reason,
)
from stl_conveyor.policy.mdp import (
    DISCOUNT,
    PLANNED_LEVELS,
    BucketGrid,
    GreedyStep,
    policy_iteration,
)

_FORMAT = 1
_STEPS_PER_TOKEN = 24
STOP_SCORE = 0.97  # confidence at which the edge ends a stream, as its node has it by default


@dataclass(frozen=True, eq=False)
class BudgetTable:
    """What each budget brings and costs; the fields are those of budget.json.

    Attributes:
        nominal_bytes: Bytes that one token buys, and the largest budget.
        stop_score: Confidence at which the edge ends a stream; above 1 it never does.
        shares: float64 [K], budgets in tokens, rising.
        rewards: float64 [J], expected rewards, rising.
        weights: float64 [J], share of items at each expected reward.
        gains: float64 [J, K], expected gain in accuracy with each budget.
        costs: float64 [J, K], expected cost in tokens after the refund.

    Raises:
        ConfigError: For arrays that do not fit each other.

    Examples:
        >>> import numpy as np
        >>> table = BudgetTable(
        ...     nominal_bytes=512,
        ...     stop_score=0.97,
        ...     shares=np.array([0.25, 1.0]),
        ...     rewards=np.array([0.1, 0.6]),
        ...     weights=np.array([0.7, 0.3]),
        ...     gains=np.array([[0.05, 0.1], [0.2, 0.6]]),
        ...     costs=np.array([[0.25, 0.9], [0.25, 0.8]]),
        ... )
        >>> (table.for_token(1024).shares * 1024).tolist()
        [128.0, 512.0]
    """

    nominal_bytes: int
    stop_score: float
    shares: NDArray[np.float64]
    rewards: NDArray[np.float64]
    weights: NDArray[np.float64]
    gains: NDArray[np.float64]
    costs: NDArray[np.float64]

    def __post_init__(self) -> None:
        size = (self.rewards.size, self.shares.size)
        if self.gains.shape != size or self.costs.shape != size or min(size) < 1:
            raise ConfigError(f'gains and costs must be {size[0]} x {size[1]}')
        if not (0 < self.shares[0] and (np.diff(self.shares) > 0).all() and self.shares[-1] <= 1):
            raise ConfigError('byte budgets must rise, above 0 and at most one token')
        if (self.costs < 0).any() or (self.costs > self.shares + 1e-9).any():
            raise ConfigError('an offload costs between nothing and its budget')

    def for_token(self, nominal_bytes: int) -> BudgetTable:
        """Return the table where a token buys another number of bytes.

        Args:
            nominal_bytes: What a token buys.

        Returns:
            The table with the same budgets in bytes; those that exceed a token are left out.

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
        """Read budget.json.

        Args:
            path: The file.

        Returns:
            The table.

        Raises:
            ModelFileError: When the file cannot be used.
        """
        try:
            content = read_json(path)
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
        except (ValueError, KeyError, TypeError, OverflowError, ConveyorError) as error:
            raise ModelFileError(
                f'{path} is no usable budget.json ({error}); fit it again'
            ) from error


@dataclass(frozen=True, eq=False)
class BudgetSolution:
    """The best budget for each item and level.

    Attributes:
        steps_per_token: Resolution of the levels.
        choice: int64 [J, M + 1], index of the budget; -1 for no offload.
        values: float64 [M + 1], value of each level over an empty bucket.
        gain: Expected gain in accuracy per item.
    """

    steps_per_token: int
    choice: NDArray[np.int64]
    values: NDArray[np.float64]
    gain: float


def solve_budgets(
    rate: Fraction,
    depth: Fraction,
    table: BudgetTable,
    intervals: Distribution,
    max_levels: int = PLANNED_LEVELS,
) -> BudgetSolution:
    """Solve for the budgets that gain the most accuracy in the long run, items i.i.d.

    Args:
        rate: Tokens per time unit, r.
        depth: Most tokens kept, b.
        table: What each budget brings and costs.
        intervals: Distribution of the inter-arrival time, in time units.
        max_levels: Most levels of the grid, which is coarser where it would have more.

    Returns:
        The budget to choose by row of the table and level.
    """
    grid = BucketGrid.of(rate, depth, intervals, _STEPS_PER_TOKEN, max_levels)
    steps, levels, arrive = grid.steps_per_token, grid.levels, grid.arrive
    payable = levels[None, None, :] >= np.ceil(table.shares * steps - 1e-9)[None, :, None]
    # Levels after each offload [J, K, M + 1], read between the steps.
    after = np.clip(levels[None, None, :] - table.costs[:, :, None] * steps, 0, None)
    low = np.floor(after).astype(int)
    high = np.minimum(low + 1, levels.size - 1)
    part = after - low
    weights = table.weights[:, None]

    def choose(
        values: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Return the value of keeping [M + 1], of the best budget, and which it is [J, M + 1]."""
        keep = DISCOUNT * (arrive @ values)
        options = table.gains[:, :, None] + (1 - part) * keep[low] + part * keep[high]
        options = np.where(payable, options, -np.inf)
        best = options.max(axis=1)
        return keep, best, np.where(best > keep, options.argmax(axis=1), -1)

    def greedy(values: NDArray[np.float64]) -> GreedyStep:
        keep, best, choice = choose(values)
        taken = np.maximum(choice, 0)[:, None, :]

        def chosen(array: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.take_along_axis(array, taken, axis=1)[:, 0]

        offload = choice >= 0
        step = np.zeros((levels.size, levels.size))
        rows = np.broadcast_to(levels, choice.shape)
        for target, share in (
            (np.where(offload, chosen(low), levels), np.where(offload, 1 - chosen(part), 1.0)),
            (np.where(offload, chosen(high), levels), np.where(offload, chosen(part), 0.0)),
        ):
            np.add.at(step, (rows, target), weights * share)
        gains = np.broadcast_to(table.gains[:, :, None], after.shape)
        return GreedyStep(
            swept=table.weights @ np.maximum(best, keep),
            earned=(weights * np.where(offload, chosen(gains), 0.0)).sum(axis=0),
            transition=step @ arrive,
        )

    values, gain, _ = policy_iteration(greedy, levels.size)
    return BudgetSolution(steps, choose(values)[2], values, gain)


class _Chooser:
    """What both policies do: find the item's row of the table, and say what was asked for."""

    def __init__(self, table: BudgetTable) -> None:
        self.table = table
        self._middle = (table.rewards[1:] + table.rewards[:-1]) / 2
        self._least = np.concatenate([[-np.inf], self._middle])

    def place(self, expected_reward: float) -> int:
        """Return the row of the table that counts for an expected reward."""
        return int(np.searchsorted(self._middle, expected_reward))

    def asked(self, accepted: NDArray[np.bool_]) -> float:
        """Return the least expected reward that is offloaded, from the accepted rows, bool [J]."""
        return float(self._least[accepted.argmax()]) if accepted.any() else np.inf


class BudgetMdpPolicy(Policy):
    """The optimal budget for i.i.d. items; ``share`` of the decision is the budget in tokens.

    Examples:
        >>> import numpy as np
        >>> table = BudgetTable(
        ...     nominal_bytes=512,
        ...     stop_score=0.97,
        ...     shares=np.array([0.25, 1.0]),
        ...     rewards=np.array([0.1, 0.6]),
        ...     weights=np.array([0.7, 0.3]),
        ...     gains=np.array([[0.05, 0.1], [0.2, 0.6]]),
        ...     costs=np.array([[0.25, 0.9], [0.25, 0.8]]),
        ... )
        >>> policy = BudgetMdpPolicy(PolicySettings(rate='1/4', depth=2), table)
        >>> [policy.decide(PolicyInput(x, level=2)).share for x in (0.1, 0.6)]
        [0.25, 1.0]
    """

    name = 'mdp'

    def __init__(self, settings: PolicySettings, table: BudgetTable) -> None:
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


class PricingPolicy(Protocol):
    """A policy whose threshold is the value of a known number of tokens."""

    @property
    def name(self) -> str:
        """Return the name of the policy."""

    @property
    def cost(self) -> float:
        """Return what the threshold is the value of, in tokens."""

    def decide(self, state: PolicyInput) -> PolicyDecision:
        """Decide about one item."""

    def reset(self) -> None:
        """Forget the items seen so far."""

    def settled(self, cost: float) -> None:
        """Learn what an offload cost after its refund, in tokens."""

    def plan_with(self, planner: Planner) -> None:
        """Leave work that takes longer than a decision to a planner."""


class PricedBudgets(Policy):
    """Choose the budget by the price that another policy puts on a token.

    That policy plays items which all cost the same; an item x stands in for them with its best
    budget at the reference price p (at which the long-run cost is the rate),

        m(x) = max_k gain_k(x) - p (cost_k(x) - mean cost),

    and the threshold t that it answers is the value of its average cost c. The budget is the one
    with the most gain_k(x) - t / c cost_k(x), if that is above 0.

    Examples:
        >>> import numpy as np
        >>> from stl_conveyor.policy.mdp import MdpPolicy
        >>> table = BudgetTable(
        ...     nominal_bytes=512,
        ...     stop_score=0.97,
        ...     shares=np.array([0.25, 1.0]),
        ...     rewards=np.array([0.1, 0.6]),
        ...     weights=np.array([0.7, 0.3]),
        ...     gains=np.array([[0.05, 0.1], [0.2, 0.6]]),
        ...     costs=np.array([[0.25, 0.9], [0.25, 0.8]]),
        ... )
        >>> policy = PricedBudgets(MdpPolicy, PolicySettings(rate='1/4', depth=2), table)
        >>> policy.name, policy.decide(PolicyInput(0.6, level=2)).share
        ('mdp', 1.0)
    """

    def __init__(
        self,
        make_inner: Callable[[PolicySettings], PricingPolicy],
        settings: PolicySettings,
        table: BudgetTable,
    ) -> None:
        self.table = table
        self._chooser = _Chooser(table)
        price, cost = reference_price(table, float(settings.rate) * settings.intervals.mean)
        metrics = (table.gains - price * (table.costs - cost)).max(axis=1)
        # Equal metrics, or a fall by noise, would hide the order of the items.
        self._metrics = np.maximum.accumulate(metrics) + 1e-7 * np.arange(metrics.size)
        self.inner = make_inner(
            replace(
                settings,
                rewards=Distribution.of(self._metrics, table.weights),
                costs=Distribution.of([cost]),
            )
        )
        self._rows = table.rewards

    @property
    def name(self) -> str:  # type: ignore[override]  # read only here
        """Return the name of the policy that sets the price."""
        return self.inner.name

    def reset(self) -> None:
        """Forget the items seen so far."""
        self.inner.reset()

    def settled(self, cost: float) -> None:
        """Learn what an offload cost after its refund, in tokens."""
        self.inner.settled(cost)

    def plan_with(self, planner: Planner) -> None:
        """Leave work that takes longer than a decision to a planner."""
        self.inner.plan_with(planner)

    def decide(self, state: PolicyInput) -> PolicyDecision:
        """Pay for as many bytes as bring more than they cost at the present price."""
        table, x = self.table, state.expected_reward
        known = x == x
        metric = np.interp(x, self._rows, self._metrics) if known else self._metrics[0]
        inner = self.inner.decide(replace(state, expected_reward=float(metric)))
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
    """Find the price of a token at which the cost per item is what the rate brings.

    Args:
        table: What each budget brings and costs.
        tokens_per_item: What the rate brings from one item to the next.

    Returns:
        The price in expected reward per token, 0 where everything that helps can be paid for; and
        the mean cost of an offload at that price, in tokens.
    """

    def bought(price: float) -> tuple[float, float]:
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
