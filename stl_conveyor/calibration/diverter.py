# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How long a diverter takes from its command to its confirmed motion."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stl_conveyor.errors import CalibrationError, HardwareError
from stl_conveyor.hardware.diverter import DiverterEvents, Diverters


@dataclass(frozen=True)
class DelayMeasurement:
    """Delays of one lane's diverter from command to confirmation, in seconds.

    Attributes:
        silent: How many strokes were not confirmed.
    """

    median: float
    p99: float
    smallest: float
    largest: float
    repeats: int
    silent: int


def measure_diverter(
    lane: str,
    make_diverters: Callable[[DiverterEvents], Diverters],
    *,
    repeats: int = 20,
    hold: float = 0.2,
    rest: float = 0.4,
    timeout: float = 1.0,
    progress: Callable[[int, float | None], None] = lambda index, delay: None,
) -> DelayMeasurement:
    """Push `repeats` times and measure each delay.

    Args:
        hold: Seconds for which the diverter is held out; `rest` seconds pass before the next.
        timeout: Seconds after which a stroke counts as silent.
        progress: Called with the number of each stroke and its delay, None if silent.

    Raises:
        CalibrationError: If no stroke was confirmed; the message has the remedy.
        HardwareError: If the diverter cannot be commanded.
    """
    if repeats < 1:
        raise CalibrationError(f'repeats: {repeats} is not at least 1')
    reports: queue.SimpleQueue[tuple[str, float, str]] = queue.SimpleQueue()
    ready = threading.Event()

    def connected(reason: str | None) -> None:
        if reason is None:
            ready.set()
        else:
            reports.put(('failed', time.monotonic(), reason))

    diverters = make_diverters(
        DiverterEvents(
            confirmed=lambda name, serial: reports.put(('confirmed', time.monotonic(), '')),
            failed=lambda name, serial, reason: reports.put(('failed', time.monotonic(), reason)),
            connected=connected,
        )
    )
    delays: list[float] = []
    try:
        if diverters.connects:
            ready.wait(timeout)
        for index in range(1, repeats + 1):
            delay = _stroke(lane, index, diverters, reports, timeout)
            progress(index, delay)
            if delay is not None:
                delays.append(delay)
            time.sleep(hold)
            diverters.retract(lane)
            time.sleep(rest)
        if not delays:
            raise CalibrationError(
                f'lane {lane}: none of {repeats} strokes was confirmed; {diverters.remedy(lane)}'
            )
    finally:
        diverters.close()
    return summarise(delays, repeats)


def summarise(delays: Sequence[float], repeats: int) -> DelayMeasurement:
    """Return the statistics of the delays (s) of the strokes that were confirmed."""
    ordered = np.sort(np.asarray(delays, float))
    return DelayMeasurement(
        median=float(np.quantile(ordered, 0.5)),
        p99=float(np.quantile(ordered, 0.99, method='higher')),
        smallest=float(ordered[0]),
        largest=float(ordered[-1]),
        repeats=repeats,
        silent=repeats - len(ordered),
    )


def _stroke(
    lane: str,
    serial: int,
    diverters: Diverters,
    reports: queue.SimpleQueue[tuple[str, float, str]],
    timeout: float,
) -> float | None:
    while not reports.empty():
        kind, _, reason = reports.get()
        if kind == 'failed':
            raise HardwareError(f'lane {lane}: {reason}')
    if diverters.is_out(lane):
        raise HardwareError(f'lane {lane}: out before it was commanded; {diverters.remedy(lane)}')
    began = time.monotonic()
    diverters.extend(lane, serial)
    try:
        kind, at, reason = reports.get(timeout=timeout)
    except queue.Empty:
        return None
    if kind == 'failed':
        raise HardwareError(f'lane {lane}: {reason}')
    return at - began
