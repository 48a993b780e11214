# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The account of the items is the same in whatever order the messages come."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.cell.item_account import ItemAccount, Loss
from stl_conveyor.cell.ledger import ItemKey

GRACE, DEADLINE = 300, 780


def findings(account, now):
    return {finding.loss: finding.items for finding in account.close(now)}


@given(
    fates=st.lists(
        st.tuples(st.booleans(), st.booleans(), st.integers(0, 2)), min_size=1, max_size=30
    ),
    seed=st.integers(0, 1000),
)
def test_each_item_lacks_what_it_lacks(fates, seed):
    """For each item: whether its capture and its local answer are heard, how many outcomes."""
    account = ItemAccount(GRACE)
    events = []
    for number, (captured, classified, outcomes) in enumerate(fates, 1):
        key = ItemKey(number, number)
        if classified:
            events.append(lambda key=key: account.classified(key, 10))
        events += [lambda key=key: account.acted(key, 20)] * outcomes
        if not captured:
            continue
        events.append(lambda key=key: account.captured(key, DEADLINE, 5))
    random.Random(seed).shuffle(events)
    for event in events:
        event()
    found = {}
    for now in (DEADLINE + GRACE - 1, DEADLINE + GRACE, 20 * 10**9):
        for loss, items in findings(account, now).items():
            found.setdefault(loss, set()).update(items)
    numbers = dict(enumerate(fates, 1))
    assert found.get(Loss.UNACTED, set()) == {n for n, (c, _, o) in numbers.items() if c and not o}
    assert found.get(Loss.UNCLASSIFIED, set()) == {
        n for n, (c, a, _) in numbers.items() if c and not a
    }
    assert found.get(Loss.ACTED_TWICE, set()) == {n for n, (_, _, o) in numbers.items() if o > 1}
    assert found.get(Loss.NEVER_CAPTURED, set()) == {
        n for n, (c, _, o) in numbers.items() if o and not c
    }
    assert account.open_items == 0
    assert account.totals['items'] == sum(captured for captured, *_ in fates)


@given(heard=st.lists(st.booleans(), min_size=1, max_size=100))
def test_gaps_in_the_numbers_are_captures_lost(heard):
    account = ItemAccount(GRACE)
    for number, there in enumerate(heard, 1):
        if there:
            account.captured(ItemKey(number, number), DEADLINE, 0)
    there = [number for number, kept in enumerate(heard, 1) if kept]
    lost = sorted(set(range(there[0], there[-1])) - set(there)) if there else []
    assert findings(account, 0).get(Loss.CAPTURES_LOST, ()) == tuple(lost[:64])
    assert account.totals['captures_lost'] == len(lost)


def test_a_camera_that_starts_again_has_lost_nothing():
    account = ItemAccount(GRACE)
    for number, stamp in ((41, 100), (42, 200), (1, 300), (2, 400)):
        account.captured(ItemKey(number, stamp), DEADLINE, 0)
    assert Loss.CAPTURES_LOST not in findings(account, 0)


def test_a_late_second_outcome_is_found_and_a_clock_that_was_set_is_not_held_against_anyone():
    account = ItemAccount(GRACE)
    account.captured(ItemKey(1, 1), DEADLINE, 0)
    account.acted(ItemKey(1, 1), 700)
    assert findings(account, 2000) == {Loss.UNCLASSIFIED: (1,)}
    account.acted(ItemKey(1, 1), 2100)
    assert findings(account, 2200) == {Loss.ACTED_TWICE: (1,)}
    account.captured(ItemKey(2, 2), DEADLINE, 3000)
    account.captured(ItemKey(3, 3), DEADLINE, 3000)
    account.acted(ItemKey(3, 3), 3100)
    account.forget()
    account.acted(ItemKey(2, 2), 3200)
    assert findings(account, 20 * 10**9) == {} and account.totals['acted_late'] == 0
    account.acted(ItemKey(2, 2), 3300)
    account.acted(ItemKey(3, 3), 3300)
    assert findings(account, 40 * 10**9) == {Loss.ACTED_TWICE: (2, 3)}


def test_memory_is_bounded():
    account = ItemAccount(GRACE, most_open=50)
    for number in range(1, 1000):
        account.acted(ItemKey(number, number), 0)
    assert account.open_items == 50 and account.totals['not_accounted'] == 949
    account.captured(ItemKey(10**6, 10**9), DEADLINE, 0)
    account.captured(ItemKey(2 * 10**6, 2 * 10**9), DEADLINE, 0)
    assert len(findings(account, 0)[Loss.CAPTURES_LOST]) == 64
    assert account.totals['captures_lost'] == 10**6 - 1
    # No belt brought so many: they are of another camera.
    account.captured(ItemKey(10**9, 3 * 10**9), DEADLINE, 0)
    assert Loss.CAPTURES_LOST not in findings(account, 0)


def test_an_outcome_that_comes_after_all_is_late_and_not_the_second_one():
    account = ItemAccount(GRACE)
    account.captured(ItemKey(1, 1), DEADLINE, 0)
    assert findings(account, 2000)[Loss.UNACTED] == (1,)
    account.acted(ItemKey(1, 1), 2100)
    assert findings(account, 2200) == {} and account.totals['acted_late'] == 1
    account.acted(ItemKey(1, 1), 2300)
    assert findings(account, 2400) == {Loss.ACTED_TWICE: (1,)}


@given(
    reported=st.lists(st.tuples(st.sampled_from('AB'), st.booleans()), max_size=30),
    shuffled=st.randoms(use_true_random=False),
)
def test_a_stroke_is_missed_once_a_later_one_of_its_lane_was_reported(reported, shuffled):
    account, second = ItemAccount(GRACE), 10**9
    keys = {number: ItemKey(number, number) for number in range(1, len(reported) + 1)}
    for number, (lane, _) in enumerate(reported, 1):
        account.captured(keys[number], DEADLINE, 0)
        account.classified(keys[number], 0)
        account.acted(keys[number], 0, lane)
    heard = [number for number, (_, there) in enumerate(reported, 1) if there]
    shuffled.shuffle(heard)
    for number in heard:
        account.confirmed(keys[number], reported[number - 1][0], second)
    assert Loss.UNCONFIRMED not in findings(account, 3 * second - 1)
    newest = {
        lane: max([n for n in heard if reported[n - 1][0] == lane], default=0) for lane in 'AB'
    }
    missed = tuple(
        number
        for number, (lane, there) in enumerate(reported, 1)
        if not there and number < newest[lane]
    )
    assert findings(account, 3 * second).get(Loss.UNCONFIRMED, ()) == missed
    assert findings(account, 9 * second) == {}
