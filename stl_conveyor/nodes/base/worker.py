# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Do what takes longer than a callback may in a thread of its own."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.inbox import Inbox

_NICENESS = 10  # of the thread: it must not slow the node


class Worker:
    """One thread, whose results come back in the node's executor.

    What is under way when the node's resources are closed is finished first.
    """

    def __init__(self, node: ConveyorNode) -> None:
        """Start with nothing to do."""
        self._node = node
        self._inbox = Inbox(node)
        self._threads = ThreadPoolExecutor(1, f'{node.get_name()} worker', _give_way)
        node.resources.callback(self._threads.shutdown)

    def __call__(self, work: Callable[[], Any], adopt: Callable[[Any], None]) -> None:
        """Do some work and hand its result on.

        Args:
            work: Called in the thread. What it raises is reported, and nothing is handed on.
            adopt: Called with the result in the node's executor.
        """
        bring = self._inbox.brings(adopt)
        self._threads.submit(self._node.guarded(lambda: bring(work())))


def _give_way() -> None:
    """Let the thread come after the others of the process."""
    with contextlib.suppress(OSError):
        niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(19, niceness + _NICENESS))
