# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What people run a shift by: counts, rates, purity and yield, the hours, and OEE."""

from __future__ import annotations

import csv
import io
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from stl_conveyor.assess.intervals import wilson
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.panel.items import CountKey

HOUR_S = 3600
KEPT_HOURS = 14 * 24
RATE_WINDOW_S = 60.0
HOURLY = (
    'outcomes',
    'rejected',
    'offloaded',
    'bytes_sent',
    'missed_deadlines',
    'rested',
    'correct',
)


@dataclass(frozen=True)
class Share:
    """A share of a count, with its 95 % interval (Wilson); None where nothing was counted."""

    part: int
    whole: int

    @property
    def value(self) -> float | None:
        """Return the share, 0..1."""
        return self.part / self.whole if self.whole else None

    def as_json(self) -> dict[str, object]:
        """Return it with its interval."""
        low, high = wilson(self.part, self.whole) if self.whole else (None, None)
        return {'part': self.part, 'whole': self.whole, 'low': low, 'high': high}


@dataclass(frozen=True)
class Effectiveness:
    """Overall equipment effectiveness (OEE), factor by factor; None: not known yet.

    Attributes:
        availability: Share of the time in which the belt ran and no node reported an error.
        performance: Items per second of that time against the fastest that the line is made for,
            one in each time unit.
        quality: Share of the items at rest that lie where they belong; where nobody knows the
            truth, share of the outcomes that were in time and not sent to reject.
    """

    availability: float | None
    performance: float | None
    quality: float | None

    @property
    def product(self) -> float | None:
        """Return the product of the three."""
        if None in (self.availability, self.performance, self.quality):
            return None
        assert self.availability is not None
        assert self.performance is not None
        assert self.quality is not None
        return self.availability * self.performance * self.quality


class ShiftCounts:
    """Counts since the start and by the hour; an item is taken again as often as it changes."""

    def __init__(self, cell: CellDescription) -> None:
        """Begin with nothing."""
        self._cell = cell
        self.total: Counter[CountKey] = Counter()
        self._hours: dict[int, Counter[CountKey]] = {}
        self._outcome_times: deque[float] = deque(maxlen=4096)
        self._elapsed = 0.0
        self._running = 0.0
        self._seen: float | None = None

    def use(self, cell: CellDescription) -> None:
        """Know another description from now on."""
        self._cell = cell

    def replace(
        self, before: Mapping[CountKey, int], after: Mapping[CountKey, int], hour: int, now: float
    ) -> None:
        """Take in that an item adds something else than before.

        Args:
            hour: To which the item belongs (hours since 1970).
            now: Seconds of a clock that nobody sets.
        """
        hourly = self._hours.setdefault(hour, Counter())
        for key in {*before, *after}:
            difference = after.get(key, 0) - before.get(key, 0)
            if difference:
                self.total[key] += difference
                hourly[key] += difference
        if after.get(('outcomes', ''), 0) > before.get(('outcomes', ''), 0):
            self._outcome_times.append(now)
        while len(self._hours) > KEPT_HOURS:
            del self._hours[min(self._hours)]

    def advance(self, now: float, *, runs: bool) -> None:
        """Take in that time has passed, and whether the line could sort in it."""
        if self._seen is not None and now > self._seen:
            self._elapsed += now - self._seen
            self._running += (now - self._seen) * runs
        self._seen = now

    def of(self, name: str, which: str = '') -> int:
        """Return a count."""
        return self.total[name, which]

    def by(self, name: str) -> dict[str, int]:
        """Return the counts of a name by lane, class or reason."""
        return {
            which: count for (key, which), count in self.total.items() if key == name and count
        }

    def per_minute(self, now: float) -> float:
        """Return the items per minute over the last minute, or since the start."""
        recent = sum(1 for time in self._outcome_times if now - time <= RATE_WINDOW_S)
        window = min(max(self._elapsed, 1.0), RATE_WINDOW_S)
        return recent * 60.0 / window

    def purity(self, lane: str) -> Share:
        """Return the share of what lies in a lane that belongs there."""
        return Share(self.of('right', lane), self.of('rests', lane))

    def yield_of(self, lane: str) -> Share:
        """Return the share of what belongs in a lane that lies there."""
        return Share(self.of('right', lane), self.of('belongs', lane))

    def effectiveness(self, time_unit: float | None) -> Effectiveness:
        """Return availability, performance and quality.

        Args:
            time_unit: Seconds, the shortest period of items; None where it was not heard.
        """
        outcomes, rested = self.of('outcomes'), self.of('rested')
        availability = self._running / self._elapsed if self._elapsed else None
        performance = None
        if time_unit and self._running:
            performance = min(outcomes * time_unit / self._running, 1.0)
        quality = None
        if rested:
            quality = self.of('correct') / rested
        elif outcomes:
            bad = self.of('rejected') + self.of('missed_deadlines')
            quality = max(outcomes - bad, 0) / outcomes
        return Effectiveness(availability, performance, quality)

    def csv(self) -> str:
        """Return the hours as a table (CSV), the oldest first."""
        lanes = [lane.name for lane in self._cell.lanes] + [self._cell.reject_lane]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator='\n')
        writer.writerow(['hour_utc', *HOURLY, *(f'lane_{lane}' for lane in lanes)])
        for hour, counts in sorted(self._hours.items()):
            start = datetime.fromtimestamp(hour * HOUR_S, timezone.utc)
            writer.writerow(
                [
                    start.strftime('%Y-%m-%dT%H:00Z'),
                    *(counts[name, ''] for name in HOURLY),
                    *(counts['lane', lane] for lane in lanes),
                ]
            )
        return text.getvalue()

    def hours(self) -> list[dict[str, object]]:
        """Return the last 24 hours, the newest first."""
        return [
            {'hour': hour * HOUR_S * 1000, **{name: counts[name, ''] for name in HOURLY}}
            for hour, counts in sorted(self._hours.items(), reverse=True)[:24]
        ]
