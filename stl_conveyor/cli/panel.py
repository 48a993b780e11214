# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The command `stl-conveyor panel`: the operator's page of the cells that run."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from stl_conveyor.errors import MissingDependency


def add_panel(commands: Any) -> None:
    """Add the command to a parser's sub-commands."""
    parser = commands.add_parser(
        'panel',
        help="serve the operator's page of one cell or several",
        description="Serve the operator's page. It listens, and changes nothing; Ctrl-C ends it.",
    )
    parser.add_argument(
        'cells', nargs='*', metavar='CELL', help='namespaces of the cells; none: without one'
    )
    parser.add_argument('--address', default='127.0.0.1', help='of this machine')
    parser.add_argument('--port', type=int, default=8090, help='0 takes a free one')
    parser.add_argument('--cell', default='', metavar='FILE', help='cell description (YAML)')
    parser.add_argument('--models', default='', metavar='DIR', help='model folder')
    parser.add_argument('--sim-time', action='store_true', help='follow /clock')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C; return the exit code.

    Raises:
        MissingDependency: If there is no ROS 2 or no NiceGUI.
    """
    try:
        from stl_conveyor.nodes.panel.operator_panel import main
    except ImportError as error:
        raise MissingDependency(
            f'the page needs ROS 2 and the built messages ({error}): source the setup file of '
            'your workspace, or use scripts/env in a checkout'
        ) from error
    import_module('stl_conveyor.web.server')  # says at once what is missing
    return main(node_arguments(options))


def node_arguments(options: argparse.Namespace) -> list[str]:
    """Return the arguments of the node's process."""

    def quoted(text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    parameters = {
        'address': quoted(options.address),
        'port': str(options.port),
        'cells': '[' + ', '.join(map(quoted, options.cells or [''])) + ']',
        'use_sim_time': str(options.sim_time).lower(),
    }
    if options.cell:
        parameters['cell_file'] = quoted(str(Path(options.cell).expanduser().absolute()))
    if options.models:
        parameters['models_dir'] = quoted(str(Path(options.models).expanduser().absolute()))
    return ['--ros-args'] + [
        word for name, value in parameters.items() for word in ('-p', f'{name}:={value}')
    ]
