# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Fork a process that has loaded rclpy, and end the child."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import NoReturn


def fork() -> int:
    """Return 0 in the child, its number in this process.

    From Python 3.12 on a fork beside other threads is warned of. The ones here are those that the
    tracer of rclpy (LTTng) makes when it is loaded: they wait for somebody who traces, hold no
    lock meanwhile, and nobody misses them in the child.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'This process .* is multi-threaded', DeprecationWarning)
        return os.fork()


def end_after(work: Callable[[], int]) -> NoReturn:
    """Do the work of a child that was forked, and end it with the exit code that comes of it.

    The ends of the C libraries are left out. That of LTTng cancels its threads, which are in the
    parent alone: where their stacks have been given back meanwhile, the child would end with
    SIGSEGV after all its work, as if it had crashed.
    """
    code = 1
    try:
        code = work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()  # of Python, such as those that remove temporary files
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # nobody may read it any more
                stream.flush()
        os._exit(code)
