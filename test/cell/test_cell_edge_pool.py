# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Edges that know each other's names agree who answers, and none that is silent is waited for."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.cell.edge_pool import (
    MOST_MEMBERS,
    MUTE_NS,
    REACHED_NS,
    EdgeMember,
    EdgePool,
    preference,
)

SILENCE = 1000
NAMES = st.lists(st.text(max_size=12), min_size=1, max_size=6, unique=True)
CELLS = frozenset({'line_1', 'line_2', 'line_3', ''})


def member(name, instance=1, models=(7, 8), cells=CELLS, serves=()):
    return EdgeMember(name, instance, models, frozenset(cells), frozenset(serves))


def pools(members):
    """Return a pool of each, all of which have heard of each other at the time 0."""
    result = [EdgePool(each, SILENCE) for each in members]
    for pool in result:
        for each in members:
            pool.heard(each, 0)
    return result


def place(pool, cell, now_ns):
    """Return the place of a pool's own edge in the order for a cell: 0 = home, 1 = standby."""
    own, *_ = pool.members(now_ns)
    return pool.order(cell, now_ns).index(own)


@given(st.text(max_size=12), NAMES, st.randoms())
def test_the_order_depends_on_the_names_alone(cell, names, random):
    order = preference(cell, names)
    assert sorted(order) == sorted(names)
    shuffled = names[:]
    random.shuffle(shuffled)
    assert preference(cell, shuffled) == order
    # One that goes leaves the order of the others as it was, and one that comes, too.
    gone = random.choice(names)
    assert preference(cell, [n for n in names if n != gone]) == [n for n in order if n != gone]


def test_the_cells_are_spread_evenly_and_an_edge_that_dies_is_shared_out():
    names = [f'hall/{letter}' for letter in 'abcde']
    cells = [f'line_{number}' for number in range(1000)]
    homes = {cell: preference(cell, names)[:2] for cell in cells}
    of_each = Counter(home for home, _ in homes.values())
    assert min(of_each.values()) > 160 and max(of_each.values()) < 240
    heirs = Counter(standby for home, standby in homes.values() if home == 'hall/a')
    assert set(heirs) == set(names[1:]) and max(heirs.values()) < 0.4 * of_each['hall/a']


@given(
    st.lists(
        st.tuples(
            st.sampled_from(['a', 'b', 'c']),
            st.integers(0, 3),
            st.sets(st.sampled_from(sorted(CELLS))),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda each: each[:2],
    )
)
def test_of_those_that_serve_a_cell_exactly_one_answers(described):
    """Also where two have one name."""
    members = [member(name, instance, cells=cells) for name, instance, cells in described]
    views = pools(members)
    for cell in CELLS:
        places = [place(pool, cell, 0) for pool, each in zip(views, members) if cell in each.cells]
        assert sorted(places) == list(range(len(places)))


@given(st.sets(st.sampled_from(['a', 'b', 'c', 'd']), min_size=2), st.data())
def test_a_silent_edge_is_replaced_by_the_standby_and_has_its_cells_again(names, data):
    members = {name: member(name) for name in sorted(names)}
    gone = data.draw(st.sampled_from(sorted(names)))
    own = data.draw(st.sampled_from(sorted(names - {gone})))
    pool = EdgePool(members[own], SILENCE)
    for each in members.values():
        assert pool.heard(each, 0) == (each is not members[own])
    before = {cell: place(pool, cell, SILENCE) for cell in CELLS}
    for name in names - {gone}:
        assert not pool.heard(members[name], SILENCE)  # nothing new
    for cell in CELLS:
        order = preference(cell, names)
        assert place(pool, cell, SILENCE) == before[cell] == order.index(own)
        order.remove(gone)
        assert place(pool, cell, SILENCE + 1) == order.index(own)
    assert pool.heard(members[gone], SILENCE + 2)
    assert {cell: place(pool, cell, SILENCE + 2) for cell in CELLS} == before
    pool.left(members[gone].key)  # a goodbye needs no waiting
    assert gone not in {each.name for each in pool.members(SILENCE + 2)}


def test_edges_with_other_models_are_named_and_form_no_pool():
    same, other, elsewhere = (
        member('b'),
        member('c', models=(7, 9)),
        member('d', models=(1, 2), cells={'line_9'}),
    )
    pool = EdgePool(member('a'), SILENCE)
    for each in (same, other, elsewhere):
        pool.heard(each, 0)
    assert pool.differing(0) == [other]
    assert all(other not in pool.order(cell, 0) for cell in CELLS)
    assert pool.differing(SILENCE + 1) == []


def test_one_that_only_says_that_it_is_there_is_passed_over_for_a_while():
    home, standby = preference('line_1', ['a', 'b'])
    pool = EdgePool(member(standby), SILENCE)

    def now(at_ns):
        pool.heard(member(home), at_ns)
        return at_ns

    pool.asked('line_1', now(0))
    assert pool.look(now(SILENCE)) == {}
    pool.answered('line_1')
    pool.asked('line_1', now(SILENCE + 1))
    pool.asked('line_1', now(2 * SILENCE))  # it counts from the first
    assert place(pool, 'line_1', now(2 * SILENCE)) == 1
    assert pool.look(now(2 * SILENCE + 2)) == {'line_1': home}
    assert place(pool, 'line_1', now(2 * SILENCE + 2)) == 0
    # Of the other cells it is the edge as before, and of this one it becomes so again.
    for cell in CELLS - {'line_1'}:
        assert place(pool, cell, 2 * SILENCE + 2) == preference(cell, ['a', 'b']).index(standby)
    later = now(2 * SILENCE + 2 + MUTE_NS)
    assert pool.look(later) == {} and place(pool, 'line_1', later) == 1


def test_one_that_was_passed_over_has_its_cell_again_when_it_acknowledges():
    home, standby = preference('line_1', ['a', 'b'])
    pool = EdgePool(member(standby), SILENCE)
    pool.heard(member(home), SILENCE)
    pool.asked('line_1', 0)
    assert pool.look(SILENCE + 1) == {'line_1': home}
    assert pool.is_passed_over('line_1') and not pool.is_passed_over('line_2')
    pool.acknowledges('line_1', 'c')
    pool.acknowledges('line_2', home)
    assert place(pool, 'line_1', SILENCE + 2) == 0
    pool.acknowledges('line_1', home)
    assert place(pool, 'line_1', SILENCE + 2) == 1 and not pool.is_passed_over('line_1')


@pytest.mark.parametrize('way', ['its packets arrive', 'it is silent', 'the other one is gone'])
def test_a_cell_goes_to_its_home_when_that_can_answer_and_is_left_when_it_does(way):
    cell = 'line_1'
    home, standby = preference(cell, ['a', 'b'])
    old, new = EdgePool(member(standby), SILENCE), EdgePool(member(home), SILENCE)
    assert old.take(cell, 0) == 0
    old.heard(member(home), 0)
    new.heard(member(standby, serves=[cell]), 0)
    # It has come, and what the cell sends may not reach it as yet.
    assert (old.take(cell, 1), new.take(cell, 1)) == (0, 1)
    now_ns = 2
    if way == 'its packets arrive':
        assert new.reached(cell) and not new.reached(cell)
    elif way == 'it is silent':
        new.heard(member(standby, serves=[cell]), 1 + REACHED_NS)
        assert new.take(cell, 1 + REACHED_NS) == 1
        now_ns += REACHED_NS
    else:
        now_ns = SILENCE + 1
        assert new.take(cell, now_ns) == 0
        return
    assert (old.take(cell, 1), new.take(cell, now_ns)) == (0, 0)
    old.heard(member(home, serves=[cell]), now_ns)
    new.heard(member(standby), now_ns)
    assert (old.take(cell, now_ns), new.take(cell, now_ns)) == (1, 0)


def test_edges_that_come_together_have_their_cells_at_once():
    views = pools([member('a'), member('b')])
    for cell in CELLS:
        assert sorted(pool.take(cell, 0) for pool in views) == [0, 1]


def test_one_that_has_heard_of_nobody_takes_no_cell_from_another_before_packets_reach_it():
    cell = 'line_1'
    home, standby = preference(cell, ['a', 'b'])
    old, new = EdgePool(member(standby), SILENCE), EdgePool(member(home), SILENCE)
    assert old.take(cell, 0) == 0 and not old.claims(cell, 0)
    assert old.reached(cell) and old.claims(cell, 0)
    assert new.take(cell, 1) == 0  # it greets the cell, and tells no edge as yet

    def old_place(now_ns):
        old.heard(member(home, serves=[cell] if new.claims(cell, now_ns) else ()), now_ns)
        return old.take(cell, now_ns)

    assert old_place(2) == 0
    new.heard(member(standby, serves=[cell]), 2)
    assert new.take(cell, 3) == 0 and old_place(3) == 0
    assert new.reached(cell)
    assert new.take(cell, 4) == 0 and old_place(4) == 1


def test_a_silent_cell_is_claimed_after_a_while():
    pool = EdgePool(member('a'), SILENCE)
    assert not pool.claims('line_1', 0)
    pool.take('line_1', 0)
    assert not pool.claims('line_1', REACHED_NS) and pool.claims('line_1', REACHED_NS + 1)


def test_many_names_do_not_fill_the_memory_and_leave_room_for_who_comes_later():
    pool = EdgePool(member('a'), SILENCE)
    for number in range(1000):
        pool.heard(member(f'flood {number}'), 0)
    assert len(pool.members(0)) == MOST_MEMBERS + 1
    assert pool.heard(member('b'), SILENCE + 1)
    assert [each.name for each in pool.members(SILENCE + 1)] == ['a', 'b']
