# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Pictures of one class in a folder of its own, numbered, and a collector that counts them.

What is there already is never overwritten, and numbers go on where they ended.
"""

from __future__ import annotations

import io
import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stl_conveyor.errors import ConfigError, ConveyorError

#: Characters that no file system and no class name should be asked to hold.
_FORBIDDEN = re.compile(r'[/\\\x00-\x1f:*?"<>|]')


class LabelFolder:
    """Numbered pictures of one class, `OUT/LABEL/LABEL_000001.png` and so on.

    A number that was taken once is not given again while its picture is there; several
    collectors may write to the same folder.
    """

    def __init__(self, out: str | Path, label: str) -> None:
        """Make the folder and find the last number.

        Raises:
            ConfigError: If the label cannot be the name of a folder, or the folder cannot be
                written to.
        """
        label = label.strip()
        if not label or label.startswith('.') or _FORBIDDEN.search(label) or len(label) > 100:
            raise ConfigError(
                f'label {label!r}: give a name of up to 100 characters that does '
                'not begin with a dot and has no / \\ : * ? " < > |'
            )
        self.label = label
        self.path = Path(out) / label
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f'{self.path}: cannot be made ({error.strerror})') from error
        if not os.access(self.path, os.W_OK):
            raise ConfigError(f'{self.path}: cannot be written to; change its permissions')
        numbered = re.compile(re.escape(label) + r'_(\d+)\.\w+$')
        found = [numbered.match(path.name) for path in self.path.iterdir()]
        numbers = [int(match[1]) for match in found if match]
        self._next = max(numbers, default=0) + 1
        self.before = len(numbers)
        self.added = 0

    def add(self, image: NDArray[np.uint8]) -> Path:
        """Write an RGB picture u8[H, W, 3] under the next number and return its path.

        Raises:
            ConfigError: If it cannot be written.
        """
        data = io.BytesIO()
        Image.fromarray(image).save(data, format='png')
        while True:
            path = self.path / f'{self.label}_{self._next:06d}.png'
            self._next += 1
            try:
                with open(path, 'xb') as stream:
                    try:
                        stream.write(data.getbuffer())
                    except BaseException:
                        path.unlink(missing_ok=True)
                        raise
            except FileExistsError:
                continue
            except OSError as error:
                raise ConfigError(
                    f'{path}: cannot be written ({error.strerror}); make room or '
                    'give another folder'
                ) from error
            self.added += 1
            return path


class Collector:
    """Take in pictures up to a number, and say how many there are."""

    def __init__(self, folder: LabelFolder, count: int = 0, stream: Any = None) -> None:
        """Begin.

        Args:
            count: Stop after this many new pictures; 0: when told to.
            stream: Where the count is shown, standard output without it.
        """
        self.folder = folder
        self.done = threading.Event()
        self.failure: ConveyorError | OSError | None = None
        self._count = count
        self._stream = stream or sys.stdout
        self._live = bool(getattr(self._stream, 'isatty', lambda: False)())
        self._lock = threading.Lock()

    def take(self, image: NDArray[np.uint8]) -> None:
        """Keep a picture u8[H, W, 3], unless there are enough already."""
        with self._lock:
            if self.done.is_set():
                return
            try:
                self._show(self.folder.add(image))
            except (ConveyorError, OSError) as error:  # the latter where nobody reads any more
                self.failure = error
                self.done.set()
                return
            if self._count and self.folder.added >= self._count:
                self.done.set()

    def _show(self, path: Path) -> None:
        line = (
            f'{self.folder.label}: {self.folder.added} new, '
            f'{self.folder.before + self.folder.added} in all  {path.name}'
        )
        if self._live:
            self._stream.write(f'\r\x1b[K{line}')
        else:
            self._stream.write(line + '\n')
        self._stream.flush()

    def finish(self) -> None:
        """End the line of the live count and say where the pictures are; raise what failed."""
        self.done.set()
        if self._live and self.folder.added:
            self._stream.write('\n')
        self._stream.write(
            f'{self.folder.added} pictures of {self.folder.label} added to {self.folder.path}, '
            f'{self.folder.before + self.folder.added} in all\n'
        )
        self._stream.flush()
        if self.failure is not None:
            raise self.failure
