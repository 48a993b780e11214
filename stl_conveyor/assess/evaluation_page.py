# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The page of an evaluation, evaluation.md, section by section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stl_conveyor.assess.cell_evaluation import cell_page
from stl_conveyor.assess.intervals import Share
from stl_conveyor.assess.network_gain import RESCALED_WEBP_NAME

Result = Mapping[str, Any]  # what evaluation.json holds


def evaluation_page(result: Result) -> str:
    """Return the text of the page."""
    lines = [
        *_heading(result),
        *_accuracies(result),
        *_accuracy_over_bytes(result),
        *_offloading(result),
        *_confusions(result),
        *_classes(result),
        '',
        '## Mistakes',
        '',
        'The surest wrong answers of the strong model: look for wrong labels here first.',
        '',
        '![Surest mistakes](mistakes.png)',
        '',
        '## Reliability',
        '',
        '![Share right against score](reliability.png)',
        '',
        '## Time',
        '',
        '| stage, one item, one thread | ms |',
        '|---|---|',
        *(f'| {stage} | {value:.1f} |' for stage, value in result['milliseconds'].items()),
        *(cell_page(result['cell']) if 'cell' in result else ()),
        '',
    ]
    return '\n'.join(lines)


def _names(result: Result) -> dict[str, str]:
    return {
        'weak': 'weak, on the device',
        'strong': 'strong, on the original image',
        'edge': f'edge, {result["budget"]} bytes and the local answer',
    }


def _heading(result: Result) -> list[str]:
    lines = [f'# {result["models"]} on {result["images"]} {result["split"]} images', '']
    if result['split'] in ('all', 'train'):
        lines += [
            '**These images were not set aside. If the models were trained on them, every '
            "accuracy below is too high; give the folder `images` of the training's work "
            'folder instead, which holds its test split.**',
            '',
        ]
    return lines


def _accuracies(result: Result) -> list[str]:
    lines = [
        '| model | accuracy | 95 % interval | expected calibration error |',
        '|---|---|---|---|',
    ]
    for role, name in _names(result).items():
        share = Share(**result['accuracy'][role])
        lines.append(
            f'| {name} | {share.accuracy:.3f} | {share.low:.3f} - {share.high:.3f} '
            f'| {result["calibration_error"][role]:.3f} |'
        )
    return [
        *lines,
        '',
        'Weak model and edge: '
        + ', '.join(f'{name} {value:.3f}' for name, value in result['outcomes'].items())
        + '.',
        '',
    ]


def _accuracy_over_bytes(result: Result) -> list[str]:
    cells = {(row['bytes'], row['local_answer']): _share(row) for row in result['by_bytes']}
    webp = {row['bytes']: _share(row) for row in result['webp_by_bytes']}
    return [
        '## Accuracy against bytes',
        '',
        f'| bytes | codec alone | with the local answer | {RESCALED_WEBP_NAME} |',
        '|---|---|---|---|',
        *(
            f'| {size} | {cells[size, False]} | {cells[size, True]} | {webp[size]} |'
            for size in sorted({size for size, _ in cells})
        ),
        '',
        f'{RESCALED_WEBP_NAME}: plain files (effort 6, the best of eight scales and all '
        'qualities) that the strong model reads as it is; no file of that size counts as wrong.',
        '',
        *(f'* {line[0].upper()}{line[1:]}.' for line in result['gain']),
        '',
        '![Accuracy against bytes](accuracy_bytes.png)',
        '',
    ]


def _share(row: Mapping[str, Any]) -> Share:
    return Share(row['accuracy'], row['low'], row['high'])


def _offloading(result: Result) -> list[str]:
    depth = result['offloading'][0]['depth']
    return [
        '## What offloading buys',
        '',
        f'Token bucket of depth {depth:g}, one token ({result["budget"]} bytes) for each '
        'offload, items evenly spaced.',
        '',
        '| r | mdp | adaptive | offloaded | at random | hindsight |',
        '|---|---|---|---|---|---|',
        *(
            f'| {row["rate"]:g} | {Share(**row["mdp"])} | {Share(**row["adaptive"])} '
            f'| {row["mdp_offloaded"]:.0%} | {row["random"]:.3f} '
            f'| {row["hindsight"]:.3f} |'
            for row in result['offloading']
        ),
        '',
        '![What offloading buys](offloading.png)',
        '',
    ]


def _confusions(result: Result) -> list[str]:
    names = _names(result)
    lines = ['## Confusion', '']
    for role in ('weak', 'strong', 'edge'):
        worst = '; '.join(
            f'{pair["true"]} taken for {pair["answer"]} ({pair["images"]})'
            for pair in result['confusions'][role][:5]
        )
        lines += [
            f'{names[role].capitalize()}: {worst or "no wrong answer"}.',
            '',
            f'![Confusion, {role}](confusion_{role}.png)',
            '',
        ]
    return lines


def _classes(result: Result) -> list[str]:
    return [
        '| class | images | weak | edge | strong |',
        '|---|---|---|---|---|',
        *(
            f'| {label} | {row["images"]} | {row["weak"]:.2f} | {row["edge"]:.2f} '
            f'| {row["strong"]:.2f} |'
            for label, row in sorted(result['by_class'].items(), key=lambda pair: pair[1]['edge'])
        ),
    ]
