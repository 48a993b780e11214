# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a policy is trained for: a bucket in a scenario."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.errors import ConfigError
from stl_conveyor_lab.papers.scenarios import CorrelatedRewards, Scenario, TwoStateArrivals

# Spread and reset of the location, r, b.
CORRELATED = (
    (0.1, 0.1, '0.05', 4),
    (0.1, 0.1, '0.1', 1),
    (0.1, 0.1, '0.1', 4),
    (0.1, 0.1, '0.1', 20),
    (0.1, 0.1, '0.25', 4),
    (0.1, 0.01, '0.1', 4),
    (0.5, 0.01, '0.1', 4),
)
# Slow interval, r, b.
ARRIVALS = ((3, '0.05', 4), (3, '0.1', 4), (3, '0.25', 4), (6, '0.1', 4))


@dataclass(frozen=True, eq=False)
class Task:
    """One bucket in one scenario.

    Attributes:
        scenario: What drives the items.
        rate: Tokens per time unit, r.
        depth: Most tokens kept, b.
        pool: float64 [K], metrics of the items, sorted.
    """

    scenario: Scenario
    rate: Fraction
    depth: Fraction
    pool: NDArray[np.float64]


def published_tasks(pool: NDArray[np.float64]) -> dict[str, Task]:
    """Return the tasks of the published figures for which a DQN is trained.

    Args:
        pool: Metrics float64 [K] of items, sorted.

    Returns:
        The tasks by the names that their networks bear.
    """
    tasks = {}
    for spread, reset, rate, depth in CORRELATED:
        scenario = Scenario(rewards=CorrelatedRewards(spread, reset))
        name = f'correlated_sp{spread}_rprob{reset}_r{rate}_b{depth}'
        tasks[name] = Task(scenario, Fraction(rate), Fraction(depth), pool)
    for slow, rate, depth in ARRIVALS:
        scenario = Scenario(arrivals=TwoStateArrivals.published(slow))
        name = f'arrivals_{slow}_r{rate}_b{depth}'
        tasks[name] = Task(scenario, Fraction(rate), Fraction(depth), pool)
    return tasks


def load_metrics(path: Path) -> NDArray[np.float64]:
    """Read the column "metric" of a CSV file, sorted.

    Args:
        path: The file.

    Returns:
        float64 [K].

    Raises:
        ConfigError: When there is no such file or column.
    """
    try:
        header, *lines = path.read_text(encoding='utf-8').splitlines()
        column = header.split(',').index('metric')
        return np.sort(np.loadtxt(lines, delimiter=',', usecols=column, ndmin=1))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f'{path} is no table of metrics ({error}); give a CSV file with a column "metric"'
        ) from error
