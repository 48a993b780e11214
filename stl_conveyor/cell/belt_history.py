# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Where the belt was, from reports of a counter on it that somebody else reads.

Items are kept by the position of the belt. A position is a place on one line that never starts
again, whatever the counter behind the reports does; where it was lost, a new stretch begins, and
what was on the belt before cannot be placed any more.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from itertools import islice, pairwise

from stl_conveyor.cell.belt_trend import (
    HARDEST,
    Sample,
    Trend,
    confirms,
    deviation,
    thinned,
    trend_of,
)

STANDSTILL = 0.001  # m/s; what is slower does not bring an item to a diverter
NEVER_NS = 2**62  # a time that does not come: what waits for it is held
FASTEST = 5.0  # m/s; no belt that sorts runs faster, and what says so has other units
_SETTLE_S = 0.3  # of steady running gives a speed that steps of the counter do not disturb
_SETTLE_COUNT = 5  # intervals that are looked at, where they take longer
_STARTING = 0.02  # m/s; a belt that was told to be as slow may have begun to move just now
_USUAL_S = 2.0  # for which a belt keeps a speed that it is set to usually
_FIRST_NOISE = 0.0003  # m, of a counter of which nothing is known yet
_PIECES = 8  # straight ones, for the way between two reports while the speed changes
_CREEP = 0.02  # m that reports may always be off from what their speeds let expect
_NEAR_ZERO = 0.005  # m from zero at which a counter that was started again is found
_SAME_SPEED = 0.02  # m/s
_STOOD = 0.002  # m by which a belt that stood in an unseen while may have moved
_SAME_WAY = 0.0002  # m
_SHORTEST_S = 0.02  # between two reports, for the highest speed: stamps are not exact
_FARTHEST = 1e9  # m; what reports more has no position


@dataclass(frozen=True)
class BeltPlace:
    """A place on the belt: metres, and the stretch in which they count."""

    stretch: int
    position: float


@dataclass(frozen=True)
class _Report:
    time_ns: int
    position: float  # on the line, m
    raw: float  # as reported, m
    told: float | None  # m/s as reported; None = nothing that can be used
    origin: int
    joined: bool  # the way since the report before was counted, not estimated


class BeltHistory:
    """Reports of the belt's position, and when it will have carried an item so far.

    Times are ns of one clock. Between two reports the belt is where the line between them says;
    after the last one it goes on at its speed, for no longer than three reports usually take: then
    it is unknown until the next report. The past is forgotten by the way of the belt, not by time:
    while it stands nothing is forgotten.

    A counter that starts again (it wraps around, or was set to zero) is followed: with
    `counter_length` exactly, without by the speeds before and after. After a silence the way in
    between is what the counter says, if it goes on. If it started again, it is known only that a
    belt that stood before and stands after has not moved; else a new stretch begins.

    Examples:
        >>> from stl_conveyor.cell.belt_history import NEVER_NS, BeltHistory
        >>> belt = BeltHistory()
        >>> for n in range(21):  # 0.4 m/s, reported 20 times a second
        ...     belt.add(n * 50_000_000, 0.02 * n, 0.4)
        >>> belt.arrival_ns(500_000_000, way=0.36, now_ns=1_000_000_000) / 1e9
        1.4
        >>> belt.add(1_050_000_000, 0.4, 0.0)  # it stands
        >>> belt.arrival_ns(500_000_000, way=0.36, now_ns=1_060_000_000) == NEVER_NS
        True
    """

    def __init__(
        self,
        *,
        counter_length: float = 0.0,
        least_silence_ns: int = 100_000_000,
        most_silence_ns: int = 1_000_000_000,
        kept_way: float = 5.0,
        capacity: int = 4096,
        usual_speed: float | None = None,
    ) -> None:
        """Know nothing.

        Args:
            counter_length: Metres after which the reported position starts again; 0 = not told.
            least_silence_ns: The belt is never unknown sooner after a report.
            most_silence_ns: Nor known longer after one, however seldom they come.
            kept_way: Metres, there and back, for which the past is kept.
            capacity: Most reports that are kept.
            usual_speed: Speed (m/s) at which a soft start ends; the belt's own is learned.
        """
        if counter_length < 0 or not math.isfinite(counter_length):
            raise ValueError(f'counter_length {counter_length} must be metres, or 0')
        self._length = counter_length
        self._least_silence_ns = least_silence_ns
        self._most_silence_ns = most_silence_ns
        self._kept_way = kept_way
        self._capacity = capacity
        self._reports: deque[_Report] = deque()
        self._way = 0.0  # there and back, of what is kept
        self._stretch = 0
        self._tells_speed = False
        self._fastest = 0.0
        self._moving = 0  # how many intervals showed a movement
        self._intervals: deque[int] = deque(maxlen=9)
        self._unjoined: _Report | None = None  # the last one before a counter that started again
        self._jump = 0.0  # m, of the counter when it last started again
        self._restarts = 0
        self._usual = usual_speed
        self._settled_since_ns: int | None = None
        self._deviations: deque[float] = deque(maxlen=32)  # m, of positions from a smooth way
        self._noise = _FIRST_NOISE
        self._belief = 1  # in the speeds that are told, while it is positive
        self._known_trend: Trend | None = None  # at the newest report

    @property
    def has_spoken(self) -> bool:
        """Return whether there ever was a report."""
        return bool(self._reports)

    @property
    def restarts(self) -> int:
        """Return how often the counter started again."""
        return self._restarts

    @property
    def stretch(self) -> int:
        """Return the number of the stretch; it rises when the position is lost."""
        return self._stretch

    @property
    def latest_ns(self) -> int | None:
        """Return the time of the newest report."""
        return self._reports[-1].time_ns if self._reports else None

    def add(
        self, time_ns: int, position: float, speed: float | None = None, *, origin: int = 0
    ) -> bool:
        """Take in that the belt was at a position (m) and ran at a speed (m/s).

        Args:
            speed: None, or what is no speed of a belt: not known.
            origin: Another number than before: the position counts from another place. 0 = not
                told.

        Returns:
            Whether it was taken: it has a position and is newer than the one before.
        """
        if not abs(position) <= _FARTHEST:
            return False
        told = speed if speed is not None and abs(speed) <= FASTEST else None
        if told:
            self._tells_speed = True
            self._fastest = max(self._fastest, abs(told))
        if not self._reports:
            self._reports.append(_Report(time_ns, position, position, told, origin, True))
            self._known_trend = None
            return True
        last = self._reports[-1]
        if time_ns <= last.time_ns:
            if last.time_ns - time_ns <= self._most_silence_ns:
                return False  # overtaken on its way
            last = self._set_back(time_ns)
        usable = told if self._tells_speed else None
        way = self._counted(last, time_ns, position, usable, origin)
        joined = way is not None
        if way is None:
            self._restarts += 1
            way = self._estimated(last, time_ns, usable, position - last.raw)
            if way is None:
                self._begin_stretch(last)
                way = 0.0
        elif time_ns - last.time_ns <= self._most_silence_ns:
            self._learn(time_ns - last.time_ns, way)
        self._append(_Report(time_ns, last.position + way, position, told, origin, joined))
        self._join_late()
        self._known_trend = None
        self._learn_noise()
        self._learn_usual()
        return True

    def is_known(self, now_ns: int) -> bool:
        """Return whether the belt's position is known now."""
        return bool(self._reports) and abs(now_ns - self._reports[-1].time_ns) <= self.silence_ns

    @property
    def silence_ns(self) -> int:
        """Return how long after a report the belt still is known: three usual intervals."""
        if not self._intervals:
            return self._least_silence_ns
        usual = sorted(self._intervals)[len(self._intervals) // 2]
        return min(max(3 * usual, self._least_silence_ns), self._most_silence_ns)

    def speed(self) -> float:
        """Return the speed (m/s) by the newest reports; 0 where it stands.

        What the reports tell of the speed counts only as far as their positions agree: a drive may
        tell the speed that it was set to. A position that does not change is a belt that stands.
        """
        return self.trend().speed

    def trend(self) -> Trend:
        """Return speed and change of speed at the newest report."""
        if self._known_trend is None:
            self._known_trend = self._find_trend()
        return self._known_trend

    def _find_trend(self) -> Trend:
        if len(self._reports) < 2:
            return Trend((self._reports[-1].told or 0.0) if self._reports else 0.0)
        last, before = self._reports[-1], self._reports[-2]
        if self._stands(last):
            return Trend(0.0)
        told = self._told(last)
        if told is not None and last.time_ns - before.time_ns > self.silence_ns:
            return Trend(told)  # the way of a silence tells nothing of the speed now
        newest = _slope(before, last)
        if abs(newest) < STANDSTILL and not (told and abs(told) < _STARTING):
            return Trend(0.0)  # whatever speed its drive was set to
        samples = self._samples()
        trend = None
        if len(samples) > 1:
            trend = trend_of(samples, self._noise, self._belief > 0)
        if trend is not None and trend.speed * newest < 0:
            return Trend(0.0)  # it turns
        if trend is not None and abs(trend.speed) <= FASTEST:
            return trend.towards(self._usual)
        if told is not None and abs(told - newest) <= 0.35 * max(abs(told), abs(newest)):
            return Trend(told)
        return Trend(newest)

    def place(self, time_ns: int, now_ns: int) -> BeltPlace | None:
        """Return where the belt was at a time; None = that is not known, or not yet."""
        reports = self._reports
        if not reports:
            return None
        first, last = reports[0], reports[-1]
        if time_ns > last.time_ns:
            if not self.is_known(now_ns) or time_ns - last.time_ns > self.silence_ns:
                return None
            return BeltPlace(self._stretch, self._ahead(time_ns))
        if time_ns < first.time_ns:
            if first.time_ns - time_ns > self._least_silence_ns or not first.told:
                return None
            back = first.told * (first.time_ns - time_ns) / 1e9
            return BeltPlace(self._stretch, first.position - back)
        position = self._between(time_ns)
        return None if position is None else BeltPlace(self._stretch, position)

    @property
    def settled_ns(self) -> int | None:
        """Return until when no report that is still to come changes a place."""
        reports = self._reports
        if len(reports) < 2:
            return None
        last, before = reports[-1], reports[-2]
        if self._told(last) is not None or last.position == before.position:
            return last.time_ns
        return before.time_ns  # how fast it runs now tells the next report

    def covers(self, time_ns: int) -> bool:
        """Return whether the place at a time is final."""
        settled_ns = self.settled_ns
        return settled_ns is not None and self._reports[0].time_ns <= time_ns <= settled_ns

    def moved_since(self, time_ns: int, now_ns: int) -> float | None:
        """Return the metres that the belt moved since a time; None = that is not known."""
        then, now = self.place(time_ns, now_ns), self.place(now_ns, now_ns)
        return None if then is None or now is None else now.position - then.position

    def way_since(self, place: BeltPlace, now_ns: int) -> float | None:
        """Return the metres that the belt moved since a place; None = that is not known."""
        now = self.place(now_ns, now_ns)
        if now is None or now.stretch != place.stretch:
            return None
        return now.position - place.position

    def arrival_ns(self, since_ns: int, way: float, now_ns: int) -> int | None:
        """Return when the belt will have moved `way` metres since a time.

        That is NEVER_NS while it stands, runs backwards or is not known. None = nobody has ever
        reported anything.
        """
        if not self.has_spoken:
            return None
        then = self.place(since_ns, now_ns)
        return NEVER_NS if then is None else self.arrival_from_ns(then, way, now_ns)

    def arrival_from_ns(self, place: BeltPlace, way: float, now_ns: int) -> int:
        """Return when the belt will have moved `way` metres since a place; or NEVER_NS."""
        trend = self.trend()
        if self.way_since(place, now_ns) is None or trend.speed < STANDSTILL:
            return NEVER_NS
        last = self._reports[-1]
        seconds = trend.seconds_for(place.position + way - last.position)
        return NEVER_NS if seconds is None else last.time_ns + round(seconds * 1e9)

    def expected_way(self, place: BeltPlace, time_ns: int) -> float:
        """Return the metres that the belt will have moved since a place at a time to come.

        Of a place of this stretch; the belt is taken to go on as its newest reports say.
        """
        last = self._reports[-1]
        seconds = max(0.0, (time_ns - last.time_ns) / 1e9)
        return last.position + self.trend().way(seconds) - place.position

    def time_at(self, position: float, now_ns: int) -> int | None:
        """Return when (ns) the belt last was, or will be, at a position of this stretch.

        None = it stands before it, or its way there is not kept or not known.
        """
        reports = self._reports
        if not reports:
            return None
        last = reports[-1]
        if position == last.position:
            return last.time_ns
        for index in range(len(reports) - 1, 0, -1):
            points = self._line(index)
            for (begin_ns, begin), (end_ns, end) in reversed(list(pairwise(points))):
                low, high = sorted((begin, end))
                if low <= position <= high and low < high:
                    share = (position - begin) / (end - begin)
                    return begin_ns + round(share * (end_ns - begin_ns))
        trend, ahead = self.trend(), position - last.position
        if trend.speed < STANDSTILL or ahead < 0 or not self.is_known(now_ns):
            return None
        seconds = trend.seconds_for(ahead)
        return None if seconds is None else last.time_ns + round(seconds * 1e9)

    # How reports become one line.

    def _counted(
        self, last: _Report, time_ns: int, raw: float, told: float | None, origin: int
    ) -> float | None:
        """Return the way since the last report as the counter has it; None = it started again."""
        change = raw - last.raw
        elapsed = (time_ns - last.time_ns) / 1e9
        silent = time_ns - last.time_ns > self.silence_ns
        if origin and last.origin and origin != last.origin:
            return None
        expected = 0.0 if silent else self.speed() * elapsed
        slack = _CREEP + 1.5 * self._fastest_now() * elapsed
        if self._length:
            change += self._length * round((expected - change) / self._length)
            # So long that the belt may have gone round the counter: only if it stood throughout.
            if slack >= self._length / 2 and silent:
                slack = _CREEP if self._stands(last) else -1.0
            elif slack >= self._length / 2:
                slack = self._length / 2
        elif silent and abs(raw) <= _NEAR_ZERO + abs(told or 0.0) * self._least_silence_ns / 1e9:
            if abs(change) > _NEAR_ZERO:
                return None
        return change if abs(change - expected) <= slack else None

    def _estimated(
        self, last: _Report, time_ns: int, told: float | None, change: float
    ) -> float | None:
        """Return the way over which a counter started again; None = nobody can know."""
        if time_ns - last.time_ns <= self.silence_ns:
            elapsed = (time_ns - last.time_ns) / 1e9
            before = self.speed()
            after = before if told is None else told
            way = (before + after) / 2 * elapsed
            # There and back again over one place must be no way: the same length both times.
            length = way - change
            slack = _CREEP + 1.5 * self._fastest_now() * elapsed
            if abs(abs(length) - self._jump) <= slack:
                return change + math.copysign(self._jump, length)
            self._jump = abs(length)
            return way
        if not self._stands(last):
            return None
        if told is None:
            self._unjoined = last  # the next report tells whether it stands
            return 0.0
        return 0.0 if abs(told) < STANDSTILL else None

    def _join_late(self) -> None:
        """Settle a start of the counter whose first report could not tell whether it stands."""
        pending, last = self._unjoined, self._reports[-1]
        if pending is None or not last.joined or len(self._reports) < 2:
            return
        self._unjoined = None
        first = self._reports[-2]
        if abs(last.position - first.position) > _STOOD:
            self._begin_stretch(pending)

    def _set_back(self, time_ns: int) -> _Report:
        """Go on after the clock was set back: of the past only the position has a meaning."""
        last = self._reports[-1]
        usual = sorted(self._intervals)[len(self._intervals) // 2] if self._intervals else 1
        moved = _Report(
            time_ns - usual, last.position, last.raw, last.told, last.origin, last.joined
        )
        self._reports.clear()
        self._reports.append(moved)
        return moved

    def _begin_stretch(self, last: _Report) -> None:
        self._stretch += 1
        kept = [each for each in self._reports if each.time_ns > last.time_ns]
        self._reports.clear()
        self._reports.extend(kept)
        self._unjoined = None
        self._way = sum(abs(b.position - a.position) for a, b in pairwise(kept))

    def _append(self, report: _Report) -> None:
        reports = self._reports
        if len(reports) > 1 and reports[-1].position == reports[-2].position == report.position:
            reports.pop()  # it stands: two reports say so, for as long as it does
        elif reports:
            self._way += abs(report.position - reports[-1].position)
        reports.append(report)
        while len(reports) > 2:
            oldest = abs(reports[1].position - reports[0].position)
            if self._way - oldest < self._kept_way and len(reports) <= self._capacity:
                break
            self._way -= oldest
            reports.popleft()

    def _learn(self, interval_ns: int, way: float) -> None:
        self._intervals.append(interval_ns)
        if way:
            self._moving += 1
            speed = abs(way) / max(interval_ns / 1e9, _SHORTEST_S)
            self._fastest = max(self._fastest, min(speed, FASTEST))

    def _fastest_now(self) -> float:
        return self._fastest if self._moving > 2 else max(self._fastest, FASTEST)

    def _told(self, report: _Report) -> float | None:
        """Return the speed that was told, by who tells any; who always tells 0 tells none."""
        return report.told if self._tells_speed else None

    def _stands(self, report: _Report) -> bool:
        """Return whether a report that is the newest says that the belt stands."""
        told = self._told(report)
        if told is not None and abs(told) < STANDSTILL:
            return True
        if len(self._reports) < 2 or report is not self._reports[-1]:
            return False
        return report.joined and report.position == self._reports[-2].position

    def _samples(self) -> list[Sample]:
        """Return the newest reports between which nothing is missing, the oldest first."""
        last, silence_ns = self._reports[-1], self.silence_ns
        samples = [Sample(0.0, last.position, self._told(last))]
        after = last
        for before in islice(reversed(self._reports), 1, None):
            time_ns = before.time_ns
            if not after.joined:
                break
            if after.time_ns - time_ns > silence_ns:
                if before.position != after.position:
                    break
                time_ns = after.time_ns - self._least_silence_ns  # it has stood for long
            seconds = (last.time_ns - time_ns) / 1e9
            if seconds > _SETTLE_S and len(samples) > _SETTLE_COUNT:
                break
            samples.append(Sample(-seconds, before.position, self._told(before)))
            after = before
            if time_ns != before.time_ns:
                break
        return thinned(samples)[::-1]

    def _learn_noise(self) -> None:
        """Learn by how much positions are off a smooth way; a stop now and then is no noise."""
        if len(self._reports) < 4:
            return
        newest = list(islice(reversed(self._reports), 4))[::-1]
        whole = all(
            after.joined
            and after.position != before.position
            and after.time_ns - before.time_ns <= self.silence_ns
            for before, after in pairwise(newest)
        )
        if not whole:
            return
        end_ns = newest[-1].time_ns
        samples = [
            Sample((each.time_ns - end_ns) / 1e9, each.position, self._told(each))
            for each in newest
        ]
        confirmed = confirms(samples[-2], samples[-1], self._noise)
        if confirmed is not None:
            self._belief = min(3, self._belief + 1) if confirmed else max(-3, self._belief - 2)
        self._deviations.append(abs(deviation(samples)))
        if len(self._deviations) > 4:
            # Of four positions with the same noise it has 4.5 times their spread; its median is
            # two thirds of its own, its lower quartile a third. A ramp's ends are left out.
            recent = sorted(islice(reversed(self._deviations), 8))
            self._noise = max(
                sorted(self._deviations)[len(self._deviations) // 2] / 3.0,
                recent[len(recent) // 4] / 1.4,
            )

    def _learn_usual(self) -> None:
        trend, now_ns = self.trend(), self._reports[-1].time_ns
        if not trend.is_settled or trend.speed < STANDSTILL:
            self._settled_since_ns = None
            return
        if self._settled_since_ns is None or now_ns < self._settled_since_ns:
            self._settled_since_ns = now_ns
        if self._usual is None or now_ns - self._settled_since_ns > _USUAL_S * 1e9:
            self._usual = trend.speed

    def _ahead(self, time_ns: int) -> float:
        last = self._reports[-1]
        return last.position + self.trend().way((time_ns - last.time_ns) / 1e9)

    def _between(self, time_ns: int) -> float | None:
        reports = self._reports
        index = bisect_right(reports, time_ns, key=lambda report: report.time_ns)
        if index == len(reports):
            return reports[-1].position
        before, after = reports[index - 1], reports[index]
        if time_ns != before.time_ns and not self._is_steady(before, after):
            return None
        for (begin_ns, begin), (end_ns, end) in pairwise(self._line(index)):
            if begin_ns <= time_ns <= end_ns:
                share = (time_ns - begin_ns) / max(1, end_ns - begin_ns)
                return begin + share * (end - begin)
        return after.position

    def _line(self, index: int) -> tuple[tuple[int, float], ...]:
        """Return the line (time, position) from the report before one to that one.

        A belt that stopped or started at once in between ran on at its speed until then; where
        that is, follows from the speeds at both ends, told or of the intervals beside, and the
        way. While its speed changes at a steady rate, the line bends.
        """
        reports = self._reports
        before, after = reports[index - 1], reports[index]
        begin, end = (before.time_ns, before.position), (after.time_ns, after.position)
        elapsed = (after.time_ns - before.time_ns) / 1e9
        first, second = self._told(before), self._told(after)
        earlier = _slope(reports[index - 2], before) if index > 1 and before.joined else None
        later = None
        if index + 1 < len(reports) and reports[index + 1].joined:
            later = _slope(after, reports[index + 1])
        slope = _slope(before, after)
        if first is None and second is None and earlier is not None and later is not None:
            if self._changes_steadily(index, earlier, slope, later):
                change = (later - earlier) / 2
                return self._bent(begin, end, change)
        first = earlier if first is None else first
        second = later if second is None else second
        if first is None or second is None or abs(first - second) < _SAME_SPEED:
            return begin, end
        if abs((first + second) / 2 - slope) * elapsed <= 3 * self._noise + _SAME_WAY:
            if abs(second - first) <= HARDEST * elapsed:
                return self._bent(begin, end, second - first)
        until = (after.position - before.position - second * elapsed) / (first - second)
        if not 0.0 < until < elapsed:
            return begin, end
        knee = (before.time_ns + round(until * 1e9), before.position + first * until)
        return begin, knee, end

    def _changes_steadily(self, index: int, earlier: float, slope: float, later: float) -> bool:
        """Return whether the speed changes evenly before, in and behind an interval.

        On a belt that stops at once in the middle of one, the intervals further off are steady.
        """
        change, reports = abs(later - earlier) / 2, self._reports
        if change < _SAME_SPEED / 2 or abs(later + earlier - 2 * slope) > change / 2:
            return False
        further = []
        if index > 2 and reports[index - 2].joined:
            further.append(earlier - _slope(reports[index - 3], reports[index - 2]))
        if index + 2 < len(reports) and reports[index + 2].joined:
            further.append(_slope(reports[index + 1], reports[index + 2]) - later)
        return any(abs(each) > change / 4 for each in further)

    def _bent(
        self, begin: tuple[int, float], end: tuple[int, float], change: float
    ) -> tuple[tuple[int, float], ...]:
        """Return the line between two reports over which the speed changed (m/s) steadily."""
        (begin_ns, first), (end_ns, last) = begin, end
        sag = change * (end_ns - begin_ns) / 1e9 / 2
        points = []
        for piece in range(1, _PIECES):
            share = piece / _PIECES
            place = first + share * (last - first) - sag * share * (1 - share)
            points.append((begin_ns + round(share * (end_ns - begin_ns)), place))
        return begin, *points, end

    def _is_steady(self, before: _Report, after: _Report) -> bool:
        """Return whether the belt is known between two reports.

        When it moved in a silence is not; unless it hardly moved, or as far as at full speed.
        """
        if after.time_ns - before.time_ns <= self.silence_ns:
            return True
        if abs(after.position - before.position) <= _STOOD:
            return True
        slope = _slope(before, after)
        return all(
            abs(slope - told) <= 0.1 * abs(slope)
            if told is not None
            else abs(slope) >= 0.9 * self._fastest
            for told in (self._told(before), self._told(after))
        )


def _slope(before: _Report, after: _Report) -> float:
    return (after.position - before.position) / max(1, after.time_ns - before.time_ns) * 1e9
