# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Hear that a process is asked to end, whatever it is doing at that moment. Needs no ROS."""

from __future__ import annotations

import _thread
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM)


def take_ending(tell: Callable[[], None]) -> None:
    """Have something called, in a thread of its own, when SIGINT or SIGTERM comes.

    A handler runs between two steps of the main thread, which may hold the lock that
    `threading.Event.set` takes: it would wait for itself, and the process would never end.
    """

    def handle(_: int, __: FrameType | None) -> None:
        # `threading.Thread` takes locks of its own to start.
        _thread.start_new_thread(tell, ())

    for number in ENDING:
        signal.signal(number, handle)


@contextmanager
def told_of_ending(tell: Callable[[], None]) -> Iterator[None]:
    """Have something called when SIGINT or SIGTERM comes, and none of it afterwards.

    Examples:
        >>> import threading
        >>> asked = threading.Event()
        >>> with told_of_ending(asked.set):
        ...     signal.raise_signal(signal.SIGTERM)
        ...     asked.wait(10)
        True
    """
    before = {number: signal.getsignal(number) for number in ENDING}
    take_ending(tell)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
