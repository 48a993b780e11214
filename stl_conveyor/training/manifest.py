# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Keep a model folder's manifest and model cards in step with its files."""
import hashlib
import json
from pathlib import Path

from stl_conveyor.vision.model_folder import FORMAT


def register_model(folder, role, path, labels, image_size, name=None):
    """
    Enter a file under its role into folder/manifest.json, with its SHA-256.

    Makes the manifest if there is none; keeps the other roles. path lies inside the folder.
    """
    folder, path = Path(folder), Path(path)
    manifest = folder / 'manifest.json'
    content = json.loads(manifest.read_text()) if manifest.exists() else {'files': {}}
    content.update(format=FORMAT, name=name or content.get('name', folder.name),
                   labels=list(labels), image_size=int(image_size))
    content['files'][role] = {'path': str(path.relative_to(folder)),
                              'sha256': hashlib.sha256(path.read_bytes()).hexdigest()}
    manifest.write_text(json.dumps(content, indent=1) + '\n')


def write_card(folder, role, card):
    """Write folder/<role>.card.json, the measured facts of one model."""
    (Path(folder) / f'{role}.card.json').write_text(json.dumps(card, indent=1) + '\n')
