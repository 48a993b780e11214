# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The belt's speed and the belt encoder's scale, from a mark that goes round or along."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stl_conveyor.errors import CalibrationError


@dataclass(frozen=True)
class Mark:
    """The mark was seen: time (ns), and the belt encoder's count then (None without one)."""

    time_ns: int
    count: int | None = None


@dataclass(frozen=True)
class BeltMeasurement:
    """What a belt was measured to be, means with standard deviations.

    Attributes:
        speed: m/s.
        steps_per_metre: Of the encoder; None without one.
    """

    speed: float
    speed_deviation: float
    steps_per_metre: float | None
    steps_deviation: float | None
    repeats: int


def measure_belt(marks: Sequence[Mark], length: float) -> BeltMeasurement:
    """Return speed and scale from marks between which the belt moved `length` metres each time.

    Raises:
        CalibrationError: If there are fewer than two marks, or they contradict each other.
    """
    if length <= 0:
        raise CalibrationError(f'length: {length} m is no way between two marks')
    if len(marks) < 2:
        raise CalibrationError(
            f'{len(marks)} marks were seen and two are needed; does the mark pass the light '
            'barrier, and does the belt run?'
        )
    pairs = list(zip(marks, marks[1:]))
    times = [(after.time_ns - before.time_ns) / 1e9 for before, after in pairs]
    if min(times) <= 0 or max(times) > 1.5 * min(times):
        raise CalibrationError(
            'the times between marks differ too much: '
            + ', '.join(f'{seconds:.3f}' for seconds in times)
            + ' s; is there one mark only, and does the belt run steadily?'
        )
    speed, speed_deviation = _mean([length / seconds for seconds in times])
    steps = steps_deviation = None
    if all(mark.count is not None for mark in marks):
        counts = [abs((after.count or 0) - (before.count or 0)) for before, after in pairs]
        if min(counts) == 0:
            raise CalibrationError(
                'the belt encoder did not count while the belt moved; check its wheel, its wiring '
                'and encoder_pins'
            )
        steps, steps_deviation = _mean([count / length for count in counts])
    return BeltMeasurement(speed, speed_deviation, steps, steps_deviation, len(pairs))


def _mean(values: Sequence[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
