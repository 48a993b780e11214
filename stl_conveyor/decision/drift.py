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
    """

    name: str
    text: str
    items: int


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
        self._ordered: list[float] = []
        self._recent: deque[float] = deque()
        self._rng = np.random.default_rng((seed, 41))

    def add(self, value: float) -> tuple[int, int] | None:
        """Take in a value; return (-1 lower or 1 higher, items since) on an alarm."""
        if not math.isfinite(value):
            return None
        ordered = self._ordered
        below, upto = bisect_left(ordered, value), bisect_right(ordered, value)
        share = float(self._rng.random())
        rank = (below + share * (upto - below + 1)) / (len(ordered) + 1)
        insort(ordered, value)
        self._recent.append(value)
        if len(self._recent) > REMEMBERED:
            del ordered[bisect_left(ordered, self._recent.popleft())]
        alarm: tuple[int, int] | None = None
        place = 0
        for side, p in ((-1, rank), (1, 1.0 - rank)):
            for power in self.POWERS:
                if self._evidence[place].add(power * max(p, 1e-9) ** (power - 1.0)):
                    alarm = (side, self._evidence[place].since)
                place += 1
        if alarm is not None and len(ordered) >= EARLIEST:
            self.reset()
            return alarm
        return None

    def reset(self) -> None:
        """Take the world as it is from now on as the one to compare with."""
        self._ordered.clear()
        self._recent.clear()
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
        """Take in an item's class; return (class, items since it came last) on an alarm."""
        self._items += 1
        self._seen[label] = self._seen.get(label, 0) + 1
        self._last[label] = self._items
        self._log[label] = 0.0
        self._missing.discard(label)
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
        ground: Median brightness along the border of the crop, 0..1, over `light`.
    """

    light: float
    sharpness: float
    ground: float


def look_at(image: NDArray[np.uint8]) -> ItemLook:
    """Measure a crop, uint8 [S, S, 3]."""
    grey = image[::2, ::2].astype(np.float32).mean(axis=2) / 255.0
    values = np.sort(grey, axis=None)
    light = float(values[len(values) // 2 :].mean())
    contrast = float(values[-len(values) // 50] - values[len(values) // 50]) + 0.02
    steps = np.concatenate(
        [np.abs(np.diff(grey, axis=0)).ravel(), np.abs(np.diff(grey, axis=1)).ravel()]
    )
    strongest = np.partition(steps, -len(steps) // 50)[-len(steps) // 50 :]
    border = np.concatenate([grey[:4].ravel(), grey[-4:].ravel(), grey[:, 0], grey[:, -1]])
    return ItemLook(
        light, float(strongest.mean()) / contrast, float(np.median(border)) / (light + 1e-3)
    )


_TEXTS: Mapping[tuple[str, int], str] = {
    ('light', -1): 'the pictures are darker than before; look at the lamps and at the exposure',
    ('light', 1): 'the pictures are brighter than before; look at the lamps and at the exposure',
    ('sharpness', -1): 'the pictures are less sharp than before; clean and focus the lens',
    ('sharpness', 1): 'the pictures are sharper or noisier than before; look at the gain and the '
    'focus',
    ('ground', -1): 'the belt looks darker than before; if it was replaced, make the calibration '
    'again with pictures of it',
    ('ground', 1): 'the belt looks brighter than before; clean it, or, if it was replaced, make '
    'the calibration again with pictures of it',
}


class DriftWatch:
    """All detectors of a cell."""

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
        self._missing = MissingClassDetector(limit)
        rate = max(stranger_rejects, 1e-3)
        self._strangers = (
            RateDetector(limit, rate, min(0.5, 4.0 * rate)) if stranger_rejects else None
        )

    def add(self, look: ItemLook | None, label: str, stranger: bool) -> list[Change]:
        """Take in an item; return what has changed."""
        found = []
        if look is not None:
            for name, detector in self._looks.items():
                alarm = detector.add(getattr(look, name))
                if alarm is not None:
                    side, items = alarm
                    found.append(Change(f'{name}_changed', _TEXTS[name, side], items))
        if not stranger:
            gone = self._missing.add(label)
            if gone is not None:
                found.append(
                    Change(
                        'class_missing',
                        f'{gone[0]} has not come for {gone[1]} items; look at the feeder, or '
                        'whether it is taken for another class',
                        gone[1],
                    )
                )
        if self._strangers is not None:
            since = self._strangers.add(stranger)
            if since is not None:
                found.append(
                    Change(
                        'new_kind',
                        'more strangers come than before; look into the reject lane: if they '
                        'belong to the cell, collect pictures of them and train them '
                        '(docs/own_items.md)',
                        since,
                    )
                )
        return found
