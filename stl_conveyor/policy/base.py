# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The one interface of all offloading policies, and what they know."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stl_conveyor.errors import ConfigError
from stl_conveyor.policy.token_bucket import exact_fraction

if TYPE_CHECKING:
    from stl_conveyor.policy.byte_budget import BudgetTable


class Reason(IntEnum):
    """Why a policy decided as it did; the values are those of OffloadDecision.msg."""

    WORTH_IT = 1
    BELOW_THRESHOLD = 2
    NO_TOKENS = 3


@dataclass(frozen=True, slots=True)
class PolicyInput:
    """What a policy knows when an item has been classified.

    Attributes:
        expected_reward: Expected gain in accuracy if offloaded (the metric m(x)), -1..1.
        level: Tokens that can be spent now, in units of 1/denominator.
        denominator: Of the level.
        time: Of the arrival, in time units.
        interarrival: Time units since the previous item; nan for the first one.

    Examples:
        >>> PolicyInput(expected_reward=0.3, level=3, denominator=4).can_pay
        False
    """

    expected_reward: float
    level: int
    denominator: int = 1
    time: float = 0.0
    interarrival: float = math.nan

    @property
    def can_pay(self) -> bool:
        """Whether the bucket holds a whole token."""
        return self.level >= self.denominator


@dataclass(frozen=True, slots=True)
class PolicyDecision:
    """Offload or not, the reward that was asked for in this state, and why.

    Attributes:
        offload: Whether the item is to be offloaded.
        threshold: Expected reward that was asked for, -inf to inf.
        reason: Why the policy decided so.
        share: Byte budget of the offload, in tokens.

    Examples:
        >>> decide_by_threshold(PolicyInput(expected_reward=0.3, level=1), threshold=0.2)
        PolicyDecision(offload=True, threshold=0.2, reason=<Reason.WORTH_IT: 1>, share=1.0)
    """

    offload: bool
    threshold: float
    reason: Reason
    share: float = 1.0


def decide_by_threshold(state: PolicyInput, threshold: float) -> PolicyDecision:
    """Offload when the expected reward reaches the threshold and the bucket can pay.

    Args:
        state: What is known of the item and the bucket.
        threshold: Expected reward that is asked for; a reward of nan never reaches it.

    Returns:
        The decision, about a whole token.
    """
    if not state.expected_reward >= threshold:
        return PolicyDecision(False, threshold, Reason.BELOW_THRESHOLD)
    if not state.can_pay:
        return PolicyDecision(False, threshold, Reason.NO_TOKENS)
    return PolicyDecision(True, threshold, Reason.WORTH_IT)


@dataclass(frozen=True, eq=False)
class Distribution:
    """A discrete distribution of numbers.

    Attributes:
        values: float64 [K], ascending.
        weights: float64 [K], above 0, sum 1.

    Examples:
        >>> rewards = Distribution.of([0.5, 0.0, 0.0, 0.1])
        >>> rewards.values.tolist(), rewards.weights.tolist()
        ([0.0, 0.1, 0.5], [0.5, 0.25, 0.25])
        >>> rewards.mean, rewards.upper_quantile(0.25)
        (0.15, 0.5)
    """

    values: NDArray[np.float64]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, values: ArrayLike, weights: ArrayLike | None = None) -> Distribution:
        """Make a distribution from samples, or from values with weights; merge equal values.

        Args:
            values: Numbers, of any shape.
            weights: As many numbers, 0 or more; None weighs all values alike.

        Returns:
            The distribution.

        Raises:
            ConfigError: When there is nothing to make a distribution of.
        """
        values = np.asarray(values, dtype=np.float64).ravel()
        weights = np.ones(values.shape) if weights is None else np.asarray(weights, float).ravel()
        usable = (
            values.size > 0
            and weights.shape == values.shape
            and bool(np.isfinite(values).all() and np.isfinite(weights).all())
            and weights.min() >= 0
            and weights.sum() > 0
        )
        if not usable:
            raise ConfigError(
                'a distribution needs finite values and as many weights, >= 0 and not all 0'
            )
        distinct, place = np.unique(values, return_inverse=True)
        mass = np.bincount(place, weights=weights, minlength=distinct.size)
        return cls(distinct[mass > 0], mass[mass > 0] / mass.sum())

    @property
    def mean(self) -> float:
        """Return the expected value."""
        return float(self.values @ self.weights)

    def upper_quantile(self, share: float) -> float:
        """Return the smallest value v with P(X >= v) <= share; the largest value if none has."""
        tail = np.cumsum(self.weights[::-1])[::-1]
        below = np.flatnonzero(tail <= share + 1e-12)
        return float(self.values[below[0]] if below.size else self.values[-1])


def _unit_interval() -> Distribution:
    return Distribution.of([1.0])


def _whole_token() -> Distribution:
    return Distribution.of([1.0])


@dataclass(frozen=True)
class PolicySettings:
    """Settings from which every policy takes what it needs.

    Attributes:
        rate: Tokens per time unit, r; a number or a ratio such as '1/4'.
        depth: Most tokens kept, b; likewise.
        rewards: Distribution of the expected rewards of items.
        intervals: Distribution of the inter-arrival time, in time units.
        costs: Distribution of what an offload costs after its refund, in tokens, 0..1.
        threshold: Fixed threshold, for the constant-threshold policy; None derives it.
        probability: Of offloading, for the random policy; None takes the rate.
        seed: Of the random policy.
        model: Path of the exported network, for the learned policies.
        budgets: What byte budgets bring and cost; None is all or nothing.

    Raises:
        ConfigError: For a value out of range.

    Examples:
        >>> PolicySettings(rate='0.1', depth=4).rate
        Fraction(1, 10)
    """

    rate: Fraction = Fraction(1, 4)
    depth: Fraction = Fraction(4)
    rewards: Distribution | None = None
    intervals: Distribution = field(default_factory=_unit_interval)
    costs: Distribution = field(default_factory=_whole_token)
    threshold: float | None = None
    probability: float | None = None
    seed: int = 0
    model: str | None = None
    budgets: BudgetTable | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, 'rate', exact_fraction(self.rate))
        object.__setattr__(self, 'depth', exact_fraction(self.depth))
        if self.rate < 0 or self.depth < 1:
            raise ConfigError(
                f'rate {self.rate} and depth {self.depth}: a policy needs a rate of 0 or more '
                'and room for one whole token'
            )
        if self.intervals.values[0] < 0:
            raise ConfigError('inter-arrival times must be 0 or more time units')
        if self.costs.values[0] < 0 or self.costs.values[-1] > 1:
            raise ConfigError('the cost of an offload lies between 0 and 1 token')

    def need_rewards(self, policy: str) -> Distribution:
        """Return the distribution of the expected rewards.

        Args:
            policy: Name of the policy that needs it.

        Returns:
            The distribution.

        Raises:
            ConfigError: When there is none.
        """
        if self.rewards is None:
            raise ConfigError(
                f'policy {policy!r} needs the distribution of expected rewards: '
                'fit reward.json first (python -m stl_conveyor_lab.train.reward.fit)'
            )
        return self.rewards


# Takes work, which may be done in any thread, and what takes its result in, which is to be called
# in the thread that decides.
Planner = Callable[[Callable[[], Any], Callable[[Any], None]], None]


def plan_at_once(work: Callable[[], Any], adopt: Callable[[Any], None]) -> None:
    """Do the work here and now: the planner of who plays a policy without a deadline.

    Args:
        work: Returns the plan.
        adopt: Takes the plan in.
    """
    adopt(work())


class Policy(ABC):
    """A policy decides, item by item, whether an item deserves a token.

    Call ``decide`` once for each item, in order of arrival: some policies remember what they saw.
    A policy never sees the outcome; the caller charges the bucket.
    """

    name: str

    @abstractmethod
    def decide(self, state: PolicyInput) -> PolicyDecision:
        """Decide about one item.

        Args:
            state: What is known of the item and the bucket.

        Returns:
            The decision.
        """

    def reset(self) -> None:
        """Forget the items seen so far."""

    def plan_with(self, planner: Planner) -> None:
        """Leave work that takes longer than a decision to a planner; most policies have none.

        Args:
            planner: Is called by ``settled``. Until it has the result adopted the policy decides
                by what it knew before.
        """

    def settled(self, cost: float) -> None:
        """Learn what an offload cost after its refund; most policies need not know.

        Args:
            cost: Tokens.
        """
