#!/usr/bin/env python3
# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Draw the floors of the house, docs/images/floors.svg, from the contracts in pyproject.toml.

It takes no arguments: python3 scripts/draw_floors.py
"""

from __future__ import annotations

import ast
import sys
import textwrap
from html import escape
from pathlib import Path

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / 'docs' / 'images' / 'floors.svg'

#: What a room holds, in the words of the picture; others say what their docstring begins with.
WORDS = {
    'stl_conveyor.cli': 'the command stl-conveyor',
    'stl_conveyor.run': 'make run: processes, faults, report',
    'stl_conveyor.deploy': 'launch, Fast DDS, SROS2',
    'stl_conveyor.nodes': 'device, edge, link, simulation: parameters and wiring on base',
    'stl_conveyor.recording': 'a run as a file',
    'stl_conveyor.plant': 'OPC UA, MQTT, Prometheus',
    'stl_conveyor.assess': 'latency, scores, summary, plots',
    'stl_conveyor.calibration': 'measures belt, camera, diverters',
    'stl_conveyor.hardware': 'diverters, barrier, encoder, cameras',
    'stl_conveyor.sim': 'belt, arrivals, link, Gazebo world',
    'stl_conveyor.codec': 'transform, entropy coding, packets',
    'stl_conveyor.policy': 'token bucket, rewards, decisions',
    'stl_conveyor.cell': 'geometry, deadlines, ledger',
    'stl_conveyor.models': 'model folder, classifier',
    'stl_conveyor.decision': 'cost, promise, strangers, drift',
    'stl_conveyor.vision': 'pixels, item detection',
    'stl_conveyor.parameters': 'a setting with its range',
    'stl_conveyor.resources': 'files that ship',
    'stl_conveyor.errors': 'what goes wrong, by name',
    'stl_conveyor_lab.commands': 'stl-conveyor train',
    'stl_conveyor_lab.bench': 'makes every figure',
    'stl_conveyor_lab.train': 'makes the models (torch)',
    'stl_conveyor_lab.measure': 'accuracy, time',
    'stl_conveyor_lab.papers': 'scenarios, bounds',
    'stl_conveyor_lab.references': 'codecs to compare with',
    'stl_conveyor_lab.data': 'pictures, renders, streams',
}
WIDTHS = {'stl_conveyor': 560, 'stl_conveyor_lab': 330}
COLOURS = {'stl_conveyor': ('#e3eefb', '#2f6db3'), 'stl_conveyor_lab': ('#fbf0dd', '#b3782f')}
NOTES = {'stl_conveyor': 'what runs in a cell', 'stl_conveyor_lab': 'imports from both'}
HEIGHT, GAP, MARGIN, HEAD = 54, 10, 20, 44


def floors(root: Path = ROOT) -> dict[str, list[list[str]]]:
    """Return the rooms on each floor of each package, the highest floor first."""
    settings = tomllib.loads((root / 'pyproject.toml').read_text(encoding='utf-8'))
    found: dict[str, list[list[str]]] = {}
    for contract in settings['tool']['importlinter']['contracts']:
        if contract['type'] != 'layers':
            continue
        rows = [[room.strip() for room in layer.split('|')] for layer in contract['layers']]
        packages = {room.rpartition('.')[0] for row in rows for room in row}
        if len(packages) == 1 and packages <= set(WIDTHS):
            found[packages.pop()] = rows
    return found


def words(room: str, root: Path = ROOT) -> str:
    """Return what a room holds."""
    if room in WORDS:
        return WORDS[room]
    path = root.joinpath(*room.split('.'))
    source = path / '__init__.py' if path.is_dir() else path.with_suffix('.py')
    about = ast.get_docstring(ast.parse(source.read_text(encoding='utf-8'))) or ''
    return about.split('\n')[0]


def draw(root: Path = ROOT) -> str:
    """Return the picture as SVG."""
    house = floors(root)
    tallest = max(len(rows) for rows in house.values())
    width = sum(WIDTHS[package] for package in house) + MARGIN * (len(house) + 1)
    height = HEAD + tallest * (HEIGHT + GAP) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" fill="#1c2733">',
        '<title>The floors of the house: every room imports from the floors below only</title>',
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
    ]
    left = MARGIN
    for package, rows in house.items():
        fill, line = COLOURS[package]
        note = NOTES[package]
        parts.append(
            f'<text x="{left}" y="28" font-size="16" font-weight="600">{package}'
            f'<tspan font-size="13" font-weight="400" fill="#52606d">  {note}</tspan></text>'
        )
        top = HEAD + (tallest - len(rows)) * (HEIGHT + GAP)
        for row in rows:
            each = (WIDTHS[package] - GAP * (len(row) - 1)) / len(row)
            for place, room in enumerate(row):
                x = left + place * (each + GAP)
                parts.append(
                    f'<rect x="{x:.0f}" y="{top}" width="{each:.0f}" height="{HEIGHT}" rx="6" '
                    f'fill="{fill}" stroke="{line}"/>'
                )
                middle = x + each / 2
                parts.append(
                    f'<text x="{middle:.0f}" y="{top + 20}" font-size="14" font-weight="600" '
                    f'text-anchor="middle">{escape(room.rpartition(".")[2])}</text>'
                )
                lines = textwrap.wrap(words(room, root), int(each / 6.3))[:2]
                for number, text in enumerate(lines):
                    parts.append(
                        f'<text x="{middle:.0f}" y="{top + 37 + 14 * number}" font-size="12" '
                        f'text-anchor="middle">{escape(text)}</text>'
                    )
            top += HEIGHT + GAP
        left += WIDTHS[package] + MARGIN
    return '\n'.join([*parts, '</svg>', ''])


def main() -> int:
    """Write the picture."""
    PICTURE.write_text(draw(), encoding='utf-8')
    print(f'{PICTURE.relative_to(ROOT)} written')
    return 0


if __name__ == '__main__':
    sys.exit(main())
