# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Costs, purity targets and lanes are changed in a copy of the description, or refused by name."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
import yaml

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConfigError
from stl_conveyor.panel.cell_values import cell_values, with_cell_values, write_changed_cell
from stl_conveyor.panel.recipes import Recipe, load_recipes

ROOT = Path(__file__).resolve().parents[2]
CELL_FILE = ROOT / 'config' / 'cell.yaml'
CONTENT = yaml.safe_load(CELL_FILE.read_text(encoding='utf-8'))
CELL = CellDescription.load(CELL_FILE)
NOW = datetime(2026, 1, 2, 3, 4, 5)


def test_what_was_changed_holds_and_everything_else_stays():
    values = {'costs': {'wrong': 3.0}, 'purity': {'A': 0.99}, 'lanes': {'hex_nut_m8': 'B'}}
    changed = CellDescription.from_mapping(with_cell_values(CONTENT, values))
    assert (changed.costs.wrong, changed.costs.reject) == (3.0, 0.5)
    assert changed.lane('A').purity == 0.99
    assert changed.lane_of('hex_nut_m8') == 'B' and CELL.lane_of('hex_nut_m8') == 'A'
    assert sorted(changed.classes) == sorted(CELL.classes)
    assert (changed.belt, changed.camera, changed.guard) == (CELL.belt, CELL.camera, CELL.guard)


def test_what_held_before_is_had_again_from_what_was_told_of_it():
    before = cell_values(CELL)
    assert before['costs'] is None and before['purity'] == {'A': None, 'B': None, 'C': None}
    changes = {'costs': {'wrong': 3.0}, 'purity': {'B': 0.9}, 'lanes': {'hex_nut_m8': 'C'}}
    changed = with_cell_values(CONTENT, changes)
    assert cell_values(CellDescription.from_mapping(changed)) != before
    again = CellDescription.from_mapping(with_cell_values(changed, before))
    assert cell_values(again) == before


@pytest.mark.parametrize(
    'values, named',
    [
        ({}, 'cell_values'),
        ('costs', 'cell_values'),
        ({'belt': {'speed': 9}}, 'cell_values'),
        ({'costs': 3}, 'costs'),
        ({'costs': {'wrong': -1}}, 'wrong'),
        ({'costs': {'other': 1}}, 'other'),
        ({'purity': {'A': 0.2}}, 'purity'),
        ({'purity': {'Z': 0.9}}, 'Z'),
        ({'lanes': {'hex_nut_m8': 'Z'}}, 'Z'),
        ({'lanes': {'no_such_class': 'A'}}, 'no_such_class'),
        ({'lanes': dict.fromkeys(CELL.classes, 'A')}, 'at least one class'),
    ],
)
def test_what_cannot_be_is_named(values, named):
    with pytest.raises(ConfigError, match=named):
        with_cell_values(CONTENT, values)


def test_each_change_is_a_new_file_named_after_the_first(tmp_path):
    first = write_changed_cell(CELL_FILE, {'purity': {'A': 0.9}}, tmp_path, NOW)
    second = write_changed_cell(first, {'purity': {'B': 0.9}}, tmp_path, NOW)
    assert [path.name for path in (first, second)] == [
        'cell_20260102_030405.yaml',
        'cell_20260102_030405_2.yaml',
    ]
    cell = CellDescription.load(second)
    assert (cell.lane('A').purity, cell.lane('B').purity) == (0.9, 0.9)
    assert str(first) in second.read_text(encoding='utf-8').splitlines()[0]
    (tmp_path / 'file').write_text('')
    with pytest.raises(ConfigError, match='cannot be written'):
        write_changed_cell(CELL_FILE, {'purity': {'A': 0.9}}, tmp_path / 'file' / 'x', NOW)


def test_recipes_are_found_beside_their_file(tmp_path):
    (tmp_path / 'nuts.yaml').write_text(CELL_FILE.read_text(encoding='utf-8'))
    path = tmp_path / 'recipes.yaml'
    path.write_text('nuts: {cell_file: nuts.yaml}\nshipped: {}\n')
    assert load_recipes(path) == {
        'nuts': Recipe(str(tmp_path / 'nuts.yaml'), ''),
        'shipped': Recipe(),
    }


@pytest.mark.parametrize(
    'text, named',
    [
        ('- nuts\n', 'name of each recipe'),
        ('nuts: {cell: nuts.yaml}\n', 'nuts.*cell_file'),
        ('nuts: {cell_file: nowhere.yaml}\n', 'nuts.*nowhere.yaml'),
        ('nuts: {models_dir: nowhere}\n', 'nuts.*nowhere'),
        (': :', 'cannot be read'),
    ],
)
def test_recipes_that_cannot_be_used_are_named(tmp_path, text, named):
    path = tmp_path / 'recipes.yaml'
    path.write_text(text)
    with pytest.raises(ConfigError, match=f'recipes.yaml.*{named}'):
        load_recipes(path)
