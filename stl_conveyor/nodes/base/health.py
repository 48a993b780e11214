# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a node says about itself on /diagnostics; pure, the node publishes it."""

from __future__ import annotations

import functools
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

from stl_conveyor.errors import Level

# Texts of one report; a fault that only the fifth text tells of would be told to nobody.
MOST_SAID = 16
KEPT_ENDED = 32  # faults that are over and still told, so that who shows them takes them off
ENDED = 'ended'  # what is said of a fault that is over


@dataclass(frozen=True)
class FaultReport:
    """One fault, by its name.

    Attributes:
        level: OK once it is over.
        seconds: For which it has lasted.
        count: How often it happened; a lasting one, how often it began.
    """

    name: str
    level: Level
    message: str
    seconds: float
    count: int


@dataclass(frozen=True)
class HealthReport:
    """One report: the worst level, why, values by name, and every fault by itself."""

    level: Level
    message: str
    values: tuple[tuple[str, str], ...]
    faults: tuple[FaultReport, ...] = ()


@dataclass(frozen=True)
class _Event:
    level: Level
    message: str
    time_ns: int
    said_ns: int
    since_ns: int


def fault_status_name(node: str, fault: str) -> str:
    """Return the name under which a fault of a node stands on /diagnostics."""
    return f'{node}: {fault}'


def fault_of_status(name: str) -> tuple[str, str] | None:
    """Return node and fault of a name on /diagnostics; None where it is that of a node itself.

    Examples:
        >>> fault_of_status('line_1/camera: frames'), fault_of_status('line_1/camera')
        (('line_1/camera', 'frames'), None)
    """
    node, separator, fault = name.partition(': ')
    return (node, fault) if separator else None


_P = ParamSpec('_P')
_R = TypeVar('_R')


def _by_one(
    method: Callable[Concatenate[NodeHealth, _P], _R],
) -> Callable[Concatenate[NodeHealth, _P], _R]:
    """Let one thread at a time into the methods of a health."""

    @functools.wraps(method)
    def guarded(self: NodeHealth, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with self._lock:
            return method(self, *args, **kwargs)

    return guarded


class NodeHealth:
    """Collect what a node has to report.

    Conditions last until they are cleared, events are reported for a while; beside them stand
    counters, rates and values. Any thread may call.
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
        self._lock = threading.RLock()
        self._event_ns = event_ns
        self._again_ns = again_ns
        self._capacity = capacity
        self._conditions: dict[str, tuple[Level, str]] = {}
        self._since_ns: dict[str, int] = {}  # of conditions
        self._begun: Counter[str] = Counter()  # conditions
        self._events: dict[str, _Event] = {}
        self._ended: dict[str, None] = {}  # names of faults that are over, the oldest first
        self._counts: Counter[str] = Counter()
        self._ticks: dict[str, deque[int]] = {}
        self._samples: dict[str, deque[float]] = {}
        self._values: dict[str, str] = {}

    @_by_one
    def set_condition(self, name: str, level: Level, message: str, now_ns: int = 0) -> bool:
        """Set a lasting condition; return whether it is new or has changed."""
        if name not in self._conditions:
            self._begun[name] += 1
            self._since_ns[name] = now_ns
        changed = self._conditions.get(name) != (level, message)
        self._conditions[name] = (level, message)
        return changed

    @_by_one
    def clear_condition(self, name: str) -> bool:
        """End a condition; return whether there was one."""
        if self._conditions.pop(name, None) is None:
            return False
        self._end(name)
        return True

    @_by_one
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
        goes_on = before is not None and 0 <= now_ns - before.time_ns <= self._event_ns
        since_ns = before.since_ns if before is not None and goes_on else now_ns
        self._events[name] = _Event(level, message, now_ns, said_ns, since_ns)
        return say

    @_by_one
    def count(self, name: str, amount: int = 1) -> None:
        """Count something that is no cause for concern."""
        self._counts[name] += amount

    @_by_one
    def counted(self, name: str) -> int:
        """Return how often something was counted."""
        return self._counts[name]

    @_by_one
    def tick(self, name: str, now_ns: int) -> None:
        """Take in one occurrence of something that has a rate."""
        self._ticks.setdefault(name, deque(maxlen=self._capacity)).append(now_ns)
        self._counts[name] += 1

    @_by_one
    def sample(self, name: str, value: float) -> None:
        """Take in one measured value; its median and extremes are reported."""
        self._samples.setdefault(name, deque(maxlen=self._capacity)).append(value)

    @_by_one
    def set_value(self, name: str, value: object) -> None:
        """Set a value that is reported as it is."""
        self._values[name] = str(value)

    @_by_one
    def report(self, now_ns: int, window_ns: int = 10_000_000_000) -> HealthReport:
        """Return the report; rates are over the last `window_ns`."""
        for name, event in list(self._events.items()):
            if not 0 <= now_ns - event.time_ns <= self._event_ns:
                del self._events[name]
                self._end(name)
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
        return HealthReport(level, message, tuple(values), tuple(self._faults(now_ns)))

    def _faults(self, now_ns: int) -> Iterator[FaultReport]:
        """Yield every fault that there is, and those that are over."""
        there: set[str] = set()
        for name, (level, message) in list(self._conditions.items()):
            seconds = (now_ns - self._since_ns.get(name, now_ns)) / 1e9
            there.add(name)
            yield FaultReport(name, level, message, seconds, self._begun[name])
        for name, event in list(self._events.items()):
            if name not in there:
                seconds = (now_ns - event.since_ns) / 1e9
                there.add(name)
                yield FaultReport(name, event.level, event.message, seconds, self._counts[name])
        for name in list(self._ended):
            if name not in there:
                count = self._begun[name] or self._counts[name]
                yield FaultReport(name, Level.OK, ENDED, 0.0, count)

    def _end(self, name: str) -> None:
        self._ended.pop(name, None)
        self._ended[name] = None
        while len(self._ended) > KEPT_ENDED:
            del self._ended[next(iter(self._ended))]
