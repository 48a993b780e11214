# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What every output to the plant has in common."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stl_conveyor.errors import ConveyorError
from stl_conveyor.plant.values import Fault, Readings

RUNNING, RECIPE = 'running', 'recipe'
COMMANDS = (RUNNING, RECIPE)  # that the plant may be allowed, one by one


@dataclass(frozen=True)
class Result:
    """What was done with an item; `time` in seconds since 1970."""

    cell: str
    item_id: int
    time: float
    lane: str
    class_id: str
    score: float
    source: str
    slack: float
    missed: bool

    def as_json(self) -> dict[str, Any]:
        """Return it as a plain object."""
        told = dict(vars(self))
        del told['cell']
        return told


class Output(Protocol):
    """An output; its methods never wait for the plant.

    Attributes:
        trouble: Why the plant does not get anything, with the remedy; empty while it does.
        left_out: What was not told because the plant was not there, or took it too slowly.
    """

    trouble: str
    left_out: int

    @property
    def has_ended(self) -> bool:
        """Return whether it serves no more, and must be opened anew."""

    def update(self, cells: Mapping[str, Readings]) -> None:
        """Tell what holds now, by cell; '' is the one without a name."""

    def faults(self, cells: Mapping[str, Sequence[Fault]]) -> None:
        """Tell which faults last now, by cell."""

    def result(self, result: Result) -> None:
        """Tell of an item."""

    def stop(self) -> None:
        """End."""


class Commands:
    """What the plant may change, each in a thread that nobody waits for, one after the other.

    Everything is refused but what was allowed by name.
    """

    def __init__(
        self, allowed: tuple[str, ...], change: Callable[[str, str, dict[str, Any]], str]
    ) -> None:
        """Take what is allowed.

        Args:
            allowed: Of COMMANDS.
            change: Makes a change: cell, who, names and values; returns why it was not made, or
                an empty text. It may block.
        """
        self.allowed = allowed
        self._change = change
        self._busy = threading.Lock()

    def run(self, cell: str, who: str, name: str, value: Any, done: Callable[[str], None]) -> None:
        """Do a command, and say what came of it: an empty text, or why it was refused."""
        if name not in self.allowed:
            done(f'{name}: this gateway does not allow it; see its parameter allow')
            return
        if not self._busy.acquire(blocking=False):
            done(f'{name}: another command is under way; try again when it is done')
            return

        def work() -> None:
            try:
                trouble = self._change(cell, who, {name: value})
            except ConveyorError as error:
                trouble = str(error)
            finally:
                self._busy.release()
            done(trouble)

        threading.Thread(target=work, name='plant command', daemon=True).start()
