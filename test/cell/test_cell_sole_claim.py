# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Of several nodes of one kind one acts, whatever becomes of them, and soon again one does."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from stl_conveyor.cell.sole_claim import (
    ALIKE_NS,
    LISTEN_NS,
    NEW_NS,
    SILENCE_NS,
    START_NS,
    SoleClaim,
)
from stl_conveyor.cell.sole_sign import LEAVES, SoleSign

MS = 1_000_000
BEAT = 200 * MS
SETTLED = SILENCE_NS + LISTEN_NS + 2 * ALIKE_NS + 4 * BEAT


class Cell:
    """Nodes that beat and hear each other after a while, played in steps of 50 ms."""

    def __init__(self, instances, starts, delays):
        self.now = 0
        self.instances, self.starts, self.delays = instances, starts, delays
        self.claims, self.frozen, self.dead, self.under_way = {}, set(), set(), []

    def play(self, duration):
        """Yield who acts, after each step."""
        for _ in range(duration // (50 * MS)):
            self.now += 50 * MS
            for number, start in zip(self.instances, self.starts):
                if start <= self.now and number not in self.claims:
                    self.claims[number] = SoleClaim(number, self.now, contested=self.now > start)
            due = [entry for entry in self.under_way if entry[0] <= self.now]
            self.under_way = [entry for entry in self.under_way if entry[0] > self.now]
            for _, number, acts_for in due:
                for other, claim in self.running():
                    if other != number:
                        claim.heard(number, str(number), acts_for, self.now)
            for place, (number, claim) in enumerate(self.running()):
                if (self.now - self.starts[self.instances.index(number)]) % BEAT == 0:
                    delay = self.delays[place % len(self.delays)]
                    self.under_way.append((self.now + delay, number, claim.beat(self.now)))
            yield [number for number, claim in self.running() if claim.acts(self.now)]

    def running(self):
        return [
            (number, claim)
            for number, claim in self.claims.items()
            if number not in self.frozen | self.dead
        ]


cells = st.builds(
    Cell,
    st.lists(st.integers(0, 100), min_size=2, max_size=4, unique=True),
    st.lists(st.integers(0, 40).map(lambda n: 50 * MS * n), min_size=4, max_size=4),
    st.lists(st.integers(0, 6).map(lambda n: 50 * MS * n), min_size=1, max_size=4),
)


@given(cell=cells)
def test_soon_one_acts_and_it_stays_the_same(cell):
    *_, settled = cell.play(2000 * MS + SETTLED)
    assert len(settled) == 1
    assert all(acting == settled for acting in cell.play(5000 * MS))


@given(cell=cells, victim=st.integers(0, 3), kills=st.booleans(), pause=st.integers(1, 60))
def test_when_the_one_that_acts_is_gone_or_frozen_another_takes_over(cell, victim, kills, pause):
    *_, (first,) = cell.play(2000 * MS + SETTLED)
    (cell.dead if kills else cell.frozen).add(first)
    *_, others = cell.play(SETTLED)
    assert len(others) == 1
    list(cell.play(50 * MS * pause))
    cell.frozen.clear()  # it comes back, if it was frozen, and must see that it was replaced
    for acting in cell.play(5000 * MS):
        assert acting == others


def test_a_newcomer_that_finds_another_listens_before_it_acts():
    claim = SoleClaim(3, 0, contested=True)
    assert not claim.acts(0) and claim.undecided_ns(0) == LISTEN_NS
    claim.heard(9, 'camera', 5000 * MS, 100 * MS)
    assert claim.undecided_ns(100 * MS) == 0, 'it knows now'
    assert claim.rivals == ('camera',)
    claim.left(9)
    assert not claim.acts(LISTEN_NS - 1) and claim.acts(LISTEN_NS)


def test_whoever_is_alone_never_waits():
    claim = SoleClaim(3, 0)
    assert claim.acts(0) and claim.acts(10 * SILENCE_NS), 'nor after it stood still'
    assert claim.beat(11 * SILENCE_NS) == 11 * SILENCE_NS
    claim.contested(11 * SILENCE_NS)
    assert claim.acts(11 * SILENCE_NS), 'an old hand does not step back'


def test_a_newcomer_that_finds_out_later_steps_back_once():
    claim = SoleClaim(3, 0)
    claim.contested(START_NS - 1)
    assert not claim.acts(START_NS - 1)
    claim.contested(START_NS)
    assert claim.acts(START_NS - 1 + LISTEN_NS), 'nobody was heard'
    claim.contested(START_NS - 1 + LISTEN_NS)
    assert claim.acts(START_NS - 1 + LISTEN_NS)


def test_who_has_acted_for_long_believes_no_stranger_that_claims_to_be_older():
    claim = SoleClaim(300, 0)
    claim.beat(NEW_NS)
    claim.heard(1, 'forger', 10**18, NEW_NS)
    assert claim.acts(NEW_NS)
    newcomer = SoleClaim(300, 0)
    newcomer.beat(NEW_NS - 1)
    newcomer.heard(400, 'elder', 10**18, NEW_NS - 1)
    assert not newcomer.acts(NEW_NS - 1)


def test_who_stands_by_or_says_too_much_fills_no_memory():
    claim = SoleClaim(3, 0)
    for number in range(100, 1100):
        claim.heard(number, str(number), 0, 10 * MS)
    assert claim.acts(10 * MS) and len(claim.rivals) == 16
    claim.heard(3, 'itself', 10**12, 10 * MS)
    assert claim.acts(10 * MS)


def test_who_finds_a_sign_leaves_the_place_before_the_two_have_met():
    claim = SoleClaim(3, 0, contested=True)
    for count, now in enumerate(range(0, 5 * SILENCE_NS, BEAT)):
        sign = SoleSign(9, now + 1, count)
        claim.found(sign, 'actuator', now)
        assert not claim.acts(now) and claim.undecided_ns(now) == 0
    assert claim.rivals == ('actuator',)
    for later in range(0, SILENCE_NS, BEAT):
        claim.found(sign, 'actuator', now + later)
        assert not claim.acts(now + later)
    claim.found(sign, 'actuator', now + SILENCE_NS)
    assert claim.acts(now + SILENCE_NS), 'nothing new for a second'
    back = now + SILENCE_NS + BEAT
    claim.found(SoleSign(9, back, count + 1), 'actuator', back)
    assert not claim.acts(back), 'it has acted for longer, and cannot know that it was replaced'


def test_one_that_has_ended_is_gone_at_once_whatever_is_still_heard_of_it():
    claim = SoleClaim(3, 0, contested=True)
    claim.found(SoleSign(9, 5000 * MS, 1), 'actuator', 0)
    claim.heard(9, '/actuator', 5000 * MS, 2 * LISTEN_NS)
    claim.freed(2 * LISTEN_NS)
    assert claim.acts(2 * LISTEN_NS)
    claim.heard(9, '/actuator', 5000 * MS, 3 * LISTEN_NS)  # it was under way
    assert claim.acts(3 * LISTEN_NS)
    claim.freed(3 * LISTEN_NS)
    claim.heard(7, '/actuator', 5000 * MS, 3 * LISTEN_NS)
    assert not claim.acts(3 * LISTEN_NS), 'another one is there, too'


def test_one_that_stands_by_is_known_to_follow():
    claim = SoleClaim(3, 0)
    assert claim.followed_ns(BEAT) == 0
    claim.heard(9, '/actuator', 1, BEAT)
    assert claim.followed_ns(BEAT) == 0, 'it acts'
    claim.heard(9, '/actuator', 0, 2 * BEAT)
    claim.heard(9, '/actuator', 0, SILENCE_NS)
    assert claim.followed_ns(SILENCE_NS) == SILENCE_NS - BEAT
    assert claim.followed_ns(2 * SILENCE_NS) == 0, 'it is silent'


def test_one_that_is_about_to_end_is_gone():
    claim = SoleClaim(3, 0, contested=True)
    claim.found(SoleSign(9, 5000 * MS, 1), 'actuator', 0)
    claim.found(SoleSign(9, LEAVES, 2), 'actuator', LISTEN_NS)
    assert claim.acts(LISTEN_NS)


def test_one_that_has_left_a_sign_is_listened_for_longer_than_it_listens():
    claim = SoleClaim(3, 0, contested=True)
    claim.found(SoleSign(9, 1, 1), 'actuator', 0)
    claim.found(SoleSign(9, 0, 2), 'actuator', BEAT)
    claim.heard(9, '/actuator', 0, 2 * BEAT)
    assert not claim.acts(2 * BEAT) and claim.undecided_ns(2 * BEAT) == LISTEN_NS + ALIKE_NS - BEAT
    claim.found(None, 'actuator', 3 * BEAT)
    claim.found(SoleSign(3, 10**12, 1), 'itself', 3 * BEAT)
    assert claim.acts(BEAT + LISTEN_NS + ALIKE_NS), 'it has the higher number'
    claim.found(SoleSign(9, 1, 3), 'actuator', 2 * SILENCE_NS)
    claim.found(SoleSign(9, 0, 4), 'actuator', 2 * SILENCE_NS)
    assert claim.acts(2 * SILENCE_NS), 'who acts goes on'


@given(
    numbers=st.permutations([3, 9]),
    starts_after=st.integers(0, 60),
    hears_after=st.lists(st.integers(0, 80), min_size=2, max_size=2),
    sees_after=st.integers(0, 80),
)
@example(numbers=[9, 3], starts_after=0, hears_after=[8, 0], sees_after=0)
@example(numbers=[9, 3], starts_after=0, hears_after=[24, 0], sees_after=16)
def test_two_on_a_machine_never_both_act_however_late_they_meet(
    numbers, starts_after, hears_after, sees_after
):
    step = 50 * MS
    claims, signs, acted = [SoleClaim(numbers[0], 0)], [None], 0
    for turn in range(200):
        now, age = turn * step, turn - starts_after
        if age == 0:
            claims.append(SoleClaim(numbers[1], now, contested=True))
        if age == sees_after:  # the graph has two publishers
            for claim in claims:
                claim.contested(now)
        if len(claims) > 1:
            claims[1].found(signs[-1], 'actuator', now)
        if turn % 4 == 0:
            says = [claim.beat(now) for claim in claims]
            signs.append(SoleSign(numbers[0], says[0], turn))
            for hears, speaks in ((0, 1), (1, 0)):
                if len(says) > 1 and age > hears_after[hears]:
                    claims[hears].heard(numbers[speaks], 'actuator', says[speaks], now)
        acting = [claim.acts(now) for claim in claims]
        assert sum(acting) < 2, (now, acting)
        acted = acted + 1 if any(acting) else 0
    assert acted > 60
