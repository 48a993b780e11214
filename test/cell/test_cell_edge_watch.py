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


def silent_at(signs, until, *, behind_link=False):
    """Return when (ms) an edge that spoke at some times (ms) is first called silent, or None."""
    watch, signs = EdgeWatch(7, 10**12), list(signs)
    for now in range(until):
        if signs and signs[0] == now:
            watch.heard(7, signs.pop(0) * 1_000_000)
        if watch.silent_in_ns(now * 1_000_000, behind_link=behind_link) == 0:
            return now
    return None


def test_silence_is_said_within_a_second_of_the_last_sign_of_life():
    assert silent_at([0, 500, 1000], 5000) == 1850
    assert silent_at([0], 5000) == 850
    assert silent_at([], 5000) is None


def test_signs_that_are_late_by_less_are_no_silence():
    assert silent_at([0, 500, 1300, 1500, 2300, 2500, 3300], 4100) is None


def test_what_is_silence_follows_the_usual_pause_and_not_the_last_one():
    for signs, silent in (([0, 500, 1000, 2000], 2850), ([0, 2000, 4000], 7000)):
        watch = EdgeWatch(7, 10**12)
        for now in signs:
            watch.heard(7, now * 1_000_000)
        assert watch.silent_in_ns((silent - 1) * 1_000_000) == 1_000_000
        assert watch.silent_in_ns(silent * 1_000_000) == 0


def test_behind_a_slow_link_one_sign_may_be_lost_and_another_late():
    often = list(range(0, 2001, 250))
    assert silent_at(often, 5000, behind_link=True) == 2750
    assert silent_at([0], 5000, behind_link=True) == 750
    lost = [at for at in often if at != 1000]
    late = [at + 240 * (at == 1250) for at in lost]
    assert silent_at(late, 2500, behind_link=True) is None
    # One that was set to speak half as often may lose one, too.
    assert silent_at([0, 500, 1000, 2000, 2500], 3900, behind_link=True) is None


def test_whatever_the_known_edge_says_breaks_its_silence():
    watch = EdgeWatch(7, 1_600_000_000)
    watch.heard(7, 0)
    watch.spoke(800_000_000)
    watch.heard(8, 1_500_000_000)
    assert watch.silent_in_ns(1_600_000_000) == 50_000_000
    assert watch.silent_in_ns(1_700_000_000) == 0
    assert not watch.is_alive(1_700_000_000)  # that is for its signs of life to say


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
