# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The parameters of nodes that bring items into a simulated cell: which come, and when."""

from __future__ import annotations

from dataclasses import dataclass

from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.health import Level
from stl_conveyor.nodes.base.settings import NodeSettings, parameter
from stl_conveyor.sim.arrivals import ARRIVALS, ArrivalSettings


@dataclass(frozen=True)
class ArrivalParameters(NodeSettings):
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
    wait_for: tuple[str, ...] = parameter(
        ('',),
        'Topics that must have a publisher before the first item comes, so that nothing '
        'passes nodes that are still loading their models. An empty name is none.',
    )
    wait_limit: float = parameter(
        60.0, 'Seconds after which items come even so.', minimum=0.0, maximum=3600.0
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
    )


class PeerWatch:
    """Looks for the nodes that must be there before the first item comes."""

    def __init__(self, node: ConveyorNode) -> None:
        """Begin to wait for the publishers that the node's parameter `wait_for` names."""
        self._node = node
        self._since_ns = node.steady_clock.now().nanoseconds

    def present(self) -> bool:
        """Return whether items may come; say what is missing until then."""
        node, settings = self._node, self._node.settings
        missing = [
            topic for topic in settings.wait_for if topic and not node.count_publishers(topic)
        ]
        waited_ns = node.steady_clock.now().nanoseconds - self._since_ns
        if missing and waited_ns < settings.wait_limit * 1e9:
            node.set_condition(
                'wait_for', Level.WARN, f'waiting for publishers of {", ".join(missing)}'
            )
            return False
        node.clear_condition('wait_for', 'the cell is there: items come')
        return True
