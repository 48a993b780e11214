# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A log with a JSON object on each line that survives a restart and does not grow without end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from stl_conveyor.outside_files import LARGEST_TEXT, UnusableFile, read_bytes

LARGEST = 2_000_000  # bytes; then the log is put aside as NAME.1
LATEST = 8e12  # s since 1970; JavaScript has no later dates

_T = TypeVar('_T')


class LineLog:
    """A log of something; not for several threads at once.

    Attributes:
        trouble: Why the log cannot be written, or what of it cannot be read; empty: nothing.
    """

    def __init__(self, path: Path | None, name: str) -> None:
        """Open nothing yet.

        Args:
            path: Of the file; None keeps nothing.
            name: What the log is, for the words about it.
        """
        self._path = path
        self._name = name
        self._half_a_line = False
        self.trouble = ''

    def read(self, understood: Callable[[Any], _T | None]) -> Iterator[_T]:
        """Yield what the file that was put aside and the present one hold, the oldest first.

        Args:
            understood: Makes an entry of what stands on a line; None: it is none, and left out.
        """
        for path in (self._aside, self._path):
            if path is not None and os.path.lexists(path):
                yield from self._read(path, understood)

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add a line; what keeps it from being written is in `trouble`."""
        if self._path is None or self._aside is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.exists() and self._path.stat().st_size > LARGEST:
                os.replace(self._path, self._aside)
            line = json.dumps(entry, ensure_ascii=False) + '\n'
            with open(self._path, 'a', encoding='utf-8', errors='replace') as file:
                file.write('\n' + line if self._half_a_line else line)
        except OSError as error:
            self._half_a_line = True  # perhaps
            self.trouble = f'{self._path}: {self._name} cannot be written: {error.strerror}'
        else:
            self._half_a_line, self.trouble = False, ''

    @property
    def _aside(self) -> Path | None:
        return None if self._path is None else self._path.with_name(self._path.name + '.1')

    def _read(self, path: Path, understood: Callable[[Any], _T | None]) -> Iterator[_T]:
        try:
            data = read_bytes(path, LARGEST_TEXT)
        except UnusableFile as error:
            self.trouble = f'{path}: {self._name} cannot be read: {error}'
            return
        self._half_a_line = bool(data) and not data.endswith(b'\n')
        left_out = 0
        for line in data.splitlines():
            if not line.strip():
                continue
            try:
                entry = understood(json.loads(line))
            except (ValueError, RecursionError):
                entry = None
            if entry is None:
                left_out += 1
            else:
                yield entry
        if left_out:
            self.trouble = (
                f'{path}: damaged lines of {self._name} are left out, {left_out} in number'
            )


def made_of(
    kind: Callable[..., _T], content: Any, fields: Mapping[str, Callable[[Any], bool]]
) -> _T | None:
    """Return what a line holds, made of its fields; None if these are others or cannot be.

    Args:
        kind: Makes it, by the names of the fields.
        content: Of the line, as JSON held it.
        fields: Each field, and whether it can have a value.
    """
    if not isinstance(content, dict) or set(content) != set(fields):
        return None
    good = all(check(content[name]) for name, check in fields.items())
    return kind(**content) if good else None


def is_number(value: Any) -> bool:
    """Return whether something that JSON held is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_time(value: Any) -> bool:
    """Return whether something that JSON held is a time that a page can show: s since 1970.

    Examples:
        >>> is_time(1_800_000_000.5), is_time(float('nan')), is_time(10**400)
        (True, False, False)
    """
    return is_number(value) and 0 <= value < LATEST
