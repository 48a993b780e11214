# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The known edge is there for as long as it speaks, whoever else does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.cell.edge_watch import EdgeWatch


@given(
    heard=st.lists(st.tuples(st.sampled_from([7, 8, 9]), st.integers(0, 1000)), max_size=30),
    after=st.integers(0, 1500),
)
def test_strangers_change_nothing_about_the_known_edge(heard, after):
    heard.sort(key=lambda sign: sign[1])
    watch, alone = EdgeWatch(7, 500), EdgeWatch(7, 500)
    for codec, at in heard:
        watch.heard(codec, at)
        if codec == 7:
            alone.heard(codec, at)
    now = (heard[-1][1] if heard else 0) + after
    assert watch.is_alive(now) == alone.is_alive(now)
    assert watch.was_heard == alone.was_heard
    strangers = [codec for codec, at in heard if codec != 7 and now - at <= 500]
    assert watch.stranger(now) == (strangers[-1] if strangers else None)
    assert watch.is_alive(now) == any(codec == 7 and now - at <= 500 for codec, at in heard)


def test_a_price_is_that_of_the_known_edge_while_it_lives():
    watch = EdgeWatch(codec_id=7, timeout_ns=100)
    assert watch.price(0) == 0.0
    watch.heard(7, 0, 0.5)
    watch.heard(8, 1, 0.9)
    for odd in (float('nan'), float('inf'), -1.0, 1.5):
        watch.heard(7, 2, odd)
    assert watch.price(102) == 0.5 and watch.price(103) == 0.0
    watch.heard(7, 200)
    assert watch.price(200) == 0.0
