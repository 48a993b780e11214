# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Have Ctrl-C end a command wherever it finds the main thread. Needs no ROS.

Python raises KeyboardInterrupt between two steps of the main thread. Where these belong to a
callback of the garbage collector or of a weak reference, the exception has no caller to go to, and
Python prints and forgets it: the command would go on as if nobody had interrupted it.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Before a lost interrupt is raised again, in seconds: the callback that lost it has returned.
AGAIN_AFTER = 0.01


def take_sigterm_like_ctrl_c() -> None:
    """Let SIGTERM raise KeyboardInterrupt, so that the processes are ended in order."""
    signal.signal(signal.SIGTERM, _interrupt)


@contextmanager
def lost_interrupts_raised_again() -> Iterator[None]:
    """Raise a KeyboardInterrupt again that Python could not hand to anybody.

    Examples:
        >>> class Interrupted:
        ...     def __del__(self):
        ...         raise KeyboardInterrupt
        >>> with lost_interrupts_raised_again():
        ...     try:
        ...         assert Interrupted()  # is freed here, and nobody called its end
        ...         threading.Event().wait(10)
        ...     except KeyboardInterrupt:
        ...         print('interrupted')
        interrupted
    """
    usual = sys.unraisablehook

    def hook(lost: sys.UnraisableHookArgs) -> None:
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            usual(lost)
            return
        number = next(iter(lost.exc_value.args), signal.SIGINT)
        main = threading.main_thread().ident  # is woken, whatever it waits for by then
        threading.Timer(AGAIN_AFTER, signal.pthread_kill, (main, number)).start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = usual


def _interrupt(number: int, _: FrameType | None) -> None:
    """Raise KeyboardInterrupt, and leave word of which signal it was."""
    raise KeyboardInterrupt(number)
