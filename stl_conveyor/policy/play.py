# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Play a policy over a recorded sequence of items, through the token bucket of the node."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.policy.base import Policy, PolicyInput
from stl_conveyor.policy.token_bucket import TokenBucket


def play(
    rewards: Sequence[float] | NDArray[np.floating],
    intervals: Sequence[int] | NDArray[np.integer],
    rate: Fraction,
    depth: Fraction,
    policy: Policy,
) -> NDArray[np.bool_]:
    """Play a policy over one sequence of items.

    Args:
        rewards: Float [T], expected reward of each item.
        intervals: Int [T], time units from each item to the next.
        rate: Tokens per time unit, r.
        depth: Most tokens kept, b.

    Returns:
        Bool [T], which items were offloaded, a whole token each.

    Examples:
        One token to begin with, and a half for each item.

        >>> from fractions import Fraction
        >>> from stl_conveyor import make_policy, play
        >>> policy = make_policy('always', rate='1/2', depth=1)
        >>> play([0.2, 0.9, 0.1, 0.4], [1, 1, 1, 1], Fraction(1, 2), Fraction(1), policy).tolist()
        [True, False, True, False]
    """
    bucket = TokenBucket(rate, depth, time_unit_ns=1, nominal_bytes=1, start_ns=0)
    policy.reset()
    decisions = np.zeros(len(rewards), dtype=bool)
    now, interval = 0, float('nan')
    for t, (reward, following) in enumerate(zip(rewards, intervals)):
        bucket.advance(now)
        state = PolicyInput(float(reward), bucket.available, bucket.denominator, now, interval)
        if policy.decide(state).offload:
            decisions[t] = bucket.spend(1)
        interval = int(following)
        now += interval
    return decisions
