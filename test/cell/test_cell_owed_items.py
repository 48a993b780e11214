# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A journal, wherever it is cut, comes to what was owed then; what is damaged is left out."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.cell.ledger import Answer, AnswerSource, ItemKey
from stl_conveyor.cell.owed_items import (
    MOST_ITEMS,
    OwedItems,
    answered,
    captured,
    closed,
    decided,
    succession,
    surroundings,
)

LOCAL = Answer(AnswerSource.LOCAL, 'hex_nut_m8', 0.5, 7)
EDGE = Answer(AnswerSource.EDGE, 'spring_washer_m8', 0.97, 9, 128)


def key(number):
    return ItemKey(number, 1000 * number)


def story(number):
    """Return the lines of an item's life, in order."""
    return [
        captured(key(number), 1000 * number + 780, 'camera'),
        answered(key(number), LOCAL),
        answered(key(number), EDGE),
        decided(key(number), 'B', 1000 * number + 1500),
        closed(key(number)),
    ]


@given(stages=st.lists(st.integers(0, 5), max_size=20))
def test_what_is_owed_is_what_was_begun_and_not_closed(stages):
    lines = [line for number, stage in enumerate(stages, 1) for line in story(number)[:stage]]
    owed = OwedItems(lines)
    assert owed.damaged == 0
    found = {item.key.item_id: item for item in owed.items}
    assert set(found) == {n for n, stage in enumerate(stages, 1) if 1 <= stage <= 4}
    for number, item in found.items():
        stage = stages[number - 1]
        assert item.deadline_ns == 1000 * number + 780 and item.frame_id == 'camera'
        assert list(item.answers.values()) == [LOCAL, EDGE][: max(0, stage - 1)]
        assert (item.lane, item.stroke_ns) == (
            ('B', 1000 * number + 1500) if stage == 4 else ('', 0)
        )
    begun = [n for n, stage in enumerate(stages, 1) if stage]
    assert owed.last == (key(begun[-1]) if begun else None)


@given(stages=st.lists(st.integers(0, 5), max_size=20), follows=st.booleans())
def test_written_anew_it_comes_to_the_same(stages, follows):
    lines = [line for number, stage in enumerate(stages, 1) for line in story(number)[:stage]]
    owed = OwedItems([surroundings(follows, 3), *lines])
    again = OwedItems(owed.lines())
    assert (again.items, again.last) == (owed.items, owed.last)
    assert (again.follows_belt, again.readers, again.damaged) == (follows, 3, 0)


@given(text=st.text(max_size=80), cut=st.integers(0, 200))
def test_a_line_that_is_none_of_ours_changes_nothing(text, cut):
    whole = story(1)[:3]
    line = captured(key(2), 5, 'camera')
    owed = OwedItems([*whole, text, line[: min(cut, len(line) - 1)], 'null', '[]', '{}'])
    assert [item.key for item in owed.items] == [key(1)]
    assert owed.damaged >= 5


def test_values_that_cannot_be_are_damage():
    for kind, *values in (
        ('captured', 1, 2, 3, 4),
        ('captured', True, 2, 3, 'x'),
        ('captured', 1, 2**64, 3, 'x'),
        ('captured', 1.5, 2, 3, 'x'),
        ('answered', 1, 1000, 1, 'nut', float('nan'), 0, 0),
        ('answered', 1, 1000, 1, 'nut', 1.5, 0, 0),
        ('answered', 1, 1000, 1, 'nut', 10**400, 0, 0),
        ('answered', 1, 1000, 9, 'nut', 0.5, 0, 0),
        ('answered', 99, 1000, 1, 'nut', 0.5, 0, 0),
        ('decided', 1, 1000, 7, 0),
        ('opened', 1, 2),
    ):
        owed = OwedItems([story(1)[0], json.dumps([kind, *values])])
        assert owed.damaged == 1 and [item.key for item in owed.items] == [key(1)], kind
        assert not owed.items[0].answers and not owed.items[0].lane


def test_memory_is_bounded():
    owed = OwedItems(captured(key(number), 0, '') for number in range(1, MOST_ITEMS + 100))
    assert len(owed.items) == MOST_ITEMS and owed.items[-1].key == key(MOST_ITEMS + 99)


def test_answer_comes_back_with_the_lane_that_was_chosen_and_why():
    key = ItemKey(7, 100)
    answer = Answer(
        AnswerSource.EDGE,
        'hex_nut_m8',
        0.9,
        received_ns=5,
        bytes_used=128,
        lane='reject',
        doubt=2,
        unknown=0.99,
        lane_probability=0.9,
        cost=0.5,
    )
    owed = OwedItems([captured(key, 780, 'camera'), answered(key, answer)])
    assert owed.items[0].answers == {AnswerSource.EDGE: answer}
    assert OwedItems(owed.lines()).items == owed.items
    # A line without them, as an earlier version wrote it, has none.
    old = OwedItems([captured(key, 780, 'camera'), '["answered",7,100,2,"nut",0.9,128,5]'])
    assert old.items[0].answers[AnswerSource.EDGE].lane == '' and old.damaged == 0
    owed.take('["answered",7,100,2,"nut",0.9,128,5,"A",0,NaN,0,0]')
    assert owed.damaged == 1


@given(
    theirs=st.lists(st.integers(0, 5), max_size=8),
    own=st.lists(st.integers(0, 5), max_size=8),
    acted=st.sets(st.integers(1, 8)),
)
def test_who_succeeds_owes_what_is_owed_and_nothing_that_was_done(theirs, own, acted):
    """A stage is that of `story`; who stood by has closed what it left to the other."""

    def account(stages, so_far=5):
        return OwedItems(
            line
            for number, stage in enumerate(stages, 1)
            for line in story(number)[: min(stage, so_far)]
        )

    own = [
        5 if number in acted and 0 < stage < 4 else stage for number, stage in enumerate(own, 1)
    ]
    own = [
        5 if number not in acted and stage == 4 else stage for number, stage in enumerate(own, 1)
    ]
    before, mine = account(theirs), account(own)
    last = 0 if before.last is None else before.last.item_id
    taken = OwedItems(before.lines())
    for line in succession(before, mine, {key(number) for number in acted}):
        taken.take(line)
    assert taken.damaged == 0
    found = {item.key.item_id: item for item in taken.items}
    for number in range(1, 9):
        there = theirs[number - 1] if number <= len(theirs) else 0
        here = own[number - 1] if number <= len(own) else 0
        if number in acted:
            assert (number in found) == (here == 4), 'a stroke of its own is still to be made'
        elif number <= last:
            assert (number in found) == (1 <= there <= 4)
        else:
            assert (number in found) == (1 <= here <= 3)
        if number in found and number not in acted:
            answers = max(min(there, 3), min(here, 3) if here < 4 else 0) - 1
            assert len(found[number].answers) == max(0, answers)
