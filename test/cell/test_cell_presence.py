# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A roll call finds who is gone, who never came, and who is there twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stl_conveyor.cell.presence import Absence, Presence

SILENCE, PATIENCE = 700, 5000


def call(presence, now):
    return presence.call(now, PATIENCE)


def test_a_node_comes_dies_and_comes_back():
    presence = Presence(['camera', 'actuator'], SILENCE, start_ns=0)
    assert call(presence, PATIENCE).is_complete  # they may take their time
    assert call(presence, PATIENCE + 1).absent == dict.fromkeys(
        ['camera', 'actuator'], Absence.MISSING
    )
    presence.heard('camera', 1, False, 6000)
    presence.heard('actuator', 2, True, 6000)
    presence.heard('stranger', 3, True, 6000)
    assert call(presence, 6000).absent == {'camera': Absence.IDLE}
    presence.heard('camera', 1, True, 6100)
    assert call(presence, 6700).is_complete
    presence.heard('camera', 1, True, 6700)
    assert call(presence, 6701).absent == {'actuator': Absence.GONE}
    presence.heard('actuator', 9, False, 6750)
    assert call(presence, 6760).absent == {'actuator': Absence.IDLE}
    presence.heard('actuator', 9, True, 6800)
    roll = call(presence, 6800)
    assert roll.is_complete and not roll.doubled


def test_it_is_known_when_the_first_falls_silent():
    presence = Presence(['camera', 'actuator'], SILENCE, start_ns=0)
    assert presence.falls_silent_ns(0) is None
    presence.heard('camera', 1, True, 100)
    presence.heard('actuator', 2, True, 50)
    assert presence.falls_silent_ns(200) == 50 + SILENCE
    assert call(presence, 50 + SILENCE).is_complete
    assert call(presence, 51 + SILENCE).absent == {'actuator': Absence.GONE}
    assert presence.falls_silent_ns(51 + SILENCE) == 100 + SILENCE
    assert presence.falls_silent_ns(101 + SILENCE) is None


def test_nobody_waits_for_a_node_that_said_goodbye():
    presence = Presence(['link_emulator'], SILENCE, start_ns=0)
    presence.left('link_emulator', 1)
    presence.left('stranger', 1)
    presence.heard('link_emulator', 1, True, 100)
    presence.heard('link_emulator', 2, True, 200)
    presence.left('link_emulator', 1)
    assert presence.has_been_active('link_emulator')
    assert call(presence, 201 + SILENCE).absent == {'link_emulator': Absence.GONE}
    presence.left('link_emulator', 2)
    assert not presence.has_been_active('link_emulator')
    assert call(presence, 202 + SILENCE).is_complete


def test_a_callback_may_have_another_limit_than_a_silence():
    presence = Presence(['camera'], SILENCE, start_ns=0, busy_ns=300)
    presence.heard('camera', 1, True, 0, busy_ns=300)
    assert call(presence, SILENCE).is_complete
    presence.heard('camera', 1, True, 0, busy_ns=301)
    assert call(presence, SILENCE).absent == {'camera': Absence.STUCK}


def test_an_executor_that_stands_still_is_stuck_though_the_node_lives():
    presence = Presence(['encoder'], SILENCE, start_ns=0)
    presence.heard('encoder', 1, True, 0, busy_ns=SILENCE)  # a long callback, no more
    assert call(presence, 0).is_complete and presence.is_active('encoder', 0)
    presence.heard('encoder', 1, True, 200, busy_ns=SILENCE + 1)
    assert call(presence, 200).absent == {'encoder': Absence.STUCK}
    assert not presence.is_active('encoder', 200)
    presence.heard('encoder', 1, True, 400)
    assert call(presence, 400).is_complete
    presence.heard('encoder', 1, True, 600, busy_ns=SILENCE + 1)
    assert call(presence, 601 + SILENCE).absent == {'encoder': Absence.GONE}


def test_a_second_one_is_told_from_a_successor():
    presence = Presence(['actuator'], SILENCE, start_ns=0)
    presence.heard('actuator', 1, True, 0)
    presence.heard('actuator', 2, True, 100)  # the first may have ended just now
    assert call(presence, 100).is_complete
    presence.heard('actuator', 1, True, 200)
    assert call(presence, 200).doubled == ('actuator',)
    for now in range(300, 1500, 200):
        presence.heard('actuator', 2, True, now)
    assert call(presence, 1300).is_complete  # the first went


def test_one_that_stands_by_is_no_rival_and_does_not_stand_in_for_a_dead_one():
    presence = Presence(['camera'], SILENCE, start_ns=0)
    for now in range(0, 1000, 200):
        presence.heard('camera', 1, True, now)
        presence.heard('camera', 2, True, now + 100, stands_by=True)
    roll = call(presence, 900)
    assert roll.doubled == ('camera',) and not roll.rivals and not roll.absent
    presence.heard('camera', 2, True, 1600, stands_by=True)
    assert call(presence, 1600).absent == {'camera': Absence.GONE}
    presence.heard('camera', 2, True, 1800)
    assert call(presence, 1800).is_complete
    presence.heard('camera', 1, True, 1900)
    presence.heard('camera', 2, True, 2000)
    assert call(presence, 2000).rivals == ('camera',)


def test_one_that_cannot_do_its_work_is_there_and_is_absent():
    presence = Presence(['actuator'], SILENCE, start_ns=0)
    presence.heard('actuator', 1, True, 0, unable=True)
    assert call(presence, 0).absent == {'actuator': Absence.UNABLE}
    assert presence.is_active('actuator', 0)
    presence.heard('actuator', 1, True, 200)
    assert call(presence, 200).is_complete


@given(
    signs=st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.integers(0, 3000)), max_size=40),
    after=st.integers(0, 2000),
)
def test_present_means_heard_as_active_within_the_silence(signs, after):
    signs.sort(key=lambda sign: sign[2])
    presence = Presence(['camera'], SILENCE, start_ns=0)
    latest = {}
    for instance, active, at in signs:
        presence.heard('camera', instance, active, at)
        latest[instance] = (active, at)
    now = (signs[-1][2] if signs else 0) + after
    roll = call(presence, now)
    there = any(active and now - at <= SILENCE for active, at in latest.values())
    assert presence.is_active('camera', now) == there
    if there or (now <= PATIENCE and not any(active for _, active, _ in signs)):
        assert not roll.absent
    else:
        assert set(roll.absent) == {'camera'}
    if len(latest) < 2:
        assert not roll.doubled


def test_names_that_somebody_invents_fill_no_memory():
    presence = Presence(['camera'], SILENCE, start_ns=0)
    for number in range(1000):
        presence.heard('camera', number, True, number)
        presence.heard(f'node{number}', 1, True, number)
    assert len(presence._signs['camera']) <= 16 and set(presence._signs) == {'camera'}
