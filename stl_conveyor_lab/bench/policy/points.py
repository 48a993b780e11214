# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The points of the published figures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from stl_conveyor.errors import ConfigError
from stl_conveyor_lab.papers.scenarios import CorrelatedRewards, Scenario, TwoStateArrivals

PUBLISHED = {'lower_bound': 'LB', 'baseline': 'BASE', 'mdp': 'MDP', 'dqn': 'DQN'}


@dataclass(frozen=True, eq=False)
class FigurePoint:
    """One point of a published figure.

    Attributes:
        figure: Name of the figure, such as 'fig5a'.
        panel: What the panel of the figure is for.
        x: Where the point lies in the panel.
        scenario: What drives the items.
        rate: Tokens per time unit, r.
        depth: Most tokens kept, b.
        published: Top-5 loss by policy.
    """

    figure: str
    panel: float
    x: float
    scenario: Scenario
    rate: Fraction
    depth: Fraction
    published: dict[str, float]

    @property
    def name(self) -> str:
        """Name the scenario and the bucket, as the files of trained networks do."""
        rewards, arrivals = self.scenario.rewards, self.scenario.arrivals
        parts = []
        if rewards is not None:
            parts.append(f'correlated_sp{rewards.spread:g}_rprob{rewards.reset:.4g}')
        if arrivals is not None:
            parts.append(f'arrivals_{arrivals.slow_interval}')
            if abs(arrivals.leave_fast - 0.001) > 1e-9:
                parts.append(f'tprob{arrivals.leave_fast:.4g}')
        return '_'.join([*parts, f'r{float(self.rate):g}', f'b{float(self.depth):g}'])


def published_points(path: Path) -> list[FigurePoint]:
    """Read the points of the published figures 5, 6, 8 and 9.

    Args:
        path: dqn_paper_figures.json.

    Returns:
        The points, in the order of the figures.

    Raises:
        ConfigError: When the file is not what it should be.
    """
    try:
        figures = json.loads(path.read_text(encoding='utf-8'))
        by_name = {key.split('_')[0]: value for key, value in figures.items()}
        points = []
        plan = (
            (
                'fig5a',
                (0.1, 0.01, 0.001),
                lambda panel, x: (CorrelatedRewards(x, panel), None, '0.1', 4),
            ),
            (
                'fig5b',
                (0.1, 0.2, 0.5),
                lambda panel, x: (CorrelatedRewards(panel, 10**x), None, '0.1', 4),
            ),
            (
                'fig6',
                (0.05, 0.1, 0.25),
                lambda panel, x: (CorrelatedRewards(0.1, 0.1), None, str(panel), int(x)),
            ),
            (
                'fig8',
                (3, 6),
                lambda panel, x: (None, TwoStateArrivals.published(panel, 10**x), '0.1', 4),
            ),
            (
                'fig9',
                (0.05, 0.1, 0.25),
                lambda panel, x: (None, TwoStateArrivals.published(3), str(panel), int(x)),
            ),
        )
        for figure, panels, make in plan:
            curves = by_name[figure]
            for panel, lines in zip(panels, curves['panels']):
                for place, x in enumerate(curves['x']):
                    rewards, arrivals, rate, depth = make(panel, x)
                    points.append(
                        FigurePoint(
                            figure,
                            panel,
                            x,
                            Scenario(rewards, arrivals),
                            Fraction(rate),
                            Fraction(depth),
                            {ours: lines[theirs][place] for ours, theirs in PUBLISHED.items()},
                        )
                    )
        return points
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ConfigError(
            f'{path} does not hold the published figures ({error!r}); REFERENCE names the folder '
            'with dqn_paper_figures.json'
        ) from error
