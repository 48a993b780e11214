# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Which of several edges answers for which cell, without anybody who would tell them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

# Edges of one pool that are kept; somebody who speaks under many names must not fill the memory.
MOST_MEMBERS = 64
# For which an edge that answers nothing is passed over; then it is given another chance.
MUTE_NS = 30_000_000_000
# After which an edge takes a cell over though it has heard nothing of it: the cell is silent.
REACHED_NS = 3_000_000_000


def preference(cell: str, names: Iterable[str]) -> list[str]:
    """Return the edges in the order in which a cell prefers them: its home, its standby, the rest.

    Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates",
    IEEE/ACM Transactions on Networking 6(1), 1998): each pair of names has a weight of its own. So
    whoever knows the names finds the same order, and an edge that comes or goes moves no cell but
    those that it has in one of the two states.

    Args:
        cell: The cell's namespace.
        names: Of the edges, each once.

    Examples:
        >>> preference('line_1', ['hall/a', 'hall/b', 'hall/c'])
        ['hall/b', 'hall/a', 'hall/c']
        >>> preference('line_3', ['hall/a', 'hall/b', 'hall/c'])
        ['hall/c', 'hall/a', 'hall/b']
    """
    return sorted(names, key=lambda name: (_weight(cell, name), name), reverse=True)


@lru_cache(maxsize=4096)  # the same few pairs are asked for with every sign of life
def _weight(cell: str, name: str) -> int:
    # The length keeps the pairs ('a', 'bc') and ('ab', 'c') apart.
    text = f'{len(cell)}:{cell}{name}'.encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), 'big')


@dataclass(frozen=True)
class EdgeMember:
    """An edge as it shows itself to the others.

    Attributes:
        name: Fully qualified, without the first slash.
        instance: Drawn anew at each start.
        models: What it computes with: the identities of its codec and of its network.
        cells: Namespaces that it can serve, without the first slash.
        serves: Those of them that it says it answers for.
    """

    name: str
    instance: int
    models: tuple[int, int]
    cells: frozenset[str]
    serves: frozenset[str] = frozenset()

    @property
    def key(self) -> tuple[str, int]:
        """Return what tells it from every other one, a second one of its name included."""
        return self.name, self.instance


@dataclass
class _Cell:
    """What an edge sees of a cell that another one answers for."""

    asked_ns: int | None = None  # since when packets come and nobody acknowledges them
    since_ns: int | None = None  # since when this edge could answer
    reached: bool = False  # its packets arrive here
    own: bool = False  # this edge answers, as it was last seen
    mute: dict[tuple[str, int], int] = field(default_factory=dict)  # member → until when


class EdgePool:
    """What one edge knows of the others, and which cells are its own by that.

    A cell belongs to the first edge of its `preference` that is there, has the same models, and
    serves it. An edge is there while it says so. Whoever says so and answers nothing, because it
    hangs or because somebody only claims to be an edge, is passed over for a while, or until it
    does answer: the standby sees the packets of the cell and that nobody acknowledges them. A cell
    goes from one edge to another when its packets are seen to arrive there, and the one leaves it
    when the other says that it has it: an edge is heard of before the cell's middleware knows it.

    All times are ns of a clock that is never set.

    Examples:
        >>> own = EdgeMember('hall/a', 1, (7, 7), frozenset({'line_1', 'line_2'}))
        >>> home = EdgeMember('hall/b', 2, (7, 7), frozenset({'line_1'}))
        >>> pool = EdgePool(own, silence_ns=1_000_000_000)
        >>> pool.take('line_1', now_ns=0)
        0
        >>> pool.heard(home, now_ns=0)
        True
        >>> [edge.name for edge in pool.order('line_1', now_ns=0)]
        ['hall/b', 'hall/a']
        >>> pool.take('line_1', now_ns=0)  # until the other one says that it serves the cell
        0
        >>> [edge.name for edge in pool.order('line_1', now_ns=1_000_000_001)]
        ['hall/a']
    """

    def __init__(self, own: EdgeMember, silence_ns: int) -> None:
        """Know of nobody else.

        Args:
            own: The edge whose pool this is.
            silence_ns: How long another one may be silent before it counts as gone.
        """
        self._own = own
        self._silence_ns = silence_ns
        self._others: dict[tuple[str, int], tuple[EdgeMember, int]] = {}
        self._cells = {cell: _Cell() for cell in own.cells}

    def heard(self, member: EdgeMember, now_ns: int) -> bool:
        """Take in a sign of life of another edge; one's own, which comes back, is left out.

        Returns:
            Whether it tells of more than that the edge is still there.
        """
        if member.key == self._own.key:
            return False
        before, heard_ns = self._others.get(member.key, (None, 0))
        if before is None and len(self._others) >= MOST_MEMBERS:
            self._drop_silent(now_ns)
            if len(self._others) >= MOST_MEMBERS:
                return False
        self._others[member.key] = member, now_ns
        return before != member or now_ns - heard_ns > self._silence_ns

    def left(self, key: tuple[str, int]) -> None:
        """Take in that an edge says goodbye."""
        self._others.pop(key, None)

    def asked(self, cell: str, now_ns: int) -> None:
        """Take in a packet of a cell that another edge answers for."""
        state = self._cells[cell]
        if state.asked_ns is None:
            state.asked_ns = now_ns

    def answered(self, cell: str) -> None:
        """Take in an acknowledgement of another edge for packets of a cell."""
        self._cells[cell].asked_ns = None

    def reached(self, cell: str) -> bool:
        """Take in that a packet of a cell arrived; return whether it is the first one."""
        state = self._cells[cell]
        was, state.reached = state.reached, True
        return not was

    def is_passed_over(self, cell: str) -> bool:
        """Return whether an edge has lost this cell because it answered nothing."""
        return bool(self._cells[cell].mute)

    def acknowledges(self, cell: str, name: str) -> None:
        """Take in that an edge of this name does acknowledge packets of a cell.

        One that has just come may be heard of before the cell's packets reach it.
        """
        mute = self._cells[cell].mute
        self._cells[cell].mute = {key: until for key, until in mute.items() if key[0] != name}

    def look(self, now_ns: int) -> dict[str, str]:
        """Pass over those that answer nothing; return cell → name of whom it has just left."""
        passed = {}
        for cell, state in self._cells.items():
            state.mute = {key: until for key, until in state.mute.items() if until > now_ns}
            if state.asked_ns is None or now_ns - state.asked_ns <= self._silence_ns:
                continue
            state.asked_ns = None
            home = self.order(cell, now_ns)[0]
            if home.key != self._own.key:
                state.mute[home.key] = now_ns + MUTE_NS
                passed[cell] = home.name
        return passed

    def order(self, cell: str, now_ns: int) -> list[EdgeMember]:
        """Return who can answer for a cell now, by preference; this edge is among them.

        Of several with one name, the one with the greatest instance comes first.
        """
        mute = self._cells[cell].mute
        there = [
            member
            for member in self.members(now_ns)
            if cell in member.cells
            and member.models == self._own.models
            and member.key not in mute
        ]
        place = {name: at for at, name in enumerate(preference(cell, {m.name for m in there}))}
        return sorted(there, key=lambda member: (place[member.name], -member.instance))

    def take(self, cell: str, now_ns: int) -> int:
        """Take or leave a cell, as its place says and the others are ready for it.

        Returns:
            0 = this edge answers, 1 = it is the next to answer, 2 and more = neither.
        """
        state, order = self._cells[cell], self.order(cell, now_ns)
        place = [member.key for member in order].index(self._own.key)
        if state.since_ns is None:
            state.since_ns = now_ns
        if place and state.own and not any(cell in member.serves for member in order[:place]):
            place = 0
        elif not (place or state.own or state.reached or now_ns - state.since_ns > REACHED_NS):
            place = int(any(cell in member.serves for member in order[1:]))
        state.own = not place
        return place

    def claims(self, cell: str, now_ns: int) -> bool:
        """Return whether the others are to hear that this edge answers for a cell.

        An edge that has just come, and has not heard of them, takes every cell; what it says of
        one whose packets do not arrive here would have the edge that answers leave it to nobody.
        """
        state = self._cells[cell]
        if not state.own or state.since_ns is None:
            return False
        return state.reached or now_ns - state.since_ns > REACHED_NS

    def members(self, now_ns: int) -> list[EdgeMember]:
        """Return the edges that are there, this one first."""
        others = [
            member
            for member, heard_ns in self._others.values()
            if now_ns - heard_ns <= self._silence_ns
        ]
        return [self._own, *others]

    def differing(self, now_ns: int) -> list[EdgeMember]:
        """Return those with other models that serve a cell of this edge: they form no pool."""
        return [
            member
            for member in self.members(now_ns)
            if member.models != self._own.models and member.cells & self._own.cells
        ]

    def _drop_silent(self, now_ns: int) -> None:
        self._others = {
            key: (member, heard_ns)
            for key, (member, heard_ns) in self._others.items()
            if now_ns - heard_ns <= self._silence_ns
        }
