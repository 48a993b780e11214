# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Who should be there, and who is: from the signs of life of the nodes of a cell."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field


class Absence(enum.Enum):
    """How a node is not there."""

    MISSING = 'missing'  # nothing was heard of it since the guard started
    IDLE = 'not active'  # it lives, and waits for something or was deactivated
    STUCK = 'stuck'  # it lives, and its executor does not come back from a callback
    UNABLE = 'unable'  # it is active, and cannot do its work at present
    GONE = 'gone'  # it was active and is silent: dead, frozen or cut off


@dataclass(frozen=True)
class Roll:
    """What a roll call finds.

    Attributes:
        absent: Node → how it is not there.
        doubled: Nodes of which two instances or more speak.
        rivals: Those of them of which more than one acts, and does not stand by.
    """

    absent: dict[str, Absence] = field(default_factory=dict)
    doubled: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Return whether every node is there, once."""
        return not self.absent and not self.doubled


@dataclass
class _Sign:
    first_ns: int
    last_ns: int
    active: bool
    busy_ns: int
    unable: bool
    stands_by: bool


class Presence:
    """Keep the signs of life of the expected nodes.

    A node says several times a second that it lives, and since when its executor is in the same
    callback, with a number that is drawn anew at each start. So a node that stands still is found
    as well as one that is dead, and a second one of the same name as well as one that came back.

    Examples:
        >>> presence = Presence(['camera', 'actuator'], silence_ns=700_000_000, start_ns=0)
        >>> presence.heard('camera', instance=5, active=True, now_ns=0)
        >>> presence.call(now_ns=500_000_000, patience_ns=10_000_000_000).absent
        {}
        >>> presence.call(now_ns=800_000_000, patience_ns=10_000_000_000).absent
        {'camera': <Absence.GONE: 'gone'>}
    """

    def __init__(
        self,
        expected: Iterable[str],
        silence_ns: int,
        start_ns: int,
        *,
        busy_ns: int | None = None,
    ) -> None:
        """Expect nodes.

        Args:
            expected: Their names.
            silence_ns: How long a node that is there may be silent.
            start_ns: Now, on a clock that is never set.
            busy_ns: How long its executor may be in one callback; None: as long.
        """
        self._silence_ns = silence_ns
        self._busy_ns = silence_ns if busy_ns is None else busy_ns
        self._start_ns = start_ns
        self._signs: dict[str, dict[int, _Sign]] = {name: {} for name in expected}
        self._was_active: set[str] = set()

    def heard(
        self,
        name: str,
        instance: int,
        active: bool,
        now_ns: int,
        busy_ns: int = 0,
        *,
        unable: bool = False,
        stands_by: bool = False,
    ) -> None:
        """Take in a sign of life; those of others than the expected nodes change nothing.

        Args:
            name: Of the node.
            instance: Drawn anew at each start of it.
            active: Whether it is in the lifecycle state active.
            now_ns: When this was heard.
            busy_ns: For how long its executor has been in its present callback.
            unable: Whether it says that it cannot do its work at present.
            stands_by: Whether it leaves the work to another instance.
        """
        signs = self._signs.get(name)
        if signs is None:
            return
        if active:
            self._was_active.add(name)
        before = signs.get(instance)
        first_ns = now_ns if before is None else before.first_ns
        signs[instance] = _Sign(first_ns, now_ns, active, busy_ns, unable, stands_by)
        while len(signs) > _MOST_INSTANCES:
            del signs[min(signs, key=lambda number: signs[number].last_ns)]

    def left(self, name: str, instance: int) -> None:
        """Take in that a node said goodbye: nobody waits for it any more."""
        signs = self._signs.get(name, {})
        signs.pop(instance, None)
        if not signs:
            self._was_active.discard(name)

    def has_been_active(self, name: str) -> bool:
        """Return whether a node was active, and has not said goodbye since."""
        return name in self._was_active

    def falls_silent_ns(self, now_ns: int) -> int | None:
        """Return when the first of those who are there will have been silent for too long.

        None: there is nobody.
        """
        ends = [
            sign.last_ns + self._silence_ns
            for signs in self._signs.values()
            for sign in signs.values()
            if now_ns - sign.last_ns <= self._silence_ns
        ]
        return min(ends, default=None)

    def is_active(self, name: str, now_ns: int) -> bool:
        """Return whether a node is there, active, and not stuck, and does not stand by."""
        return any(
            sign.active
            and not sign.stands_by
            and sign.busy_ns <= self._busy_ns
            and now_ns - sign.last_ns <= self._silence_ns
            for sign in self._signs.get(name, {}).values()
        )

    def call(self, now_ns: int, patience_ns: int) -> Roll:
        """Return who is not there.

        Args:
            now_ns: On the clock of the signs.
            patience_ns: How long a node may take to start, counted from the guard's own start.
        """
        absent: dict[str, Absence] = {}
        doubled, rivals = [], []
        for name, signs in self._signs.items():
            alive = [s for s in signs.values() if now_ns - s.last_ns <= self._silence_ns]
            newest = max((s.first_ns for s in alive), default=0)
            # One that speaks on after another has begun is no predecessor of it.
            beside = [s for s in alive if s.last_ns > newest or s.first_ns == newest]
            if len(beside) > 1:
                doubled.append(name)
            if sum(not s.stands_by for s in beside) > 1:
                rivals.append(name)
            at_work = [s for s in alive if not s.stands_by]
            if self.is_active(name, now_ns):
                if any(s.active and s.unable for s in at_work):
                    absent[name] = Absence.UNABLE
                continue
            patient = now_ns - self._start_ns <= patience_ns
            if any(s.active for s in at_work):
                absent[name] = Absence.STUCK
            elif name in self._was_active:
                absent[name] = Absence.IDLE if at_work else Absence.GONE
            elif not patient:
                absent[name] = Absence.IDLE if at_work else Absence.MISSING
        return Roll(absent, tuple(doubled), tuple(rivals))


# Of one node that are kept; somebody who speaks under its name must not fill the memory.
_MOST_INSTANCES = 16
