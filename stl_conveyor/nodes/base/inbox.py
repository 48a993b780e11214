# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Bring what happens in other threads, such as those of drivers, to a node's executor."""

from __future__ import annotations

import queue
from collections.abc import Callable

from stl_conveyor.nodes.base.conveyor_node import ConveyorNode


class Inbox:
    """Calls that wait for the node's executor; each is guarded."""

    def __init__(self, node: ConveyorNode) -> None:
        """Take calls until the node's resources are closed, or `close`."""
        self._node = node
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._closed = False
        node.resources.callback(self.close)

    def brings(self, function: Callable[..., None]) -> Callable[..., None]:
        """Return a function that any thread may call, which has `function` called later."""

        def call(*arguments: object) -> None:
            if self._closed:
                return
            self._queue.put(lambda: function(*arguments))
            executor = self._node.executor
            if executor is not None:  # else who spins the node next makes the calls
                # Not a guard condition: EventsExecutor knows none.
                executor.create_task(self.drain)

        return call

    def drain(self) -> None:
        """Make the calls that wait."""
        while not self._queue.empty():
            self._node.guarded(self._queue.get())()

    def close(self) -> None:
        """Make the calls that wait, and take no more."""
        self._closed = True
        self.drain()
