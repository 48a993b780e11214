# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How full an edge is, what an answer of it costs by that, and which cell had its share."""

from __future__ import annotations

import math

# Of the time of all workers, that is given away before an answer has a price.
FULL = 0.85
# How fast the price follows: per look, and per share of the time that is asked for beyond FULL.
PRICE_STEP = 0.25
HIGHEST_PRICE = 1.0
# A cell may have so many times an equal share before it waits for the others.
GENEROSITY = 1.25
# More (s) is never taken for needed: a time that was measured while the machine stood still must
# not keep the next answers from being given, which correct it.
MOST_NEEDED_S = 0.1
# Over which time (s) rates are told.
MEMORY_S = 1.0
# Of the time of one core, that packets of all cells together are decoded in before a cell that has
# more than twice an equal part of it waits with its own: at least, for each worker, and at most,
# since one packet after the other is decoded. Those of an item take a thousandth of a second or
# two, and a worker answers some 70 items a second.
LEAST_DECODING, MOST_DECODING, ALL_DECODING = 0.25, 0.125, 0.5


class DecayingRate:
    """How much of something happens per second, of late."""

    def __init__(self, memory_s: float = MEMORY_S) -> None:
        """Have seen nothing; what is older than `memory_s` (s) counts for 1/e."""
        self._memory_ns = memory_s * 1e9
        self._sum = 0.0
        self._at_ns = 0

    def add(self, amount: float, now_ns: int) -> None:
        """Take in that something happened."""
        self._sum = self._decayed(now_ns) + amount
        self._at_ns = max(self._at_ns, now_ns)

    def per_second(self, now_ns: int) -> float:
        """Return the rate."""
        return self._decayed(now_ns) / (self._memory_ns / 1e9)

    def _decayed(self, now_ns: int) -> float:
        return self._sum * math.exp(-max(0, now_ns - self._at_ns) / self._memory_ns)


class EdgeAdmission:
    """Keep account of an edge's time, and set its price.

    The price is the shadow price of that time: it rises while more is asked for than there is, and
    falls again when there is room (Kelly, Maulloo and Tan, "Rate control for communication
    networks: shadow prices, proportional fairness and stability", 1998). A device asks an item to
    be worth so much more before it sends it, so that those stay away that gain least; nobody has
    to know the others. A cell that has more than its share pays as many times the price.

    All times are ns of a clock that is never set. Not safe for several threads at once.

    Examples:
        >>> admission = EdgeAdmission(workers=1, quota=0.0)
        >>> for at in range(0, 2_000_000_000, 10_000_000):
        ...     admission.served(0, 0.01, at)
        >>> admission.look(backlog=5, now_ns=2_000_000_000)
        >>> round(admission.load, 1), round(admission.capacity), admission.price(0) > 0
        (0.9, 100, True)
    """

    def __init__(self, workers: int, quota: float, cells: int = 1) -> None:
        """Be idle.

        Args:
            workers: How many items can be computed at the same time.
            quota: Answers per second of a cell that go before what others want beyond theirs; 0 =
                an equal share of what is given.
            cells: How many cells are served.
        """
        self._workers = workers
        self._most_decoding = min(max(LEAST_DECODING, MOST_DECODING * workers), ALL_DECODING)
        self._part = 2.0 * self._most_decoding / cells  # of one cell
        self._now_ns = 0
        self.quota = quota
        self._answers: dict[int, DecayingRate] = {}
        self._busy = DecayingRate()
        self._decoding: dict[int, DecayingRate] = {}
        self._service_s = 0.0
        self._base = 0.0
        self.load = 0.0
        self.answers = 0.0
        self._fair = 0.0

    @property
    def capacity(self) -> float:
        """Return the answers per second that all workers could give; 0 = not known yet."""
        return self._workers / self._service_s if self._service_s else 0.0

    def needed_ns(self, count: int) -> int:
        """Return the time that must be left for so many answers at once; what has less is late.

        Earliest deadline first comes to nothing otherwise as soon as too much is asked for: all
        the time then goes to answers that are just too late.
        """
        return round(min(MOST_NEEDED_S, count * self._service_s) * 1e9)

    def served(self, cell: int, seconds: float, now_ns: int) -> None:
        """Take in an answer, and the time of a worker that it took (s)."""
        self._answers.setdefault(cell, DecayingRate()).add(1.0, now_ns)
        self._busy.add(seconds, now_ns)
        # One answer in twenty moves it by two thirds: a single slow one does not.
        self._service_s += (seconds - self._service_s) * (0.05 if self._service_s else 1.0)

    def is_over(self, cell: int, now_ns: int) -> bool:
        """Return whether a cell had its share of late, and goes after those that had not."""
        allowed = self.quota or GENEROSITY * self._fair
        return bool(allowed) and self._rate(cell, now_ns) > allowed

    def decoded(self, cell: int, seconds: float, now_ns: int) -> None:
        """Take in the time of a processor (s) that a packet took, before any answer."""
        self._decoding.setdefault(cell, DecayingRate()).add(seconds, now_ns)

    def decoding(self, cell: int, now_ns: int) -> float:
        """Return the share of a core that decoding a cell's packets takes of late."""
        rate = self._decoding.get(cell)
        return 0.0 if rate is None else rate.per_second(now_ns)

    def puts_off(self, cell: int, now_ns: int) -> bool:
        """Return whether a cell's packets wait until those of others are through.

        A packet of six bytes can name all of an item, and takes as long as the whole of it.
        """
        if self.decoding(cell, now_ns) <= self._part:
            return False
        return sum(self.decoding(each, now_ns) for each in self._decoding) > self._most_decoding

    def look(self, backlog: int, now_ns: int) -> None:
        """Set the price anew; to be called at equal times.

        Args:
            backlog: Items that wait for a worker.
        """
        self.load = min(1.0, self._busy.per_second(now_ns) / self._workers)
        rates = [rate.per_second(now_ns) for rate in self._answers.values()]
        self.answers = math.fsum(rates)  # a float, of none too: messages take nothing else
        # A cell that asks for little has little, and is no measure of what the others may have.
        active = [rate for rate in rates if rate > 0.1]
        self._fair = self.quota or (sum(active) / len(active) if active else 0.0)
        # What waits is work of the time to come that was asked for already.
        wanted = self.load + backlog * self._service_s / (MEMORY_S * self._workers)
        self._base = min(HIGHEST_PRICE, max(0.0, self._base + PRICE_STEP * (wanted - FULL)))
        self._now_ns = now_ns

    def price(self, cell: int) -> float:
        """Return the price of an answer for a cell, in gain of accuracy, 0..1."""
        if not self._base:
            return 0.0
        share = self._rate(cell, self._now_ns) / self._fair if self._fair else 1.0
        return min(HIGHEST_PRICE, self._base * max(1.0, share))

    def _rate(self, cell: int, now_ns: int) -> float:
        rate = self._answers.get(cell)
        return 0.0 if rate is None else rate.per_second(now_ns)
