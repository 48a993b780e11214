# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Offloading by the fall in cost beside offloading by the gain in accuracy, at equal payload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stl_conveyor.cell.description import CellDescription, Costs, Lane, Strangers
from stl_conveyor.decision.calibration_record import CalibrationRecord, CellDecider
from stl_conveyor.errors import ConfigError
from stl_conveyor.outside_files import UnusableFile, read_yaml
from stl_conveyor.policy.reward import RewardEstimator
from stl_conveyor.policy.worth import AccuracyWorth, CostWorth
from stl_conveyor_lab.train.decision import LENGTHS, Looked

RATES = (0.05, 0.1, 0.25)
BYTES = 512
RESAMPLES = 1000


@dataclass(frozen=True)
class OffloadRow:
    """Mean cost of an item, where a share r of the items is offloaded, those worth most.

    Attributes:
        fall: Share of the cost by class that by cost saves, with its 95 % interval.
    """

    lanes: str
    rate: float
    local: float
    edge: float
    by_class: float
    by_cost: float
    hindsight: float
    fall: float
    low: float
    high: float


def lanes_by_kind(cell: CellDescription, labels: Sequence[str], groups: int) -> CellDescription:
    """Return the cell with the labels put into lanes, those that follow each other together."""
    parts = np.array_split(np.arange(len(labels)), groups)
    return _with_lanes(
        cell, {f'{k + 1}': [labels[i] for i in part] for k, part in enumerate(parts)}
    )


def lanes_of_file(cell: CellDescription, labels: Sequence[str], path: Path) -> CellDescription:
    """Return the cell with the labels in the lanes that a YAML file names for them.

    Raises:
        ConfigError: Naming the label that has no lane there, or is none of the models'.
    """
    try:
        found = read_yaml(path)
    except UnusableFile as error:
        raise ConfigError(f'{path}: {error}') from error
    if not isinstance(found, Mapping):
        raise ConfigError(f'{path}: give the lane of each label, such as "green apple: fruit"')
    for label in sorted({*labels} ^ {*map(str, found)}):
        if label in labels:
            raise ConfigError(f'{path}: has no lane for {label!r}')
        raise ConfigError(f'{path}: {label!r} is no label of the models')
    lanes: dict[str, list[str]] = {}
    for label, lane in found.items():
        lanes.setdefault(str(lane), []).append(str(label))
    if cell.reject_lane in lanes:
        raise ConfigError(f'{path}: {cell.reject_lane!r} is the reject lane')
    return _with_lanes(cell, lanes)


def _with_lanes(cell: CellDescription, lanes: Mapping[str, Sequence[str]]) -> CellDescription:
    first, last = cell.lanes[0].diverter_x, cell.lanes[-1].diverter_x
    places = np.linspace(first, last, len(lanes))
    return replace(
        cell,
        lanes=tuple(
            Lane(name, round(float(x), 4), tuple(labels))
            for x, (name, labels) in zip(places, lanes.items())
        ),
    )


def measure_offloading(
    cells: Mapping[str, CellDescription],
    labels: tuple[str, ...],
    record: CalibrationRecord,
    rewards: RewardEstimator,
    looked: Looked,
    seed: int = 0,
) -> list[OffloadRow]:
    """Offload the items that are worth most by either estimate, as many of them.

    Args:
        cells: By a name for people; each is given the default costs where it has none.
        record: Calibration items, from which the fall in cost is learned.
        rewards: The estimate of the gain in accuracy (reward.json).
        looked: Items that neither has seen.
    """
    rng = np.random.default_rng((seed, 67))
    count, place = len(looked.classes), LENGTHS.index(BYTES)
    resamples = rng.integers(0, count, (RESAMPLES, count))
    rows = []
    for name, given in cells.items():
        # Strangers are measured by themselves; their scores are none of these estimates.
        cell = replace(
            given, costs=given.costs or Costs(), strangers=Strangers(rejects=0.0, share=0.0)
        )
        decider = CellDecider(cell, labels, replace(record, local_unknown=None, edge_unknown=None))
        costs = decider.decider(None).table.costs[looked.classes]

        def cost_of(answers: np.ndarray, received: int | None) -> np.ndarray:
            told = decider.calibrated(answers.astype(np.float64), received)
            lanes = decider.decider(received).choose_all(told).lanes
            return costs[np.arange(count), lanes]

        local, edge = cost_of(looked.local, None), cost_of(looked.edge[place], BYTES)
        worth = {
            'class': AccuracyWorth(rewards).of_all(looked.local, looked.posterior),
            'cost': CostWorth(decider, BYTES).of_all(looked.local, looked.posterior),
            'hindsight': local - edge,
        }
        noise = 1e-9 * rng.random(count)  # ties are broken at random, by all alike
        for rate in RATES:
            sent = {
                way: np.argsort(-(values + noise), kind='stable')[: round(rate * count)]
                for way, values in worth.items()
            }
            after = {way: local.copy() for way in worth}
            for way, chosen in sent.items():
                after[way][chosen] = edge[chosen]
            by_class, by_cost = (after[way][resamples].mean(axis=1) for way in ('class', 'cost'))
            low, high = np.quantile(1 - by_cost / np.maximum(by_class, 1e-9), [0.025, 0.975])
            means = {way: float(value.mean()) for way, value in after.items()}
            rows.append(
                OffloadRow(
                    name,
                    rate,
                    float(local.mean()),
                    float(edge.mean()),
                    means['class'],
                    means['cost'],
                    means['hindsight'],
                    1 - means['cost'] / max(means['class'], 1e-9),
                    float(low),
                    float(high),
                )
            )
    return rows


def offload_lines(rows: Sequence[OffloadRow]) -> list[str]:
    """Return the table."""
    return [
        '| lanes | r | device alone | by class | by cost | saved by cost [95 %] | hindsight '
        '| edge, every item |',
        '|---|---:|---:|---:|---:|---:|---:|---:|',
        *(
            f'| {r.lanes} | {r.rate:g} | {r.local:.4f} | {r.by_class:.4f} | {r.by_cost:.4f} '
            f'| {r.fall:.2f} [{r.low:.2f}, {r.high:.2f}] | {r.hindsight:.4f} | {r.edge:.4f} |'
            for r in rows
        ),
    ]


def draw_offloading(pyplot: Any, rows: Sequence[OffloadRow]) -> Any:
    """Draw the cost over the rate, a panel for each arrangement of lanes."""
    names = list(dict.fromkeys(row.lanes for row in rows))
    figure, panels = pyplot.subplots(
        1, len(names), figsize=(4 * len(names), 3.6), squeeze=False, sharey=True
    )
    for axes, name in zip(panels[0], names):
        part = [row for row in rows if row.lanes == name]
        at = [row.rate for row in part]
        for label, values in (
            ('by class', [row.by_class for row in part]),
            ('by cost', [row.by_cost for row in part]),
            ('hindsight', [row.hindsight for row in part]),
        ):
            axes.plot([0, *at], [part[0].local, *values], 'o-', label=label)
        axes.set(title=name, xlabel='share offloaded, r')
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel('cost of an item')
    panels[0][0].legend()
    return figure
