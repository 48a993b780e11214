# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""`import stl_conveyor` offers what scripts need, costs nothing, and its examples are true."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import stl_conveyor

SOURCE = Path(stl_conveyor.__file__)
# What the names need, and importing the package must not load.
HEAVY = ('numpy', 'onnxruntime', 'PIL', 'yaml', 'rclpy')


def run_python(code, *options):
    return subprocess.run(
        [sys.executable, *options, '-c', code],
        capture_output=True,
        text=True,
        env={'PYTHONPATH': str(SOURCE.parents[1]), 'PATH': ''},
    )


@pytest.mark.parametrize('name', stl_conveyor.__all__)
def test_every_name_opens_with_an_example_whose_output_is_true(name):
    thing = getattr(stl_conveyor, name)
    module = importlib.import_module(thing.__module__)
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(thing, name, module=module, globs={})
    assert example.examples, f'{thing.__module__}.{name} has no example in its docstring'
    said = []
    failed, _ = doctest.DocTestRunner().run(example, out=said.append)
    assert not failed, ''.join(said)


@pytest.mark.parametrize('name', stl_conveyor.__all__)
def test_an_example_imports_what_it_uses_from_the_package_itself(name):
    examples = doctest.DocTestParser().get_examples(
        inspect.getdoc(getattr(stl_conveyor, name)) or ''
    )
    imported = {
        alias.name
        for example in examples
        for node in ast.walk(ast.parse(example.source))
        if isinstance(node, ast.ImportFrom) and node.module == 'stl_conveyor'
        for alias in node.names
    }
    assert name in imported


def test_type_checkers_see_the_names_that_are_loaded_lazily():
    tree = ast.parse(SOURCE.read_text(encoding='utf-8'))
    (block,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == 'TYPE_CHECKING'
    )
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    homes = {name: f'stl_conveyor.{home}' for name, home in stl_conveyor._HOMES.items()}
    assert seen == homes
    assert sorted(stl_conveyor.__all__) == stl_conveyor.__all__ == sorted(homes)


def test_the_package_lists_its_names_and_knows_no_others():
    listed = dir(stl_conveyor)
    assert set(stl_conveyor.__all__) <= set(listed) and '__version__' in listed
    with pytest.raises(AttributeError, match="'stl_conveyor' has no attribute 'Conveyor'"):
        _ = stl_conveyor.Conveyor
    with pytest.raises(ImportError):
        exec('from stl_conveyor import Conveyor')


def test_importing_the_package_loads_nothing_that_it_may_not_need():
    before = run_python('import sys; print(*sys.modules)', '-S')
    after = run_python('import sys, stl_conveyor; print(*sys.modules)', '-S')
    assert after.returncode == 0, after.stderr
    new = set(after.stdout.split()) - set(before.stdout.split())
    assert 'stl_conveyor' in new
    assert not {name.split('.')[0] for name in new} & set(HEAVY)
    assert not {name for name in new if name.startswith('stl_conveyor.')}


def test_what_runs_no_model_works_without_onnxruntime():
    done = run_python(
        'import sys; sys.modules["onnxruntime"] = None\n'
        'import stl_conveyor as s\n'
        'for name in s.__all__: getattr(s, name)\n'
        'cell = s.CellDescription.load(s.share_path("config/cell.yaml"))\n'
        'print(s.sorting_deadline(0, cell))\n'
        'folder = s.ModelFolder(s.share_path("models/items"))\n'
        'try: s.Classifier(folder.path("weak"))\n'
        'except s.ConveyorError as error: print(error)\n'
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        '780000000',
        'onnxruntime is not installed; pip install onnxruntime',
    ]
