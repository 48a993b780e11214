# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The command `stl-conveyor`: run a cell, and bring it your own items and belt.

    stl-conveyor run       the simulated cell: a live table, a summary and a report
    stl-conveyor panel     the operator's page of the cells that run
    stl-conveyor panel-user who may change something from that page
    stl-conveyor replay    what a run recorded, into the nodes
    stl-conveyor collect   pictures of one class, from a cell, a camera or a folder
    stl-conveyor evaluate  what the models know, and what offloading buys
    stl-conveyor export    a verified folder or zip file for `models_dir:=`, and back
    stl-conveyor calibrate belt, camera and diverters of a real cell
    stl-conveyor fleet     what a fleet file promises, and what its edges and cells do
    stl-conveyor security  keys and permissions with which nodes prove who they are
    stl-conveyor train     one folder of pictures -> models; comes with the laboratory
    stl-conveyor bench     measure cell, codec, policy or network; comes with the laboratory

Exit code 0 when all went well, 2 when something that was given cannot be used (the message says
what to do), 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any, NoReturn

from stl_conveyor.calibration.command import add_calibrate
from stl_conveyor.cli.collect import add_collect
from stl_conveyor.cli.evaluate import add_evaluate
from stl_conveyor.cli.export import add_export
from stl_conveyor.cli.fleet import add_fleet
from stl_conveyor.cli.panel import add_panel, add_panel_user
from stl_conveyor.cli.replay import add_replay
from stl_conveyor.cli.run import add_run
from stl_conveyor.cli.security import add_security
from stl_conveyor.errors import MissingDependency, exit_code

#: Installed packages add commands here: each entry is a function that adds one to the parsers.
COMMANDS = 'stl_conveyor.commands'
#: Commands of the laboratory, with what they do.
LABORATORY = {
    'train': 'train everything from one folder of pictures',
    'bench': 'measure the cell, the codec, the policies or a real network link',
}


def _needs_laboratory(options: argparse.Namespace) -> NoReturn:
    raise MissingDependency(
        f'{options.command} comes with the laboratory, which is not installed; on the machine '
        'that trains, in a checkout: make setup-lab, or pip install ./stl_conveyor_lab'
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='stl-conveyor',
        description='See the cell: run, panel, replay. Your own items: collect pictures, train, '
        'evaluate and export models for the cell. Your own belt: calibrate.',
    )
    commands: Any = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for add in (
        add_run,
        add_panel,
        add_panel_user,
        add_replay,
        add_collect,
        add_evaluate,
        add_export,
        add_calibrate,
        add_fleet,
        add_security,
    ):
        add(commands)
    for entry in entry_points(group=COMMANDS):
        entry.load()(commands)
    for name, text in LABORATORY.items():
        if name not in commands.choices:
            missing = commands.add_parser(
                name, help=f'{text} (with the laboratory)', add_help=False, prefix_chars='\0'
            )
            missing.add_argument('arguments', nargs='*')
            missing.set_defaults(run=_needs_laboratory)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    return exit_code(f'stl-conveyor {options.command}', lambda: options.run(options))


if __name__ == '__main__':
    sys.exit(main())
