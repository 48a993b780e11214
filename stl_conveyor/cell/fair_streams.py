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
    changed: bool


StreamT = TypeVar('StreamT', bound=KeptStream)


class FairStreams(Generic[StreamT]):
    """Keep streams until their deadlines, within a bound, and share the work out among cells.

    A cell that opens more streams than fit pushes out its own: the stream that goes is the one
    that was silent for longest among those of the cell that has the most. Work is handed out in
    turns, one stream of each cell before a second of any, and within a cell the earliest
    deadline first.
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

    def drop_expired(self, now_ns: int) -> int:
        """Drop the streams whose time is over; return how many."""
        dropped = 0
        for streams in self._cells.values():
            for key in [key for key, stream in streams.items() if stream.expires_ns <= now_ns]:
                del streams[key]
                dropped += 1
        return dropped

    def next_batch(self, most: int) -> list[StreamT]:
        """Return up to `most` changed streams, in the order in which they are served.

        Where several cells have sent anything, there is one of each at most, so that no cell
        waits for the many items of another.
        """

        def deadline_ns(stream: StreamT) -> int:
            return stream.expires_ns

        cells = [[s for s in streams.values() if s.changed] for streams in self._cells.values()]
        if len(cells) > 1:
            cells = [[min(changed, key=deadline_ns)] for changed in cells if changed]
        return sorted(itertools.chain.from_iterable(cells), key=deadline_ns)[:most]
