# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Token bucket (r, b) in exact integer arithmetic.

A bucket gains ``rate`` tokens per time unit, keeps at most ``depth`` and starts full. One token
buys ``nominal_bytes``; a shorter stream costs its share. Every quantity is an integer number of
*grains*, ``denominator`` of which make one token, so that nothing is ever rounded:

* one nanosecond is worth a whole number of grains,
* one byte costs a whole number of grains,
* the depth is a whole number of grains.

With ``time_unit_ns=1`` and ``nominal_bytes=1`` this is the integer form of the published
problem: r = Q/P, b = M/P, n <- min(M, n - P*a + Q*I) (Qiu, Wang, Chakrabarti, Guérin, Lu,
"Adaptive Edge Offloading for Image Classification Under Rate Limit", IEEE TCAD 2022).

Reservations. The bytes that a stream will need are known only when it ends, so an offload
reserves its budget and settles it later. The bucket then stands exactly where it would stand had
the bytes really used been charged at the moment of the reservation. The tokens that arrive at a
full bucket while a reservation is open are remembered for that purpose: a charge that is known
late makes room that was there all along. Hence, with each charge counted at its reservation,
at most ``rate * T + depth`` tokens are spent over any window of length T.

Corrections. An account can turn out to have said too little after the tokens were given back.
What the bucket no longer holds of it is owed, and paid by what comes in before anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from stl_conveyor.errors import BucketError, ConfigError

# The state travels as int64; leave room for the sums of two levels.
_MAX_LEVEL = 2**62


def exact_fraction(value: float | int | str | Fraction) -> Fraction:
    """Return the fraction that a person means by a parameter such as 0.1.

    A float is read as its shortest decimal form (0.1 is 1/10, not the nearest binary number);
    a string may be a decimal or a ratio such as '1/3'.

    Args:
        value: The parameter.

    Returns:
        The fraction.

    Raises:
        ConfigError: When the value is not a finite number.
    """
    if isinstance(value, Fraction):
        return value
    try:
        return Fraction(str(value).strip())
    except (ValueError, ZeroDivisionError) as error:
        raise ConfigError(
            f'{value!r} is not a number; write a decimal or a ratio, for example 0.25 or 1/4'
        ) from error


@dataclass(frozen=True)
class Reservation:
    """Tokens set aside for one stream.

    Attributes:
        key: Number of the reservation.
        bytes: Bytes that the stream may use.
        cost: What they cost, in grains.

    Examples:
        >>> TokenBucket('1/4', 4, time_unit_ns=1, nominal_bytes=512).reserve(256)
        Reservation(key=1, bytes=256, cost=256)
    """

    key: int
    bytes: int
    cost: int


@dataclass(frozen=True)
class BucketState:
    """Snapshot of a bucket; all counts are grains, ``denominator`` of which make one token.

    Attributes:
        level: Grains in the bucket, those reserved included.
        reserved: Grains promised to streams under way.
        spent: Grains spent since the start.
        refunded: Grains reserved and given back since the start.
        denominator: Grains per token.
        time_ns: Time of the last ``TokenBucket.advance``, in nanoseconds.

    Examples:
        >>> bucket = TokenBucket('1/4', 4, time_unit_ns=1, nominal_bytes=512)
        >>> reservation = bucket.reserve(256)
        >>> bucket.state.tokens, bucket.state.available / bucket.state.denominator
        (4.0, 3.5)
    """

    level: int
    reserved: int
    spent: int
    refunded: int
    denominator: int
    time_ns: int

    @property
    def available(self) -> int:
        """Return the grains that a new stream could reserve."""
        return self.level - self.reserved

    @property
    def tokens(self) -> float:
        """Return the level in tokens, rounded for people."""
        return self.level / self.denominator


class _Open:
    """An open reservation and the tokens that overflowed since it, up to the next one."""

    __slots__ = ('cost', 'overflow')

    def __init__(self, cost: int) -> None:
        self.cost = cost
        self.overflow = 0


class TokenBucket:
    """One token bucket, for the node, the simulations and the tests alike.

    Attributes:
        rate: Tokens per time unit, >= 0.
        depth: Most tokens kept, > 0; the bucket starts full.
        time_unit_ns: Length of the time unit in nanoseconds (the shortest item period).
        nominal_bytes: Bytes that one token buys.
        start_ns: Time of the start; None takes the first ``advance`` as the start.

    Raises:
        ConfigError: For values that make no bucket.

    Examples:
        A bucket that gains a quarter token each millisecond and holds two; a token buys 512 bytes.

        >>> from stl_conveyor import TokenBucket
        >>> bucket = TokenBucket('1/4', 2, time_unit_ns=1_000_000, nominal_bytes=512)
        >>> bucket.advance(0)
        >>> reservation = bucket.reserve(512)
        >>> bucket.settle(reservation, bytes_used=128)
        >>> bucket.state.tokens
        1.75
        >>> bucket.advance(500_000)
        >>> bucket.affordable_bytes
        960
    """

    def __init__(
        self,
        rate: Fraction | float | str,
        depth: Fraction | float | str,
        time_unit_ns: int,
        nominal_bytes: int,
        start_ns: int | None = None,
    ) -> None:
        rate, depth = exact_fraction(rate), exact_fraction(depth)
        if rate < 0:
            raise ConfigError(f'token rate {rate} is negative; use 0 for a bucket without income')
        if depth <= 0:
            raise ConfigError(f'bucket depth {depth} must be above 0')
        if time_unit_ns < 1:
            raise ConfigError(f'time unit of {time_unit_ns} ns must be at least 1 ns')
        if nominal_bytes < 1:
            raise ConfigError(f'a token must buy at least one byte, not {nominal_bytes}')
        per_ns = rate / time_unit_ns
        self._denominator = lcm(per_ns.denominator, depth.denominator, nominal_bytes)
        self._rate = rate
        self._depth = depth
        self._nominal_bytes = nominal_bytes
        self._time_unit_ns = time_unit_ns
        self._grains_per_ns = int(per_ns * self._denominator)
        self._grains_per_byte = self._denominator // nominal_bytes
        self._full = int(depth * self._denominator)
        if self._full > _MAX_LEVEL:
            raise ConfigError(
                f'rate {rate}, depth {depth}, time unit {time_unit_ns} ns and {nominal_bytes} '
                'bytes per token need a finer grain than 64 bits hold; use rounder numbers'
            )
        self._now = start_ns
        self._level = self._full
        self._spent = 0
        self._refunded = 0
        self._owed = 0
        self._next_key = 1
        self._open: dict[int, _Open] = {}  # in order of reservation

    @property
    def rate(self) -> Fraction:
        """Return the tokens per time unit."""
        return self._rate

    @property
    def depth(self) -> Fraction:
        """Return how many tokens are kept at most."""
        return self._depth

    @property
    def denominator(self) -> int:
        """Return the grains per token."""
        return self._denominator

    @property
    def level(self) -> int:
        """Return the grains in the bucket, those that are promised included."""
        return self._level

    @property
    def reserved(self) -> int:
        """Return the grains of the level that the open streams take if each uses its budget.

        Less than the sum of the budgets where tokens overflowed meanwhile, see the module.
        """
        promised = 0
        for stream in self._open.values():
            promised = max(0, promised + stream.cost - stream.overflow)
        return promised

    @property
    def available(self) -> int:
        """Return the grains that a new stream could reserve."""
        return self._level - self.reserved

    @property
    def affordable_bytes(self) -> int:
        """Return the largest number of bytes that could be reserved now."""
        return self.available // self._grains_per_byte

    @property
    def spent(self) -> int:
        """Return the grains spent since the start."""
        return self._spent

    @property
    def refunded(self) -> int:
        """Return the grains that were reserved and not used, since the start."""
        return self._refunded

    @property
    def owed(self) -> int:
        """Return the grains of corrections that the bucket could not pay yet."""
        return self._owed

    @property
    def state(self) -> BucketState:
        """Return a snapshot of the bucket."""
        return BucketState(
            level=self._level,
            reserved=self.reserved,
            spent=self._spent,
            refunded=self._refunded,
            denominator=self._denominator,
            time_ns=self._now or 0,
        )

    def advance(self, now_ns: int) -> None:
        """Let time pass until ``now_ns``.

        A clock that went back adds nothing; from then on time counts from the new reading.

        Args:
            now_ns: Time in nanoseconds.
        """
        if self._now is not None and now_ns > self._now:
            income = (now_ns - self._now) * self._grains_per_ns
            paid = min(self._owed, income)
            self._owed -= paid
            level = self._level + income - paid
            if level > self._full:
                if self._open:
                    latest = next(reversed(self._open.values()))
                    latest.overflow += level - self._full
                level = self._full
            self._level = level
        self._now = now_ns

    def poured_into(self, other: TokenBucket) -> TokenBucket:
        """Return a bucket of other terms with what this one holds, and with its account.

        A bucket whose terms change earns nothing by it: what does not fit is lost, and what the
        grains of the other cannot express is rounded, for the level and the refunds down, for what
        was spent and is owed up.

        Args:
            other: A new bucket; it is changed and returned.

        Raises:
            BucketError: If a reservation is open, whose cost the other bucket cannot know.

        Examples:
            >>> small = TokenBucket('1/4', 2, time_unit_ns=1_000_000, nominal_bytes=512)
            >>> large = TokenBucket('1/2', 8, time_unit_ns=1_000_000, nominal_bytes=512)
            >>> small.poured_into(large).state.tokens
            2.0
        """
        if self._open:
            raise BucketError(
                f'{len(self._open)} reservations are open; settle them before the terms change'
            )

        def grains(amount: int) -> int:
            return amount * other._denominator // self._denominator

        other._level = min(grains(self._level), other._full)
        other._spent = -grains(-self._spent)
        other._refunded = grains(self._refunded)
        other._owed = -grains(-self._owed)
        other._now = self._now
        other._next_key = self._next_key
        return other

    def reserve(self, n_bytes: int) -> Reservation | None:
        """Set aside the cost of a stream.

        Args:
            n_bytes: Bytes that it may use.

        Returns:
            The reservation; None when the bucket cannot pay.

        Raises:
            BucketError: When ``n_bytes`` is negative.
        """
        if n_bytes < 0:
            raise BucketError(f'{n_bytes} bytes cannot be reserved; ask for 0 or more')
        cost = n_bytes * self._grains_per_byte
        if cost > self.available:
            return None
        reservation = Reservation(key=self._next_key, bytes=n_bytes, cost=cost)
        self._next_key += 1
        self._open[reservation.key] = _Open(cost)
        return reservation

    def settle(self, reservation: Reservation, bytes_used: int) -> None:
        """Close a reservation: spend what the stream used and give back the rest.

        Args:
            reservation: An open one.
            bytes_used: What the stream used of it.

        Raises:
            BucketError: When the reservation is not open, or when more was used than reserved (the
                reservation stays open: settle it with what it was allowed to use).
        """
        if reservation.key not in self._open:
            raise BucketError(
                f'reservation {reservation.key} is not open; settle each reservation once'
            )
        if not 0 <= bytes_used <= reservation.bytes:
            raise BucketError(
                f'{bytes_used} bytes used of {reservation.bytes} reserved; '
                'a stream must stop at its byte budget'
            )
        used = bytes_used * self._grains_per_byte
        keys = list(self._open)
        place = keys.index(reservation.key)
        # The charge counts from the reservation on: it absorbs overflow since then, oldest first.
        charge = used
        for key in keys[place:]:
            absorbed = min(charge, self._open[key].overflow)
            self._open[key].overflow -= absorbed
            charge -= absorbed
        self._level -= charge
        self._spent += used
        self._refunded += reservation.cost - used
        closed = self._open.pop(reservation.key)
        if place:
            self._open[keys[place - 1]].overflow += closed.overflow

    def correct(self, n_bytes: int) -> None:
        """Charge bytes that a settled stream used beyond what it was settled with.

        Args:
            n_bytes: Bytes that were given back wrongly.

        Raises:
            BucketError: When so many were never given back.
        """
        cost = n_bytes * self._grains_per_byte
        if not 0 <= cost <= self._refunded:
            raise BucketError(f'{n_bytes} bytes were not given back; correct what was settled')
        paid = min(cost, self.available)
        self._level -= paid
        self._owed += cost - paid
        self._spent += cost
        self._refunded -= cost

    def spend(self, n_bytes: int) -> bool:
        """Reserve and settle at once.

        Args:
            n_bytes: Bytes to pay for.

        Returns:
            Whether the bucket could pay.
        """
        reservation = self.reserve(n_bytes)
        if reservation is None:
            return False
        self.settle(reservation, n_bytes)
        return True
