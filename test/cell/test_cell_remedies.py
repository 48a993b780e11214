# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path

from stl_conveyor.cell.remedies import GUARD, REMEDIES, remedy_for

ROOT = Path(__file__).parents[2]


def test_the_documented_faults_are_those_of_the_table():
    text = (ROOT / 'docs' / 'nodes.md').read_text(encoding='utf-8')

    def rows(heading, columns):
        part = text.split(heading, 1)[1].split('\n## ', 1)[0]
        cells = r' \| '.join(['(.*?)'] * (columns - 1) + ['(.*)'])
        return re.findall(rf'^\| {cells} \|$', part, re.MULTILINE)[1:]

    assert rows('## What `/diagnostics` says', 3) == [
        (each.heading, each.nodes, each.text) for each in REMEDIES if each.nodes != GUARD
    ]
    assert rows('## Who watches', 2) == [
        (each.heading, each.text) for each in REMEDIES if each.nodes == GUARD
    ]


def test_no_name_stands_in_two_rows():
    names = [name for each in REMEDIES for name in each.names]
    assert len(names) == len(set(names))


def test_what_the_nodes_report_by_name_has_a_remedy():
    """Events and conditions whose names stand in the code of the product's nodes."""
    found = {}
    for path in (ROOT / 'stl_conveyor' / 'nodes').rglob('*.py'):
        for name in re.findall(
            r"(?:\.warn|\.error|set_condition|\.trouble)\(\s*'([A-Za-z_]+)'", path.read_text()
        ):
            found[name] = path.name
    assert 'edge_gone' in found and 'frames' in found
    assert {name: where for name, where in found.items() if remedy_for(name) is None} == {}
