# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Participants of Cyclone DDS in processes of their own, each with an enclave or as a stranger."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stl_conveyor.errors import ConveyorError, MissingDependency
from stl_conveyor_lab.bench.security import participant

HERE = Path(__file__).parent
PLUGINS = 'libdds_security_auth.so'
LIBRARY_FOLDERS = ('/usr/lib', '/usr/lib64', '/usr/local/lib', '/opt/ros')
INSTALL = 'apt install cyclonedds-dev cyclonedds-tools gcc'
#: Cyclone DDS stays on this machine, and finds up to so many processes by their ports.
PEERS = 60
CONFIGURATION = (
    '<General><Interfaces><NetworkInterface name="lo"/></Interfaces>'
    '<AllowMulticast>false</AllowMulticast></General>'
    '<Discovery><ParticipantIndex>auto</ParticipantIndex>'
    f'<MaxAutoParticipantIndex>{PEERS}</MaxAutoParticipantIndex>'
    '<Peers><Peer address="127.0.0.1"/></Peers></Discovery>'
    '<Tracing><Verbosity>none</Verbosity></Tracing>'
)
PATIENCE = 60.0  # s until two that may be connected are
LAST_WORDS = 400  # bytes of what the middleware said before it refused


class Refused(ConveyorError):
    """The middleware refused what was asked; the message is its own."""


class Middleware:
    """Cyclone DDS of this system with its plug-ins, and the type that the probes write."""

    def __init__(self, folder: Path) -> None:
        """Find it, and compile the type.

        Args:
            folder: Where the compiled type goes.

        Raises:
            MissingDependency: Naming what is not installed, and how it is.
        """
        self.plugins = _plugins()
        for tool in ('idlc', 'gcc'):
            if shutil.which(tool) is None:
                raise MissingDependency(f'{tool} is not installed: {INSTALL}')
        self.library = folder / 'probe.so'
        shutil.copy(HERE / 'probe.idl', folder)
        for command in (
            ('idlc', '-l', 'c', 'probe.idl'),
            ('gcc', '-shared', '-fPIC', '-o', str(self.library), 'probe.c', '-lddsc'),
        ):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            if done.returncode:
                raise MissingDependency(
                    f'{command[0]} cannot compile the type of the probes ({done.stderr.strip()}): '
                    f'{INSTALL}'
                )

    @contextmanager
    def participant(self, domain: int, enclave: Path | None = None) -> Iterator[Participant]:
        """Yield a participant that has joined a domain.

        Args:
            domain: Number of the domain.
            enclave: Folder with its keys and permissions; None = it has no security.

        Raises:
            Refused: If the middleware does not let it be.
        """
        peer = Participant()
        try:
            peer.ask(
                'join',
                library=str(self.library),
                plugins=str(self.plugins),
                domain=domain,
                enclave='' if enclave is None else str(enclave),
            )
            yield peer
        finally:
            peer.close()


class Participant:
    """Speaks with the process of a participant."""

    def __init__(self) -> None:
        """Start the process."""
        # What the middleware says, of every stranger among others; shown where it refuses.
        self._words = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, participant.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            text=True,
            env={**os.environ, 'CYCLONEDDS_URI': CONFIGURATION},
        )

    def tell(self, command: str, **arguments: Any) -> None:
        """Give a command, whose answer `hear` returns."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({'do': command, **arguments}) + '\n')
        self._process.stdin.flush()

    def hear(self) -> Any:
        """Return the answer to the command that was given.

        Raises:
            Refused: If the middleware refused it.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            ended = f'a participant ended with {self._process.wait()}'
            raise ConveyorError(ended + self._last_words())
        said = json.loads(line)
        if 'refused' in said:
            raise Refused(said['refused'] + self._last_words())
        return said['answer']

    def _last_words(self) -> str:
        # Read beside the file's position, which the process writes at.
        file = self._words.fileno()
        begin = max(0, os.fstat(file).st_size - LAST_WORDS)
        words = os.pread(file, LAST_WORDS, begin).decode(errors='replace').strip()
        return f' ({words})' if words else ''

    def ask(self, command: str, **arguments: Any) -> Any:
        """Give a command and return its answer.

        Raises:
            Refused: If the middleware refused it.
        """
        self.tell(command, **arguments)
        return self.hear()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._words.close()


def until(predicate: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Return whether a predicate became true within a time."""
    end = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _plugins() -> Path:
    for folder in _folders():
        if (folder / PLUGINS).exists():
            return folder
    raise MissingDependency(
        f'the security plug-ins of Cyclone DDS ({PLUGINS}) are not installed: {INSTALL}'
    )


def _folders() -> Iterable[Path]:
    for root in LIBRARY_FOLDERS:
        yield Path(root)
        yield from sorted(path.parent for path in Path(root).glob(f'*/{PLUGINS}'))
        yield from sorted(path.parent for path in Path(root).glob(f'*/*/{PLUGINS}'))
