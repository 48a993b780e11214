# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The command `stl-conveyor security`: what the nodes of a cell prove themselves by."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from stl_conveyor.deploy.keystore import DAYS, Keystore, grants
from stl_conveyor.deploy.security import WIRINGS, policy
from stl_conveyor.errors import ConfigError
from stl_conveyor.outside_files import UnusableFile, read_text


def add_security(commands: Any) -> None:
    """Add the command to a parser's sub-commands."""
    parser = commands.add_parser(
        'security',
        help='make the keys and permissions with which nodes prove who they are',
        description='Make what SROS2 needs.',
    )
    verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')
    create = verbs.add_parser(
        'create',
        help='make keys and signed permissions for every node of a cell',
        description='Make a keystore: a certificate authority, and for every node key, '
        'certificate and signed permissions. A folder that is there already keeps its keys; what '
        'is missing is made, and the permissions are signed anew.',
    )
    create.add_argument('folder', type=Path, metavar='DIR', help='of the keystore')
    source = create.add_mutually_exclusive_group()
    source.add_argument(
        '--wiring',
        choices=tuple(WIRINGS),
        default='direct',
        help='how the cell is connected (default: %(default)s)',
    )
    source.add_argument(
        '--policy', type=Path, metavar='FILE', help='a policy file, in place of a wiring'
    )
    create.add_argument(
        '--namespace',
        nargs='+',
        default=[''],
        dest='namespaces',
        help='of the cell, or of several cells with one edge',
    )
    create.add_argument('--edges', nargs='+', default=[], help='namespaces of the edges of a pool')
    create.add_argument(
        '--domain',
        type=int,
        help='for which permissions are signed (default: ROS_DOMAIN_ID, or 0)',
    )
    create.add_argument(
        '--days', type=int, default=DAYS, help='for which they hold (default: %(default)s)'
    )
    create.set_defaults(run=_create)


def _create(options: argparse.Namespace) -> None:
    allowed = grants(_policy(options))
    store = Keystore(options.folder, _domain(options.domain), options.days)
    for path, grant in allowed.items():
        store.add(path, grant)
    folder = options.folder.resolve()
    print(
        f'{folder}: keys and permissions of {len(allowed)} nodes. The key in {folder}/private '
        'signs all of them, and belongs on none of the machines. To switch it on:\n'
        f'export ROS_SECURITY_KEYSTORE={folder} ROS_SECURITY_ENABLE=true '
        'ROS_SECURITY_STRATEGY=Enforce'
    )


def _policy(options: argparse.Namespace) -> str:
    if options.policy is None:
        return policy(WIRINGS[options.wiring], options.namespaces, options.edges)
    if options.namespaces != [''] or options.edges:
        raise ConfigError(
            '--namespace goes with --wiring, and so does --edges: a policy file has its own '
            'namespaces'
        )
    try:
        return read_text(options.policy)
    except UnusableFile as error:
        raise ConfigError(f'{options.policy}: {error}; take one of security/') from error


def _domain(given: int | None) -> int:
    if given is not None:
        return given
    text = os.environ.get('ROS_DOMAIN_ID') or '0'
    try:
        return int(text)
    except ValueError:
        raise ConfigError(
            f'ROS_DOMAIN_ID is {text!r}, which is no number; give --domain'
        ) from None
