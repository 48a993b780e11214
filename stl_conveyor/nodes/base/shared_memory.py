# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Files in shared memory of processes that are no more.

Fast DDS keeps messages in files below /dev/shm. A process that is killed, or that crashes, leaves
its own behind, half a megabyte each, and nobody takes them away: after some days of restarts the
memory is full. So whoever starts or ends a node removes what belongs to nobody.

A participant holds a lock on the file `fastdds_ID_el` beside its segment `fastdds_ID` for as long
as it lives, whichever way it ends. A port, `fastdds_portN`, is a queue that the participants of
one machine share. One that has no listener any more may go only when nobody has it open: a sender
would go on to write into a file that the next listener does not read.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

SHARED_MEMORY = Path('/dev/shm')
PROCESSES = Path('/proc')
YOUNG_S = 5.0  # a participant that starts may have made a file, and not opened or locked it yet
PATIENCE_S = 1.0  # for somebody who removes orphans; that takes some hundredths of a second
_SEGMENT = re.compile(r'(?:fastdds|fastrtps)_[0-9a-f]{16}')
# A port, the locks of its one listener or of those that share it, and its mutex.
_OF_PORT = re.compile(r'(?:sem\.)?((?:fastdds|fastrtps)_port\d+)(?:_el|_sl|_mutex)?')
_LOCKS = ('_el', '_sl')
_DELETED = ' (deleted)'
STALE_S = 5.0  # for which a port is replaced before that is said; a second is usual


def remove_orphans(
    own: Collection[str] = (), folder: Path = SHARED_MEMORY, processes: Path = PROCESSES
) -> int:
    """Remove the files of participants that are no more; return how many.

    What cannot be looked into, or belongs to somebody else, stays.

    Args:
        own: Files that this process had open itself: it knows that nobody is just making them.
    """
    try:
        names = set(os.listdir(folder))
    except OSError:  # not Linux
        return 0
    with contextlib.ExitStack() as held:
        segments = {name for name in names if _SEGMENT.fullmatch(name) and f'{name}_el' in names}
        # Not locked meanwhile: an owner may just have ended, and be about to remove its own.
        dead = {name for name in segments if not _is_held(folder / f'{name}_el')}
        ports = _left_ports(folder, names, own)
        if not dead and not ports:
            return 0
        open_somewhere = _open_somewhere(processes, folder)
        removed = 0
        for name in dead:
            lock = folder / f'{name}_el'
            if (name not in open_somewhere or _age(lock) > YOUNG_S) and _lock(held, lock):
                removed += _remove(folder, (name, lock.name))
        unseen = segments - dead - open_somewhere
        if any(_is_held(folder / f'{name}_el') for name in unseen):  # still: it has not just ended
            # Somebody lives whom this process may not see, such as in another container, and who
            # may have any of the ports open.
            return removed
        ports = {name: files for name, files in ports.items() if name not in open_somewhere}
        return removed + _remove_ports(held, folder, processes, ports)


@contextlib.contextmanager
def joining(folder: Path = SHARED_MEMORY) -> Iterator[None]:
    """Have no other node remove ports while a participant of this process takes its own."""
    with contextlib.ExitStack() as held:
        end = time.monotonic() + PATIENCE_S
        while not _lock(held, folder, fcntl.LOCK_SH):
            if time.monotonic() > end or not folder.exists():
                break
            time.sleep(0.01)
        yield


def opened_here(folder: Path = SHARED_MEMORY, processes: Path = PROCESSES) -> set[str]:
    """Return the names of the files in shared memory that this process has open."""
    return set(_mapped_by(processes / 'self', folder))


def replaced_ports(folder: Path = SHARED_MEMORY, processes: Path = PROCESSES) -> set[str]:
    """Return the ports that this process has open, and of which a listener has another file.

    What is sent through such a port reaches nobody. The names come with the number of the file.
    """
    found = set()
    for number, name in _files_mapped_by(processes / 'self', folder):
        port = name.removesuffix(_DELETED)
        if port != name and _OF_PORT.fullmatch(port):
            if any(_is_held(folder / f'{port}{kind}') for kind in _LOCKS):
                found.add(f'{port} ({number})')
    return found


class PortWatch:
    """Tells which ports of this process have been replaced for longer than it takes to see that.

    Fast DDS opens a port anew by itself, within a second of the end of a listener that was
    killed; not where several processes did so at once, and one of them has a file that another
    one has removed.
    """

    def __init__(self, look: Callable[[], set[str]] = replaced_ports) -> None:
        """Know of none."""
        self._look = look
        self._since: dict[str, float] = {}

    def stale(self, now: float) -> list[str]:
        """Return those that have been replaced for STALE_S; to be called every second or two."""
        self._since = {name: self._since.get(name, now) for name in self._look()}
        return sorted(name for name, since in self._since.items() if now - since >= STALE_S)


def _left_ports(folder: Path, names: Iterable[str], own: Collection[str]) -> dict[str, list[str]]:
    """Return the files of each port that nobody listens to.

    None is locked for longer than it takes to see that. Those who send through the port of a
    listener that was killed open it anew. If they found its lock taken just then, they would leave
    it where it is, and the next listener would take theirs for the port of the dead and make
    another one: it would not hear them.
    """
    ports: dict[str, list[str]] = {}
    for name in names:
        if match := _OF_PORT.fullmatch(name):
            ports.setdefault(match[1], []).append(name)
    return {
        port: files
        for port, files in ports.items()
        if (port in own or all(_age(folder / name) > YOUNG_S for name in files))
        and not any(_is_held(folder / name) for name in files if name.endswith(_LOCKS))
    }


def _remove_ports(
    held: contextlib.ExitStack, folder: Path, processes: Path, ports: Mapping[str, list[str]]
) -> int:
    """Remove ports that nobody listens to and nobody had open; return how many files.

    Who wants to listen to one of them meanwhile takes it for somebody else's, and takes the next.
    """
    if not ports or not _lock(held, folder):
        return 0  # else a node is just joining, and has removed them before
    locked = {
        name: files
        for name, files in ports.items()
        if all(_lock(held, folder / file) for file in files if file.endswith(_LOCKS))
    }
    open_somewhere = _open_somewhere(processes, folder) if locked else set()
    return sum(
        _remove(folder, files) for name, files in locked.items() if name not in open_somewhere
    )


def _open_somewhere(processes: Path, folder: Path) -> set[str]:
    return {name for process in processes.glob('[0-9]*') for name in _mapped_by(process, folder)}


def _lock(held: contextlib.ExitStack, path: Path, kind: int = fcntl.LOCK_EX) -> bool:
    """Return whether a file or folder could be locked, which it is for as long as it is held."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    held.callback(os.close, descriptor)
    return True


def _is_held(path: Path) -> bool:
    with contextlib.ExitStack() as held:
        return path.exists() and not _lock(held, path)


def _age(path: Path) -> float:
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_ctime
    return 0.0


def _mapped_by(process: Path, folder: Path) -> Iterator[str]:
    """Yield the names of the files in a folder that a process has mapped, if that is visible."""
    for _, name in _files_mapped_by(process, folder):
        yield name.removesuffix(_DELETED)


def _files_mapped_by(process: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield number and name of each; the name says whether there is none of it any more."""
    prefix = f'{folder}/'
    with contextlib.suppress(OSError):  # it has ended, or is somebody else's
        for line in (process / 'maps').read_text(errors='replace').splitlines():
            before, found, name = line.partition(prefix)
            if found:
                yield before.split()[-1], name


def _remove(folder: Path, names: Iterable[str]) -> int:
    removed = 0
    for name in names:
        with contextlib.suppress(OSError):
            (folder / name).unlink()
            removed += 1
    return removed
