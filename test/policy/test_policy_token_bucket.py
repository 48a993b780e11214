# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The token bucket: exactness, conservation, bounds and the r*T + b envelope."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stl_conveyor.errors import BucketError, ConfigError
from stl_conveyor.policy.token_bucket import TokenBucket, exact_fraction

RATES = st.fractions(min_value=0, max_value=2, max_denominator=40)
DEPTHS = st.fractions(min_value=Fraction(1, 4), max_value=20, max_denominator=12)


class BucketMachine(RuleBasedStateMachine):
    """Drive a bucket at random beside a plain replay of the same charges.

    The replay knows nothing of reservations: it keeps the list of everything that happened and
    recomputes the level in fractions, each charge taken at the moment of its reservation.
    """

    @initialize(
        rate=RATES,
        depth=DEPTHS,
        unit=st.integers(1, 50),
        nominal=st.integers(1, 30),
        start=st.integers(-5, 5),
    )
    def build(self, rate, depth, unit, nominal, start):
        """Make a bucket and an empty history."""
        self.bucket = TokenBucket(rate, depth, unit, nominal, start_ns=start)
        self.rate, self.depth, self.unit, self.nominal = rate, depth, unit, nominal
        self.now = start
        self.elapsed = 0
        self.history = []  # ('wait', ns) or ('charge', key)
        self.charges = {}  # key -> Fraction of tokens charged at the reservation
        self.open = []
        self.refunded = Fraction(0)

    def replayed(self):
        """Replay plainly to the level in tokens; check that it never leaves [0, depth]."""
        level = self.depth
        for kind, value in self.history:
            if kind == 'wait':
                level = min(self.depth, level + self.rate * value / self.unit)
            else:
                level -= self.charges[value]
            assert 0 <= level <= self.depth
        return level

    @rule(wait=st.integers(0, 400))
    def wait(self, wait):
        """Let time pass."""
        self.now += wait
        self.elapsed += wait
        self.bucket.advance(self.now)
        self.history.append(('wait', wait))

    @rule(back=st.integers(1, 10**6))
    def clock_goes_back(self, back):
        """Set the clock back, which adds nothing."""
        before = self.bucket.state
        self.now -= back
        self.bucket.advance(self.now)
        assert self.bucket.level == before.level

    @rule(n_bytes=st.integers(0, 60))
    def reserve(self, n_bytes):
        """Reserve when and only when the worst case leaves enough."""
        enough = Fraction(n_bytes, self.nominal) <= self.replayed()
        reservation = self.bucket.reserve(n_bytes)
        assert (reservation is not None) == enough
        if reservation is not None:
            self.open.append(reservation)
            self.charges[reservation.key] = Fraction(n_bytes, self.nominal)
            self.history.append(('charge', reservation.key))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def settle(self, data):
        """Settle any open reservation with any part of its budget."""
        reservation = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        used = data.draw(st.integers(0, reservation.bytes))
        self.bucket.settle(reservation, used)
        self.charges[reservation.key] = Fraction(used, self.nominal)
        self.refunded += Fraction(reservation.bytes - used, self.nominal)
        with pytest.raises(BucketError):
            self.bucket.settle(reservation, used)

    @invariant()
    def exact(self):
        """Hold exactly what the replay says, within the bounds."""
        if not hasattr(self, 'bucket'):
            return
        state = self.bucket.state
        assert 0 <= state.reserved <= state.level <= self.depth * state.denominator
        assert Fraction(state.available, state.denominator) == self.replayed()
        open_keys = {reservation.key for reservation in self.open}
        spent = sum((c for k, c in self.charges.items() if k not in open_keys), Fraction(0))
        assert Fraction(state.spent, state.denominator) == spent
        assert Fraction(state.refunded, state.denominator) == self.refunded

    @invariant()
    def envelope(self):
        """Over every window no more is spent than rate * T + depth."""
        if not hasattr(self, 'bucket'):
            return
        # The largest excess over all windows is a maximum-subarray sum.
        excess = worst = Fraction(0)
        for kind, value in self.history:
            if kind == 'wait':
                excess = max(Fraction(0), excess - self.rate * value / self.unit)
            else:
                excess += self.charges[value]
                worst = max(worst, excess)
        assert worst <= self.depth


BucketMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestBucketMachine = BucketMachine.TestCase


@given(
    p=st.integers(1, 20),
    q=st.integers(0, 20),
    m=st.integers(20, 100),
    steps=st.lists(st.tuples(st.booleans(), st.integers(1, 6)), max_size=60),
)
def test_integer_form_of_the_published_problem(p, q, m, steps):
    """With unit time and unit cost the bucket is n <- min(M, n - P*a + Q*I)."""
    bucket = TokenBucket(Fraction(q, p), Fraction(m, p), time_unit_ns=1, nominal_bytes=1)
    now, n = 0, m
    bucket.advance(now)
    for offload, interarrival in steps:
        paid = offload and bucket.spend(1)
        assert paid == (offload and n >= p)
        n = min(m, n - p * paid + q * interarrival)
        now += interarrival
        bucket.advance(now)
        assert Fraction(bucket.level, bucket.denominator) == Fraction(n, p)


def test_late_settlement_costs_nothing():
    """A stream settled after its time unit leaves what an immediate charge would have left."""
    late = TokenBucket(Fraction(1, 4), 1, 10, 100, start_ns=0)
    at_once = TokenBucket(Fraction(1, 4), 1, 10, 100, start_ns=0)
    reservation = late.reserve(100)
    at_once.spend(100)
    for bucket in (late, at_once):
        bucket.advance(10)
    assert late.available == at_once.available
    late.settle(reservation, 100)
    assert late.state == at_once.state


def test_refund_of_an_early_stop():
    """A stream that stops early gives back the rest, in bytes exactly."""
    bucket = TokenBucket(Fraction(0), 2, 1, 1500, start_ns=0)
    bucket.settle(bucket.reserve(1500), 600)
    assert bucket.affordable_bytes == 2 * 1500 - 600
    assert bucket.reserve(2401) is None
    assert bucket.reserve(2400) is not None


def test_cannot_overspend_a_reservation():
    """More bytes than reserved are refused, and the reservation stays open."""
    bucket = TokenBucket(Fraction(1), 1, 1, 100)
    reservation = bucket.reserve(50)
    with pytest.raises(BucketError, match='51 bytes used of 50'):
        bucket.settle(reservation, 51)
    bucket.settle(reservation, 50)
    with pytest.raises(BucketError, match='not open'):
        bucket.settle(reservation, 0)
    with pytest.raises(BucketError):
        bucket.reserve(-1)


@pytest.mark.parametrize(
    ('given_value', 'meant'),
    [(0.1, Fraction(1, 10)), ('1/3', Fraction(1, 3)), (4, Fraction(4)), ('0.25', Fraction(1, 4))],
)
def test_exact_fraction(given_value, meant):
    """A parameter means its decimal form."""
    assert exact_fraction(given_value) == meant


@pytest.mark.parametrize('value', ['nan', float('inf'), 'a lot', '1/0', None])
def test_exact_fraction_refuses(value):
    """What is not a finite number is refused by name."""
    with pytest.raises(ConfigError):
        exact_fraction(value)


@pytest.mark.parametrize(
    'arguments',
    [
        (-1, 1, 1, 1),
        (1, 0, 1, 1),
        (1, 1, 0, 1),
        (1, 1, 1, 0),
        (Fraction(1, 2**61 - 1), 4, 10**9, 1200),
    ],
)
def test_impossible_buckets(arguments):
    """Values that make no bucket, or one too fine for 64 bits, are refused."""
    with pytest.raises(ConfigError):
        TokenBucket(*arguments)


def test_a_bucket_whose_terms_change_still_owes_what_it_owed():
    bucket = TokenBucket('0', 2, 1, 10, start_ns=0)
    bucket.settle(bucket.reserve(20), 0)
    assert bucket.spend(20)
    bucket.correct(15)
    poured = bucket.poured_into(TokenBucket('1/4', 4, 1, 4))
    assert poured.owed / poured.denominator == bucket.owed / bucket.denominator == 1.5
    poured.advance(4)
    assert (poured.level, poured.owed) == (0, poured.denominator // 2)


@given(
    rate=RATES,
    depth=DEPTHS,
    steps=st.lists(
        st.tuples(st.integers(0, 100), st.integers(0, 30), st.integers(0, 30)), max_size=40
    ),
)
def test_what_was_given_back_wrongly_is_paid_before_anything_else(rate, depth, steps):
    """Corrections owe what they cannot pay; nothing is lost, and the bounds hold."""
    bucket = TokenBucket(rate, depth, 7, 5, start_ns=0)
    grains = bucket.denominator // 5
    now, given_back, spent = 0, 0, 0
    for wait, n_bytes, wrong in steps:
        now += wait
        level, owed = bucket.level, bucket.owed
        bucket.advance(now)
        assert owed - bucket.owed <= exact_fraction(rate) * wait / 7 * bucket.denominator
        assert bucket.level == level or bucket.owed == 0
        reservation = bucket.reserve(n_bytes)
        if reservation is not None:
            bucket.settle(reservation, 0)
            given_back += n_bytes
        wrong = min(wrong, given_back)
        bucket.correct(wrong)
        given_back -= wrong
        spent += wrong
        assert 0 <= bucket.reserved <= bucket.level <= depth * bucket.denominator
        assert bucket.owed == 0 or bucket.available == 0
        assert (bucket.spent, bucket.refunded) == (spent * grains, given_back * grains)
        with pytest.raises(BucketError, match='were not given back'):
            bucket.correct(given_back + 1)
