# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run the nodes of the device in one process, which comes back at once when it crashes.

They share the middleware's threads, the interpreter and onnxruntime, and a message between them
wakes no other process: that halves the time from a picture to a command, and costs a third of the
memory of a process for each.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

from stl_conveyor.nodes.base.topics import COMPOSED, node_class

# The actuator has a thread of its own: its commands have a time, and wait for no model.
ALONE = ('actuator',)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the command line, as far as it is not ROS's."""
    parser = argparse.ArgumentParser(prog='device', description=(__doc__ or '').splitlines()[0])
    parser.add_argument(
        '--nodes', nargs='+', choices=COMPOSED, default=list(COMPOSED), help='which nodes'
    )
    parser.add_argument(
        '--no-respawn', action='store_true', help='end when it crashes, and leave that to others'
    )
    own = list(arguments)
    if '--ros-args' in own:
        own = own[: own.index('--ros-args')]
    return parser.parse_args(own)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the nodes."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    # One thread each for what would otherwise take every core: small models, small arrays.
    for variable in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS'):
        os.environ.setdefault(variable, '1')
    from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
    from stl_conveyor.nodes.base.keeper import keep
    from stl_conveyor.nodes.base.runner import run_nodes

    groups: dict[type[ConveyorNode], str] = {}
    for name in COMPOSED:
        if name in options.nodes:
            groups[node_class(name)] = name if name in ALONE else ''
    with contextlib.suppress(ImportError):  # the node that needs it says so
        importlib.import_module('onnxruntime')  # now, so that the keeper has it loaded

    def work(why: str = '') -> int:
        return run_nodes(groups, arguments, restarted=why)

    return work() if options.no_respawn else keep(work)


if __name__ == '__main__':
    sys.exit(main())
