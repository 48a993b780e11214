# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The streams that an edge keeps for several cells, none of which can crowd out another."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from stl_conveyor.cell.ledger import ItemKey


class KeptStream(Protocol):
    """What the table needs to know of a stream."""

    cell: int
    key: ItemKey
    expires_ns: int

    @property
    def changed(self) -> bool:
        """Return whether it waits for an answer."""

    @property
    def put_off(self) -> bool:
        """Return whether packets of it wait to be decoded."""


StreamT = TypeVar('StreamT', bound=KeptStream)


class FairStreams(Generic[StreamT]):
    """Keep streams until their deadlines, within a bound, and share the work out among cells.

    A cell that opens more streams than fit pushes out its own: the stream that goes is the one
    that was silent for longest among those of the cell that has the most. Work is handed out in
    turns, one stream of each cell before a second of any, and within a cell the earliest
    deadline first. Cells that had their share of late come after all others.
    """

    def __init__(self, most: int) -> None:
        """Start empty.

        Args:
            most: How many streams are kept.
        """
        self._most = most
        self._cells: dict[int, OrderedDict[ItemKey, StreamT]] = {}

    def __len__(self) -> int:
        """Return the number of streams."""
        return sum(map(len, self._cells.values()))

    def __iter__(self) -> Iterator[StreamT]:
        """Go through all streams."""
        for streams in self._cells.values():
            yield from streams.values()

    def touch(self, cell: int, key: ItemKey, make: Callable[[], StreamT]) -> StreamT:
        """Return the stream of an item, which is the newest of its cell now.

        Args:
            make: Makes it, if there is none yet.
        """
        streams = self._cells.setdefault(cell, OrderedDict())
        if key not in streams:
            streams[key] = make()
            if len(self) > self._most:
                # Of equals another cell's: the newest stays, or a cell could not open one at all.
                largest = max(self._cells.values(), key=lambda own: (len(own), own is not streams))
                largest.popitem(last=False)
        streams.move_to_end(key)
        return streams[key]

    def get(self, cell: int, key: ItemKey) -> StreamT | None:
        """Return the stream of an item; None if there is none."""
        streams = self._cells.get(cell)
        return None if streams is None else streams.get(key)

    def drop_expired(self, now_ns: int) -> int:
        """Drop the streams whose time is over; return how many."""
        dropped = 0
        for streams in self._cells.values():
            for key in [key for key, stream in streams.items() if stream.expires_ns <= now_ns]:
                del streams[key]
                dropped += 1
        return dropped

    def next_put_off(
        self, now_ns: int, of: Callable[[int], float] = lambda cell: 0.0
    ) -> StreamT | None:
        """Return the stream whose packets are decoded next, of those that were put off.

        Args:
            now_ns: On the clock of the deadlines; what is over is left to be dropped.
            of: Tells of a cell what it had of late; the one that had least is next.
        """
        waiting = [s for s in self if s.put_off and s.expires_ns > now_ns]
        return min(waiting, key=lambda s: (of(s.cell), s.expires_ns), default=None)

    def next_batch(
        self, most: int, is_over: Callable[[int], bool] = lambda cell: False, workers: int = 1
    ) -> list[StreamT]:
        """Return up to `most` changed streams, in the order in which they are served.

        Where several cells have sent anything, there is one of each at most, so that no cell
        waits for the many items of another.

        Args:
            is_over: Tells of a cell whether it had its share of late; what it has comes last.
            workers: Who take batches; each is given an equal part of what waits.
        """

        def deadline_ns(stream: StreamT) -> int:
            return stream.expires_ns

        def turn(stream: StreamT) -> tuple[bool, int]:
            return is_over(stream.cell), stream.expires_ns

        cells = [[s for s in streams.values() if s.changed] for streams in self._cells.values()]
        if len(cells) > 1:
            cells = [[min(changed, key=deadline_ns)] for changed in cells if changed]
        waiting = list(itertools.chain.from_iterable(cells))
        count = min(most, -(-len(waiting) // workers))
        return sorted(waiting, key=turn if len(waiting) > count else deadline_ns)[:count]
