# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""One of several publishers is kept to: the one that was there first, while it is there."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.cell.sole_source import SILENCE_NS, SUCCESSION_NS, SoleSource

MS = 1_000_000


def test_who_comes_later_is_refused_and_named():
    sole = SoleSource()
    assert sole.admit('camera', 0)
    assert not any(sole.admit('flood', n * MS) for n in range(1, 500))
    assert sole.admit('camera', 500 * MS)
    assert sole.refused == 499
    assert sole.intruders(600 * MS, 200 * MS) == {'flood': 499}
    assert sole.intruders(5_000 * MS, 200 * MS) == {}


def test_a_successor_of_the_same_name_need_not_wait_for_the_network():
    sole = SoleSource()
    sole.admit('old', 0)
    sole.admit('new', SUCCESSION_NS - 1)
    sole.present({'old': '/driver', 'new': '/driver'})
    assert not sole.admit('new', SUCCESSION_NS - 1)
    assert sole.admit('new', SUCCESSION_NS)


def test_one_that_ended_before_its_name_was_known_keeps_nobody_out():
    sole = SoleSource()
    sole.admit('old', 0)
    sole.admit('new', 1)
    sole.present({'old': '', 'new': '/driver'})
    assert not sole.admit('new', SUCCESSION_NS - 1)
    assert sole.admit('new', SUCCESSION_NS)
    assert sole.admit('old', SUCCESSION_NS + 1)  # it was there after all
    assert not sole.admit('new', SUCCESSION_NS + 2)


def test_one_of_another_name_waits_until_the_first_has_left():
    sole = SoleSource()
    sole.admit('old', 0)
    sole.present({'old': '/driver', 'new': '/other'})
    assert not sole.admit('new', SILENCE_NS - 1)
    sole.present({'new': '/other'})
    assert sole.admit('new', SILENCE_NS - 1)


def test_the_first_has_its_place_back_when_it_speaks_again():
    sole = SoleSource()
    sole.admit('camera', 0)
    assert not sole.admit('other', 1)
    assert sole.admit('other', SILENCE_NS)
    assert sole.admit('camera', SILENCE_NS + 1)
    assert not sole.admit('other', SILENCE_NS + 2)


def test_the_expected_one_comes_before_all_others_heard_or_not():
    sole = SoleSource(silence_ns=math.inf)
    assert sole.admit('intruder', 0)
    sole.present({'intruder': '/who', 'camera': '/camera'}, expected=('/camera',), now_ns=MS)
    assert not sole.admit('intruder', 10**6 * MS)  # a camera without items says nothing for long
    assert sole.admit('camera', 10**6 * MS)
    sole.present({'intruder': '/who'}, expected=('/camera',))
    assert sole.admit('intruder', 10**6 * MS)


def test_what_is_left_of_one_that_ended_keeps_out_none_of_its_name():
    sole = SoleSource(silence_ns=math.inf)
    names = {'ended': '/camera', 'camera': '/camera', 'intruder': '/who'}
    sole.present(names, expected=('/camera',), now_ns=MS)
    assert sole.admit('camera', MS) and not sole.admit('intruder', MS)


def test_sources_without_a_known_name_do_not_succeed_each_other():
    sole = SoleSource()
    sole.admit('one', 0)
    assert not sole.admit('two', SUCCESSION_NS + 1)


@given(st.lists(st.tuples(st.sampled_from('cab'), st.integers(0, SILENCE_NS // 20)), max_size=60))
def test_no_flood_keeps_out_one_that_was_there_first_and_goes_on(events):
    sole, now_ns = SoleSource(), 0
    assert sole.admit('c', now_ns)
    heard_ns = now_ns
    taken = refused = 0
    for source, pause_ns in events:
        now_ns += pause_ns
        admitted = sole.admit(source, now_ns)
        taken, refused = taken + admitted, refused + (not admitted)
        if source == 'c':
            assert admitted
            heard_ns = now_ns
        elif now_ns - heard_ns < SILENCE_NS:
            assert not admitted
    assert sole.refused == refused and taken + refused == len(events)


def test_one_that_nobody_can_name_takes_over_as_a_successor_does():
    sole = SoleSource()
    sole.admit('one', 0)
    sole.present({'one': '/camera', 'two': ''})
    assert not sole.may_succeed('two', SUCCESSION_NS - 1)
    assert not sole.admit('two', SUCCESSION_NS - 1, nameless=True)
    assert sole.may_succeed('two', SUCCESSION_NS)
    assert not sole.admit('two', SUCCESSION_NS)
    assert sole.admit('two', SUCCESSION_NS, nameless=True)
    sole.present({'one': '/camera', 'two': '/stranger'})
    assert sole.name_of('two') == '/stranger'
    assert not sole.may_succeed('two', SUCCESSION_NS)
    assert not sole.admit('two', SUCCESSION_NS, nameless=True)
