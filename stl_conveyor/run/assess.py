# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the records and logs of a run say."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import stl_conveyor
from stl_conveyor.assess.lanes import result_of_run
from stl_conveyor.assess.latency import (
    EDGE_CLASSIFICATION,
    FEATURES,
    FEEDBACK,
    Passage,
    stage_latencies,
)
from stl_conveyor.assess.scoring import ItemRecord, score, slack_ms
from stl_conveyor.assess.table import csv_row, write_csv
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConveyorError
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.run.plan import items_of
from stl_conveyor.run.report import write_report
from stl_conveyor.run.settings import RunSettings, Sources
from stl_conveyor.run.summary import LATE_PICTURE_MS, Summary
from stl_conveyor.sim.arrivals import ItemPlan
from stl_conveyor.vision.image import resize_square


@dataclass(frozen=True)
class Observed:
    """What was seen of a run while it lasted.

    Attributes:
        records: Everything heard about each item, in the order of the capture stamps.
        crops: What the camera saw, uint8[S, S, 3] by capture stamp.
        tokens_spent: By the bucket's account; None if no bucket was heard of.
        cpu: CPU seconds by process.
        troubles: What nodes complained of.
        deaths: Processes that ended when nobody asked them to.
        complete: Whether every item came to rest.
        began_ns: When the run began, by the system's clock.
        ended_ns: When its last process had ended.
        versions: Of everything that the numbers depend on.
        held: For how long (s) the simulation was held, because the machine was too slow.
        onlookers_cpu: CPU seconds by process of those who looked on.
    """

    records: tuple[ItemRecord, ...]
    crops: Mapping[int, NDArray[np.uint8]]
    tokens_spent: float | None
    cpu: Mapping[str, float]
    troubles: tuple[str, ...]
    deaths: tuple[str, ...]
    complete: bool
    began_ns: int
    ended_ns: int
    versions: Mapping[str, str]
    held: float = 0.0
    onlookers_cpu: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunResult:
    """What a run leaves behind in memory; `onlookers_cpu`: see `Observed`."""

    summary: Summary
    records: tuple[ItemRecord, ...]
    crops: Mapping[int, NDArray[np.uint8]]
    strong: Mapping[int, tuple[str, float]]
    onlookers_cpu: Mapping[str, float] = field(default_factory=dict)


def summarise(
    settings: RunSettings,
    sources: Sources,
    cell: CellDescription,
    observed: Observed,
    strong: Mapping[int, tuple[str, float]],
) -> Summary:
    """Return the result of a run from what was seen of it and from its logs.

    Args:
        strong: The strong model's class and score by capture stamp; empty if it was not asked.
    """
    readout, passages = read_readout(sources.camera_log), read_passages(sources.link_log)
    shown = [r for r in observed.records if r.serial]
    asked = {r.stamp_ns: strong[r.stamp_ns][0] for r in shown if r.stamp_ns in strong}
    n = max(len(shown), 1)
    return Summary(
        settings=settings,
        score=score(observed.records, cell),
        strong_correct=sum(
            cell.lane_of(asked[r.stamp_ns]) == r.lane for r in shown if r.stamp_ns in asked
        )
        if strong
        else None,
        strong_class_correct=sum(
            asked[r.stamp_ns] == r.class_id for r in shown if r.stamp_ns in asked
        )
        if strong
        else None,
        link_bytes={
            channel: sum(p.wire_bytes for p in passages if p.channel == channel)
            for channel in (FEATURES, FEEDBACK, EDGE_CLASSIFICATION)
        }
        if passages
        else {},
        tokens_spent=observed.tokens_spent,
        slack_ms=slack_ms(observed.records),
        latency_ms=stage_latencies(observed.records, readout, passages),
        cpu_seconds_per_item={
            **{name: used / n for name, used in observed.cpu.items()},
            'total': sum(observed.cpu.values()) / n,
        },
        seconds_to_first_item=(shown[0].stamp_ns - observed.began_ns) / 1e9
        if shown
        else float('nan'),
        seconds=(observed.ended_ns - observed.began_ns) / 1e9,
        simulation_lag_ms=max(readout.values()) / 1e6 if readout else float('nan'),
        troubles=observed.troubles,
        deaths=observed.deaths,
        complete=observed.complete,
        versions=observed.versions,
        held_seconds=observed.held,
        lanes=result_of_run(observed.records, cell),
        late_pictures=sum(delay > LATE_PICTURE_MS * 1e6 for delay in readout.values()),
    )


def write_results(
    settings: RunSettings,
    sources: Sources,
    cell: CellDescription,
    observed: Observed,
    say: Callable[[str], None],
) -> RunResult:
    """Write summary.json, items.csv and report.html of a run.

    Args:
        say: Takes lines for people.
    """
    records, crops = observed.records, observed.crops
    try:
        strong = ask_strong(sources.models, crops)
    except ConveyorError as error:
        say(f'the strong model could not be asked: {error}')
        strong = {}
    summary = summarise(settings, sources, cell, observed, strong)
    summary.write(sources.out / 'summary.json')
    write_csv(
        sources.out / 'items.csv',
        [csv_row(r, cell, strong.get(r.stamp_ns), crops.get(r.stamp_ns)) for r in records],
    )
    overview = picture_of_cell(cell, settings, items_of(settings, cell), records)
    write_report(sources.out, summary, records, cell, crops, overview)
    return RunResult(summary, records, crops, strong, observed.onlookers_cpu)


def ask_strong(models: Path, crops: Mapping[int, np.ndarray]) -> Mapping[int, tuple[str, float]]:
    """Return the strong model's class and score for every uncompressed crop, by stamp."""
    folder = ModelFolder(models)
    classifier = Classifier(folder.path('strong'), threads=os.cpu_count() or 1)
    stamps = sorted(crops)
    answers: dict[int, tuple[str, float]] = {}
    for start in range(0, len(stamps), 16):
        batch = stamps[start : start + 16]
        images = np.stack([resize_square(crops[s], folder.image_size) for s in batch])
        for stamp, row in zip(batch, classifier.classify_batch(images)):
            answers[stamp] = (folder.labels[int(row.argmax())], float(row.max()))
    return answers


def picture_of_cell(
    cell: CellDescription,
    settings: RunSettings,
    plan: Sequence[ItemPlan],
    records: Sequence[ItemRecord],
) -> np.ndarray | None:
    """Simulate the beginning again, with the run's commands, and photograph the cell."""
    try:
        from stl_conveyor.sim.mujoco_cell import MujocoCell

        lanes = {r.serial: r.action.lane for r in records if r.serial and r.action is not None}
        with closing(MujocoCell(cell, plan, settings.seed, settings.time_unit)) as simulation:
            moment = plan[min(7, len(plan) - 1)].arrival * settings.time_unit + 1.3
            while simulation.time < moment:
                for event in simulation.step_until(simulation.time + 0.01):
                    if not hasattr(event, 'image'):
                        continue
                    lane = lanes.get(event.serial, cell.reject_lane)
                    if lane != cell.reject_lane:
                        simulation.fire(lane, event.time + cell.fire_time_ns(0, lane) / 1e9)
            return simulation.render_overview(720, 1280)
    except (ImportError, ConveyorError):
        return None


def read_passages(path: Path) -> list[Passage]:
    """Return what link_emulator logged; nothing if there is no log."""
    return [
        Passage(int(row[0]), row[1], int(row[2]), int(row[3]), int(row[4]))
        for row in _read_csv(path, 5)
    ]


def read_readout(path: Path) -> dict[int, int]:
    """Return, by capture stamp, how many ns later cell_simulator handed the frame over."""
    return {int(row[0]): int(row[1]) - int(row[0]) for row in _read_csv(path, 2)}


def _read_csv(path: Path, columns: int) -> list[list[str]]:
    try:
        lines = path.read_text(encoding='utf-8').splitlines()[1:]
    except OSError:
        return []
    rows = [line.split(',') for line in lines]
    return [row for row in rows if len(row) == columns and row[-1]]


def versions(models: Path) -> Mapping[str, str]:
    """Return the versions of everything that a run's numbers depend on."""
    found = {
        'stl_conveyor': stl_conveyor.__version__,
        'python': platform.python_version(),
        'ros': os.environ.get('ROS_DISTRO', ''),
        'rmw': os.environ.get('RMW_IMPLEMENTATION', ''),
    }
    for package in ('numpy', 'onnxruntime', 'mujoco', 'scipy'):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            pass
    folder = ModelFolder(models)
    found['models'] = folder.name
    for role in folder.roles:
        found[f'model_{role}'] = f'{folder.model_id(role):016x}'
    return found
