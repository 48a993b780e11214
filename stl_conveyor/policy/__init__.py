# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Offloading under a token bucket: the bucket, reward estimates and policies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stl_conveyor.errors import ConfigError
from stl_conveyor.policy.base import (
    Distribution,
    Policy,
    PolicyDecision,
    PolicyInput,
    PolicySettings,
    Reason,
)
from stl_conveyor.policy.byte_budget import BudgetMdpPolicy, BudgetTable, PricedBudgets
from stl_conveyor.policy.learned import AdaptivePolicy, DqnPolicy
from stl_conveyor.policy.mdp import MdpPolicy
from stl_conveyor.policy.reward import RewardEstimator
from stl_conveyor.policy.thresholds import (
    AlwaysPolicy,
    ConstantThresholdPolicy,
    NeverPolicy,
    RandomPolicy,
)
from stl_conveyor.policy.token_bucket import BucketState, Reservation, TokenBucket, exact_fraction

__all__ = [
    'BUDGET_POLICIES',
    'BucketState',
    'BudgetTable',
    'Distribution',
    'exact_fraction',
    'LEARNED_POLICIES',
    'make_policy',
    'Policy',
    'POLICIES',
    'PolicyDecision',
    'PolicyInput',
    'PolicySettings',
    'Reason',
    'Reservation',
    'RewardEstimator',
    'TokenBucket',
]

POLICIES: dict[str, Callable[[PolicySettings], Policy]] = {
    NeverPolicy.name: NeverPolicy,
    AlwaysPolicy.name: AlwaysPolicy,
    RandomPolicy.name: RandomPolicy,
    ConstantThresholdPolicy.name: ConstantThresholdPolicy,
    MdpPolicy.name: MdpPolicy,
    DqnPolicy.name: DqnPolicy,
    AdaptivePolicy.name: AdaptivePolicy,
}

LEARNED_POLICIES = (DqnPolicy.name, AdaptivePolicy.name)  # they need a network
BUDGET_POLICIES = (MdpPolicy.name, AdaptivePolicy.name)  # they choose how many bytes


def make_policy(name: str, **settings: Any) -> Policy:
    """Make the policy with this name.

    With ``budgets``, those of BUDGET_POLICIES choose how many bytes; the others offload a whole
    token or nothing.

    Args:
        name: One of POLICIES.
        **settings: Fields of PolicySettings.

    Returns:
        The policy.

    Raises:
        ConfigError: For a name or a setting that does not exist, or a value out of range.

    Examples:
        >>> from stl_conveyor import make_policy
        >>> from stl_conveyor.policy import Distribution, PolicyInput
        >>> rewards = Distribution.of([0.0, 0.1, 0.4, 0.9])
        >>> policy = make_policy('threshold', rate='1/4', depth=4, rewards=rewards)
        >>> policy.decide(PolicyInput(expected_reward=0.4, level=4)).reason.name
        'BELOW_THRESHOLD'
    """
    if name not in POLICIES:
        raise ConfigError(f'no policy {name!r}; choose one of {", ".join(POLICIES)}')
    known = PolicySettings.__dataclass_fields__
    for setting in settings:
        if setting not in known:
            raise ConfigError(f'no policy setting {setting!r}; there are {", ".join(known)}')
    chosen = PolicySettings(**settings)
    if chosen.budgets is None or name not in BUDGET_POLICIES:
        return POLICIES[name](chosen)
    if name == MdpPolicy.name:
        return BudgetMdpPolicy(chosen, chosen.budgets)
    return PricedBudgets(AdaptivePolicy, chosen, chosen.budgets)
