# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A file, in memory by default, by which what an actuator owes survives its process."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from pathlib import Path

from stl_conveyor.cell.ledger import ItemKey
from stl_conveyor.cell.owed_items import OwedItems, closed
from stl_conveyor.errors import ConveyorError

AUTO, NONE = 'auto', 'none'
LARGEST = 256 * 1024  # bytes, beyond which the file is written anew with what is owed
MOST_READ = 4 * LARGEST
# Of those that may name it, systemd's comes first: it is the service's own.
RUNTIME_FOLDERS = ('RUNTIME_DIRECTORY', 'XDG_RUNTIME_DIR')


class JournalError(ConveyorError):
    """The journal cannot be had; the message names the file and the remedy."""


def journal_path(setting: str, domain: int, node: str) -> Path | None:
    """Return where the journal of a node lies; None = there is none.

    Args:
        setting: 'auto', 'none', or a path.
        domain: Of the ROS graph; with `node`, the fully qualified name, it makes the name.
    """
    if setting == NONE:
        return None
    if setting != AUTO:
        return Path(setting).expanduser().absolute()
    name = f'{domain}{node.replace("/", ".")}.journal'
    for variable in RUNTIME_FOLDERS:
        folder = os.environ.get(variable, '').split(':')[0]
        if folder and os.access(folder, os.W_OK):
            return Path(folder) / 'stl_conveyor' / name
    memory = Path('/dev/shm')
    shared = memory if memory.is_dir() else Path(tempfile.gettempdir())
    return shared / f'stl_conveyor-{os.geteuid()}' / name


class ItemJournal:
    """Appends lines to a file; none is flushed to a disk, which a crash of the process needs not.

    Attributes:
        owed: The account that the lines come to.
        trouble: Why nothing more is written; empty while all is well.
    """

    def __init__(self, path: Path | None) -> None:
        """Open the file, and read what the process before owed.

        Args:
            path: Its folder is made; None: nothing is kept.

        Raises:
            JournalError: If it belongs to somebody else, another process has it, or it cannot be
                opened.
        """
        self.owed = OwedItems()
        self.trouble = ''
        self._path = path
        self._file = -1
        self._size = 0
        if path is not None:
            try:
                self._file = open_alone(path)
                self._read()
            except OSError as error:
                self._let_go()
                raise JournalError(
                    f'journal {path}: {error.strerror or error}; what is open will not survive a '
                    'crash of this node. Name another file with `journal`, or none'
                ) from error

    @property
    def path(self) -> Path | None:
        """Return the file; None: nothing is kept."""
        return self._path

    def note(self, line: str) -> None:
        """Take in a line, and append it."""
        self.owed.take(line)
        if self._file < 0 or self.trouble:
            return
        if self._size > LARGEST:
            self._write_anew()
        else:
            self._append(line + '\n')

    def close_item(self, key: ItemKey) -> None:
        """Note that nothing is owed to an item any more."""
        self.note(closed(key))

    def close(self) -> None:
        """Close the file; where nothing is owed there is none afterwards."""
        if self._file >= 0 and not self.owed.items and self._path is not None:
            self._path.unlink(missing_ok=True)
        self._let_go()

    def _read(self) -> None:
        data = b''
        while len(data) <= MOST_READ and (part := os.read(self._file, 65536)):
            data += part
        self.owed = OwedItems(data.decode(errors='replace').splitlines())
        self._write_anew()

    def _write_anew(self) -> None:
        assert self._path is not None
        new, old = self._path.with_suffix('.new'), self._file
        text = ''.join(f'{line}\n' for line in self.owed.lines())
        try:
            new.unlink(missing_ok=True)  # of a process that was killed here
            self._file, self._size = open_alone(new), 0
            self._append(text)
            os.replace(new, self._path)
        except OSError as error:
            self._fail(error)
        os.close(old)

    def _append(self, text: str) -> None:
        data = text.encode()
        try:
            written = os.write(self._file, data)
        except OSError as error:
            self._fail(error)
        else:
            self._size += written
            if written < len(data):
                self.trouble = f'journal {self._path}: there is no room; make some'

    def _fail(self, error: OSError) -> None:
        self.trouble = (
            f'journal {self._path}: {error.strerror}; what is open will not survive a crash of '
            'this node. Make room, or name another file with `journal`'
        )

    def _let_go(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def open_alone(path: Path, also: int = os.O_APPEND) -> int:
    """Open a file of ours that nobody else has open.

    Args:
        also: How else it is opened; a file that is written over must not be appended to.

    Raises:
        BlockingIOError: If another process has it.
        OSError: If that cannot be for another reason.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    while True:
        number = os.open(path, flags | also, 0o600)
        try:
            _lock_own(number)
            if _is_at(number, path):
                return number
        except OSError:
            os.close(number)
            raise
        os.close(number)  # who had it has removed or replaced it meanwhile: there is another


def _lock_own(number: int) -> None:
    """Lock an open file of ours.

    Raises:
        BlockingIOError: If another process has locked it.
        OSError: If it is no file of ours.
    """
    found = os.fstat(number)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(0, 'it is no file of this user')
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(0, 'another node of this name holds it') from None


def _is_at(number: int, path: Path) -> bool:
    """Return whether an open file is the one that lies at a path."""
    try:
        return os.path.samestat(os.fstat(number), os.lstat(path))
    except FileNotFoundError:
        return False
