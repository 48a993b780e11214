# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""No cell crowds out another at a shared edge, and what is over is forgotten."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.cell.fair_streams import FairStreams
from stl_conveyor.cell.ledger import ItemKey


@dataclass
class Stream:
    cell: int
    key: ItemKey
    expires_ns: int
    changed: bool = True
    put_off: bool = False


def touch(streams, cell, number, expires_ns=100):
    key = ItemKey(number, number)
    return streams.touch(cell, key, lambda: Stream(cell, key, expires_ns))


def test_a_flood_pushes_out_its_own():
    streams = FairStreams(8)
    honest = [touch(streams, 0, number) for number in range(1, 4)]
    for number in range(1, 1000):
        flood = touch(streams, 1, number)
    assert len(streams) == 8
    assert [stream for stream in streams if stream.cell == 0] == honest
    assert flood in list(streams)


def test_the_one_that_spoke_last_stays():
    streams = FairStreams(2)
    first, _ = touch(streams, 0, 1), touch(streams, 0, 2)
    assert touch(streams, 0, 1) is first
    touch(streams, 0, 3)
    assert [stream.key.item_id for stream in streams] == [1, 3]
    single = FairStreams(1)
    touch(single, 0, 1)
    touch(single, 1, 1)
    assert [stream.cell for stream in single] == [1]


@given(
    opened=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(1, 200), st.booleans()),
        max_size=60,
    ),
    most=st.integers(1, 20),
    batch=st.integers(1, 10),
    now=st.integers(0, 220),
)
def test_bounds_turns_and_deadlines(opened, most, batch, now):
    streams = FairStreams(most)
    for cell, number, expires, changed in opened:
        stream = touch(streams, cell, number, expires)
        stream.changed = changed
        assert stream in list(streams) and len(streams) <= most
    before = list(streams)
    assert streams.drop_expired(now) == sum(stream.expires_ns <= now for stream in before)
    kept = list(streams)
    assert kept == [stream for stream in before if stream.expires_ns > now]
    chosen = streams.next_batch(batch)
    waiting = [stream for stream in kept if stream.changed]
    assert len(chosen) <= batch and all(stream.changed for stream in chosen)
    assert bool(chosen) == bool(waiting)
    assert [s.expires_ns for s in chosen] == sorted(s.expires_ns for s in chosen)
    cells = {cell for cell, *_ in opened}
    if len(cells) > 1:
        assert len({stream.cell for stream in chosen}) == len(chosen)
        assert len(chosen) == min(batch, len({stream.cell for stream in waiting}))
    for stream in chosen:
        earlier = [
            s for s in waiting if s.cell == stream.cell and s.expires_ns < stream.expires_ns
        ]
        assert all(s in chosen for s in earlier)


def test_who_had_its_share_waits_for_the_others_however_early_its_deadlines():
    streams = FairStreams(20)
    greedy = [touch(streams, 0, number, number) for number in range(1, 4)]
    others = [touch(streams, cell, 9, 50 + cell) for cell in (2, 1)]
    assert streams.next_batch(2, lambda cell: cell == 0) == others[::-1]
    assert streams.next_batch(2) == [greedy[0], others[1]]
    # Where there is room for all, it waits for nobody.
    assert streams.next_batch(3, lambda cell: cell == 0) == [greedy[0], *others[::-1]]
    assert streams.get(0, greedy[1].key) is greedy[1]
    assert streams.get(0, ItemKey(8, 8)) is None and streams.get(5, greedy[1].key) is None


def test_what_waits_is_shared_out_among_the_workers():
    streams = FairStreams(20)
    waiting = [touch(streams, cell, 1, 10 + cell) for cell in range(5)]
    first = streams.next_batch(4, workers=2)
    assert first == waiting[:3]
    for stream in first:
        stream.changed = False
    assert streams.next_batch(4, workers=2) == waiting[3:4]
    assert streams.next_batch(1, workers=1) == waiting[3:4]


def test_what_was_put_off_is_taken_from_the_cell_that_had_least():
    streams, had = FairStreams(100), {0: 0.5, 1: 0.1}
    assert streams.next_put_off(0, had.get) is None
    late, soon = touch(streams, 0, 1, 90), touch(streams, 0, 2, 50)
    other, over = touch(streams, 1, 1, 80), touch(streams, 1, 2, 5)
    assert streams.next_put_off(5, had.get) is None  # nothing waits
    taken = []
    for stream in (late, soon, other, over):
        stream.put_off = True
    while stream := streams.next_put_off(5, had.get):
        stream.put_off = False
        taken.append(stream)
    assert taken == [other, soon, late]  # the one whose time is over is left to be dropped
