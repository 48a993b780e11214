# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What people run a shift by: counts, rates, purity and yield, the hours, and OEE."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from stl_conveyor.assess.intervals import wilson
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConfigError
from stl_conveyor.panel.items import CountKey

HOUR_S = 3600
KEPT_HOURS = 14 * 24
MOST = 2**53  # that is counted; JavaScript is exact up to it
LAST_HOUR = 70_000_000  # since 1970; Python has no dates after the year 9999
RATE_WINDOW_S = 60.0
SHIFTS = (6, 14, 22)  # hours of the day at which shifts begin
KEPT_SHIFTS = 9  # that are shown
HOURLY = (
    'outcomes',
    'rejected',
    'offloaded',
    'bytes_sent',
    'missed_deadlines',
    'rested',
    'correct',
)

FACTORS = ('availability', 'performance', 'quality', 'oee')


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
        availability: Share of the time in which the belt ran, the camera took items and no node
            reported an error.
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

    def as_json(self) -> dict[str, float | None]:
        """Return the factors and their product."""
        return dict(
            zip(FACTORS, (self.availability, self.performance, self.quality, self.product))
        )


class ShiftCounts:
    """Counts since the start and by the hour; an item is taken again as often as it changes."""

    def __init__(
        self,
        cell: CellDescription,
        shifts: Sequence[int] = SHIFTS,
        local: Callable[[float], datetime] = datetime.fromtimestamp,
    ) -> None:
        """Begin with nothing.

        Args:
            shifts: Hours of the day at which shifts begin, the earliest first.
            local: Returns the local time of a time in seconds since 1970.
        """
        self._cell = cell
        self._shifts = tuple(shifts)
        self._local = local
        self._times: dict[int, tuple[float, float]] = {}  # by hour: seconds, and those that it ran
        self.total: Counter[CountKey] = Counter()
        self._hours: dict[int, Counter[CountKey]] = {}
        self._begun: dict[int, datetime] = {}  # by hour: when its shift began
        self._outcome_times: deque[float] = deque(maxlen=4096)
        self._sent: deque[tuple[float, int]] = deque(maxlen=4096)  # when, and bytes
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
        sent = after.get(('bytes_sent', ''), 0) - before.get(('bytes_sent', ''), 0)
        if sent:
            self._sent.append((now, sent))
        while len(self._hours) > KEPT_HOURS:
            del self._hours[min(self._hours)]

    def advance(self, now: float, *, runs: bool, hour: int) -> None:
        """Take in that time has passed, and whether the line could sort in it.

        Args:
            now: Seconds of a clock that nobody sets.
            hour: In which it passed (hours since 1970).
        """
        if self._seen is not None and now > self._seen:
            passed, ran = now - self._seen, (now - self._seen) * runs
            self._elapsed += passed
            self._running += ran
            elapsed, running = self._times.get(hour, (0.0, 0.0))
            self._times[hour] = (elapsed + passed, running + ran)
            while len(self._times) > KEPT_HOURS:
                del self._times[min(self._times)]
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
        return recent * 60.0 / self._window()

    def bytes_per_second(self, now: float) -> float:
        """Return the payload bytes per second over the last minute, or since the start."""
        recent = sum(sent for time, sent in self._sent if now - time <= RATE_WINDOW_S)
        return max(recent, 0) / self._window()  # what was told may be corrected downwards

    def _window(self) -> float:
        return min(max(self._elapsed, 1.0), RATE_WINDOW_S)

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
        return effectiveness(self.total, (self._elapsed, self._running), time_unit)

    def kept(self) -> dict[str, object]:
        """Return the hours as JSON, for `take_up`."""
        return {
            str(hour): {
                'seconds': list(self._times.get(hour, (0.0, 0.0))),
                'counts': [
                    [*key, count] for key, count in self._hours.get(hour, Counter()).items()
                ],
            }
            for hour in self._known_hours()
        }

    def take_up(self, kept: Any) -> None:
        """Go on with the hours that `kept` returned; the counts since the start stay.

        Raises:
            ConfigError: If it returned something else; then nothing is taken.
        """
        try:
            hours = dict(_kept_hour(hour, told) for hour, told in kept.items())
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f'these are no counts by the hour ({error!r})') from error
        for hour in sorted(hours)[-KEPT_HOURS:]:
            self._times[hour], self._hours[hour] = hours[hour]

    def csv(self, time_unit: float | None = None) -> str:
        """Return the hours as a table (CSV), the oldest first; shares are empty if not known."""
        return self._table(
            'hour_utc',
            [
                (_utc(hour * HOUR_S), self._hours.get(hour, Counter()), self._times_of([hour]))
                for hour in self._known_hours()
            ],
            time_unit,
        )

    def shifts_csv(self, time_unit: float | None = None) -> str:
        """Return the shifts as a table (CSV), the oldest first; they begin at local time."""
        return self._table(
            'shift_local',
            [
                (start.strftime('%Y-%m-%dT%H:%M'), self._sum(hours), self._times_of(hours))
                for start, hours in self._by_shift()
            ],
            time_unit,
        )

    def hours(self, time_unit: float | None = None) -> list[dict[str, object]]:
        """Return the last 24 hours, the newest first."""
        return [
            {
                'hour': hour * HOUR_S * 1000,
                **self._told(self._hours.get(hour, Counter()), [hour], time_unit),
            }
            for hour in reversed(self._known_hours()[-24:])
        ]

    def shifts(self, time_unit: float | None = None) -> list[dict[str, object]]:
        """Return the last shifts, the newest first."""
        return [
            {'start': start.timestamp() * 1000, **self._told(self._sum(hours), hours, time_unit)}
            for start, hours in reversed(self._by_shift()[-KEPT_SHIFTS:])
        ]

    def _told(
        self, counts: Counter[CountKey], hours: Sequence[int], time_unit: float | None
    ) -> dict[str, object]:
        oee = effectiveness(counts, self._times_of(hours), time_unit)
        return {**{name: counts[name, ''] for name in HOURLY}, **oee.as_json()}

    def _table(
        self,
        first: str,
        rows: Sequence[tuple[str, Counter[CountKey], tuple[float, float]]],
        time_unit: float | None,
    ) -> str:
        lanes = [lane.name for lane in self._cell.lanes]
        found = {key for _, counts, _ in rows for key in counts}
        classes = {which for name, which in found if name == 'class' and which}
        reasons = {which for name, which in found if name == 'reject'}
        # Each name has a word before it: no cell begins with what spreadsheets take for a formula.
        columns: list[CountKey] = [(name, '') for name in HOURLY]
        columns += [('lane', lane) for lane in (*lanes, self._cell.reject_lane)]
        columns += [
            ('class', name) for name in dict.fromkeys((*self._cell.classes, *sorted(classes)))
        ]
        columns += [('reject', which) for which in sorted(reasons, key=lambda r: (len(r), r))]
        shares = {'purity': 'rests', 'yield': 'belongs'}
        text = io.StringIO()
        writer = csv.writer(text, lineterminator='\n')
        writer.writerow(
            [
                first,
                *(f'{name}_{which}' if which else name for name, which in columns),
                *(f'{share}_{lane}' for share in shares for lane in lanes),
                *FACTORS,
            ]
        )
        for start, counts, times in rows:
            oee = effectiveness(counts, times, time_unit).as_json()
            writer.writerow(
                [
                    start,
                    *(counts[key] for key in columns),
                    *(
                        _four_digits(Share(counts['right', lane], counts[whole, lane]).value)
                        for whole in shares.values()
                        for lane in lanes
                    ),
                    *(_four_digits(oee[name]) for name in FACTORS),
                ]
            )
        return text.getvalue()

    def _known_hours(self) -> list[int]:
        return sorted({*self._hours, *self._times})

    def _times_of(self, hours: Sequence[int]) -> tuple[float, float]:
        found = [self._times.get(hour, (0.0, 0.0)) for hour in hours]
        return sum(elapsed for elapsed, _ in found), sum(running for _, running in found)

    def _sum(self, hours: Sequence[int]) -> Counter[CountKey]:
        total: Counter[CountKey] = Counter()
        for hour in hours:
            total.update(self._hours.get(hour, Counter()))
        return total

    def _by_shift(self) -> list[tuple[datetime, list[int]]]:
        """Return when each shift began, and its hours (since 1970), the oldest first."""
        known = self._known_hours()
        # Kept, as local time takes long to find and this is told again after each item.
        self._begun = {
            hour: self._begun.get(hour) or shift_start(self._local(hour * HOUR_S), self._shifts)
            for hour in known
        }
        found: dict[datetime, list[int]] = {}
        for hour in known:
            found.setdefault(self._begun[hour], []).append(hour)
        return sorted(found.items())


def shift_start(at: datetime, shifts: Sequence[int]) -> datetime:
    """Return when the shift began to which a local time belongs.

    Examples:
        >>> shift_start(datetime(2026, 1, 2, 3, 30), (6, 14, 22))
        datetime.datetime(2026, 1, 1, 22, 0)
    """
    begun = [hour for hour in shifts if hour <= at.hour]
    day = at if begun else at - timedelta(days=1)
    hour = begun[-1] if begun else shifts[-1]
    return day.replace(hour=hour, minute=0, second=0, microsecond=0)


def effectiveness(
    counts: Counter[CountKey], times: tuple[float, float], time_unit: float | None
) -> Effectiveness:
    """Return availability, performance and quality of some time.

    Args:
        counts: What was counted in it.
        times: Seconds that it lasted, and those in which the line could sort.
        time_unit: Seconds, the shortest period of items; None where it was not heard.
    """
    elapsed, running = times
    outcomes, rested = counts['outcomes', ''], counts['rested', '']
    availability = running / elapsed if elapsed else None
    performance = None
    if time_unit and running:
        performance = min(outcomes * time_unit / running, 1.0)
    quality = None
    if rested:
        quality = counts['correct', ''] / rested
    elif outcomes:
        bad = counts['rejected', ''] + counts['missed_deadlines', '']
        quality = max(outcomes - bad, 0) / outcomes
    return Effectiveness(availability, performance, quality)


def _four_digits(value: float | None) -> str:
    return '' if value is None else f'{value:.4f}'


def _kept_hour(hour: str, told: Any) -> tuple[int, tuple[tuple[float, float], Counter[CountKey]]]:
    """Return an hour, its seconds and its counts, as `ShiftCounts.kept` wrote them.

    Raises:
        ValueError, TypeError, KeyError or OverflowError: If it did not.
    """
    number = int(hour)
    elapsed, running = map(float, told['seconds'])
    if not (0 <= number < LAST_HOUR and 0 <= running <= elapsed < math.inf):
        raise ValueError(f'hour {hour}')
    counts: Counter[CountKey] = Counter()
    for name, which, count in told['counts']:
        named = isinstance(name, str) and isinstance(which, str)
        if not (named and type(count) is int and 0 <= count < MOST):
            raise ValueError(f'hour {hour}')
        counts[name, which] = count
    return number, ((elapsed, running), counts)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime('%Y-%m-%dT%H:00Z')
