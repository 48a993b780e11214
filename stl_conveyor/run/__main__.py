# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run `python -m stl_conveyor.run`."""

from __future__ import annotations

import contextlib
import sys

from stl_conveyor.run.nursery import Nursery

if __name__ == '__main__':
    # First of all: it loads what the nodes need while this process loads its own.
    with contextlib.closing(Nursery()) as nursery:
        from stl_conveyor.run.console import main

        sys.exit(main(nursery=nursery))
