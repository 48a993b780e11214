# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The laboratory's commands join `stl-conveyor` where it is installed, and are named elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import stl_conveyor_lab
from stl_conveyor.cli import main as command_line
from stl_conveyor_lab import commands

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = Path(stl_conveyor_lab.__file__).parent / 'pyproject.toml'


@pytest.fixture
def installed(monkeypatch):
    """Install the laboratory: its entry points are those of its pyproject.toml."""
    content = tomllib.loads(PROJECT.read_text(encoding='utf-8'))
    entries = [
        EntryPoint(name, value, command_line.COMMANDS)
        for name, value in content['project']['entry-points'][command_line.COMMANDS].items()
    ]
    monkeypatch.setattr(command_line, 'entry_points', lambda group: entries)


@pytest.fixture
def missing(monkeypatch):
    """Leave the laboratory out."""
    monkeypatch.setattr(command_line, 'entry_points', lambda group: [])


@pytest.mark.parametrize(
    'arguments', [['train', 'FOLDER', '--out', 'x'], ['bench', 'codec', '--out', 'x'], ['bench']]
)
def test_without_the_laboratory_its_commands_say_how_to_get_it(missing, capsys, arguments):
    assert command_line.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f'stl-conveyor {arguments[0]}: ') and 'make setup-lab' in said


@pytest.mark.parametrize('state', ['installed', 'missing'])
def test_the_help_names_all_commands_either_way(request, state, capsys):
    request.getfixturevalue(state)
    with pytest.raises(SystemExit) as stopped:
        command_line.main(['--help'])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert all(f'\n    {name} ' in shown for name in ('collect', 'evaluate', 'train', 'bench'))


def test_the_product_knows_every_command_of_the_laboratory():
    content = tomllib.loads(PROJECT.read_text(encoding='utf-8'))
    entries = content['project']['entry-points'][command_line.COMMANDS]
    assert set(entries) == set(command_line.LABORATORY)


@pytest.mark.parametrize('name', sorted(commands.BENCHMARKS))
def test_a_benchmark_is_given_its_arguments_as_they_are(installed, monkeypatch, name):
    given = []

    class Module:
        """Stands for the benchmark's module."""

        @staticmethod
        def main(arguments):
            given.append(arguments)
            return 3

    monkeypatch.setattr(commands, 'import_module', lambda module: given.append(module) or Module)
    assert command_line.main(['bench', name, '--out', 'x', '--help', '-n', '-5']) == 3
    assert given == [commands.BENCHMARKS[name][0], ['--out', 'x', '--help', '-n', '-5']]


@pytest.mark.parametrize('name', sorted(commands.BENCHMARKS))
def test_every_benchmark_has_a_command_line(installed, name, capsys):
    pytest.importorskip('scipy')
    if name in ('cell', 'device', 'edge', 'network', 'views'):
        pytest.importorskip('rclpy')
    with pytest.raises(SystemExit) as stopped:
        command_line.main(['bench', name, '--help'])
    assert stopped.value.code == 0
    assert f'stl-conveyor bench {name}' in capsys.readouterr().out


def test_a_benchmark_whose_library_is_missing_names_it(installed, monkeypatch, capsys):
    def absent(module):
        raise ModuleNotFoundError("No module named 'scipy'", name='scipy')

    monkeypatch.setattr(commands, 'import_module', absent)
    assert command_line.main(['bench', 'cell']) == 2
    assert 'pip install scipy' in capsys.readouterr().err


def test_an_unknown_benchmark_is_refused_with_those_that_there_are(installed, capsys):
    with pytest.raises(SystemExit) as stopped:
        command_line.main(['bench', 'belt'])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert all(name in said for name in commands.BENCHMARKS)


def test_tiny_models_need_no_torch(tmp_path):
    """The product's tests make them where no torch is installed."""
    script = (
        'import sys\n'
        'sys.modules["torch"] = None\n'
        'from stl_conveyor_lab.train.tiny import make_tiny_model_folder\n'
        'make_tiny_model_folder(sys.argv[1], ("red", "green"), 64)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', script, str(tmp_path / 'models')],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'models' / 'manifest.json').exists()


def test_training_explains_itself(installed, capsys):
    with pytest.raises(SystemExit) as end:
        command_line.main(['train', '--help'])
    assert end.value.code == 0
    assert '--out' in capsys.readouterr().out


def test_training_without_torch_says_what_to_install(tmp_path):
    block = (
        'import sys; from importlib.metadata import EntryPoint; sys.modules["torch"] = None; '
        'from stl_conveyor.cli import main as command; '
        'command.entry_points = lambda group: '
        '[EntryPoint("train", "stl_conveyor_lab.commands:add_train", group)]; '
        'sys.exit(command.main(["train", ".", "--out", "x"]))'
    )
    done = subprocess.run(
        [sys.executable, '-c', block],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(PROJECT.parents[1]), *sys.path])},
    )
    assert done.returncode == 2, done.stderr
    assert 'pip install torch' in done.stderr and 'Traceback' not in done.stderr
