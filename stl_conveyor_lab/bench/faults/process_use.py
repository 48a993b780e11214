# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a process holds: memory, threads, descriptors, files. Linux; needs no ROS."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SHARED_MEMORY = '/dev/shm/'


@dataclass(frozen=True)
class Use:
    """What a process holds at a moment.

    Attributes:
        time: Seconds, on any clock.
        pss: KiB of memory, of which what is shared with others counts in part: it falls and rises
            when they come and go.
        own: KiB of memory that stands in no file, which nobody else moves.
        threads: How many.
        descriptors: Open ones.
        shared: Files in shared memory that it has mapped.
    """

    time: float
    pss: float
    own: float
    threads: int
    descriptors: int
    shared: int


def read_use(pid: int, now: float, processes: Path = Path('/proc')) -> Use | None:
    """Return what a process holds; None if it is gone."""
    folder = processes / str(pid)
    try:
        rollup = (folder / 'smaps_rollup').read_text()
        maps = (folder / 'maps').read_text(errors='replace')
        threads = len(os.listdir(folder / 'task'))
        descriptors = len(os.listdir(folder / 'fd'))
    except OSError:
        return None
    sizes = {line.split()[0]: line.split()[1] for line in rollup.splitlines()[1:]}
    pss, own = (float(sizes.get(name, 0.0)) for name in ('Pss:', 'Anonymous:'))
    shared = {line.partition(SHARED_MEMORY)[2] for line in maps.splitlines()} - {''}
    return Use(now, pss, own, threads, descriptors, len(shared))


@dataclass(frozen=True)
class Growth:
    """How what a process holds changed.

    Attributes:
        own_begin: KiB after the warm-up; median of the readings of the first tenth after it.
        own_end: KiB; median of those of the last tenth.
        threads: More at the end than then.
        descriptors: The same.
        shared: The same.
    """

    own_begin: float
    own_end: float
    threads: int
    descriptors: int
    shared: int

    @property
    def is_flat(self) -> bool:
        """Return whether nothing grew, but for what Python's memory breathes."""
        return (
            self.own_end - self.own_begin < 0.02 * self.own_begin + 1024
            and self.threads <= 0
            and self.descriptors <= 0
            and self.shared <= 0
        )


def growth(readings: Sequence[Use], warm_up: float) -> Growth | None:
    """Return how a process grew after a warm-up; None with too few readings.

    Args:
        readings: In the order of time.
        warm_up: Seconds from the first reading, in which caches and pools fill.
    """
    warm = [use for use in readings if use.time - readings[0].time >= warm_up]
    if len(warm) < 2:
        return None
    part = max(1, len(warm) // 10)
    first, last = warm[:part], warm[-part:]

    def middle(uses: Sequence[Use], name: str) -> float:
        values = sorted(float(getattr(use, name)) for use in uses)
        return values[len(values) // 2]

    return Growth(
        middle(first, 'own'),
        middle(last, 'own'),
        *(
            round(middle(last, name) - middle(first, name))
            for name in ('threads', 'descriptors', 'shared')
        ),
    )
