# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The command `stl-conveyor replay`: what a recording holds, said again."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path
from typing import Any

from stl_conveyor.errors import MissingDependency
from stl_conveyor.nodes.base.ending import told_of_ending


def add_replay(commands: Any) -> None:
    """Add the command to a parser's sub-commands."""
    parser = commands.add_parser(
        'replay',
        help='play a recording (run.mcap) into the nodes',
        description='Publish what a recording holds, at the times at which it came. Without '
        '--topics that is what no node here publishes, so that each node that runs works on the '
        'recording, and what it says takes the place of what was recorded. Ctrl-C ends.',
    )
    parser.add_argument('file', type=Path, metavar='FILE', help='such as out/run.mcap')
    parser.add_argument(
        '--topics', nargs='+', default=[], metavar='TOPIC', help='to play, and no others'
    )
    parser.add_argument(
        '--rate', type=float, default=1.0, help='seconds of the recording in one second'
    )
    parser.add_argument('--loop', action='store_true', help='begin again at the end')
    parser.add_argument(
        '--clock',
        action='store_true',
        help='leave the stamps as they are and publish /clock, for nodes with use_sim_time; '
        'without, times are moved to now',
    )
    parser.add_argument(
        '--namespace', default=None, help='of the cell, in place of the recorded one'
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Play until the end, or Ctrl-C.

    Raises:
        MissingDependency: If there is no ROS 2.
    """
    try:
        from stl_conveyor.nodes.panel.replayer import Replay, play
    except ImportError as error:
        raise MissingDependency(
            f'playing a recording needs ROS 2 and the built messages ({error}): source the setup '
            'file of your workspace, or use scripts/env in a checkout'
        ) from error
    stop = threading.Event()
    with told_of_ending(stop.set):
        count = play(
            Replay(
                options.file,
                tuple(options.topics),
                options.namespace,
                options.rate,
                options.loop,
                options.clock,
            ),
            stop=stop,
        )
    print(f'{count} messages')
