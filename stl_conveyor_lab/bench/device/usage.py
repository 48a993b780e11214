# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What processes take of a machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """Of one process or several together.

    Attributes:
        pss_mb: Memory in MB (10^6 bytes); a page that n processes share counts as 1/n of one.
        threads: How many there are.
    """

    pss_mb: float
    threads: int


def usage_of(pids: Iterable[int]) -> Usage:
    """Return what processes use now; nothing of those that are gone."""
    pss_kb, threads = 0, 0
    for pid in pids:
        try:
            rollup = Path(f'/proc/{pid}/smaps_rollup').read_text(encoding='ascii')
            tasks = len(os.listdir(f'/proc/{pid}/task'))
        except OSError:
            continue
        threads += tasks
        pss_kb += sum(int(value) for value in re.findall(r'^Pss:\s+(\d+) kB', rollup, re.M))
    return Usage(pss_kb * 1024 / 1e6, threads)
