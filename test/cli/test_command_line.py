# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How commands end, and what only some of them need."""

from __future__ import annotations

import sys

import pytest

from stl_conveyor.assess.plotting import file_pyplot
from stl_conveyor.cli.main import main
from stl_conveyor.errors import ConfigError, MissingDependency, exit_code


def raising(error):
    raise error


@pytest.mark.parametrize(
    'work, code, said',
    [
        (lambda: None, 0, ''),
        (lambda: 1, 1, ''),
        (lambda: raising(ConfigError('no oven')), 2, 'bake: no oven\n'),
        (
            lambda: raising(FileNotFoundError(2, 'No such file', '/x')),
            2,
            "bake: [Errno 2] No such file: '/x'\n",
        ),
        (lambda: raising(KeyboardInterrupt), 130, '\nstopped\n'),
    ],
)
def test_a_command_ends_with_its_code_and_says_why(work, code, said, capsys):
    assert exit_code('bake', work) == code
    assert capsys.readouterr().err == said


def test_what_is_no_users_mistake_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        exit_code('bake', lambda: 1 // 0)


def test_pictures_without_matplotlib_say_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    with pytest.raises(MissingDependency, match='pip install matplotlib'):
        file_pyplot()


def test_the_run_of_the_cell_is_a_command_too(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(['--help'])
    assert 'run the simulated cell' in capsys.readouterr().out
    assert main(['run', '--items', '0', '--out', str(tmp_path)]) == 2
    assert 'stl-conveyor run: --items 0' in capsys.readouterr().err


def test_a_run_without_ros_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, 'stl_conveyor.run.cell_run', raising=False)
    monkeypatch.setitem(sys.modules, 'rclpy', None)
    monkeypatch.setitem(sys.modules, 'rclpy.parameter', None)
    assert main(['run', '--out', str(tmp_path)]) == 2
    assert 'needs ROS 2' in capsys.readouterr().err
