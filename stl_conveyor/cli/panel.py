# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The command `stl-conveyor panel`: the operator's page of the cells that run."""

from __future__ import annotations

import argparse
import getpass
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from stl_conveyor.errors import ConfigError, MissingDependency
from stl_conveyor.panel.accounts import Role, write_account


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
    parser.add_argument(
        '--accounts', default='', metavar='FILE', help='of panel-user; without: read-only'
    )
    parser.set_defaults(run=run)


def add_panel_user(commands: Any) -> None:
    """Add the command to a parser's sub-commands."""
    parser = commands.add_parser(
        'panel-user',
        help="write an account for the operator's page",
        description='Ask for a password, and write an account into a file (accounts_file).',
    )
    parser.add_argument('file', type=Path, help='of the accounts; it is made if it is not there')
    parser.add_argument('name', help='of the person')
    parser.add_argument(
        '--role', choices=[role.value for role in Role], default=Role.OPERATOR.value
    )
    parser.set_defaults(run=write_user)


def write_user(options: argparse.Namespace) -> None:
    """Write an account, with the password from the terminal, or a line of standard input.

    Raises:
        ConfigError: If name or password cannot be used.
    """
    if sys.stdin.isatty():
        password = getpass.getpass(f'password of {options.name}: ')
        if getpass.getpass('once more: ') != password:
            raise ConfigError('the passwords differ; nothing was written')
    else:
        password = sys.stdin.readline().rstrip('\n')
    write_account(options.file.expanduser(), options.name, Role(options.role), password)
    print(f'{options.file}: {options.name}, {options.role}')


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
    if options.accounts:
        accounts = Path(options.accounts).expanduser().absolute()
        parameters['accounts_file'] = quoted(str(accounts))
    if options.cell:
        parameters['cell_file'] = quoted(str(Path(options.cell).expanduser().absolute()))
    if options.models:
        parameters['models_dir'] = quoted(str(Path(options.models).expanduser().absolute()))
    return ['--ros-args'] + [
        word for name, value in parameters.items() for word in ('-p', f'{name}:={value}')
    ]
