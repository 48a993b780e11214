# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the codec and the edge's network can do, measured on the exported files."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stl_conveyor.assess.network_gain import RESCALED_WEBP_NAME, answers_to_webp, gain_lines
from stl_conveyor.assess.plotting import file_pyplot
from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.vision.image_folder import LabelledImages
from stl_conveyor_lab.measure.codec_time import measure_times
from stl_conveyor_lab.measure.machine import machine
from stl_conveyor_lab.measure.own_codec import OURS, OURS_WITH_SIDE, codec_answers
from stl_conveyor_lab.measure.scores import Row, accuracy_row, right_answers, share_row
from stl_conveyor_lab.train.codec.edge_network import EdgeNetwork
from stl_conveyor_lab.train.codec.export import edge_example
from stl_conveyor_lab.train.codec.recipe import SIZES
from stl_conveyor_lab.train.lite0 import FoldedTrunk, normalised
from stl_conveyor_lab.train.onnx_export import count_macs
from stl_conveyor_lab.train.time_plan import UNLIMITED, Allowance

#: Bytes of an offload for which a training says what it brings, one of SIZES.
NOMINAL_BYTES = 512
#: Test images that one pass is timed on, the fewest that are measured, and those whose times are.
PROBED, LEAST_IMAGES, TIMED_IMAGES = 4, 30, 20
#: Part of the time for the accuracies; the rest is for processor times and drawing.
ACCURACY_SHARE = 0.65
#: What the times of one image take, in answers of the edge: all batches together.
ANSWERS_PER_TIMED_IMAGE = 70


def draw_curves(
    curve: Sequence[Sequence[float]], rows: Sequence[Row], clean: float, path: Path
) -> None:
    """Draw the training curve, and accuracy against bytes beside `clean`, the strong model's."""
    pyplot = file_pyplot()
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
    if curve:
        step, loss, entropy, _ = zip(*curve)
        axes[0].plot(step, loss, label='loss')
        axes[0].plot(step, entropy, label='cross-entropy')
    axes[0].set(xlabel='step', yscale='log')
    axes[0].legend()
    for name in dict.fromkeys(row.codec for row in rows):
        part = [row for row in rows if row.codec == name]
        sizes = [row.mean_bytes for row in part]
        axes[1].plot(sizes, [row.accuracy for row in part], 'o-', label=name)
        axes[1].fill_between(
            sizes, [row.low for row in part], [row.high for row in part], alpha=0.2
        )
    axes[1].axhline(clean, color='k', ls=':', label='strong, original image')
    axes[1].set(xlabel='bytes', ylabel='accuracy', xscale='log')
    axes[1].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def accuracy_facts(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """Return what the model card says of the accuracy at each size."""
    names = {
        OURS: 'accuracy_by_bytes',
        OURS_WITH_SIDE: 'accuracy_by_bytes_with_local_answer',
        RESCALED_WEBP_NAME: 'accuracy_by_bytes_of_webp',
    }
    facts: dict[str, dict[str, str]] = {}
    for row in rows:
        facts.setdefault(names[row.codec], {})[str(row.budget)] = (
            f'{row.accuracy:.3f} [{row.low:.3f}, {row.high:.3f}]'
        )
    return facts


def one_thread_times(models: Path, images: np.ndarray, runs: int = 3) -> dict[str, float]:
    """Return measure_times of a model folder, from a process in which NumPy has one thread.

    The libraries read that number when they are loaded, here long ago.
    """
    names = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, '1'))
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
            return pool.submit(measure_times, ModelFolder(models), images, runs).result()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def strong_right(strong: FoldedTrunk, images: LabelledImages) -> np.ndarray:
    """Return whether the strong classifier is right on the original images, bool[N]."""
    with torch.no_grad():
        logits = [
            strong(normalised(torch.from_numpy(images.images[k : k + 32])))[0]
            for k in range(0, len(images.classes), 32)
        ]
    return torch.cat(logits).argmax(1).numpy() == images.classes


def compare(
    folder: ModelFolder,
    test: LabelledImages,
    strong_right: np.ndarray,
    show: Callable[[Row], None] = lambda row: None,
) -> tuple[list[Row], list[str]]:
    """Measure the codec of a model folder beside WebP that its strong model reads as it is.

    Args:
        folder: The model folder; without a strong model in it there is nothing to compare with,
            and without a weak one nothing to gain.
        test: Images that nothing was trained or selected on.
        strong_right: Whether the strong model is right on the originals, bool[N].
        show: Is given each row.

    Returns:
        The rows, and in words what the network brings (`gain_lines`).
    """
    rows = []
    right: dict[str, dict[int, np.ndarray]] = {OURS: {}, OURS_WITH_SIDE: {}}
    for name, size, answers, received in codec_answers(folder, test, SIZES):
        rows.append(accuracy_row(name, size, received, answers, test.classes))
        right[name][size] = right_answers(answers, test.classes)
        show(rows[-1])
    if 'strong' not in folder.roles:
        return rows, []
    strong = Classifier(folder.path('strong'))
    webp = {}
    for size, sent in answers_to_webp(strong, test.images, test.classes, SIZES).items():
        webp[size] = sent.right
        rows.append(share_row(RESCALED_WEBP_NAME, size, sent.mean_bytes, sent.right))
        show(rows[-1])
    if not right[OURS_WITH_SIDE]:
        return rows, []
    weak = Classifier(folder.path('weak')).classify_batch(test.images).argmax(1) == test.classes
    return rows, gain_lines(
        weak, strong_right, right[OURS], right[OURS_WITH_SIDE], webp, NOMINAL_BYTES
    )


def measure_codec(
    network: EdgeNetwork,
    spec: CodecSpec,
    strong: FoldedTrunk,
    test: LabelledImages,
    models: Path,
    curve: Sequence[Sequence[float]],
    picture: Path,
    allowance: Allowance = UNLIMITED,
) -> dict[str, Any]:
    """Measure what was exported, and draw it beside the training curve.

    Args:
        network: As it was exported; its parameters and operations are counted.
        spec: The codec.
        strong: The classifier that it started from.
        test: Images that nothing was trained or selected on.
        models: The model folder with both files.
        curve: Of the training, rows of (step, loss, cross-entropy, share right).
        picture: The file to draw.
        allowance: Time for all of it; as many test images are taken as it affords.

    Returns:
        What the model card says of it.
    """
    folder = ModelFolder(models)
    if allowance.limited:
        few = LabelledImages(test.images[:PROBED], test.classes[:PROBED])
        spent = allowance.timed(lambda: compare(folder, few, np.ones(PROBED, bool)))
        count = allowance.part(ACCURACY_SHARE).affords(
            spent / PROBED, len(test.classes), LEAST_IMAGES
        )
        test = LabelledImages(test.images[:count], test.classes[:count])
    originals = strong_right(strong, test)
    clean = float(originals.mean())
    print(f'strong on the originals {clean:.4f}', flush=True)
    rows, gain = compare(folder, test, originals, lambda row: print(row, flush=True))
    draw_curves(curve, rows, clean, picture)
    timed, runs = TIMED_IMAGES, 3
    if allowance.limited:
        answer = spent / PROBED / (3 * len(SIZES))
        each = ANSWERS_PER_TIMED_IMAGE * answer
        timed = allowance.part(1.0).affords(runs * each, TIMED_IMAGES)
        runs = allowance.affords(timed * each, runs)
    synthesis = network.synthesis.numel() * spec.grid**2
    return {
        'test_images': len(test.classes),
        'strong_on_originals': round(clean, 4),
        **accuracy_facts(rows),
        'gain': gain,
        'bytes': (models / 'edge.onnx').stat().st_size,
        'parameters': sum(p.numel() for p in network.parameters()),
        'macs': count_macs(network, edge_example(spec)) + synthesis,
        'milliseconds': one_thread_times(models, test.images[:timed], runs),
        'measured_on': machine(),
    }
