# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Fit what each byte budget brings and costs, from recorded streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.policy.byte_budget import STOP_SCORE, BudgetTable
from stl_conveyor_lab.data.recorded_streams import RecordedStreams
from stl_conveyor_lab.train.reward.estimators import kernel_regression


def fit_budgets(
    rewards: NDArray[Any],
    weak_correct: NDArray[Any],
    streams: Mapping[int, RecordedStreams],
    stop_score: float = STOP_SCORE,
    points: int = 48,
) -> BudgetTable:
    """Fit what each budget brings and costs over the expected reward.

    Args:
        rewards: float64 [N], expected rewards of the items, from the reward estimator.
        weak_correct: bool [N], whether the weak classifier is right.
        streams: Of the N items by budget in bytes, rising; the last is what a token buys. A
            budget has streams of its own because packets are cut to fit it.
        stop_score: Confidence at which the edge ends a stream; above 1 it never does.
        points: Most expected rewards in the table.

    Returns:
        The table.
    """
    rewards = np.asarray(rewards, dtype=float)
    weak = np.asarray(weak_correct, dtype=float)
    parts = np.array_split(np.sort(rewards), points)
    at = np.unique([part.mean() for part in parts if part.size])
    place = np.abs(rewards[:, None] - at[None]).argmin(axis=1)
    weights = np.bincount(place, minlength=at.size) / rewards.size
    at, weights = at[weights > 0], weights[weights > 0]
    gains, costs = [], []
    nominal = max(streams)
    for budget, recorded in streams.items():
        used, correct = recorded.stop(budget, stop_score)
        # Without an answer of the edge the weak classifier's stands.
        gain = np.where(used > 0, correct - weak, 0.0)
        gains.append(kernel_regression(rewards, gain, at)[0])
        costs.append(kernel_regression(rewards, used / nominal, at)[0])
    shares = np.array(list(streams), dtype=float) / nominal
    return BudgetTable(
        nominal_bytes=int(nominal),
        stop_score=float(stop_score),
        shares=shares,
        rewards=at,
        weights=weights,
        gains=np.stack(gains, axis=1),
        costs=np.clip(np.stack(costs, axis=1), 0.0, shares),
    )
