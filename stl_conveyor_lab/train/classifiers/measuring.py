# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a classifier can do, measured on its exported file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stl_conveyor.assess.intervals import wilson
from stl_conveyor.assess.plotting import file_pyplot
from stl_conveyor.assess.reliability import expected_calibration_error
from stl_conveyor.vision.image_folder import LabelledImages
from stl_conveyor_lab.measure.machine import machine


def draw_curve(curve: Sequence[Sequence[float]], path: Path, title: str) -> None:
    """Draw loss and validation accuracy against steps."""
    pyplot = file_pyplot()
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3))
    if curve:
        steps, losses, accuracy = zip(*curve)
        axes[0].semilogy(steps, losses, '.-')
        axes[1].plot(steps, accuracy, '.-')
        axes[1].set_ylim(min(accuracy), 1)
    axes[0].set(xlabel='step', ylabel='training loss', title=title)
    axes[1].set(xlabel='step', ylabel='validation accuracy')
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def milliseconds(path: Path, image: np.ndarray, runs: int = 40) -> float:
    """Return the median time of one image through an ONNX file on one thread."""
    from stl_conveyor.models.classifier import Classifier

    classifier = Classifier(path, threads=1)
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        classifier.classify(image)
        times.append(time.perf_counter() - begun)
    return 1e3 * float(np.median(times))


def measure(
    path: Path, test: LabelledImages, labels: Sequence[str], difficulty: np.ndarray | None = None
) -> dict[str, Any]:
    """Measure the exported file on the test split; returns what the model card says of it."""
    from stl_conveyor.models.classifier import Classifier

    classifier = Classifier(path, threads=2)
    probabilities = np.concatenate(
        [
            classifier.classify_batch(test.images[i : i + 64])
            for i in range(0, len(test.classes), 64)
        ]
    )
    right = probabilities.argmax(1) == test.classes
    card = {
        'test_images': len(right),
        'accuracy': round(float(right.mean()), 4),
        'accuracy_interval': [round(float(v), 4) for v in wilson(int(right.sum()), len(right))],
    }
    if difficulty is not None:
        card['accuracy_by_difficulty'] = [
            round(float(right[(difficulty >= a) & (difficulty < a + 0.25)].mean()), 4)
            for a in (0, 0.25, 0.5, 0.75)
        ]
    card['calibration_error'] = round(expected_calibration_error(probabilities, test.classes), 4)
    card['class_accuracy'] = {
        name: round(float(right[test.classes == k].mean()), 3)
        for k, name in enumerate(labels)
        if (test.classes == k).any()
    }
    return {
        **card,
        'bytes': path.stat().st_size,
        'milliseconds': round(milliseconds(path, test.images[0]), 2),
        'measured_on': machine(),
    }
