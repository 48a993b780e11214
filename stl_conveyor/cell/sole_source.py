# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Keep to one of several that publish where there is room for one, such as a camera's topic."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass

#: A source that was silent for so long (ns) makes room for one of the same name: its successor.
SUCCESSION_NS = 1_500_000_000
#: And for any other: a light barrier can leave a camera without work for a while.
SILENCE_NS = 20_000_000_000


@dataclass
class _Source:
    name: str
    heard_ns: int
    refused: int = 0


class SoleSource:
    """Admits what comes from the one that was there first, for as long as it is there.

    Who comes later is refused, however much it sends: so a flood, or a second driver, puts nothing
    among the honest messages. It takes over when the first has left, or was silent for long; and
    the first has its place back with the next thing that it says.
    """

    def __init__(
        self, *, succession_ns: int = SUCCESSION_NS, silence_ns: float = SILENCE_NS
    ) -> None:
        """Know of nobody yet.

        Args:
            succession_ns: A source that was silent for so long makes room for one of its name.
            silence_ns: And for any other; infinite = never while it is there.
        """
        self._succession_ns = succession_ns
        self._silence_ns = silence_ns
        self._sources: dict[Hashable, _Source] = {}  # the one that was there first, first
        self._refused = 0

    @property
    def refused(self) -> int:
        """Return how many messages were refused so far."""
        return self._refused

    def admit(self, source: Hashable, now_ns: int, *, nameless: bool = False) -> bool:
        """Return whether a message of a source is taken.

        Args:
            source: Who sent it, by what nobody else can have.
            now_ns: On a clock that never runs backwards.
            nameless: Whether nobody can tell its name: it then passes for a successor.
        """
        known = self._sources.get(source)
        if known is None:
            known = self._sources[source] = _Source('', now_ns)
        known.heard_ns = now_ns
        for other, before in self._sources.items():
            if other == source:
                return True
            silent_ns = now_ns - before.heard_ns
            # One that ended before anybody told its name is nobody's namesake, and everybody's.
            successor = before.name in ('', known.name) if known.name else nameless
            if silent_ns < (self._succession_ns if successor else self._silence_ns):
                break
        known.refused += 1
        self._refused += 1
        return False

    def may_succeed(self, source: Hashable, now_ns: int) -> bool:
        """Return whether its name alone decides on what one says that has none yet.

        Args:
            source: As for `admit`.
            now_ns: Likewise.
        """
        silent_ns = [
            now_ns - before.heard_ns for other, before in self._sources.items() if other != source
        ]
        if self.name_of(source) or not silent_ns:
            return False
        return self._succession_ns <= min(silent_ns) < self._silence_ns

    def name_of(self, source: Hashable) -> str:
        """Return the name of a source, empty if nobody has told it yet."""
        known = self._sources.get(source)
        return '' if known is None else known.name

    def present(
        self, names: Mapping[Hashable, str], *, expected: Collection[str] = (), now_ns: int = 0
    ) -> None:
        """Take in who is there: source → name; who is not has left.

        Those of an expected name come before all others, heard or not.
        """
        for source in [source for source in self._sources if source not in names]:
            del self._sources[source]
        for source, name in names.items():
            if source not in self._sources and name in expected:
                # It may be what is left of a process that ended: one of its name need not wait.
                self._sources[source] = _Source(name, now_ns - self._succession_ns)
        for source, known in self._sources.items():
            known.name = names[source]
        if expected:
            self._sources = dict(
                sorted(self._sources.items(), key=lambda each: each[1].name not in expected)
            )

    def intruders(self, now_ns: int, within_ns: int) -> dict[Hashable, int]:
        """Return who was refused lately: source → how many of its messages so far."""
        return {
            source: known.refused
            for source, known in self._sources.items()
            if known.refused and now_ns - known.heard_ns < within_ns
        }
