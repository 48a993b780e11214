# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Nothing leaves the machine but what the topics carry, whatever loads a model."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys

import pytest
from sniffed import sniff, why_no_namespace

#: ONNX Runtime asks for its maker's host within 20 s of its first import.
SECONDS = 30.0

LOAD = """
import sys
from pathlib import Path
from stl_conveyor.codec import Decoder, Encoder
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.policy import PolicySettings
from stl_conveyor.policy.for_cell import load_budgets, load_rewards, make_cell_policy
folder = ModelFolder(Path(sys.argv[1]) / 'models' / 'items')
held = [
    Classifier(folder.path('weak')),
    Classifier(folder.path('strong')),
    Encoder(folder),
    Decoder(folder),
    make_cell_policy(
        'adaptive', PolicySettings(), load_rewards(folder), load_budgets(folder, 'adaptive')
    ),
]
import onnxruntime
print('loaded with', onnxruntime.__version__, flush=True)
sys.stdin.read()
"""

in_a_namespace = pytest.mark.skipif(bool(why_no_namespace()), reason=why_no_namespace() or 'never')


@pytest.fixture
def home(tmp_path):
    """Return an empty home folder."""
    (tmp_path / 'home').mkdir()
    return tmp_path / 'home'


@pytest.fixture
def outside(home):
    """Return the variables of a caller with that home, who asks for reports to be sent."""
    places = ('HOME', 'XDG_CACHE_HOME', 'XDG_DATA_HOME', 'XDG_CONFIG_HOME')
    # For the process that is looked at alone: this one may still import ONNX Runtime itself.
    return {**os.environ, **dict.fromkeys(places, str(home)), 'ORT_DISABLE_TELEMETRY': '0'}


def need(*modules):
    """Skip the test where a module is missing, without importing it into this process."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f'{name} is not installed')


def traces(home):
    """Return what somebody left to know the machine or its use again."""
    return [
        str(path.relative_to(home))
        for path in home.rglob('*')
        if {'microsoft', 'deviceid', 'telemetry'} & set(str(path).lower().split('/'))
        or path.suffix == '.db'
    ]


@in_a_namespace
def test_what_is_sent_is_seen():
    send = (
        'import socket; s = socket.socket(type=socket.SOCK_DGRAM); '
        's.sendto(b"hello", ("198.51.100.7", 9)); s.sendto(b"me", ("127.0.0.1", 9)); '
        's.sendto(b"who", ("127.0.0.1", 53))'
    )
    seen = sniff([sys.executable, '-c', send], os.environ, 20)
    assert seen.code == 0, seen.output
    assert seen.packets == [
        'IP protocol 17 to 198.51.100.7 port 9 by air',
        'IP protocol 17 to 127.0.0.1 port 53 by lo',
    ]


@in_a_namespace
def test_loaded_models_keep_to_themselves(home, outside, repo_root):
    need('onnxruntime')
    seen = sniff([sys.executable, '-c', LOAD, str(repo_root)], outside, SECONDS)
    assert seen.code == 0 and 'loaded with' in seen.output, seen.output
    assert seen.packets == []
    assert traces(home) == []


@in_a_namespace
def test_evaluating_keeps_to_itself(home, outside, tmp_path):
    need('onnxruntime', 'onnx', 'PIL', 'matplotlib')
    from PIL import Image

    from stl_conveyor_lab.train.tiny import make_tiny_model_folder, tiny_images

    labels = ('red', 'green', 'blue')
    make_tiny_model_folder(tmp_path / 'models', labels)
    images, classes = tiny_images(9, 3)
    for k, (image, label) in enumerate(zip(images, classes)):
        (tmp_path / 'pictures' / labels[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / 'pictures' / labels[label] / f'{k}.png')
    command = [sys.executable, '-m', 'stl_conveyor.cli.main', 'evaluate']
    command += [str(tmp_path / 'models'), '--data', str(tmp_path / 'pictures')]
    seen = sniff([*command, '--out', str(tmp_path / 'out')], outside, 120)
    assert seen.code == 0, seen.output
    assert seen.packets == []
    assert traces(home) == []


@in_a_namespace
@pytest.mark.ros
def test_a_whole_cell_keeps_to_itself(home, outside, tmp_path):
    need('onnxruntime', 'mujoco')
    command = [sys.executable, '-m', 'stl_conveyor.run', '--items', '4', '--seed', '1']
    seen = sniff([*command, '--out', str(tmp_path / 'out')], outside, 240)
    # A machine that is too busy to simulate ends with 1; it has run all the same.
    assert seen.code in (0, 1) and 'report: ' in seen.output, seen.output
    assert seen.packets == []
    assert traces(home) == []


@pytest.mark.parametrize('package', ['stl_conveyor', 'stl_conveyor_lab'])
def test_whoever_imports_a_package_has_told_it_to_keep_to_itself(outside, repo_root, package):
    """ONNX Runtime reads the variable when it is imported, so it is set before any module is."""
    show = f'import os, {package}; print(os.environ["ORT_DISABLE_TELEMETRY"])'
    done = subprocess.run(
        [sys.executable, '-c', show],
        cwd=repo_root,
        env=outside,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == '1\n'


def test_no_script_imports_onnxruntime_itself(repo_root):
    for folder in ('scripts', 'launch', 'examples'):
        for path in sorted((repo_root / folder).rglob('*.py')):
            for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
                names = (
                    [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                )
                names += [node.module or ''] if isinstance(node, ast.ImportFrom) else []
                assert not any(name.startswith('onnxruntime') for name in names), path
