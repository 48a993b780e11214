# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A run as a file (MCAP): written within a size, in a thread that nobody waits for."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from stl_conveyor.errors import ConfigError, MissingDependency, install_words

try:
    from mcap.writer import CompressionType, Writer
except ImportError as _error:
    raise MissingDependency(
        f'recording needs the library mcap ({_error}): {install_words("recording")}'
    ) from _error

CHUNK = 1 << 20  # bytes that are compressed at a time
SUMMARY_SHARE = 0.02  # of the size that is kept for the tables at the end
SUMMARY_LEAST = 64 << 10  # bytes: definitions and channels stand there again
FRAMES_SHARE = 0.5  # of the size; behind it whole pictures are left out, for the rest to go on
MOST_WAITING = 64 << 20  # bytes that wait for the disk


@dataclass(frozen=True)
class Recorded:
    """A topic that is recorded.

    Attributes:
        topic: Its full name.
        message_type: 'package/Name'.
        schema: From `message_schema.schema_text`.
        first_to_go: Whether it is left out when half of the size is used: whole pictures.
        qos: How it was offered, in the words of `offered_qos_profiles`.
    """

    topic: str
    message_type: str
    schema: str
    first_to_go: bool = False
    qos: str = ''


class RunFile:
    """Writes serialised messages; `add` never waits.

    What does not fit is counted, by reason: `left_out` (the size), `overrun` (the disk is slower
    than what comes).

    Attributes:
        trouble: Why nothing more is written, with file and remedy; empty while all is well.
        full: Whether the size is used up.
    """

    def __init__(
        self,
        path: Path,
        topics: Mapping[str, Recorded],
        *,
        limit: int,
        library: str = 'stl_conveyor',
        about: Mapping[str, str] | None = None,
    ) -> None:
        """Begin a file.

        Args:
            path: Of the file; one that is there is put aside as NAME.1.mcap.
            topics: By the names under which `add` is called.
            limit: Most bytes that the file may have.
            about: What else to put into it, names and texts.

        Raises:
            ConfigError: If the file cannot be made.
        """
        self.path = path
        self.trouble = ''
        self.full = False
        self.messages = self.left_out = self.overrun = 0
        self._limit = max(limit - max(round(limit * SUMMARY_SHARE), SUMMARY_LEAST), 0)
        self._topics = dict(topics)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                os.replace(path, path.with_suffix(f'.1{path.suffix}'))
            self._file: IO[bytes] = open(path, 'wb')
        except OSError as error:
            raise ConfigError(
                f'{path}: the recording cannot be written ({error.strerror}): name another file'
            ) from error
        self._writer = Writer(self._file, chunk_size=CHUNK, compression=CompressionType.ZSTD)
        self._channels: dict[str, int] = {}
        self._pending = 0  # bytes since the last chunk that went into the file
        self._at = 0
        self._waiting = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[str, int, bytes] | None] = queue.SimpleQueue()
        with self._writing():
            self._writer.start('ros2', library=library)
            self._writer.add_metadata('stl_conveyor', dict(about or {}))
            schemas: dict[str, int] = {}
            for name, topic in self._topics.items():
                kind = topic.message_type
                if kind not in schemas:
                    schemas[kind] = self._writer.register_schema(
                        kind.replace('/', '/msg/'), 'ros2msg', topic.schema.encode()
                    )
                self._channels[name] = self._writer.register_channel(
                    topic.topic,
                    'cdr',
                    schemas[kind],
                    {'offered_qos_profiles': topic.qos} if topic.qos else {},
                )
            self._at = self._file.tell()
        self._thread = threading.Thread(target=self._work, name='recording', daemon=True)
        self._thread.start()

    def add(self, name: str, time_ns: int, data: bytes) -> None:
        """Take a message to be written.

        Args:
            name: Of the topic, as it was given.
            time_ns: When it came (ns).
            data: CDR, as the middleware has it.
        """
        with self._lock:
            if self._waiting + len(data) > MOST_WAITING:
                self.overrun += 1
                return
            self._waiting += len(data)
        self._queue.put((name, time_ns, data))

    @property
    def size(self) -> int:
        """Return how many bytes are used, at most."""
        return self._at + self._pending

    def close(self) -> None:
        """Write what waits and the tables at the end, and close the file."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (entry := self._queue.get()) is not None:
            name, time_ns, data = entry
            with self._lock:
                self._waiting -= len(data)
            if self._fits(name, len(data)):
                self._write(name, time_ns, data)
        with self._writing():
            self._writer.finish()
        with self._writing():
            self._file.close()

    def _fits(self, name: str, length: int) -> bool:
        after = self.size + length + 64  # bytes of the records around it
        share = FRAMES_SHARE if self._topics[name].first_to_go else 1.0
        fits = not self.trouble and not self.full and after <= self._limit * share
        self.full = self.full or after > self._limit
        self.left_out += not fits
        return fits

    def _write(self, name: str, time_ns: int, data: bytes) -> None:
        with self._writing():
            self._writer.add_message(self._channels[name], time_ns, data, time_ns, self.messages)
            self.messages += 1
            self._pending += len(data) + 64
            position = self._file.tell()
            if position != self._at:
                self._at, self._pending = position, 0

    @contextlib.contextmanager
    def _writing(self):  # noqa: ANN202
        try:
            yield
        except (OSError, ValueError) as error:  # the latter: the file is closed already
            reason = getattr(error, 'strerror', None) or str(error)
            self.trouble = self.trouble or (
                f'{self.path}: the recording ended: {reason}; free the disk, or name another file'
            )
