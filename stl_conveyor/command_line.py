# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How every command ends: what it says, and its exit code."""
from __future__ import annotations

from collections.abc import Callable
import sys

from stl_conveyor.errors import ConveyorError


def exit_code(command: str, work: Callable[[], int | None]) -> int:
    """
    Do a command's work and return the exit code of the process.

    0, or what `work` returns; 2 with a line on standard error if it raises ConveyorError or cannot
    read or write a file; 130 after Ctrl-C.
    """
    try:
        return work() or 0
    except (ConveyorError, OSError) as error:
        print(f'{command}: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('\nstopped', file=sys.stderr)
        return 130
