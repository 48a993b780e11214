# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A model folder is what its manifest says, or is refused with the remedy."""

from __future__ import annotations

import hashlib
import json

import pytest

from stl_conveyor.errors import ModelFileError
from stl_conveyor.models.model_folder import ModelFolder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'weak.onnx').write_bytes(b'weak model')
    digest = hashlib.sha256(b'weak model').hexdigest()
    manifest = {
        'format': 1,
        'name': 'items',
        'labels': ['nut', 'bolt'],
        'image_size': 160,
        'files': {'weak': {'path': 'weak.onnx', 'sha256': digest}},
    }
    (tmp_path / 'manifest.json').write_text(json.dumps(manifest))
    return tmp_path


def rewrite(folder, **changes):
    path = folder / 'manifest.json'
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def test_good_folder(folder):
    models = ModelFolder(folder)
    assert (models.name, models.labels, models.image_size) == ('items', ('nut', 'bolt'), 160)
    assert models.path('weak') == (folder / 'weak.onnx').resolve()
    digest = hashlib.sha256(b'weak model').digest()
    assert models.model_id('weak') == int.from_bytes(digest[:8], 'big')
    assert models.roles == ('weak',)


def test_changed_and_missing_files_are_refused(folder):
    models = ModelFolder(folder)
    (folder / 'weak.onnx').write_bytes(b'other model')
    with pytest.raises(ModelFileError, match='weak.onnx.*manifest says.*restore'):
        models.path('weak')
    (folder / 'weak.onnx').unlink()
    with pytest.raises(ModelFileError, match='weak.onnx'):
        models.path('weak')
    with pytest.raises(ModelFileError, match='no strong model, only weak'):
        models.path('strong')


@pytest.mark.parametrize(
    'changes, named',
    [
        ({'format': 2}, 'format'),
        ({'format': None}, 'format'),
        ({'name': ''}, 'name'),
        ({'labels': ['nut']}, 'labels'),
        ({'labels': ['nut', 'nut']}, 'labels'),
        ({'labels': 'nut'}, 'labels'),
        ({'labels': [1, 2]}, 'labels'),
        ({'image_size': True}, 'image_size'),
        ({'image_size': 0}, 'image_size'),
        ({'image_size': '160'}, 'image_size'),
        ({'files': []}, 'files'),
        ({'files': {'weak': 'weak.onnx'}}, 'files.weak'),
        ({'files': {'weak': {'path': 'weak.onnx', 'sha256': 'abc'}}}, 'files.weak'),
        ({'files': {'weak': {'path': '../../etc/passwd', 'sha256': '0' * 64}}}, 'outside'),
    ],
)
def test_wrong_manifests_are_refused_by_name(folder, changes, named):
    rewrite(folder, **changes)
    with pytest.raises(ModelFileError, match=named):
        ModelFolder(folder)


@pytest.mark.parametrize('content', ['', '[]', '{', 'null', '3'])
def test_manifest_that_is_no_mapping(folder, content):
    (folder / 'manifest.json').write_text(content)
    with pytest.raises(ModelFileError, match='manifest.json'):
        ModelFolder(folder)


def test_no_folder(tmp_path):
    with pytest.raises(ModelFileError, match='models_dir'):
        ModelFolder(tmp_path / 'nowhere')
