# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Notice that the world has changed: light, focus, belt, classes that stay away, a new kind.

Each detector bets against "nothing has changed": its evidence grows by a factor of mean at most 1
for each item as long as the items are drawn alike, and starts again at 1 when it falls below (an
e-detector of the CUSUM kind: Shin, Ramdas, Rinaldo, "E-detectors: a nonparametric framework for
sequential change detection", New England Journal of Statistics in Data Science 2023). So it gives
a false alarm once in `ITEMS_PER_ALARM` items at most, on average, whatever the pictures look like.
What is measured is ranked among what was measured before; of items that are exchangeable the
ranks are uniform and independent (Vovk, Nouretdinov, Gammerman, "Testing Exchangeability On-Line",
ICML 2003).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.decision.strangeness import is_stranger

ITEMS_PER_ALARM = 10_000
EARLIEST = 60  # items before the first alarm: there must be something to compare with
REMEMBERED = 4000  # measurements that are ranked; enough to know a tail


@dataclass(frozen=True)
class Change:
    """A change that a detector found.

    Attributes:
        name: Stable name of the fault.
        text: What has changed, and what to do about it.
        items: How many items ago it seems to have begun.
        over: Whether it has gone again.
    """

    name: str
    text: str
    items: int = 0
    over: bool = False


class EvidenceCusum:
    """Evidence that starts again whenever it says less than nothing.

    Examples:
        >>> evidence = EvidenceCusum(limit=1000.0)
        >>> [evidence.add(10.0) for _ in range(3)]
        [False, False, True]
    """

    def __init__(self, limit: float) -> None:
        """Start without evidence; `limit` is that of an alarm, items between false ones."""
        self._limit = math.log(limit)
        self._log = 0.0
        self.since = 0  # items since it was 1

    def add(self, factor: float) -> bool:
        """Take in a bet's outcome, 0 or more; return whether it is enough for an alarm."""
        if self._log <= 0.0:
            self._log, self.since = 0.0, 0
        self._log += math.log(max(factor, 1e-300))
        self.since += 1
        return self._log >= self._limit

    def reset(self) -> None:
        """Forget the evidence."""
        self._log, self.since = 0.0, 0


class Ranks:
    """Where a value stands among those before it: uniform on 0..1 while nothing changes."""

    def __init__(self, seed: int = 0, lag: int = 0) -> None:
        """Start with nothing measured.

        Args:
            seed: Of how ties are broken.
            lag: Values that wait before they are remembered, so that what is new does not
                compare with itself.
        """
        self._waiting: deque[float] = deque()
        self._lag = lag
        self._ordered: list[float] = []
        self._recent: deque[float] = deque()
        self._rng = np.random.default_rng((seed, 41))

    def __len__(self) -> int:
        """Return how many values are remembered."""
        return len(self._ordered)

    def of(self, value: float) -> float:
        """Return the rank of a value, 0..1, without remembering it."""
        below, upto = bisect_left(self._ordered, value), bisect_right(self._ordered, value)
        share = float(self._rng.random())
        return (below + share * (upto - below + 1)) / (len(self._ordered) + 1)

    def add(self, value: float) -> float:
        """Return the rank of a value, 0..1, and remember it."""
        rank = self.of(value)
        self._waiting.append(value)
        if len(self._waiting) <= self._lag:
            return rank
        value = self._waiting.popleft()
        insort(self._ordered, value)
        self._recent.append(value)
        if len(self._recent) > REMEMBERED:
            del self._ordered[bisect_left(self._ordered, self._recent.popleft())]
        return rank

    def clear(self) -> None:
        """Forget all values."""
        self._waiting.clear()
        self._ordered.clear()
        self._recent.clear()


class RankDetector:
    """Finds that a measured value has moved to one side or the other.

    Bets on ranks near either end at once: the mean of the two bets is one more.
    """

    # d/dp of p ** k for these k: from ranks that crowd at the end to ones that lean to it.
    POWERS = (0.1, 0.3, 0.6)

    def __init__(self, limit: float, seed: int = 0) -> None:
        """Start with nothing measured.

        Args:
            limit: Items between false alarms, at least.
            seed: Of how ties are broken.
        """
        count = 2 * len(self.POWERS)
        # Each of several detectors has a share of the alarms.
        self._evidence = [EvidenceCusum(limit * count) for _ in range(count)]
        self._ranks = Ranks(seed)

    def add(self, value: float) -> tuple[int, int] | None:
        """Take in a value; return (-1 lower or 1 higher, items since) on an alarm."""
        if not math.isfinite(value):
            return None
        rank = self._ranks.add(value)
        alarm: tuple[int, int] | None = None
        place = 0
        for side, p in ((-1, rank), (1, 1.0 - rank)):
            for power in self.POWERS:
                if self._evidence[place].add(power * max(p, 1e-9) ** (power - 1.0)):
                    alarm = (side, self._evidence[place].since)
                place += 1
        if alarm is not None and len(self._ranks) >= EARLIEST:
            self.reset()
            return alarm
        return None

    def reset(self) -> None:
        """Take the world as it is from now on as the one to compare with."""
        self._ranks.clear()
        for evidence in self._evidence:
            evidence.reset()


class RateDetector:
    """Finds that something that should be rare has become frequent."""

    def __init__(self, limit: float, rate: float, raised: float) -> None:
        """Bet on `raised` against `rate` at most."""
        self._evidence = EvidenceCusum(limit)
        self._factors = ((1.0 - raised) / (1.0 - rate), raised / rate)

    def add(self, happened: bool) -> int | None:
        """Take in whether it happened; return the items since it began on an alarm."""
        if self._evidence.add(self._factors[bool(happened)]):
            since = self._evidence.since
            self._evidence.reset()
            return since
        return None


class MissingClassDetector:
    """Finds that a class has stopped coming.

    With n items of a class among the first m, and a uniform prior on its share, the next g items
    lack it with probability product of (m - n + i) / (m + 1 + i) over i = 1..g; it is missing when
    that is less than what a false alarm may have.
    """

    def __init__(self, limit: float, least: int = 5) -> None:
        """Take the items between false alarms, and how often a class must have come before."""
        self._limit = -math.log(limit)
        self._least = least
        self._items = 0
        self._seen: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._log: dict[str, float] = {}
        self._missing: set[str] = set()

    def add(self, label: str) -> tuple[str, int] | None:
        """Take in an item's class; return (class, items since it came last) on an alarm.

        Args:
            label: Empty where nobody is sure what it is: it counts as an item alone.
        """
        self._items += 1
        if not label:
            return self._looked_for('')
        self._seen[label] = self._seen.get(label, 0) + 1
        self._last[label] = self._items
        self._log[label] = 0.0
        self._missing.discard(label)
        return self._looked_for(label)

    @property
    def missing(self) -> tuple[str, ...]:
        """Return the classes that are missing now."""
        return tuple(sorted(self._missing))

    def _looked_for(self, label: str) -> tuple[str, int] | None:
        alarm = None
        for name, seen in self._seen.items():
            if name == label or name in self._missing or seen < self._least:
                continue
            gap, before = self._items - self._last[name], self._last[name]
            self._log[name] += math.log((before - seen + gap) / (before + 1 + gap))
            if self._log[name] < self._limit:
                self._missing.add(name)
                alarm = (name, gap)
        return alarm


@dataclass(frozen=True)
class ItemLook:
    """What a picture of an item tells beside its class.

    Attributes:
        light: Mean of the brighter half of the pixels, 0..1.
        sharpness: Mean of the strongest steps between neighbours over the contrast.
        ground: Colour along the border of the crop, (red - blue) / (red + green + blue): it is
            that of the belt, and a dimmer lamp does not change it.
    """

    light: float
    sharpness: float
    ground: float


def look_at(image: NDArray[np.uint8]) -> ItemLook:
    """Measure a crop, uint8 [S, S, 3]; only some of its rows and columns are read."""
    green = image[..., 1]
    values = np.sort(green[2::4, 2::4], axis=None)
    tail = len(values) // 50
    light = float(values[len(values) // 2 :].mean()) / 255.0
    contrast = (float(values[-1 - tail]) - float(values[tail])) / 255.0 + 0.02
    rows, columns = green[4::8].astype(np.int16), green[:, 4::8].astype(np.int16)
    steps = np.concatenate(
        [np.abs(np.diff(rows, axis=1)).ravel(), np.abs(np.diff(columns, axis=0)).ravel()]
    )
    count = max(1, len(steps) // 50)
    strongest = float(np.partition(steps, -count)[-count:].mean()) / 255.0
    border = np.concatenate([image[2], image[-3], image[:, 2], image[:, -3]])
    red, middle, blue = border.mean(axis=0)
    return ItemLook(light, strongest / contrast, float((red - blue) / (red + middle + blue + 1)))


_TEXTS: Mapping[tuple[str, int], str] = {
    ('light', -1): 'the pictures are darker than before; look at the lamps and at the exposure',
    ('light', 1): 'the pictures are brighter than before; look at the lamps and at the exposure',
    ('sharpness', -1): 'the pictures are less sharp than before; clean and focus the lens',
    ('sharpness', 1): 'the pictures are sharper or noisier than before; look at the gain and the '
    'focus',
    ('ground', -1): 'the belt looks bluer than before; if it was replaced, make the calibration '
    'again with pictures of it, else look at lamps and white balance',
    ('ground', 1): 'the belt looks redder than before; clean it, or, if it was replaced, make '
    'the calibration again with pictures of it',
}
_BACK: Mapping[str, str] = {
    'light': 'the pictures are about as bright as before again',
    'sharpness': 'the pictures are about as sharp as before again',
    'ground': 'the belt looks about as before again',
}
LAG = 300  # items before a score is compared with
NEW_KIND_GONE = 200.0  # items between false words that strangers are as rare as before


class DriftWatch:
    """All detectors of a cell.

    Examples:
        >>> watch = DriftWatch(stranger_rejects=0.02)
        >>> steady = [watch.add(None, label) for label in 'abc' * 100]
        >>> any(steady)
        False
        >>> found = [change for label in 'ab' * 100 for change in watch.add(None, label)]
        >>> [(change.name, change.over) for change in found]
        [('class_missing', False)]
    """

    def __init__(self, stranger_rejects: float, seed: int = 0) -> None:
        """Begin to watch.

        Args:
            stranger_rejects: Share of the cell's own items that count as strangers; 0 = nobody
                tells strangers.
        """
        limit = ITEMS_PER_ALARM * 5.0  # five detectors share the false alarms
        self._looks = {
            name: RankDetector(limit, seed + k)
            for k, name in enumerate(('light', 'sharpness', 'ground'))
        }
        self._moved: dict[str, int] = {}
        self._missing = MissingClassDetector(limit)
        self._rejects = stranger_rejects
        rate = max(stranger_rejects, 1e-3)
        raised = min(0.5, 4.0 * rate)
        # Strange is what ranks highest among the items of this belt: those of one belt look
        # stranger than those of another, all of them.
        self._scores = Ranks(seed + 3, lag=LAG)
        self._strange_from = 1.0 - rate
        self._strangers = RateDetector(limit, rate, raised)
        self._back = RateDetector(NEW_KIND_GONE, raised, rate)
        self._new_kind = False

    def add(self, look: ItemLook | None, label: str, unknown: float = 0.0) -> list[Change]:
        """Take in an item; return what has changed.

        Args:
            look: What its picture tells; None where nobody looked.
            label: Its class; empty where nobody is sure.
            unknown: Its unknown score.
        """
        found = []
        if look is not None:
            for name, detector in self._looks.items():
                alarm = detector.add(getattr(look, name))
                if alarm is not None:
                    found.append(self._moved_to(name, *alarm))
        found += self._classes('' if is_stranger(unknown, self._rejects) else label)
        return found + (self._kinds(unknown) if self._rejects > 0.0 else [])

    def _moved_to(self, name: str, side: int, items: int) -> Change:
        """Tell a move of a measured value; one that takes an earlier move back ends it."""
        if self._moved.get(name) == -side:
            del self._moved[name]
            return Change(f'{name}_changed', _BACK[name], items, over=True)
        self._moved[name] = side
        return Change(f'{name}_changed', _TEXTS[name, side], items)

    def _classes(self, label: str) -> list[Change]:
        before = self._missing.missing
        gone = self._missing.add(label)
        missing = self._missing.missing
        if gone is not None:
            return [
                Change(
                    'class_missing',
                    f'{", ".join(missing)}: not seen for {gone[1]} items or more; look at the '
                    'feeder, or whether it is taken for another class',
                    gone[1],
                )
            ]
        if before and not missing:
            return [Change('class_missing', 'every class comes again', over=True)]
        return []

    def _kinds(self, unknown: float) -> list[Change]:
        if self._new_kind:
            # What came before the new kind is what to compare with.
            stranger = self._scores.of(unknown) > self._strange_from
            since = self._back.add(stranger)
            if since is not None:
                self._new_kind = False
                return [Change('new_kind', 'strangers are as rare as before', since, over=True)]
            return []
        since = self._strangers.add(self._scores.add(unknown) > self._strange_from)
        if since is None:
            return []
        self._new_kind = True
        return [
            Change(
                'new_kind',
                'more strangers come than before; look into the reject lane: if they belong to '
                'the cell, collect pictures of them and train them (docs/own_items.md)',
                since,
            )
        ]
