# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Models come and go by slots, each is taken out once, and poses may come late."""

from __future__ import annotations

import doctest

from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.sim import model_slots
from stl_conveyor.sim.model_slots import ModelSlots

LINGER = 500


def test_the_example():
    assert doctest.testmod(model_slots) == (0, 5)


def test_a_pose_that_was_on_its_way_does_not_remove_a_model_twice():
    slots = ModelSlots(3, LINGER)
    slot = slots.take(0)
    slots.ask(slot, 100)
    assert not slots.left_behind(slot, 110)  # its removal was asked for
    assert slots.removed(slot, 200)
    for stamp in (150, 200, 699):  # before and shortly after it was gone
        assert slots.is_free(slot) and not slots.left_behind(slot, stamp)
    assert slots.left_behind(slot, 700)


def test_what_an_earlier_feeder_left_is_seen_at_once():
    slots = ModelSlots(3, LINGER)
    assert slots.left_behind(1, 5)
    slots.ask(1, 10)
    assert not slots.left_behind(1, 20)
    assert [slots.take(0), slots.take(0), slots.take(0)] == [0, 2, None]


def test_a_removal_without_an_answer_is_asked_for_again_and_counts_once():
    slots = ModelSlots(1, LINGER)
    assert slots.take(0) == 0 and slots.full and slots.held == (0,)
    slots.ask(0, 100)
    assert slots.held == () and slots.unanswered(100) == () and slots.unanswered(101) == (0,)
    slots.ask(0, 300)
    assert slots.removed(0, 400) and not slots.removed(0, 401)
    assert slots.take(899) is None and slots.take(900) == 0


@given(steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 400))))
def test_no_slot_is_lost_and_none_is_taken_twice(steps):
    slots, now, taken = ModelSlots(4, LINGER), 0, set()
    for what, slot, step in steps:
        now += step
        if what == 0:
            got = slots.take(now)
            assert got not in taken
            taken |= {got} - {None}
        elif what == 1 and slot in taken:
            slots.ask(slot, now)
        elif what == 2 and slots.removed(slot, now):
            taken.remove(slot)
        assert {s for s in range(4) if not slots.is_free(s)} == taken
        assert set(slots.held) <= taken
        assert slots.full == (len(taken) == 4)
