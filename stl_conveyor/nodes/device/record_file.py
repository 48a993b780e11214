# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A file, in memory by default, with one line that is written over and outlives its process."""

from __future__ import annotations

import os
from pathlib import Path

from stl_conveyor.nodes.device.item_journal import JournalError, open_alone

REMEDY = 'Name another file with `journal`, or none'


class RecordFile:
    """Holds one line of at most `size` characters.

    It is written by one call of the system, which a kill of the process does not cut in two, and
    is not flushed to a disk, which a crash of the process needs not.

    Attributes:
        line: What the process before has left; empty: it ended in order, or there was none.
        trouble: Why nothing more is written; empty while all is well.
    """

    def __init__(self, path: Path | None, size: int) -> None:
        """Open the file, and read what there is.

        Args:
            path: Its folder is made; None: nothing is kept.
            size: Bytes of the file.

        Raises:
            JournalError: If it belongs to somebody else, another process has it, or it cannot be
                opened.
        """
        self.line = ''
        self.trouble = ''
        self._path = path
        self._size = size
        self._file = -1
        if path is None:
            return
        try:
            self._file = open_alone(path, also=0)
            self.line = os.pread(self._file, size, 0).decode(errors='replace').strip()
        except OSError as error:
            self._let_go()
            raise JournalError(f'journal {path}: {error.strerror or error}. {REMEDY}') from error

    def write(self, line: str) -> None:
        """Put a line in the place of the one before."""
        if self._file < 0 or self.trouble:
            return
        data = line.encode().ljust(self._size)
        try:
            if os.pwrite(self._file, data, 0) < len(data):
                self.trouble = f'journal {self._path}: there is no room; make some'
        except OSError as error:
            self.trouble = f'journal {self._path}: {error.strerror}. {REMEDY}'

    def close(self) -> None:
        """End in order: afterwards there is no file."""
        if self._file >= 0 and self._path is not None:
            self._path.unlink(missing_ok=True)
        self._let_go()

    def _let_go(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
