# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How soon is a change of the world told, and how often is one told that did not happen?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stl_conveyor.decision import drift as watched
from stl_conveyor.decision.drift import DriftWatch, ItemLook, look_at
from stl_conveyor.resources import write_whole

BEFORE, AFTER = 1000, 600  # items of a stream
ALARM_ITEMS = 20_000  # of each stream without a change
REJECTS = 0.02
SURE = 0.9  # as the local classifier has it
BLUR = 1.2  # pixels, standard deviation
NEW_KIND_SHARE = 0.1
KNOWN_BLUR_NOISE = 2.0  # grey levels of the sensor's noise, which a lens does not blur


@dataclass(frozen=True)
class Stream:
    """What the device sees of one belt's items, to draw streams from.

    Attributes:
        looks: [N] of the pictures as they are, and changed in each way, by its name.
        classes: int64 [N], the true ones.
        labels: str [N], as told by the local model; empty where it is not sure.
        unknown: [N], unknown scores of the device.
    """

    looks: dict[str, list[ItemLook]]
    classes: np.ndarray
    labels: np.ndarray
    unknown: np.ndarray


@dataclass(frozen=True)
class DriftRow:
    """What came of one change over all streams.

    Attributes:
        told: Share of the streams in which it was told within AFTER items.
        median, late: Items until it was told: the median, and nine tenths of those told.
    """

    change: str
    streams: int
    told: float
    median: float
    late: float


def blurred(image: np.ndarray, rng: np.random.Generator, width: float = BLUR) -> np.ndarray:
    """Return a picture out of focus: blurred, with the noise of the sensor added again."""
    reach = np.arange(-4, 5)
    kernel = np.exp(-0.5 * (reach / width) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(image.astype(np.float32), ((4, 4), (4, 4), (0, 0)), mode='edge')
    rows = sum(w * padded[k : k + image.shape[0]] for k, w in enumerate(kernel))
    both = sum(w * rows[:, k : k + image.shape[1]] for k, w in enumerate(kernel))
    noisy = both + rng.normal(0.0, KNOWN_BLUR_NOISE, image.shape)
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)


def stream_of(
    shard: Path, trust: np.ndarray, told: np.ndarray, unknown: np.ndarray, labels: Sequence[str]
) -> Stream:
    """Return a belt's stream.

    Args:
        trust: [N], how far the local answer is to be trusted.
        told: int64 [N], the local answer.
        unknown: [N], unknown scores of the device.
    """
    with np.load(shard) as data:
        pixels, classes = data['pixels'], data['labels'].astype(np.int64)
    rng = np.random.default_rng(int(shard.stem))
    names = np.array([labels[k] if sure >= SURE else '' for k, sure in zip(told, trust)])
    return Stream(
        {
            'nothing': [look_at(image) for image in pixels],
            'lamp dimmer by a third': [
                look_at((image * np.float32(2 / 3)).astype(np.uint8)) for image in pixels
            ],
            'out of focus': [look_at(blurred(image, rng)) for image in pixels],
        },
        classes,
        names,
        unknown,
    )


def _items_until(
    watch: DriftWatch, add: Callable[[DriftWatch], list[str]], wanted: Sequence[str]
) -> int | None:
    for item in range(1, AFTER + 1):
        if set(add(watch)) & set(wanted):
            return item
    return None


@dataclass(frozen=True)
class BeltDrift:
    """What came of one belt.

    Attributes:
        delays: Items until each change was told, by its name; None: not within AFTER items.
        false_alarms: What was told while nothing changed.
        items: Without a change.
    """

    delays: Mapping[str, int | None]
    false_alarms: int
    items: int


def measure_belt(
    streams: Sequence[Stream], number: int, strange: np.ndarray, seed: int = 0
) -> BeltDrift:
    """Draw items of a belt with replacement, change the world, and count.

    Args:
        number: Of the belt; the one after it replaces it.
        strange: [M], unknown scores of strangers, which a new kind's are drawn from.
    """
    stream = streams[number]
    rng = np.random.default_rng((seed, number, 71))
    other = streams[(number + 1) % len(streams)]

    def drawn(
        of: Stream, change: str, without: int = -1, foreign: float = 0.0
    ) -> Callable[[DriftWatch], list[str]]:
        rows = np.flatnonzero(of.classes != without)

        def add(watch: DriftWatch) -> list[str]:
            k = int(rows[rng.integers(len(rows))])
            unknown = float(of.unknown[k])
            if foreign and rng.random() < foreign:
                unknown = float(strange[rng.integers(len(strange))])
            found = watch.add(of.looks[change][k], str(of.labels[k]), unknown)
            return [change.name for change in found if not change.over]

        return add

    gone = int(stream.classes[rng.integers(len(stream.classes))])
    changes = {
        'lamp dimmer by a third': (drawn(stream, 'lamp dimmer by a third'), ('light_changed',)),
        'out of focus': (drawn(stream, 'out of focus'), ('sharpness_changed',)),
        'belt replaced': (drawn(other, 'nothing'), ('ground_changed', 'light_changed')),
        'a class stopped coming': (drawn(stream, 'nothing', gone), ('class_missing',)),
        f'a new kind, {NEW_KIND_SHARE:.0%} of the items': (
            drawn(stream, 'nothing', foreign=NEW_KIND_SHARE),
            ('new_kind',),
        ),
    }
    steady = drawn(stream, 'nothing')
    delays: dict[str, int | None] = {}
    for name, (changed, wanted) in changes.items():
        watch = DriftWatch(REJECTS, seed=number)
        for _ in range(BEFORE):
            steady(watch)
        delays[name] = _items_until(watch, changed, wanted)
    watch = DriftWatch(REJECTS, seed=number)
    false_alarms = sum(len(steady(watch)) for _ in range(ALARM_ITEMS))
    return BeltDrift(delays, false_alarms, ALARM_ITEMS)


def _key(streams: Sequence[Stream], number: int, strange: np.ndarray, seed: int) -> str:
    """Return what a belt's outcome depends on, as a name: all drawn from, and the detectors."""
    content = hashlib.sha256(Path(watched.__file__).read_bytes())
    content.update(repr((BEFORE, AFTER, ALARM_ITEMS, REJECTS, NEW_KIND_SHARE, seed)).encode())
    for stream in (streams[number], streams[(number + 1) % len(streams)]):
        content.update(repr((stream.looks, stream.labels.tolist())).encode())
        content.update(stream.classes.tobytes() + stream.unknown.tobytes())
    content.update(strange.tobytes())
    return content.hexdigest()[:12]


def measure_drift(
    streams: Sequence[Stream], strange: np.ndarray, seed: int = 0, kept: Path | None = None
) -> tuple[list[DriftRow], int, int]:
    """Measure each belt and count over all; see `measure_belt`.

    Args:
        kept: Folder with what came of each belt, so that a measurement that was stopped goes on.

    Returns:
        A row for each change, false alarms, and the items without a change.
    """
    belts = []
    for number in range(len(streams)):
        if kept is None:
            belts.append(measure_belt(streams, number, strange, seed))
            continue
        path = kept / f'{number}_{_key(streams, number, strange, seed)}.json'
        if not path.exists():
            found = asdict(measure_belt(streams, number, strange, seed))
            kept.mkdir(parents=True, exist_ok=True)
            write_whole(path, (json.dumps(found, indent=1) + '\n').encode())
            print(f'drift: belt {number + 1} of {len(streams)}', flush=True)
        belts.append(BeltDrift(**json.loads(path.read_text(encoding='utf-8'))))
    rows = []
    for name in belts[0].delays:
        delays = [belt.delays[name] for belt in belts]
        told = [delay for delay in delays if delay is not None]
        median, late = np.quantile(told, [0.5, 0.9]) if told else (np.nan, np.nan)
        rows.append(
            DriftRow(name, len(delays), len(told) / len(delays), float(median), float(late))
        )
    return rows, sum(belt.false_alarms for belt in belts), sum(belt.items for belt in belts)


def drift_lines(rows: Sequence[DriftRow], false_alarms: int, items: int) -> list[str]:
    """Return the table."""
    return [
        f'| change, after {BEFORE} items | streams | told within {AFTER} items '
        '| items until told, median | nine tenths |',
        '|---|---:|---:|---:|---:|',
        *(
            f'| {r.change} | {r.streams} | {r.told:.0%} | {r.median:.0f} | {r.late:.0f} |'
            for r in rows
        ),
        '',
        f'False alarms: {false_alarms} in {items:,} items without a change.',
    ]


def draw_drift(pyplot: Any, rows: Sequence[DriftRow]) -> Any:
    """Draw the delays."""
    figure, axes = pyplot.subplots(figsize=(6, 3))
    places = np.arange(len(rows))[::-1]
    axes.barh(places, [row.late for row in rows], color='#9aa5b1', label='nine tenths')
    axes.barh(places, [row.median for row in rows], height=0.5, color='#1f4e79', label='median')
    axes.set_yticks(places, [row.change for row in rows])
    axes.set_xlabel('items until it is told')
    axes.legend()
    return figure


def as_json(rows: Sequence[DriftRow], false_alarms: int, items: int) -> dict[str, Any]:
    """Return the same as a mapping."""
    return {
        'changes': [asdict(row) for row in rows],
        'false_alarms': false_alarms,
        'items_without_change': items,
    }
