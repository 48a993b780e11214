# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What people change on a running cell: checked, logged with who and when, and undone."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from stl_conveyor.errors import ConfigError, ConveyorError
from stl_conveyor.panel.accounts import Right, User
from stl_conveyor.panel.line_log import LineLog, is_number, is_time, made_of

KEPT = 50
Values = Mapping[str, Any]
# What can be changed: name → the right that it takes.
CHANGEABLE: Mapping[str, Right] = {
    'running': Right.RUN,
    'policy': Right.POLICY,
    'rate': Right.POLICY,
    'depth': Right.POLICY,
    'recipe': Right.RECIPE,
    'cell_values': Right.RECIPE,
}
LONGEST_NAME = 200
RANGES: Mapping[str, tuple[float, float]] = {'rate': (0.0, 1000.0), 'depth': (1.0, 100_000.0)}


class Forbidden(ConveyorError):
    """Somebody wants to change what they may not."""


class Control(Protocol):
    """What changes a cell; both methods block, and raise ConveyorError if it does not do it."""

    def values(self) -> Values:
        """Return what holds now, by the names of CHANGEABLE; what is not known is left out."""

    def apply(self, values: Values) -> None:
        """Have it so."""


@dataclass(frozen=True)
class Change:
    """A change that was made or tried; `time` in seconds since 1970.

    Attributes:
        failed: Why it was not made; empty if it was.
        undoes: Number of the change that it takes back; 0: none.
    """

    number: int
    time: float
    who: str
    before: Values
    after: Values
    failed: str = ''
    undoes: int = 0


class ChangeBook:
    """The changes of a cell. Any thread may use it; changes are made one after the other."""

    def __init__(self, path: Path | None = None) -> None:
        """Begin with the latest changes that the log tells.

        Args:
            path: Of the log; None: none.
        """
        self._log = LineLog(path, 'the log of changes')
        self._lock = threading.Lock()
        self._changes: deque[Change] = deque(maxlen=KEPT)
        self._number = 0
        for change in self._log.read(_change):
            if change.number <= self._number:  # who wrote it knew nothing of those before
                self._changes.clear()
            self._changes.append(change)
            self._number = change.number

    @property
    def trouble(self) -> str:
        """Return why the log cannot be written, or what of it cannot be read."""
        return self._log.trouble

    def changes(self) -> list[Change]:
        """Return the changes, the newest first."""
        return list(reversed(self._changes))

    def make(self, control: Control, user: User, values: Values, now: float) -> Change:
        """Make a change in somebody's name; return it, made or failed.

        Raises:
            Forbidden: If they may not.
            ConfigError: If a value cannot be.
        """
        wanted = checked(values, user)
        with self._lock:
            return self._make(control, user, wanted, now)

    def undo(self, control: Control, user: User, number: int, now: float) -> Change:
        """Take a change back: put what held before it.

        Raises:
            Forbidden: If they may not.
            ConfigError: If there is no such change, or it was not made.
        """
        with self._lock:
            found = [c for c in self._changes if c.number == number and not c.failed]
            if not found:
                raise ConfigError(f'change {number}: there is none that could be undone')
            if any(c.undoes == number and not c.failed for c in self._changes):
                raise ConfigError(f'change {number}: it was undone already')
            return self._make(control, user, checked(found[0].before, user), now, undoes=number)

    def _make(
        self, control: Control, user: User, wanted: Values, now: float, undoes: int = 0
    ) -> Change:
        self._number += 1
        before: dict[str, Any] = {}
        failed = ''
        try:
            known = control.values()
            before = {name: known[name] for name in wanted if name in known}
            control.apply(wanted)
        except ConveyorError as error:
            failed = str(error)
        change = Change(self._number, now, user.name, before, dict(wanted), failed, undoes)
        self._changes.append(change)
        self._log.add(asdict(change))
        return change


def checked(values: Any, user: User) -> dict[str, Any]:
    """Return the values that somebody wants, each of which can be and is theirs to change.

    Raises:
        Forbidden: If one is not.
        ConfigError: If one cannot be.
    """
    if not isinstance(values, Mapping) or not values:
        raise ConfigError('a change needs names and values')
    wanted: dict[str, Any] = {}
    for name, value in values.items():
        if name not in CHANGEABLE:
            raise ConfigError(f'{name}: it cannot be changed here')
        if CHANGEABLE[name] not in user.rights:
            raise Forbidden(f'{name}: the role {user.role.value} may not change it')
        if not _can_be(name, value):
            raise ConfigError(f'{name}: {value!r} cannot be')
        wanted[name] = float(value) if name in RANGES else value
    return wanted


def _can_be(name: str, value: Any) -> bool:
    """Return whether one of CHANGEABLE can have a value."""
    if name == 'running':
        return isinstance(value, bool)
    if name in ('policy', 'recipe'):
        return isinstance(value, str) and 0 < len(value.strip()) < LONGEST_NAME
    if name == 'cell_values':
        return isinstance(value, Mapping) and bool(value)  # the rest is the cell's to judge
    low, high = RANGES[name]
    return is_number(value) and low <= value <= high


def _change(content: Any) -> Change | None:
    """Return the change that a line of the log holds, or None."""
    # Each field, and what it must be.
    fields: dict[str, Callable[[Any], bool]] = {
        'number': lambda v: type(v) is int and v > 0,
        'time': is_time,
        'before': lambda v: isinstance(v, dict) and set(v) <= set(CHANGEABLE),
        'after': lambda v: (
            isinstance(v, dict) and all(n in CHANGEABLE and _can_be(n, v[n]) for n in v)
        ),
        'undoes': lambda v: type(v) is int and v >= 0,
        **dict.fromkeys(('who', 'failed'), lambda v: isinstance(v, str)),
    }
    return made_of(Change, content, fields)
