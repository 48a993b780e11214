# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Files into which nodes of the simulation note what no message tells."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from stl_conveyor.errors import ConfigError, ConveyorError


class RunLog:
    """A CSV file to append to.

    What cannot be written, because the disk is full, is named in `trouble`, and nothing more is
    written: who notes something beside its work goes on with the work.

    Attributes:
        trouble: What went wrong, with the file and the remedy; empty while all is well.
    """

    def __init__(self, file: TextIO, path: str) -> None:
        """Write into an open file, which is closed with this."""
        self._file = file
        self._path = path
        self.trouble = ''

    def write(self, line: str) -> None:
        """Note a line."""
        if not self.trouble:
            try:
                self._file.write(line + '\n')
            except OSError as error:
                self._fail(error)

    def flush(self) -> None:
        """Put what was noted into the file."""
        if not self.trouble:
            try:
                self._file.flush()
            except OSError as error:
                self._fail(error)

    def close(self) -> None:
        """Put what was noted into the file, and close it.

        Raises:
            ConveyorError: If that fails now, when `trouble` is not looked at any more.
        """
        said = self.trouble
        self.flush()
        try:
            self._file.close()
        except OSError as error:  # what is in its buffer cannot be written
            self._fail(error)
        if self.trouble and not said:
            raise ConveyorError(self.trouble)

    def _fail(self, error: OSError) -> None:
        self.trouble = (
            f'{self._path}: {error.strerror}; nothing more is noted there. Make room, or name '
            'another file with log_path'
        )


def open_log(resources: ExitStack, path: str, heading: str) -> RunLog | None:
    """Open a CSV file to append to, with its heading if it is new; None for an empty path.

    Args:
        resources: The file is closed with them.
        path: Of the file; empty = there is none.
        heading: First line of a new file.

    Raises:
        ConfigError: If the file cannot be opened.
    """
    if not path:
        return None
    try:
        new = not Path(path).exists()
        log = RunLog(open(path, 'a', encoding='utf-8'), path)
    except OSError as error:
        raise ConfigError(f'log_path {path}: {error}; name a file that can be written') from error
    resources.callback(log.close)
    if new:
        log.write(heading)
    return log
