# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a node says about itself on /diagnostics; pure, the node publishes it."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from stl_conveyor.errors import Level

# Texts of one report; a fault that only the fifth text tells of would be told to nobody.
MOST_SAID = 16


@dataclass(frozen=True)
class HealthReport:
    """One report: the worst level, why, and values by name."""

    level: Level
    message: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Event:
    level: Level
    message: str
    time_ns: int
    said_ns: int


class NodeHealth:
    """Collect what a node has to report.

    Conditions last until they are cleared, events are reported for a while; beside them stand
    counters, rates and values.
    """

    def __init__(
        self, *, event_ns: int = 5_000_000_000, again_ns: int = 10_000_000_000, capacity: int = 512
    ) -> None:
        """Start healthy.

        Args:
            event_ns: How long an event raises the level.
            again_ns: After how long an event that goes on is said again.
            capacity: How many samples of a rate or a measured value are kept.
        """
        self._event_ns = event_ns
        self._again_ns = again_ns
        self._capacity = capacity
        self._conditions: dict[str, tuple[Level, str]] = {}
        self._events: dict[str, _Event] = {}
        self._counts: Counter[str] = Counter()
        self._ticks: dict[str, deque[int]] = {}
        self._samples: dict[str, deque[float]] = {}
        self._values: dict[str, str] = {}

    def set_condition(self, name: str, level: Level, message: str) -> bool:
        """Set a lasting condition; return whether it is new or has changed."""
        changed = self._conditions.get(name) != (level, message)
        self._conditions[name] = (level, message)
        return changed

    def clear_condition(self, name: str) -> bool:
        """End a condition; return whether there was one."""
        return self._conditions.pop(name, None) is not None

    def event(self, name: str, level: Level, message: str, now_ns: int) -> bool:
        """Count an event and report it; return whether it is to be said.

        It is if it is the first of its kind in a while, or if the last time lies long back.
        """
        self._counts[name] += 1
        before = self._events.get(name)
        say = (
            before is None
            or not 0 <= now_ns - before.time_ns <= self._event_ns
            or now_ns - before.said_ns >= self._again_ns
        )
        said_ns = now_ns if before is None or say else before.said_ns
        self._events[name] = _Event(level, message, now_ns, said_ns)
        return say

    def count(self, name: str, amount: int = 1) -> None:
        """Count something that is no cause for concern."""
        self._counts[name] += amount

    def counted(self, name: str) -> int:
        """Return how often something was counted."""
        return self._counts[name]

    def tick(self, name: str, now_ns: int) -> None:
        """Take in one occurrence of something that has a rate."""
        self._ticks.setdefault(name, deque(maxlen=self._capacity)).append(now_ns)
        self._counts[name] += 1

    def sample(self, name: str, value: float) -> None:
        """Take in one measured value; its median and extremes are reported."""
        self._samples.setdefault(name, deque(maxlen=self._capacity)).append(value)

    def set_value(self, name: str, value: object) -> None:
        """Set a value that is reported as it is."""
        self._values[name] = str(value)

    def report(self, now_ns: int, window_ns: int = 10_000_000_000) -> HealthReport:
        """Return the report; rates are over the last `window_ns`."""
        for name, event in list(self._events.items()):
            if not 0 <= now_ns - event.time_ns <= self._event_ns:
                del self._events[name]
        troubles = [(level, message) for level, message in list(self._conditions.values())]
        troubles += [
            (event.level, f'{name}: {event.message}') for name, event in list(self._events.items())
        ]
        troubles.sort(key=lambda trouble: -trouble[0])
        level = troubles[0][0] if troubles else Level.OK
        message = '; '.join(text for _, text in troubles[:MOST_SAID]) if troubles else 'OK'
        values = list(self._values.items())
        for name, ticks in list(self._ticks.items()):
            while ticks and not 0 <= now_ns - ticks[0] <= window_ns:
                ticks.popleft()
            values.append((f'{name}.rate', f'{len(ticks) * 1e9 / window_ns:.2f} Hz'))
        for name, samples in list(self._samples.items()):
            ordered = sorted(samples)
            values.append((f'{name}.min', f'{ordered[0]:.4g}'))
            values.append((f'{name}.median', f'{ordered[len(ordered) // 2]:.4g}'))
            values.append((f'{name}.max', f'{ordered[-1]:.4g}'))
        values += [(name, str(count)) for name, count in sorted(self._counts.copy().items())]
        return HealthReport(level, message, tuple(values))
