# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Numbers that are missing between captures are found once, and a restarted camera has no gap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.cell.ledger import ItemKey
from stl_conveyor.cell.number_gaps import MOST_MISSING, NumberGaps


@given(heard=st.lists(st.booleans(), max_size=60), again=st.integers(0, 59))
def test_what_is_not_heard_is_missing_and_what_comes_again_changes_nothing(heard, again):
    keys = [ItemKey(number, 10 * number) for number, there in enumerate(heard, 1) if there]
    gaps, missing = NumberGaps(), []
    for place, key in enumerate(keys):
        missing += gaps.heard(key)
        missing += gaps.heard(keys[min(again, place)])
    between = range(keys[0].item_id, keys[-1].item_id) if keys else ()
    assert missing == [n for n in between if ItemKey(n, 10 * n) not in keys]
    assert gaps.last == (keys[-1] if keys else None)


def test_it_begins_behind_what_was_heard_before_the_restart():
    gaps = NumberGaps(ItemKey(7, 700))
    assert list(gaps.heard(ItemKey(10, 1000))) == [8, 9]
    assert list(gaps.heard(ItemKey(1, 1100))) == []  # the camera was started again
    assert list(gaps.heard(ItemKey(3, 1200))) == [2]


def test_a_clock_that_is_set_back_makes_no_gap_and_hides_none():
    gaps = NumberGaps()
    stamps = [100, 200, 300, -4700, -4500, -4400, 400]
    missing = [
        list(gaps.heard(ItemKey(number, stamp)))
        for number, stamp in zip((1, 2, 3, 4, 6, 7, 8), stamps)
    ]
    assert missing == [[], [], [], [], [5], [], []]


@given(number=st.integers(MOST_MISSING + 2, 2**64 - 1))
def test_a_number_that_no_belt_has_counted_to_begins_anew(number):
    gaps = NumberGaps(ItemKey(1, 100))
    assert len(gaps.heard(ItemKey(number, 200))) == 0
    assert list(gaps.heard(ItemKey(number + 2, 300))) == [number + 1]
    assert list(gaps.heard(ItemKey(2, 400))) == []
    assert list(gaps.heard(ItemKey(4, 500))) == [3]


def test_the_longest_gap_is_counted_whole():
    assert len(NumberGaps(ItemKey(1, 100)).heard(ItemKey(MOST_MISSING + 1, 200))) == 999_999
