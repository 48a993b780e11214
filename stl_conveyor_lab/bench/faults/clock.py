# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The system clock of the cell's processes, which can be set without touching the machine's."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from stl_conveyor.errors import MissingDependency

SOURCE = Path(__file__).with_name('clock_offset.c')
_NANOSECONDS = struct.Struct('=q')


class CellClock:
    """Shifts CLOCK_REALTIME of every process that is started with its environment, at once.

    A wait until a time of that clock that has begun already is not touched, unlike by a real step.
    """

    def __init__(self, folder: Path) -> None:
        """Compile the library, with the clock as it is.

        Raises:
            MissingDependency: If there is no C compiler.
        """
        if shutil.which('gcc') is None:
            raise MissingDependency('setting the clock of a cell needs gcc: apt install gcc')
        library, path = folder / 'clock_offset.so', folder / 'clock_offset'
        subprocess.run(
            ['gcc', '-shared', '-fPIC', '-O2', '-o', library, SOURCE, '-ldl', '-lpthread'],
            check=True,
        )
        path.write_bytes(_NANOSECONDS.pack(0))
        with open(path, 'r+b') as file:
            self._memory = mmap.mmap(file.fileno(), _NANOSECONDS.size)
        self.environment: Mapping[str, str] = {
            'LD_PRELOAD': str(library),
            'CLOCK_OFFSET_FILE': str(path),
        }

    @property
    def offset_ns(self) -> int:
        """Return by how much the clock of the cell is ahead of the machine's (ns)."""
        offset: int = _NANOSECONDS.unpack(self._memory[:])[0]
        return offset

    def step(self, seconds: float) -> None:
        """Set the clock ahead, or back."""
        self._memory[:] = _NANOSECONDS.pack(self.offset_ns + round(seconds * 1e9))

    def now_ns(self) -> int:
        """Return what the processes of the cell have for the time of day (ns)."""
        return time.time_ns() + self.offset_ns
