# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The pictures of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stl_conveyor.assess.evaluation_images import TestImages
from stl_conveyor.assess.network_gain import RESCALED_WEBP_NAME
from stl_conveyor.assess.plotting import file_pyplot
from stl_conveyor.assess.reliability import reliability

LABELS_IN_PICTURE = 60


def draw_pictures(
    out: Path, result: Mapping[str, Any], answers: Mapping[str, np.ndarray], test: TestImages
) -> None:
    """Draw what an evaluation found into a folder.

    Args:
        result: What evaluation.json holds.
        answers: float [N, C] by role.
        test: What they are answers to.
    """
    pyplot = file_pyplot()
    for name, figure in _figures(pyplot, result, answers, test):
        figure.savefig(out / f'{name}.png', dpi=110, bbox_inches='tight')
        pyplot.close(figure)


def _figures(
    pyplot: Any, result: Mapping[str, Any], answers: Mapping[str, np.ndarray], test: TestImages
) -> Iterator[tuple[str, Any]]:
    """Yield names and figures, each made when it is asked for."""
    labels = result['labels']
    yield 'accuracy_bytes', _accuracy_over_bytes(pyplot, result)
    yield 'offloading', _offloading(pyplot, result['offloading'])
    for role, found in answers.items():
        yield f'confusion_{role}', _confusion(pyplot, role, found, test.classes, labels)
    yield 'reliability', _reliability(pyplot, result, answers, test.classes)
    yield 'mistakes', _mistakes(pyplot, answers['strong'], test, labels)


def _accuracy_over_bytes(pyplot: Any, result: Mapping[str, Any]) -> Any:
    figure, axes = pyplot.subplots(figsize=(6.5, 4.2))
    for with_side, label in ((True, 'with the local answer'), (False, 'codec alone')):
        rows = [row for row in result['by_bytes'] if row['local_answer'] == with_side]
        x = [row['bytes'] for row in rows]
        axes.plot(x, [row['accuracy'] for row in rows], 'o-', label=label)
        axes.fill_between(
            x, [row['low'] for row in rows], [row['high'] for row in rows], alpha=0.15
        )
    rows = result['webp_by_bytes']
    axes.plot(
        [row['bytes'] for row in rows],
        [row['accuracy'] for row in rows],
        'x--',
        color='grey',
        label=RESCALED_WEBP_NAME,
    )
    for role, style in (('strong', '--'), ('weak', ':')):
        axes.axhline(
            result['accuracy'][role]['accuracy'],
            color='k',
            ls=style,
            lw=1,
            label=f'{role}, original image',
        )
    axes.set(xscale='log', xlabel='bytes, all headers included', ylabel='accuracy')
    ticks = sorted({row['bytes'] for row in result['by_bytes']})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.legend()
    return figure


def _offloading(pyplot: Any, rows: Sequence[Mapping[str, Any]]) -> Any:
    figure, axes = pyplot.subplots(figsize=(6.5, 4.2))
    rates = [row['rate'] for row in rows]
    for name in ('mdp', 'adaptive'):
        axes.plot(rates, [row[name]['accuracy'] for row in rows], 'o-', label=name)
    axes.fill_between(
        rates,
        [row['mdp']['low'] for row in rows],
        [row['mdp']['high'] for row in rows],
        alpha=0.15,
    )
    axes.plot(rates, [row['hindsight'] for row in rows], '--', color='k', lw=1, label='hindsight')
    axes.plot(rates, [row['random'] for row in rows], ':', color='k', lw=1, label='at random')
    axes.set(xlabel='tokens per item, r', ylabel='accuracy')
    axes.legend()
    return figure


def _confusion(
    pyplot: Any, role: str, found: np.ndarray, classes: np.ndarray, labels: Sequence[str]
) -> Any:
    matrix = np.zeros((len(labels),) * 2)
    np.add.at(matrix, (classes, found.argmax(1)), 1)
    matrix /= np.maximum(matrix.sum(1, keepdims=True), 1)
    side = min(12, 3 + 0.25 * len(labels))
    figure, axes = pyplot.subplots(figsize=(side, side))
    axes.imshow(matrix, cmap='Blues', vmin=0, vmax=1)
    if len(labels) <= LABELS_IN_PICTURE:
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)
        axes.set_yticks(range(len(labels)), labels, fontsize=7)
    axes.set(xlabel='answer', ylabel='true class', title=f'{role}: share of each class')
    return figure


def _reliability(
    pyplot: Any, result: Mapping[str, Any], answers: Mapping[str, np.ndarray], classes: np.ndarray
) -> Any:
    figure, axes = pyplot.subplots(figsize=(4.5, 4.5))
    axes.plot([0, 1], [0, 1], color='k', lw=1)
    for role, found in answers.items():
        score, share, count = zip(*reliability(found, classes, 10))
        axes.plot(score, share, '-', lw=1, alpha=0.6)
        axes.scatter(
            score,
            share,
            s=np.clip(np.array(count) * 400 / len(classes), 4, 200),
            label=f'{role}, error {result["calibration_error"][role]:.3f}',
            alpha=0.7,
        )
    axes.set(xlabel='score of the first answer', ylabel='share right', xlim=(0, 1), ylim=(0, 1))
    axes.legend(markerscale=0.5)
    return figure


def _mistakes(pyplot: Any, found: np.ndarray, test: TestImages, labels: Sequence[str]) -> Any:
    """Draw the surest wrong answers."""
    wrong = np.flatnonzero(found.argmax(1) != test.classes)
    wrong = wrong[np.argsort(-found[wrong].max(1))][:12]
    lines = max(1, -(-len(wrong) // 6))
    figure, panels = pyplot.subplots(lines, 6, figsize=(13, 2.7 * lines))
    for panel in panels.ravel():
        panel.axis('off')
    if not len(wrong):
        figure.suptitle('no wrong answer')
    for panel, k in zip(panels.ravel(), wrong):
        panel.imshow(test.images[k])
        panel.set_title(
            f'{labels[test.classes[k]]}\ntaken for\n{labels[found[k].argmax()]} '
            f'{found[k].max():.2f}',
            fontsize=7,
        )
    return figure
