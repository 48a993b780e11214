# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Signs of life of the nodes of this process, from one thread, whatever their executors do."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

PERIOD_S = 0.2  # between two beats


def but_its_age(data: bytes) -> tuple[bytes, bool]:
    """Return what a serialised Heartbeat says, but its last field, of which only whether it is 0.

    That differs from one sign of life to the next.
    """
    return data[:-4], any(data[-4:])


class Turn:
    """Tells for how long the executor of a node has been in its present callback.

    A timer of the node that beats would wake the executor five times a second, which costs ten
    times as much as the beat; so a thread beats, and looks here whether the executor is stuck.
    """

    def __init__(self) -> None:
        """Be idle."""
        self._thread = 0
        self._since_ns = 0

    def taken_by_this_thread(self) -> None:
        """Take the present thread for that of the executor; what other threads do is no turn."""
        self._thread = threading.get_ident()

    def begin(self) -> bool:
        """Note that a callback begins; return whether it is the outermost one."""
        if self._since_ns or threading.get_ident() != self._thread:
            return False
        self._since_ns = time.monotonic_ns()
        return True

    def renew(self) -> None:
        """Count from now: what the present callback did so far, such as loading, was expected."""
        if self._since_ns:
            self._since_ns = time.monotonic_ns()

    def end(self) -> None:
        """Note that the outermost callback has ended."""
        self._since_ns = 0

    @property
    def busy(self) -> float:
        """Return for how long (s) the present callback has been at work; 0 if there is none."""
        since_ns = self._since_ns
        return (time.monotonic_ns() - since_ns) / 1e9 if since_ns else 0.0


class Heart:
    """A thread that calls functions periodically for as long as there are any."""

    def __init__(self, period: float = PERIOD_S) -> None:
        """Have nothing to call, and so no thread."""
        self._period = period
        self._beats: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def add(self, beat: Callable[[], None]) -> None:
        """Call a function from now on, until `remove`; what it raises is dropped."""
        with self._lock:
            self._beats.append(beat)
            if len(self._beats) == 1:
                self._stop = threading.Event()
                threading.Thread(
                    target=self._run, args=(self._stop,), name='heart', daemon=True
                ).start()

    def remove(self, beat: Callable[[], None]) -> None:
        """Call a function no more; it is not being called either when this returns."""
        with self._lock:
            with contextlib.suppress(ValueError):
                self._beats.remove(beat)
            if not self._beats:
                self._stop.set()

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(self._period):
            with self._lock:
                if stop.is_set():
                    return
                for beat in self._beats:
                    # Of a middleware that is being shut down: a heart that stops tells enough.
                    with contextlib.suppress(Exception):
                        beat()


HEART = Heart()
