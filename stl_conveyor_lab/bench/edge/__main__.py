# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run `python -m stl_conveyor_lab.bench.edge`."""

from __future__ import annotations

import sys

from stl_conveyor_lab.bench.edge.command import main

if __name__ == '__main__':
    sys.exit(main())
