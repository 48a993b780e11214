# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Write what a training did and what came out, for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stl_conveyor.assess.network_gain import RESCALED_WEBP_NAME
from stl_conveyor_lab.data.dataset import Dataset

CURVES = (('strong', 'Strong classifier'), ('weak', 'Weak classifier'), ('codec', 'Codec'))
#: Classes in the table of the worst, and images of a class below which it is called small.
WORST, FEW = 10, 50


def write_training_report(
    work: Path, models: Path, data: Dataset, stages: dict, settings: dict
) -> Path:
    """Write WORK/report.md from the model cards.

    Args:
        work: The work folder, which has the curves.
        models: The model folder, which has the cards.
        data: The images that were trained on.
        stages: Seconds by stage.
        settings: Of the run.

    Returns:
        The page's path.
    """
    cards = {
        role: json.loads((models / f'{role}.card.json').read_text(encoding='utf-8'))
        for role in ('weak', 'strong', 'edge')
    }
    reward = json.loads((models / 'reward.json').read_text(encoding='utf-8'))
    lines = [
        f'# Training on {data.source}',
        '',
        f'{len(data.labels)} classes, {data.image_size} x {data.image_size} pixels, '
        + ', '.join(f'{count} {split}' for split, count in data.counts.items())
        + ' images. '
        + ', '.join(f'{key} {value}' for key, value in settings.items() if value is not None)
        + '.',
        '',
        *_notes(data),
        '',
        '| stage | minutes |',
        '|---|---|',
        *(f'| {stage} | {seconds / 60:.1f} |' for stage, seconds in stages.items()),
        f'| all | {sum(stages.values()) / 60:.1f} |',
        '',
        *_classifiers(cards),
        '',
        *_codec(cards['edge']),
        '',
        f'Reward estimate: {reward["kind"]}, fitted on '
        f'{reward["measured"].get("items", "no")} validation images.',
        '',
    ]
    for file, title in CURVES:
        if (work / f'{file}.png').exists():
            lines += [f'## {title}', '', f'![{title}]({file}.png)', '']
    lines += [*_worst_classes(cards, data), '']
    path = work / 'report.md'
    path.write_text('\n'.join(lines), encoding='utf-8')
    return path


def _notes(data: Dataset) -> list[str]:
    few = [
        f'{name} ({counts["train"]})'
        for name, counts in data.by_class.items()
        if counts['train'] < FEW
    ]
    lines = [f'* {note}' for note in data.notes]
    if few:
        lines.append(
            f'* classes with fewer than {FEW} training images, which will be known '
            f'worst: {", ".join(few)}'
        )
    return lines


def _classifiers(cards: dict[str, Any]) -> list[str]:
    lines = [
        '| model | test accuracy | 95 % interval | expected calibration error | MMAC | '
        'ms, one thread | MB |',
        '|---|---|---|---|---|---|---|',
    ]
    for role in ('weak', 'strong'):
        card = cards[role]
        low, high = card['accuracy_interval']
        lines.append(
            f'| {role} | {card["accuracy"]:.3f} | {low:.3f} - {high:.3f} '
            f'| {card["calibration_error"]:.3f} | {card["macs"] / 1e6:.0f} '
            f'| {card["milliseconds"]:.1f} | {card["bytes"] / 1e6:.1f} |'
        )
    network = cards['strong'].get('network')
    if network:
        lines += [
            '',
            f'The strong model is {network}, begun with {cards["strong"]["began_with"]}.',
        ]
    noted = cards['weak'].get('measured_on', 'a processor that was not noted')
    return [*lines, '', f'Milliseconds were measured on {noted}.']


def _codec(edge: dict[str, Any]) -> list[str]:
    with_side = edge.get('accuracy_by_bytes_with_local_answer', {})
    webp = edge.get('accuracy_by_bytes_of_webp', {})
    return [
        f'The edge on what arrives, {edge["test_images"]} test images (strong on the '
        f'originals of these: {edge["strong_on_originals"]:.3f}):',
        '',
        f'| bytes | codec alone | with the local answer | {RESCALED_WEBP_NAME} |',
        '|---|---|---|---|',
        *(
            f'| {size} | {value} | {with_side.get(size, "")} | {webp.get(size, "")} |'
            for size, value in edge.get('accuracy_by_bytes', {}).items()
        ),
        '',
        f'{RESCALED_WEBP_NAME}: plain files that the strong classifier reads as it is.',
        '',
        *(f'* {line[0].upper()}{line[1:]}.' for line in edge.get('gain', ())),
    ]


def _worst_classes(cards: dict[str, Any], data: Dataset) -> list[str]:
    worst = sorted(cards['strong']['class_accuracy'].items(), key=lambda pair: pair[1])[:WORST]
    return [
        '## Classes that the strong model knows worst',
        '',
        '| class | strong | weak | training images |',
        '|---|---|---|---|',
        *(
            f'| {name} | {value:.2f} | {cards["weak"]["class_accuracy"][name]:.2f} '
            f'| {data.by_class[name]["train"]} |'
            for name, value in worst
        ),
    ]
