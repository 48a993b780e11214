# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The command `stl-conveyor run`: the simulated cell, over real DDS, on this machine."""

from __future__ import annotations

from typing import Any

from stl_conveyor.run import console


def add_run(commands: Any) -> None:
    """Add the command to a parser's sub-commands."""
    parser = commands.add_parser(
        'run',
        help='run the simulated cell and write summary and report',
        description='Run the simulated cell over real DDS: a process for every node.',
    )
    console.add_arguments(parser)
    parser.set_defaults(run=console.run)
