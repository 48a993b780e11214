# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How often the models are right on belts that they have not seen: the mean, and the worst belt.

Accuracies stand beside the marks that were set for models that are trained anew for the decision
by cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.assess.intervals import wilson
from stl_conveyor.codec import Decoder, Encoder
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor_lab.data.arrays import save_arrays
from stl_conveyor_lab.train.decision import BATCH, LENGTHS, Looked

WEAK, STRONG, CODEC, FUSED = 'weak', 'strong', 'codec alone', 'with the local answer'
# Least accuracy on the mean of the belts, by model and bytes; 0 bytes: the whole picture.
MARKS: Mapping[tuple[str, int], float] = {
    (WEAK, 0): 0.84,
    (STRONG, 0): 0.985,
    (CODEC, 64): 0.90,
    (CODEC, 128): 0.97,
    (CODEC, 256): 0.985,
    (CODEC, 512): 0.992,
    (CODEC, 1024): 0.992,
}
WORST_MARK = (CODEC, 512, 0.96)


@dataclass(frozen=True)
class ModelRow:
    """How often one model is right at one length.

    Attributes:
        length: Bytes; 0 where the model sees the whole picture.
        accuracy: Of all items, with its 95 % interval.
        worst: Of the belt that it knows worst.
        mark, worst_mark: What was asked for; None: nothing.
    """

    model: str
    length: int
    accuracy: float
    low: float
    high: float
    worst: float
    mark: float | None = None
    worst_mark: float | None = None

    @property
    def met(self) -> bool | None:
        """Return whether all that was asked for is there; None: nothing was."""
        asked = [
            value >= mark
            for value, mark in ((self.accuracy, self.mark), (self.worst, self.worst_mark))
            if mark is not None
        ]
        return all(asked) if asked else None


def asked(
    folder: ModelFolder, shards: Sequence[Path], work: Path
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return what the strong model [N] and the codec without a local answer [P, N] tell.

    What was asked before with these models is read.
    """
    key = '_'.join(f'{folder.model_id(role):016x}'[:8] for role in ('strong', 'edge'))
    strong, alone = [], []
    networks: tuple[Classifier, Encoder, Decoder] | None = None
    for shard in shards:
        kept = work / 'models' / f'{shard.stem}_{key}.npz'
        if not kept.exists():
            if networks is None:
                networks = Classifier(folder.path('strong')), Encoder(folder), Decoder(folder)
            with np.load(shard) as data:
                images = data['pixels']
            save_arrays(kept, **_ask(*networks, images))
            print(f'{shard.name}: strong model and codec alone', flush=True)
        with np.load(kept) as data:
            strong.append(data['strong'].astype(np.int64))
            alone.append(data['alone'].astype(np.int64))
    return np.concatenate(strong), np.concatenate(alone, axis=1)


def _ask(
    strong: Classifier, encoder: Encoder, decoder: Decoder, images: NDArray[np.uint8]
) -> dict[str, NDArray[np.int16]]:
    alone = np.zeros((len(LENGTHS), len(images)), np.int16)
    for place, length in enumerate(LENGTHS):
        sessions = []
        for image in images:
            session = decoder.start()
            for packet in encoder.encode(image, max_bytes=length).packets:
                session.add(packet)
            sessions.append(session)
        for k in range(0, len(images), BATCH):
            answers = decoder.classify(sessions[k : k + BATCH])
            alone[place, k : k + BATCH] = answers.argmax(axis=1)
    told = [
        strong.classify_batch(images[k : k + BATCH]).argmax(axis=1)
        for k in range(0, len(images), BATCH)
    ]
    return {'strong': np.concatenate(told).astype(np.int16), 'alone': alone}


def measure_models(
    looked: Looked, strong: NDArray[np.int64], alone: NDArray[np.int64]
) -> list[ModelRow]:
    """Count what is right.

    Args:
        looked: Weak model, and edge with the local answer.
        strong: int64 [N], answers of the strong model.
        alone: int64 [P, N], answers of the codec without the local one, at LENGTHS.
    """
    told: dict[tuple[str, int], NDArray[Any]] = {
        (WEAK, 0): looked.local.argmax(axis=1),
        (STRONG, 0): strong,
    }
    told |= {(CODEC, length): alone[place] for place, length in enumerate(LENGTHS)}
    told |= {
        (FUSED, length): looked.edge[place].argmax(axis=1) for place, length in enumerate(LENGTHS)
    }
    rows = []
    for (model, length), answers in told.items():
        right = answers == looked.classes
        low, high = wilson(int(right.sum()), len(right))
        rows.append(
            ModelRow(
                model,
                length,
                float(right.mean()),
                low,
                high,
                min(float(right[looked.belts == belt].mean()) for belt in np.unique(looked.belts)),
                MARKS.get((model, length)),
                WORST_MARK[2] if (model, length) == WORST_MARK[:2] else None,
            )
        )
    return rows


def model_lines(rows: Sequence[ModelRow]) -> list[str]:
    """Return the table, and whether the local answer ever harms."""
    accuracy = {(row.model, row.length): row.accuracy for row in rows}
    harmed = [
        length for length in LENGTHS if accuracy[FUSED, length] < accuracy[CODEC, length] - 1e-12
    ]
    lines = [
        '| model | bytes | right [95 %] | mark | worst belt | mark | |',
        '|---|---:|---:|---:|---:|---:|---|',
    ]
    for row in rows:
        marks = ['' if mark is None else f'{mark:g}' for mark in (row.mark, row.worst_mark)]
        word = {None: '', True: 'met', False: 'not met'}[row.met]
        lines.append(
            f'| {row.model} | {row.length or ""} | {row.accuracy:.4f} '
            f'[{row.low:.3f}, {row.high:.3f}] | {marks[0]} | {row.worst:.3f} | {marks[1]} '
            f'| {word} |'
        )
    return [
        *lines,
        '',
        'With the local answer the codec is never below what it is alone: '
        + (f'not met at {", ".join(map(str, harmed))} B.' if harmed else 'met.'),
    ]


def draw_models(pyplot: Any, rows: Sequence[ModelRow]) -> Any:
    """Draw the accuracy over the bytes, mean and worst belt."""
    figure, axes = pyplot.subplots(figsize=(6, 4))
    for model, colour in ((CODEC, '#1f4e79'), (FUSED, '#c55a11')):
        part = [row for row in rows if row.model == model]
        at = [row.length for row in part]
        axes.plot(at, [row.accuracy for row in part], 'o-', color=colour, label=model)
        axes.plot(
            at, [row.worst for row in part], 's--', color=colour, label=f'{model}, worst belt'
        )
    marked = [row for row in rows if row.model == CODEC and row.mark is not None]
    axes.plot([r.length for r in marked], [r.mark for r in marked], 'k_', ms=14, label='mark')
    for model in (WEAK, STRONG):
        (row,) = [row for row in rows if row.model == model]
        axes.axhline(row.accuracy, lw=0.8, color='#9aa5b1')
        axes.text(LENGTHS[0], row.accuracy, model, va='bottom', fontsize=8)
    axes.set_xscale('log', base=2)
    axes.set(xlabel='bytes', ylabel='right')
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    return figure
