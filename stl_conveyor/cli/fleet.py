# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The command `stl-conveyor fleet`: what the fleet file promises, and what the fleet does."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stl_conveyor.deploy.fleet import Fleet
from stl_conveyor.deploy.fleet_status import fleet_status
from stl_conveyor.errors import MissingDependency

LISTEN_S = 3.0  # three reports of every node, and fifteen signs of life of every edge


def add_fleet(commands: Any) -> None:
    """Add the command to a parser's sub-commands."""
    parser = commands.add_parser(
        'fleet',
        help='check a fleet file, or see what its edges and cells do',
        description='Read the fleet file, which names cells, edges, models and links once.',
    )
    verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')
    check = verbs.add_parser(
        'check',
        help='say what cannot work, without asking anybody',
        description='Check the file: names, model folders, standbys, and the capacity that is '
        'left, also with any one edge gone.',
    )
    check.set_defaults(run=_check)
    status = verbs.add_parser(
        'status',
        help='ask who is there: versions, who answers whom, capacity left, alarms',
        description='Listen to the fleet for a while, and compare it with the file.',
    )
    status.set_defaults(run=_status)
    status.add_argument(
        '--seconds', type=float, default=LISTEN_S, help='to listen (default: %(default)s)'
    )
    for verb in (check, status):
        verb.add_argument('file', type=Path, metavar='FILE', help='the fleet file (YAML)')


def _check(options: argparse.Namespace) -> int:
    fleet = Fleet.load(options.file)
    findings = fleet.check()
    loads = fleet.loads()
    _print_table(
        ('edge', 'models', 'home of', 'standby of', 'asked for', 'capacity left'),
        (
            (
                edge.name,
                edge.models,
                str(sum(fleet.order(cell)[0] == edge.name for cell in fleet.cells)),
                str(sum(fleet.order(cell)[1:2] == [edge.name] for cell in fleet.cells)),
                f'{loads[edge.name]:.0f}/s',
                f'{edge.capacity - loads[edge.name]:.0f}/s' if edge.capacity else 'not told',
            )
            for edge in fleet.edges.values()
        ),
    )
    for finding in findings:
        print(f'{"error" if finding.is_error else "note"}: {finding.text}')
    errors = sum(finding.is_error for finding in findings)
    print(
        f'{options.file}: {len(fleet.cells)} cells, {len(fleet.edges)} edges, '
        f'{errors or "no"} error{"" if errors == 1 else "s"}'
    )
    return 1 if errors else 0


def _status(options: argparse.Namespace) -> int:
    try:
        from stl_conveyor.nodes.edge.fleet_watch import watch_fleet
    except ImportError as error:
        raise MissingDependency(
            f'fleet status needs ROS 2 and the built messages ({error}): source the setup file of '
            'your workspace, or use scripts/env in a checkout'
        ) from error
    fleet = Fleet.load(options.file)
    status = fleet_status(fleet, *watch_fleet(options.seconds))
    _print_table(
        ('edge', 'version', 'answers for', 'load', 'answers', 'capacity left', 'price'),
        status.edges,
    )
    _print_table(('cell', 'version', 'answered by', 'home'), status.cells)
    for alarm in status.alarms:
        print(f'alarm: {alarm}')
    print('in order' if status.is_in_order else f'{len(status.alarms)} alarms')
    return 0 if status.is_in_order else 1


def _print_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of words below a heading, as wide as they must be."""
    table = [tuple(heading), *map(tuple, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(heading))]
    for row in table:
        print('  '.join(word.ljust(width) for word, width in zip(row, widths)).rstrip())
    print()
