# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Do verified outcomes keep a lane as pure as promised when the world is not what it was?

The cell is calibrated on the belts of the model folder, and then sorts items of others: as they
are, among strangers, out of focus, or both. Each item that enters a lane is verified, and moves
the thresholds of the lane (`stl_conveyor/decision/adaptive.py`), or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.cell.description import CellDescription, Costs
from stl_conveyor.decision.calibration_record import CalibrationRecord, CellDecider
from stl_conveyor.decision.stranger_detector import StrangerDetector
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor_lab.bench.decision.drift import blurred
from stl_conveyor_lab.data.arrays import save_arrays
from stl_conveyor_lab.train.decision import LENGTHS, Looked, Onlooker

PURITY = 0.98
BYTES = 512
ITEMS, STREAMS = 3000, 8  # of a stream, and of a world
STRANGER_SHARE = 0.1


@dataclass(frozen=True)
class World:
    """What comes on the belt, as the edge sees it at BYTES.

    Attributes:
        answers: [N, C] probabilities.
        unknown: [N] unknown scores.
        classes: int64 [N]; -1 = a stranger.
        strangers: Share of the items that are drawn from the strangers; 0: none.
    """

    name: str
    answers: NDArray[np.floating]
    unknown: NDArray[np.floating]
    classes: NDArray[np.int64]
    strangers: float = 0.0

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
        """Return which items come, with replacement."""
        own, strange = np.flatnonzero(self.classes >= 0), np.flatnonzero(self.classes < 0)
        drawn = own[rng.integers(len(own), size=count)]
        if self.strangers:
            others = strange[rng.integers(len(strange), size=count)]
            drawn = np.where(rng.random(count) < self.strangers, others, drawn)
        return drawn


@dataclass(frozen=True)
class AdaptiveRow:
    """What came of one world over all streams, without and with the tracker.

    Attributes:
        without, tracked: Purity of what entered the lanes.
        worst_without, worst_tracked: Of the lane that is least pure, over all streams.
        rejected_without, rejected_tracked: Share of the cell's own items in reject.
        bound: The least purity that is proven of a lane of a stream for what was verified.
        lanes: Lanes of all streams whose threshold was never exhausted.
        kept: How many of these are within the bound.
        exhausted: Lanes whose threshold could rise no further at some time, as the cell reports.
    """

    world: str
    without: float
    tracked: float
    worst_without: float
    worst_tracked: float
    rejected_without: float
    rejected_tracked: float
    bound: float
    lanes: int
    kept: int
    exhausted: int


def worlds(
    own: Looked, strange: Looked, detector: StrangerDetector, soft: tuple[Any, Any]
) -> list[World]:
    """Return the worlds that are played.

    Args:
        soft: Answers [N, C] and unknown scores [N] of the own items out of focus.
    """
    place = LENGTHS.index(BYTES)

    def unknown(looked: Looked) -> NDArray[np.float64]:
        return detector.unknown(looked.edge_inside[place], [BYTES] * len(looked.classes))

    sharp = own.edge[place], unknown(own)
    foreign = strange.edge[place], unknown(strange)
    found = []
    for name, (answers, scores) in (('as they are', sharp), ('out of focus', soft)):
        found.append(World(name, answers, scores, own.classes))
        found.append(
            World(
                f'{name}, {STRANGER_SHARE:.0%} strangers',
                np.concatenate([answers, foreign[0]]),
                np.concatenate([scores, foreign[1]]),
                np.concatenate([own.classes, np.full(len(foreign[1]), -1)]),
                STRANGER_SHARE,
            )
        )
    return found


def out_of_focus(
    folder: ModelFolder, detector: StrangerDetector, shards: Sequence[Path], work: Path
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return what the edge tells of the shards' items out of focus, and how strange they are.

    What was asked before with these models is read.
    """
    key = '_'.join(f'{folder.model_id(role):016x}'[:8] for role in ('edge', 'strangers'))
    answers, unknown = [], []
    onlooker = Onlooker(folder)
    for shard in shards:
        kept = work / 'blurred' / f'{shard.stem}_{key}.npz'
        if not kept.exists():
            with np.load(shard) as data:
                pixels, classes = data['pixels'], data['labels'].astype(np.int64)
            rng = np.random.default_rng(int(shard.stem))
            soft = np.stack([blurred(image, rng) for image in pixels])
            names = np.array([folder.labels[k] for k in classes])
            told = onlooker.look(soft, classes, 0, names, (BYTES,))
            save_arrays(
                kept,
                edge=told.edge[0],
                unknown=detector.unknown(told.edge_inside[0], [BYTES] * len(classes)),
            )
            print(f'{shard.name}: {len(classes)} items out of focus', flush=True)
        with np.load(kept) as data:
            answers.append(data['edge'])
            unknown.append(data['unknown'])
    return np.concatenate(answers), np.concatenate(unknown)


def measure_adaptive(
    cell: CellDescription,
    labels: tuple[str, ...],
    record: CalibrationRecord,
    played: Sequence[World],
    items: int = ITEMS,
    streams: int = STREAMS,
    purity: float = PURITY,
    seed: int = 0,
) -> list[AdaptiveRow]:
    """Play streams of every world, without and with the tracker, on the same items.

    Raises:
        TooFewItems: If the calibration items cannot promise the purity.
    """
    lanes = tuple(replace(lane, purity=purity) for lane in cell.lanes)
    asked = replace(cell, lanes=lanes, costs=cell.costs or Costs())
    rows = []
    for number, world in enumerate(played):
        static, tracked = [], []
        bounds: list[tuple[float, bool]] = []
        exhausted = 0
        for stream in range(streams):
            rng = np.random.default_rng((seed, number, stream, 73))
            drawn = world.draw(items, rng)
            decider = CellDecider(asked, labels, record)
            static.append(_sorted(decider, world, drawn))
            told, spent = _tracked(decider, world, drawn)
            tracked.append(told)
            exhausted += len(spent)
            for name, adaptive in decider.adaptive.items():
                if name not in spent and adaptive.verified_items:
                    share = adaptive.wrong_items / adaptive.verified_items
                    bounds.append((adaptive.bound, share <= adaptive.bound + 1e-12))
        without, with_it = np.sum(static, axis=0), np.sum(tracked, axis=0)
        own = float(with_it[:, 0].sum())
        rows.append(
            AdaptiveRow(
                world.name,
                _purity(without[:-1]),
                _purity(with_it[:-1]),
                min(_purity(without[[lane]]) for lane in range(len(lanes))),
                min(_purity(with_it[[lane]]) for lane in range(len(lanes))),
                float(without[-1, 0]) / own,
                float(with_it[-1, 0]) / own,
                1.0 - max((bound for bound, _ in bounds), default=1.0),
                len(bounds),
                sum(kept for _, kept in bounds),
                exhausted,
            )
        )
    return rows


def _sorted(decider: CellDecider, world: World, drawn: NDArray[np.intp]) -> NDArray[np.int64]:
    """Return how many items came to each lane, the reject lane last: own, right, foreign."""
    table = decider.decider(BYTES)
    answers = decider.calibrated(world.answers[drawn], BYTES)
    lanes = table.choose_all(answers, world.unknown[drawn]).lanes
    return _count(decider, world.classes[drawn], lanes)


def _tracked(
    decider: CellDecider, world: World, drawn: NDArray[np.intp]
) -> tuple[NDArray[np.int64], set[str]]:
    """Return the same with each item verified, and the lanes that were exhausted."""
    members, spent = decider.decider(BYTES).table.members, set()
    answers = decider.calibrated(world.answers[drawn], BYTES)
    lanes = np.zeros(len(drawn), np.intp)
    for k, item in enumerate(drawn):
        choice = decider.decider(BYTES).choose(answers[k], float(world.unknown[item]))
        lanes[k] = choice.lane
        if choice.lane == len(decider.lanes) - 1:
            continue
        name, true = decider.lanes[choice.lane], int(world.classes[item])
        decider.verified(name, true < 0 or not members[true, choice.lane])
        if decider.adaptive[name].exhausted:
            spent.add(name)
    return _count(decider, world.classes[drawn], lanes), spent


def _count(
    decider: CellDecider, classes: NDArray[np.int64], lanes: NDArray[np.intp]
) -> NDArray[np.int64]:
    members = decider.decider(BYTES).table.members
    counts = np.zeros((len(decider.lanes), 3), np.int64)
    for lane in range(len(decider.lanes)):
        own = classes[(lanes == lane) & (classes >= 0)]
        right = int(members[own, lane].sum()) if lane < members.shape[1] else 0
        counts[lane] = len(own), right, int(((lanes == lane) & (classes < 0)).sum())
    return counts


def _purity(counts: NDArray[np.int64]) -> float:
    entered = int(counts[:, [0, 2]].sum())
    return float(counts[:, 1].sum()) / entered if entered else float('nan')


def adaptive_lines(rows: Sequence[AdaptiveRow]) -> list[str]:
    """Return the table."""
    return [
        f'Purity {PURITY:g} promised for each lane; {STREAMS} streams of {ITEMS:,} items, {BYTES} '
        'B of each. Each item that enters a lane is verified.',
        '',
        '| items of other belts | purity without, with the tracker | worst lane without, with '
        '| own items in reject without, with | lanes within the bound | loosest bound '
        '| lanes that can rise no further |',
        '|---|---:|---:|---:|---:|---:|---:|',
        *(
            f'| {r.world} | {r.without:.4f}, {r.tracked:.4f} '
            f'| {r.worst_without:.4f}, {r.worst_tracked:.4f} '
            f'| {r.rejected_without:.3f}, {r.rejected_tracked:.3f} '
            f'| {r.kept} of {r.lanes} | {r.bound:.3f} | {r.exhausted} |'
            for r in rows
        ),
    ]


def draw_adaptive(pyplot: Any, rows: Sequence[AdaptiveRow]) -> Any:
    """Draw the purity of all lanes and of the worst, without and with the tracker."""
    figure, axes = pyplot.subplots(figsize=(7, 3))
    places = np.arange(len(rows))[::-1]
    for shift, colour, label, values in (
        (0.2, '#9aa5b1', 'without', [(row.without, row.worst_without) for row in rows]),
        (-0.2, '#1f4e79', 'with the tracker', [(row.tracked, row.worst_tracked) for row in rows]),
    ):
        every, worst = np.array(values).T
        axes.plot(every, places + shift, 'o', color=colour, label=f'{label}, all lanes')
        axes.plot(worst, places + shift, 'x', color=colour, label=f'{label}, worst lane')
    axes.axvline(PURITY, lw=0.8, color='black')
    axes.set_yticks(places, [row.world for row in rows])
    axes.set_xlabel('purity')
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return figure
