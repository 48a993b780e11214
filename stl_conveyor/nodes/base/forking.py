# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Fork a process that has loaded rclpy."""

from __future__ import annotations

import os
import warnings


def fork() -> int:
    """Return 0 in the child, its number in this process.

    From Python 3.12 on a fork beside other threads is warned of. The ones here are those that the
    tracer of rclpy (LTTng) makes when it is loaded: they wait for somebody who traces, hold no
    lock meanwhile, and nobody misses them in the child.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'This process .* is multi-threaded', DeprecationWarning)
        return os.fork()
