# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Who is started again knows how many were sent meanwhile, and says nothing of what it cannot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.cell.heard_numbers import LONGEST, MOST_PUBLISHERS, HeardNumbers


def heard(*numbers, line=''):
    """Return the line of a process that heard a driver's numbers and was killed."""
    process = HeardNumbers(line)
    for number in numbers:
        process.heard(b'driver', number)
    return process.line()


def test_at_an_ordinary_start_nothing_is_missing_however_long_the_driver_has_run():
    numbers = HeardNumbers()
    assert not numbers.follows
    assert numbers.first(b'driver', 1_000_000) == 0


def test_after_a_crash_what_was_sent_meanwhile_is_missing_and_counted_once():
    numbers = HeardNumbers(heard(7, 8))
    assert numbers.follows
    assert numbers.first(b'driver', 13) == 4
    assert numbers.first(b'driver', 20) == 0  # the node subscribed anew: not of the crash


def test_nothing_is_missing_where_the_next_one_comes_or_the_driver_begins_anew():
    for number in (9, 8, 1):
        assert HeardNumbers(heard(8)).first(b'driver', number) == 0
    assert HeardNumbers(heard(8)).first(b'another driver', 500) == 0


def test_a_second_crash_before_anything_was_heard_loses_no_count():
    line = heard(5)
    assert HeardNumbers(heard(line=line)).first(b'driver', 9) == 3


def test_those_that_were_heard_last_are_kept():
    numbers = HeardNumbers(heard(1))
    for publisher in range(MOST_PUBLISHERS - 1):
        numbers.heard(b'%d' % publisher, 1)
    numbers.heard(b'driver', 2)
    numbers.heard(b'one more', 1)
    successor = HeardNumbers(numbers.line())
    assert successor.first(b'driver', 4) == 1
    assert successor.first(b'0', 4) == 0  # it was heard first


def test_the_longest_line_has_room():
    numbers = HeardNumbers()
    numbers.listeners = 10_000
    for publisher in range(MOST_PUBLISHERS):
        numbers.heard(bytes([publisher]) * 24, 2**64 - 2)
    assert len(numbers.line()) <= LONGEST
    assert HeardNumbers(numbers.line()).listeners == 10_000


@pytest.mark.parametrize(
    'line',
    ['{', '[]', '[1]', '[1,[]]', '[1,{"a":-1}]', '[1,{"a":true}]', '["x",{}]', '[' * 900, 'null'],
)
def test_a_line_that_is_none_of_ours_is_as_good_as_nothing(line):
    numbers = HeardNumbers(line)
    assert numbers.follows and numbers.listeners == 0
    assert numbers.first(b'a', 10) == 0


@given(line=st.text(max_size=200))
def test_whatever_the_line_says_it_is_taken_or_left(line):
    numbers = HeardNumbers(line)
    assert numbers.first(b'driver', 10) == 0
    assert HeardNumbers(numbers.line()).line() == numbers.line()
