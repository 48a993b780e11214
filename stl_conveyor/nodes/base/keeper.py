# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Keep a process alive that has much to load: when it crashes, another one stands at once.

Most of a start is imports. The keeper has them done when it forks the process that works, so what
follows a crash of it begins with them: the nodes are back within a second. Needs no ROS.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import sys
import time
from collections.abc import Callable

from stl_conveyor.nodes.base.ending import ENDING, SignalPipe
from stl_conveyor.nodes.base.forking import end_after, fork
from stl_conveyor.nodes.base.priority import die_with_parent

QUICK_S = 5.0  # a process that lived less long is started again later and later
LONGEST_DELAY_S = 8.0


def keep(work: Callable[[str], int]) -> int:
    """Do some work in a process of its own, and again in another one when that crashes.

    SIGINT and SIGTERM are passed on to it, and end the keeper with it. It must be called before
    anything has made a thread.

    Args:
        work: Returns the exit code of its process, which ends the keeper with the same if it is 0.
            It is called with why there was another process before; empty: there was none.

    Returns:
        The exit code. The process that works does not come back.
    """
    ending: list[int] = []
    signals = SignalPipe()
    gc.collect()
    gc.freeze()  # so that the collector of the other process does not touch what both share
    why, code, delay_s = '', 0, 0.0
    while not ending:
        began = time.monotonic()
        parent = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        child = fork()
        if child == 0:
            die_with_parent()
            if os.getppid() != parent:  # it died before that held
                return 1
            signals.close()
            os.close(signals.reader)
            # Until the work takes them, an end is an end.
            for number in ENDING:
                signal.signal(number, lambda *_: os._exit(0))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            end_after(lambda: work(why))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        code = _wait(child, signals, ending)
        if ending or code == 0:
            break
        lived_s = time.monotonic() - began
        why = f'killed by {signal.Signals(-code).name}' if code < 0 else f'exit code {code}'
        code = 0  # of an end that is asked for before it stands again
        delay_s = 0.0 if lived_s >= QUICK_S else min(LONGEST_DELAY_S, max(0.5, 2 * delay_s))
        with contextlib.suppress(OSError, ValueError):  # nobody may read it
            print(f'the process of the nodes ended ({why}) and is started again', file=sys.stderr)
        end_of_wait = time.monotonic() + delay_s
        left = delay_s
        while not ending and left > 0:
            if select.select([signals.reader], [], [], left)[0]:
                ending += signals.read()
            left = end_of_wait - time.monotonic()
    # While the interpreter ends its handlers are gone, and a second signal looks like a crash.
    signals.close(ignoring=True)
    os.close(signals.reader)
    return max(0, code)


def _wait(child: int, signals: SignalPipe, ending: list[int]) -> int:
    """Pass signals on to a process until it ends; return its exit code."""
    ended = os.pidfd_open(child)
    try:
        while True:
            ready, _, _ = select.select([ended, signals.reader], [], [])
            if signals.reader in ready:
                ending += signals.read()
                os.kill(child, ending[-1])
            elif ready:
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(ended)
