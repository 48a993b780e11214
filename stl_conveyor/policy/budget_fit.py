# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Fit what each byte budget brings and costs, from items whose streams were watched."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.policy.byte_budget import BudgetTable
from stl_conveyor.policy.regression import kernel_regression


def fit_table(
    rewards: NDArray[np.float64],
    outcomes: Mapping[int, tuple[NDArray[np.float64], NDArray[np.float64]]],
    stop_score: float,
    points: int = 48,
) -> BudgetTable:
    """Fit what each budget brings and costs over the expected reward.

    Args:
        rewards: float64 [N], expected rewards of the items.
        outcomes: By budget in bytes, rising, the last one what a token buys: what the offload
            brought, float64 [N] in the unit of the rewards, and the bytes it took, float64 [N].
        stop_score: Confidence at which the edge ends a stream; above 1 it never does.
        points: Most expected rewards in the table.

    Returns:
        The table.
    """
    rewards = np.asarray(rewards, dtype=float)
    parts = np.array_split(np.sort(rewards), points)
    at = np.unique([part.mean() for part in parts if part.size])
    place = np.abs(rewards[:, None] - at[None]).argmin(axis=1)
    weights = np.bincount(place, minlength=at.size) / rewards.size
    at, weights = at[weights > 0], weights[weights > 0]
    nominal = max(outcomes)
    gains = [kernel_regression(rewards, gain, at)[0] for gain, _ in outcomes.values()]
    costs = [kernel_regression(rewards, used / nominal, at)[0] for _, used in outcomes.values()]
    shares = np.array(list(outcomes), dtype=float) / nominal
    return BudgetTable(
        nominal_bytes=int(nominal),
        stop_score=float(stop_score),
        shares=shares,
        rewards=at,
        weights=weights,
        gains=np.stack(gains, axis=1),
        costs=np.clip(np.stack(costs, axis=1), 0.0, shares),
    )
