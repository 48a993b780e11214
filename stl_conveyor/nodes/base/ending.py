# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Hear that a process is asked to end, whatever it is doing at that moment. Needs no ROS.

Python runs a handler in the main thread, between two steps of it. That is too late where the
kernel hands the signal to another thread, as the main one then waits on; and too early where the
main thread just holds the lock that the handler wants. So what hears the end reads the numbers of
signals from a pipe, into which the interpreter writes them at once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM)


class SignalPipe:
    """A pipe with the numbers of the signals that have come; one at a time in a process."""

    def __init__(self) -> None:
        """Take SIGINT and SIGTERM, in the main thread."""
        self.reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._handlers = {number: signal.signal(number, _pass) for number in ENDING}
        self._before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def read(self) -> list[int]:
        """Wait for signals and return those that end; none: the pipe was closed."""
        while numbers := os.read(self.reader, 64):
            if ending := [number for number in numbers if number in ENDING]:
                return ending
        return []

    def close(self, *, ignoring: bool = False) -> None:
        """Let signals do what they did before, or nothing; whoever reads is done."""
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_IGN if ignoring else handler)
        signal.set_wakeup_fd(self._before)
        os.close(self._writer)


def take_ending(tell: Callable[[], None]) -> SignalPipe:
    """Have something called, in a thread of its own, whenever SIGINT or SIGTERM comes."""
    pipe = SignalPipe()

    def listen() -> None:
        while pipe.read():
            tell()
        os.close(pipe.reader)

    threading.Thread(target=listen, name='ending', daemon=True).start()
    return pipe


@contextmanager
def told_of_ending(tell: Callable[[], None]) -> Iterator[None]:
    """Have something called when SIGINT or SIGTERM comes, and none of it afterwards.

    Examples:
        >>> asked = threading.Event()
        >>> with told_of_ending(asked.set):
        ...     signal.raise_signal(signal.SIGTERM)
        ...     asked.wait(10)
        True
    """
    pipe = take_ending(tell)
    try:
        yield
    finally:
        pipe.close()


def _pass(_: int, __: FrameType | None) -> None:
    """Do nothing; without a handler of its own a signal is not written into the pipe."""
