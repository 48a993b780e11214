# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Nothing leaves the machine but what the topics carry, whatever loads a model."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
import yaml
from sniffed import sniff, traces, unprotected, why_no_namespace

from stl_conveyor.cli import main as command_line

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
    return unprotected(home)


def need(*modules):
    """Skip the test where a module is missing, without importing it into this process."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f'{name} is not installed')


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


def command(*arguments):
    return [sys.executable, '-m', 'stl_conveyor.cli.main', *map(str, arguments)]


def after(said, *arguments):
    """Return a command that finds words in its standard input."""
    return ['sh', '-c', f'printf {shlex.quote(said)} | {shlex.join(command(*arguments))}']


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """Return a folder with tiny models, pictures of their classes, and one of a plate."""
    need('onnxruntime', 'onnx', 'PIL')
    from PIL import Image

    from stl_conveyor_lab.train.tiny import make_tiny_model_folder, tiny_pictures

    folder = tmp_path_factory.mktemp('place')
    labels = ('red', 'green', 'blue')
    make_tiny_model_folder(folder / 'models', labels)
    tiny_pictures(folder / 'pictures', labels, 9)
    plate = np.full((240, 320, 3), 60, np.uint8)
    plate[70:190, 110:210] = 220
    Image.fromarray(plate).save(folder / 'plate.png')
    fleet = {'models': {'own': 'models'}, 'edges': {'hall': None}, 'cells': {'line': None}}
    (folder / 'fleet.yaml').write_text(yaml.safe_dump(fleet), encoding='utf-8')
    return folder


#: A page is served, and somebody looks at it and at all that it names.
LOOK_AT_PANEL = """
import re, signal, subprocess, sys, urllib.request
pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True}
served = subprocess.Popen(sys.argv[1:], **pipes)
for line in served.stdout:
    print(line, end='')
    if found := re.search(r'http://[0-9.:]+', line):
        break
page = urllib.request.urlopen(found.group()).read().decode()
for path in sorted(set(re.findall(r'(?:src|href)="(/[^"]+)"', page))):
    print(path, len(urllib.request.urlopen(found.group() + path).read()))
served.send_signal(signal.SIGINT)
sys.exit(served.wait())
"""

#: Words are recorded, as a run records them.
RECORD_AND = """
import subprocess, sys
from pathlib import Path
from rclpy.serialization import serialize_message
from std_msgs.msg import String
from stl_conveyor.recording.run_file import Recorded, RunFile
topics = {'text': Recorded('/text', 'std_msgs/String', 'string data\\n')}
recording = RunFile(Path(sys.argv[1]), topics, limit=1_000_000)
for number in range(3):
    recording.add('text', number * 100_000_000, serialize_message(String(data='hello')))
recording.close()
sys.exit(subprocess.call(sys.argv[2:]))
"""

#: What each command does where it is sniffed at, and what it needs beside NumPy.
COMMANDS = {
    'calibrate': (
        lambda at, out: command(
            *('calibrate', 'camera', '--image', at / 'plate.png', '--plate', '0.06x0.05')
        ),
        ('cv2',),
    ),
    'collect': (
        lambda at, out: command(
            *('collect', '--folder', at / 'pictures' / 'red', '--out', out, '--label', 'nut')
        ),
        (),
    ),
    'evaluate': (
        lambda at, out: command(
            'evaluate', at / 'models', '--data', at / 'pictures', '--out', out
        ),
        ('matplotlib',),
    ),
    'export': (lambda at, out: command('export', at / 'models', '--out', out / 'm.zip'), ()),
    'fleet': (
        lambda at, out: command('fleet', 'status', at / 'fleet.yaml', '--seconds', 1),
        ('rclpy', 'stl_conveyor.msg'),
    ),
    'panel': (
        lambda at, out: [sys.executable, '-c', LOOK_AT_PANEL, *command('panel', '--port', 0)],
        ('rclpy', 'stl_conveyor.msg', 'nicegui'),
    ),
    'panel-user': (
        lambda at, out: after('a long password\n', 'panel-user', out / 'accounts.yaml', 'anna'),
        ('argon2',),
    ),
    'replay': (
        lambda at, out: [
            *(sys.executable, '-c', RECORD_AND, out / 'run.mcap'),
            *command('replay', out / 'run.mcap'),
        ],
        ('rclpy', 'stl_conveyor.msg', 'mcap'),
    ),
    'run': (
        lambda at, out: command('run', '--items', 4, '--seed', 1, '--out', out),
        ('rclpy', 'stl_conveyor.msg', 'mujoco'),
    ),
    'security': (lambda at, out: command('security', 'create', out), ('cryptography',)),
}


def test_every_command_of_the_product_is_sniffed_at(monkeypatch):
    monkeypatch.setattr(command_line, 'entry_points', lambda group: [])
    parsers = next(
        action
        for action in command_line._parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    assert set(COMMANDS) == set(parsers.choices) - set(command_line.LABORATORY)


@in_a_namespace
@pytest.mark.parametrize('name', sorted(COMMANDS))
def test_a_command_keeps_to_itself(place, home, outside, tmp_path, name):
    words, modules = COMMANDS[name]
    need(*modules)
    out = tmp_path / 'out'
    out.mkdir()
    if name == 'run':
        # A run says by itself that it stays on this machine.
        outside.pop('ROS_AUTOMATIC_DISCOVERY_RANGE', None)
    seen = sniff([str(word) for word in words(place, out)], outside, 240)
    # A machine that is too busy to simulate ends with 1, and so does a fleet that nobody belongs
    # to; the command has run all the same.
    ran = {'run': 'report: ', 'fleet': 'alarms'}.get(name)
    assert (seen.code in (0, 1) and ran in seen.output) if ran else seen.code == 0, seen.output
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
