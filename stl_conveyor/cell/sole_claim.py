# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Which of several nodes of one kind acts, where each item must be handled once."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from stl_conveyor.cell.sole_sign import LEAVES, SoleSign

#: Of a node whose signs of life stay away for so long (ns) another takes the place.
SILENCE_NS = 1_000_000_000
#: For which a node that comes to another one listens whether that acts (ns).
LISTEN_NS = 450_000_000
#: Two that have acted for about as long as each other (ns) are told apart by number. More than a
#: sign of life is under way; twice that for the higher number, so that one at least gives way.
ALIKE_NS = 500_000_000
#: A node that has acted for so long (ns) gives way to nobody whom it meets then, whatever that
#: says of itself; one that finds out later than it began that it is not alone is still a newcomer.
NEW_NS = 10_000_000_000
#: For so long (ns) after its start it steps back, once, where another one seems to be there.
START_NS = 1_500_000_000
_MOST_RIVALS = 16


@dataclass
class _Rival:
    name: str
    met_ns: int
    heard_ns: int
    acts_for_ns: int  # 0: it stands by


class SoleClaim:
    """Settles among nodes that hear each other's signs of life which one of them acts.

    The one that has acted for longest goes on; the others stand by, and one of them takes over
    when nothing is heard of it any more. A node that stood still itself for so long takes it that
    another has its place, if there was one, and listens before it acts again. Times are ns of a
    clock that is never set; any thread may ask.

    Examples:
        >>> first, second = SoleClaim(7, now_ns=0), SoleClaim(3, now_ns=10_000_000_000)
        >>> second.heard(7, 'actuator', first.beat(10_100_000_000), 10_100_000_000)
        >>> first.heard(3, 'actuator', second.beat(10_200_000_000), 10_200_000_000)
        >>> first.acts(10_200_000_000), second.acts(10_200_000_000)
        (True, False)
        >>> second.acts(11_200_000_000)  # the first was silent for a second
        True
    """

    def __init__(self, instance: int, now_ns: int, *, contested: bool = False) -> None:
        """Act, unless there is another one already.

        Args:
            instance: Number that was drawn for this node.
            contested: Whether another one seems to be there: it is listened for first.
        """
        self._instance = instance
        self._since_ns: int | None = now_ns
        self._beat_ns = now_ns
        self._listen_until_ns = now_ns
        self._start_ns: int | None = now_ns
        self._rivals: dict[int, _Rival] = {}
        self._sign: SoleSign | None = None
        self._sign_idle = False  # whether who left it stands by
        self._ended = (instance, now_ns)  # who left the last one, and when it was gone
        self._lock = threading.Lock()
        if contested:
            self._stand_back(now_ns)

    @property
    def rivals(self) -> tuple[str, ...]:
        """Return the names of the others."""
        with self._lock:
            return tuple(sorted(rival.name for rival in self._rivals.values()))

    def contested(self, now_ns: int) -> None:
        """Take in that somebody else seems to be there: who has just begun listens first."""
        with self._lock:
            if self._start_ns is not None and now_ns - self._start_ns < START_NS:
                self._stand_back(now_ns)

    def heard(self, instance: int, name: str, acts_for_ns: int, now_ns: int) -> None:
        """Take in another one's sign of life.

        Args:
            instance: Its number.
            name: As it is said.
            acts_for_ns: Since when it acts; 0: it stands by.
            now_ns: When this was heard.
        """
        if instance == self._instance:
            return
        with self._lock:
            if instance == self._ended[0] and now_ns - self._ended[1] < SILENCE_NS:
                return
            self._note(instance, name, max(0, acts_for_ns), now_ns)

    def found(self, sign: SoleSign | None, name: str, now_ns: int) -> None:
        """Take in what another one on this machine has left there, be it before the two have met.

        Such a one may not know of this one yet, and acts when it has listened. So it is listened
        for longer than that, whenever it begins to stand by.

        Args:
            sign: The latest; None: there is none.
            name: As for `heard`.
            now_ns: When this was looked for.
        """
        if sign is None or sign.instance == self._instance:
            return
        with self._lock:
            if sign != self._sign:
                if self._sign is None or self._sign.instance != sign.instance:
                    self._sign_idle = False
                self._sign = sign
                if sign.acts_for_ns == LEAVES:
                    self._rivals.pop(sign.instance, None)
                else:
                    self._note(sign.instance, name, sign.acts_for_ns, now_ns)

    def freed(self, now_ns: int) -> None:
        """Take in that who left the latest sign on this machine has ended.

        What is still under way of it, and what it says of itself there, counts no more.
        """
        with self._lock:
            if self._sign is not None:
                self._ended = self._sign.instance, now_ns
                self._rivals.pop(self._sign.instance, None)
                self._sign = None

    def left(self, instance: int) -> None:
        """Take in that another one has ended, or was deactivated."""
        with self._lock:
            self._rivals.pop(instance, None)

    def followed_ns(self, now_ns: int) -> int:
        """Return for how long another one has been known that stands by now; 0 = there is none."""
        with self._lock:
            waiting = [self._rivals[n] for n in self._alive(now_ns)]
            return max((now_ns - r.met_ns for r in waiting if not r.acts_for_ns), default=0)

    def beat(self, now_ns: int) -> int:
        """Note an own sign of life; return since when (ns) this one acts, 0 = it stands by."""
        with self._lock:
            self._settle(now_ns)
            self._beat_ns = now_ns
            return self._acts_for_ns(now_ns)

    def acts(self, now_ns: int) -> bool:
        """Return whether this one acts."""
        with self._lock:
            self._settle(now_ns)
            return self._since_ns is not None

    def undecided_ns(self, now_ns: int) -> int:
        """Return for how long it is still listened before this one acts; 0 = it is settled."""
        with self._lock:
            self._settle(now_ns)
            if self._since_ns is not None or self._acting(now_ns):
                return 0
            return max(0, self._listen_until_ns - now_ns)

    def _note(self, instance: int, name: str, acts_for_ns: int, now_ns: int) -> None:
        before = self._rivals.get(instance)
        met_ns = now_ns if before is None else before.met_ns
        self._rivals[instance] = _Rival(name, met_ns, now_ns, acts_for_ns)
        if self._sign is not None and self._sign.instance == instance:
            was_idle, self._sign_idle = self._sign_idle, acts_for_ns == 0
            if self._sign_idle and not was_idle and self._since_ns is None:
                self._listen_until_ns = max(self._listen_until_ns, now_ns + LISTEN_NS + ALIKE_NS)
        while len(self._rivals) > _MOST_RIVALS:
            del self._rivals[min(self._rivals, key=lambda n: self._rivals[n].heard_ns)]

    def _settle(self, now_ns: int) -> None:
        if now_ns - self._beat_ns > SILENCE_NS:
            self._beat_ns = now_ns  # it stood still, and is back
            if self._rivals and self._since_ns is not None:
                self._stand_back(now_ns)
        for instance in [n for n, r in self._rivals.items() if now_ns - r.heard_ns > SILENCE_NS]:
            if now_ns >= self._listen_until_ns:
                del self._rivals[instance]
        acting = self._acting(now_ns)
        if self._since_ns is not None:
            mine, known_ns = self._acts_for_ns(now_ns), self._since_ns + NEW_NS
            if any(
                self._rivals[instance].met_ns < known_ns
                and (
                    theirs > mine + ALIKE_NS
                    or (theirs >= mine - 2 * ALIKE_NS and instance < self._instance)
                )
                for instance, theirs in acting.items()
            ):
                self._since_ns = None
        elif not acting and now_ns >= self._listen_until_ns:
            if self._instance < min(self._alive(now_ns), default=self._instance + 1):
                self._since_ns = now_ns

    def _alive(self, now_ns: int) -> list[int]:
        return [n for n, r in self._rivals.items() if now_ns - r.heard_ns < SILENCE_NS]

    def _acting(self, now_ns: int) -> dict[int, int]:
        """Return which others act, and since when, as of now."""
        return {
            number: self._rivals[number].acts_for_ns + now_ns - self._rivals[number].heard_ns
            for number in self._alive(now_ns)
            if self._rivals[number].acts_for_ns
        }

    def _acts_for_ns(self, now_ns: int) -> int:
        return 0 if self._since_ns is None else max(1, now_ns - self._since_ns)

    def _stand_back(self, now_ns: int) -> None:
        self._since_ns = self._start_ns = None
        self._listen_until_ns = now_ns + LISTEN_NS
