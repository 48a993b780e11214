# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The parameters of nodes that bring items into a simulated cell: which come, and when."""

from __future__ import annotations

from dataclasses import dataclass

from stl_conveyor.nodes.base.peers import WaitingSettings
from stl_conveyor.nodes.base.settings import parameter
from stl_conveyor.sim.arrivals import ARRIVALS, ArrivalSettings


@dataclass(frozen=True)
class ArrivalParameters(WaitingSettings):
    """Parameters of a run's items."""

    cell_file: str = parameter('', 'Description of the cell (YAML); empty = config/cell.yaml.')
    items: int = parameter(200, 'Number of items.', minimum=1, maximum=10_000_000)
    seed: int = parameter(1, 'Seed of everything random.', minimum=0, maximum=2**62)
    time_unit: float = parameter(
        0.5, 'Seconds of a time unit, the shortest item period.', minimum=0.05, maximum=3600.0
    )
    arrivals: str = parameter('periodic', 'Arrival process.', choices=ARRIVALS)
    period: int = parameter(
        1, 'Time units between items: periodic, correlated.', minimum=1, maximum=1_000_000
    )
    mean_interval: float = parameter(
        2.0, 'Time units between items on average: poisson.', minimum=1.0, maximum=1e6
    )
    intervals: tuple = parameter((1, 3), 'Time units between items in both states: markov.')
    leaving: tuple = parameter(
        (0.001, 0.0005), 'Probability per time unit of leaving each state: markov.'
    )
    spread: float = parameter(
        0.1, 'Part of the sorted items within reach: correlated.', minimum=0.0, maximum=1.0
    )
    reset_probability: float = parameter(
        0.01, 'Probability of a new location per item: correlated.', minimum=0.0, maximum=1.0
    )
    lateral_range: float = parameter(
        0.01, 'Largest distance of items from the centre line (m).', minimum=0.0, maximum=0.099
    )
    foreign_share: float = parameter(
        0.0,
        'Share of the items that do not belong on the belt: other parts and sizes, doubles, '
        'halves, tools, labels, a hand.',
        minimum=0.0,
        maximum=1.0,
    )
    frame_id: str = parameter('camera_optical_frame', 'Optical frame of the camera.')


def arrival_settings(settings: ArrivalParameters) -> ArrivalSettings:
    """Return the arrival process that the parameters describe.

    Raises:
        ConfigError: Naming the value that is wrong.
    """
    return ArrivalSettings(
        process=settings.arrivals,
        period=settings.period,
        mean_interval=settings.mean_interval,
        intervals=tuple(settings.intervals),
        leaving=tuple(settings.leaving),
        spread=settings.spread,
        reset_probability=settings.reset_probability,
        lateral_range=settings.lateral_range,
        foreign_share=settings.foreign_share,
    )
