# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Opening what a node remembers of itself, and saying so where that cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.health import Level
from stl_conveyor.nodes.device.item_journal import JournalError, journal_path


class Closing(Protocol):
    """A file that ends in order."""

    def close(self) -> None:
        """End in order."""


FileT = TypeVar('FileT', bound=Closing)


def open_journal(
    node: ConveyorNode, make: Callable[[Path | None], FileT], lost: str = ''
) -> FileT:
    """Return the file that a node's parameter `journal` names, until the node is deactivated.

    Without it the node works, and says so; the file then keeps nothing.

    Args:
        make: Opens it; of None, one that keeps nothing.
        lost: What that costs, in words.
    """
    path = journal_path(
        node.settings.journal, node.context.get_domain_id(), node.get_fully_qualified_name()
    )
    try:
        file = make(path)
    except JournalError as error:
        node.set_condition('journal', Level.WARN, f'{error}; {lost}' if lost else str(error))
        file = make(None)
    else:
        node.clear_condition('journal', 'the journal can be kept')
    node.resources.callback(file.close)
    return file
