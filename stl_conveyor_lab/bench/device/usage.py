# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What processes take of a machine, and which machine that is."""

from __future__ import annotations

import os
import platform
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


def machine() -> str:
    """Return processor, what it has for small integers, cores and kernel, in words."""
    try:
        text = Path('/proc/cpuinfo').read_text(encoding='utf-8')
    except OSError:
        text = ''
    model = re.search(r'^model name\s*:\s*(.*)$', text, re.M)
    flags = re.search(r'^(?:flags|Features)\s*:\s*(.*)$', text, re.M)
    known = set() if flags is None else set(flags[1].split())
    quick = [name for name in ('avx512_vnni', 'avx_vnni', 'asimddp') if name in known]
    cores = len(os.sched_getaffinity(0))
    return (
        f'{model[1] if model else platform.machine()} ({", ".join(quick) or "no VNNI"}), '
        f'{cores} cores, {platform.system()} {platform.release()}, load {os.getloadavg()[0]:.1f}'
    )
