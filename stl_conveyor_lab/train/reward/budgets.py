# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Fit what each byte budget brings and costs, from recorded streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.policy.budget_fit import fit_table
from stl_conveyor.policy.byte_budget import STOP_SCORE, BudgetTable
from stl_conveyor_lab.data.recorded_streams import RecordedStreams


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
    weak = np.asarray(weak_correct, dtype=float)
    outcomes = {}
    for budget, recorded in streams.items():
        used, correct = recorded.stop(budget, stop_score)
        # Without an answer of the edge the weak classifier's stands.
        outcomes[budget] = (np.where(used > 0, correct - weak, 0.0), used.astype(float))
    return fit_table(rewards, outcomes, stop_score, points)
