# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Read a recording, and say when what it holds is to be said again."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

from stl_conveyor.errors import ConfigError, MissingDependency, install_words

try:
    import zstandard
    from mcap.exceptions import McapError
    from mcap.reader import McapReader, NonSeekingReader, SeekingReader
except ImportError as _error:
    raise MissingDependency(
        f'a recording is read by the library mcap ({_error}): {install_words("recording")}'
    ) from _error

# What the library raises on bytes that are no recording, or half of one.
_UNREADABLE = (
    McapError,
    ValueError,
    EOFError,
    LookupError,
    OverflowError,
    MemoryError,
    OSError,
    struct.error,
    zstandard.ZstdError,
)
LARGEST_RECORD = 256 << 20  # bytes; one of ours has little more than a picture


@dataclass(frozen=True)
class Said:
    """A message of a recording; `time_ns` is when it came, `message_type` 'package/Name'."""

    topic: str
    message_type: str
    time_ns: int
    data: bytes


def recorded_topics(path: Path) -> dict[str, str]:
    """Return the topics of a recording with at least one message, and their types.

    Raises:
        ConfigError: If the file is no recording.
    """
    found: dict[str, str] = {}
    for said in messages(path):
        found.setdefault(said.topic, said.message_type)
    return found


def messages(path: Path, topics: Collection[str] | None = None) -> Iterator[Said]:
    """Yield what a recording holds, in the order in which it came.

    A file that ends in the middle, because its writer was killed, is read up to there.

    Args:
        topics: Full names; None: all.

    Raises:
        ConfigError: If the file is no recording of ROS messages.
    """
    begun = False
    try:
        with open(path, 'rb') as file:
            reader, sorts = _reader(file)
            for schema, channel, message in reader.iter_messages(
                topics=None if topics is None else list(topics), log_time_order=sorts
            ):
                if schema is None or channel.message_encoding != 'cdr':
                    raise ConfigError(
                        f'{path}: {channel.topic} holds no serialised ROS 2 messages (cdr)'
                    )
                begun = True
                kind = schema.name.replace('/msg/', '/')
                yield Said(channel.topic, kind, message.log_time, message.data)
    except OSError as error:
        raise ConfigError(f'{path}: cannot be read ({error.strerror})') from error
    except ConfigError:
        raise
    except _UNREADABLE as error:
        if not begun:
            raise ConfigError(
                f'{path}: this is no recording (MCAP), or it is damaged: {error}'
            ) from error


def _reader(file: IO[bytes]) -> tuple[McapReader, bool]:
    """Return what reads a file, and whether it can do so in order without reading all of it."""
    try:
        seeking = SeekingReader(file, record_size_limit=LARGEST_RECORD)
        if seeking.get_summary() is not None:
            return seeking, True
    except _UNREADABLE:  # its end is missing
        pass
    file.seek(0)
    return NonSeekingReader(file, record_size_limit=LARGEST_RECORD), False


@dataclass(frozen=True)
class TimeMap:
    """When what was said at a time is said again.

    Attributes:
        first_ns: Time of the first message of the recording.
        start_ns: Time at which it is said again.
        rate: How many seconds of the recording pass in one.

    Examples:
        >>> TimeMap(first_ns=100, start_ns=5000, rate=2.0).moved(300)
        5100
    """

    first_ns: int
    start_ns: int
    rate: float = 1.0

    def moved(self, time_ns: int) -> int:
        """Return the time (ns) that stands for one of the recording; zero stays zero."""
        if not time_ns:
            return 0
        return self.start_ns + (time_ns - self.first_ns) * 1_000_000 // round(
            self.rate * 1_000_000
        )


def move_times(message: Any, moved: Callable[[int], int]) -> None:
    """Move every time in a message, however deep.

    Args:
        message: Of a class that rosidl generated.
        moved: Returns the new time (ns) of one.
    """
    kind: Any = type(message)
    for name, several in _timed_fields(kind):
        value = getattr(message, name)
        for each in value if several else (value,):
            if hasattr(each, 'nanosec'):
                ns = moved(each.sec * 1_000_000_000 + each.nanosec)
                each.sec, each.nanosec = divmod(ns, 1_000_000_000)
            else:
                move_times(each, moved)


@cache
def _timed_fields(message_class: Any) -> tuple[tuple[str, bool], ...]:
    """Return the fields that are times or messages, and whether each is a list of them."""
    return tuple(
        (name, kind.startswith('sequence<') or kind.endswith(']'))
        for name, kind in message_class.get_fields_and_field_types().items()
        if '/' in kind and 'builtin_interfaces/Duration' not in kind
    )
