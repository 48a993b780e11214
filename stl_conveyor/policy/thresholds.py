# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Policies without a model of the future: never, always, random, constant threshold."""

from __future__ import annotations

import math

import numpy as np

from stl_conveyor.errors import ConfigError
from stl_conveyor.policy.base import (
    Policy,
    PolicyDecision,
    PolicyInput,
    PolicySettings,
    decide_by_threshold,
)


class NeverPolicy(Policy):
    """Offload nothing.

    Examples:
        >>> NeverPolicy(PolicySettings()).decide(PolicyInput(0.9, level=4)).offload
        False
    """

    name = 'never'

    def __init__(self, settings: PolicySettings) -> None:
        del settings

    def decide(self, state: PolicyInput) -> PolicyDecision:
        """Decline every item."""
        return decide_by_threshold(state, math.inf)


class AlwaysPolicy(Policy):
    """Offload whatever the bucket can pay for.

    Examples:
        >>> policy = AlwaysPolicy(PolicySettings())
        >>> policy.decide(PolicyInput(-0.2, level=1)).offload
        True
        >>> policy.decide(PolicyInput(0.9, level=0)).reason.name
        'NO_TOKENS'
    """

    name = 'always'

    def __init__(self, settings: PolicySettings) -> None:
        del settings

    def decide(self, state: PolicyInput) -> PolicyDecision:
        """Accept every item."""
        return decide_by_threshold(state, -math.inf)


class RandomPolicy(Policy):
    """Offload with a fixed probability, by default the token rate times the mean interval.

    Raises:
        ConfigError: For a probability outside 0..1.

    Examples:
        >>> policy = RandomPolicy(PolicySettings(probability=0.5, seed=1))
        >>> [policy.decide(PolicyInput(0.3, level=4)).offload for _ in range(4)]
        [False, False, True, False]
    """

    name = 'random'

    def __init__(self, settings: PolicySettings) -> None:
        probability = settings.probability
        if probability is None:
            probability = min(1.0, float(settings.rate) * settings.intervals.mean)
        if not 0 <= probability <= 1:
            raise ConfigError(f'probability of offloading {probability} must be in 0..1')
        self.probability = probability
        self._seed = settings.seed
        self.reset()

    def reset(self) -> None:
        """Start the random sequence again."""
        self._random = np.random.default_rng(self._seed)

    def decide(self, state: PolicyInput) -> PolicyDecision:
        """Toss a coin, whatever the item."""
        chosen = self._random.random() < self.probability
        return decide_by_threshold(state, -math.inf if chosen else math.inf)


class ConstantThresholdPolicy(Policy):
    """Offload the items whose expected reward is among the best that the rate can carry.

    The published baseline: the threshold is the (1 - r E[I]) quantile of the metric, where I is
    the inter-arrival time, whatever the bucket holds. Items expected to lose are never sent.

    Raises:
        ConfigError: Without a distribution of rewards or a threshold.

    Examples:
        >>> from stl_conveyor.policy.base import Distribution
        >>> rewards = Distribution.of([0.0, 0.1, 0.4, 0.9])
        >>> ConstantThresholdPolicy(PolicySettings(rate='1/4', rewards=rewards)).threshold
        0.9
    """

    name = 'threshold'

    def __init__(self, settings: PolicySettings) -> None:
        threshold = settings.threshold
        if threshold is None:
            share = min(1.0, float(settings.rate) * settings.intervals.mean)
            threshold = max(0.0, settings.need_rewards(self.name).upper_quantile(share))
        if math.isnan(threshold):
            raise ConfigError('the threshold must be a number')
        self.threshold = threshold

    def decide(self, state: PolicyInput) -> PolicyDecision:
        """Compare with the constant."""
        return decide_by_threshold(state, self.threshold)
