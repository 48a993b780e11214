# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the views of a cell must keep to, and whether they did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from stl_conveyor.assess.scoring import Quantiles

LOAD_S = 2.0  # for the page, with the cell running
SHOWN_MS = 200.0  # p95 from the actuator's command until the page shows the outcome
RISE_MS = 1.0  # of the overhead's p99, with ten viewers
FLAT = 0.02  # of the memory, that it may be more after all items ...
FLAT_KB = 1024  # ... and so many KiB


@dataclass(frozen=True)
class Mark:
    """Something to keep to."""

    name: str
    value: str
    wanted: str
    met: bool


@dataclass(frozen=True)
class Memory:
    """KiB of a process, or of a page, after the first fifth of the items and after all."""

    name: str
    early: float
    late: float

    @property
    def is_flat(self) -> bool:
        """Return whether it did not grow, but for what a garbage collector leaves."""
        return self.late - self.early < FLAT * self.early + FLAT_KB


@dataclass(frozen=True)
class Looks:
    """What was measured of runs.

    Attributes:
        loads: Seconds until the page showed the cell, each time that it was opened.
        shown_ms: Milliseconds from each command until the page showed it.
        missed: Missed deadlines without viewers, with ten, and with one, recorder and gateway; of
            all runs of a kind together.
        overheads_ms: p99 of the nodes' overhead in the same runs.
        rounds_ms: The first two of these, of each run by itself, in the order of the runs.
        memories: Of what looks on.
        differing: Output → names of values that are other than in summary.json.
        compared: How many values were compared, by output.
        still_ms: p99 of the overhead with as many browsers that show nothing of the cell; NaN:
            not measured.
        cores: Processors that who looks on took in the runs with ten viewers, by name.
    """

    loads: Sequence[float]
    shown_ms: Sequence[float]
    missed: tuple[int, int, int]
    overheads_ms: tuple[float, float, float]
    memories: Sequence[Memory]
    differing: Mapping[str, Sequence[str]]
    compared: Mapping[str, int]
    rounds_ms: Sequence[tuple[float, float]] = ()
    still_ms: float = math.nan
    cores: Mapping[str, float] = field(default_factory=dict)


def pooled_p99(runs: Sequence[Sequence[float]]) -> float:
    """Return the p99 of the values of several runs, as if they were one; NaN without any.

    Of one run of 120 items one or two make it, of several together no single one does.

    Examples:
        >>> one, other = [10.0] * 118 + [30.0] * 2, [10.0] * 120
        >>> round(pooled_p99([one])), round(pooled_p99([one, other]))
        (26, 10)
    """
    return Quantiles.of([value for run in runs for value in run]).p99


def shown_after(commands_ms: Sequence[float], counts: Sequence[tuple[float, int]]) -> list[float]:
    """Return how long after its command (ms) each outcome was shown.

    Args:
        commands_ms: When each command was given, in order.
        counts: When the page showed another number of outcomes, and which; items before the page
            was there are left out, those that came to it together are shown together.

    Examples:
        >>> shown_after([10.0, 20.0, 30.0], [(0.0, 1), (45.0, 3)])
        [25.0, 15.0]
    """
    found = []
    for (_, before), (at, count) in zip(counts, counts[1:]):
        found += [at - commands_ms[n] for n in range(before, min(count, len(commands_ms)))]
    return found


def marks(looks: Looks) -> list[Mark]:
    """Return every mark, met or not; what was not measured is not met."""
    load = max(looks.loads, default=float('inf'))
    p95 = float(np.percentile(looks.shown_ms, 95)) if len(looks.shown_ms) else float('inf')
    rise = looks.overheads_ms[1] - looks.overheads_ms[0]
    return [
        Mark('page loaded, cell running', f'{load:.2f} s', f'< {LOAD_S:g} s', load < LOAD_S),
        Mark(
            f'outcome on the page, p95 of {len(looks.shown_ms)}',
            f'{p95:.0f} ms',
            f'< {SHOWN_MS:g} ms',
            p95 < SHOWN_MS,
        ),
        Mark(
            'missed deadlines, ten viewers (without)',
            f'{looks.missed[1]} ({looks.missed[0]})',
            '0',
            looks.missed[1] == 0,
        ),
        Mark(
            'overhead p99, ten viewers (without)',
            f'{looks.overheads_ms[1]:.1f} ms ({looks.overheads_ms[0]:.1f} ms)'
            + ''.join(f'; {ten:.1f} ({none:.1f})' for none, ten in looks.rounds_ms),
            f'rises < {RISE_MS:g} ms',
            rise < RISE_MS,
        ),
        Mark(
            'missed deadlines, recorded, a viewer and the plant reading',
            f'{looks.missed[2]} (overhead p99 {looks.overheads_ms[2]:.1f} ms)',
            '0',
            looks.missed[2] == 0,
        ),
        *(
            Mark(
                f'memory of {memory.name}',
                f'{memory.early / 1024:.1f} to {memory.late / 1024:.1f} MiB',
                'flat',
                memory.is_flat,
            )
            for memory in looks.memories
        ),
        *(
            Mark(
                f'{output} equals summary.json',
                ', '.join(names) or f'{looks.compared[output]} values',
                'all',
                not names and looks.compared[output] > 0,
            )
            for output, names in looks.differing.items()
        ),
    ]


def controls(looks: Looks) -> dict[str, str]:
    """Return what tells the cost of the page from that of browsers on the processors that sort."""
    found = {}
    if not math.isnan(looks.still_ms):
        found['overhead p99, ten browsers that show a still page'] = f'{looks.still_ms:.1f} ms'
    if looks.cores:
        found['processors that were taken meanwhile'] = '; '.join(
            f'{name} {cores:.2f}' for name, cores in looks.cores.items()
        )
    return found


def table(found: Sequence[Mark], beside: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the marks as a table (Markdown), and below them what else was measured."""
    rows = [f'| {m.name} | {m.value} | {m.wanted} | {"yes" if m.met else "NO"} |' for m in found]
    rows += [f'| {name} | {value} | | |' for name, value in beside.items()]
    return '\n'.join(['| | measured | wanted | met |', '|---|---|---|---|', *rows]) + '\n'
