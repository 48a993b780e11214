# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A slow, lossy link as an event model in virtual time.

One :class:`LinkModel` is one direction: a finite queue (drop tail), a serialiser at a bandwidth
that is constant or follows a trace, loss, then propagation delay with jitter. Time is integer
nanoseconds and belongs to the caller; nothing here sleeps or reads a clock. Arithmetic on bits is
exact, and every random number comes from the seed, a fixed number of draws per message, so that
a change of one setting leaves the others' luck as it was.

Bandwidths are those measured between two nRF52840 radios without, with light and with heavy
jamming (Wang et al., RTSS 2023; the trace is in ``data/nrf52840_throughput_kbps.csv``).
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from stl_conveyor.cell.description import OVERHEAD_BYTES
from stl_conveyor.errors import ConfigError

SECOND = 1_000_000_000
MILLISECOND = 1_000_000

TRACE_FILE = Path(__file__).parent / 'data' / 'nrf52840_throughput_kbps.csv'


@dataclass(frozen=True)
class Bandwidth:
    """Bit rates, each held for a while, repeated for ever; one rate is a constant bandwidth.

    Attributes:
        rates: bit/s, at least one, each above 0.
        hold_ns: How long each holds.
    """

    rates: tuple[int, ...]
    hold_ns: int = SECOND // 2

    def __post_init__(self) -> None:
        """Check the rates.

        Raises:
            ConfigError: If a rate or the holding time is not above 0.
        """
        if not self.rates or min(self.rates) <= 0 or self.hold_ns <= 0:
            raise ConfigError(
                'a bandwidth needs rates and a holding time above 0; for a dead link use an outage'
            )

    def rate_at(self, time_ns: int) -> int:
        """Return the bit rate at a time since the start of the trace."""
        return self.rates[time_ns // self.hold_ns % len(self.rates)]

    def capacity(self, start_ns: int, end_ns: int) -> int:
        """Return what passes between two times, in bits * 1e9 (exact)."""

        def since_zero(time_ns: int) -> int:
            whole, rest = divmod(time_ns, self.hold_ns)
            rounds, index = divmod(whole, len(self.rates))
            return (
                self.hold_ns * (rounds * sum(self.rates) + sum(self.rates[:index]))
                + rest * self.rates[index]
            )

        return since_zero(end_ns) - since_zero(start_ns)

    def finish(self, start_ns: int, nanobits: int) -> int:
        """Return the first nanosecond by which so many bits * 1e9 have passed since a start."""
        now = start_ns
        lap = self.hold_ns * sum(self.rates)
        if nanobits > lap:
            laps = (nanobits - 1) // lap
            nanobits -= laps * lap
            now += laps * self.hold_ns * len(self.rates)
        while True:
            rate = self.rate_at(now)
            boundary = (now // self.hold_ns + 1) * self.hold_ns
            if (boundary - now) * rate >= nanobits:
                return now + -(-nanobits // rate)
            nanobits -= (boundary - now) * rate
            now = boundary


@dataclass(frozen=True)
class BurstLoss:
    """Gilbert-Elliott loss: a good and a bad state that change between messages.

    E. N. Gilbert, "Capacity of a Burst-Noise Channel", BSTJ 1960; E. O. Elliott, BSTJ 1963.
    """

    to_bad: float  # probability per message
    to_good: float
    loss_good: float = 0.0
    loss_bad: float = 1.0


@dataclass(frozen=True)
class LinkSettings:
    """What one direction of a link does to messages."""

    bandwidth: Bandwidth | None = None  # None: without limit
    delay_ns: int = 2 * MILLISECOND
    jitter_ns: int = 1 * MILLISECOND  # uniform in 0..jitter on top of the delay
    loss: float = 0.0  # probability per message, independent
    burst_loss: BurstLoss | None = None
    reorder: float = 0.0  # probability of being held back while later messages pass
    reorder_ns: int = 60 * MILLISECOND  # for how long
    duplicate: float = 0.0  # probability of being transmitted twice
    corrupt: float = 0.0  # probability of being marked for damage
    outage: bool = False  # what is on the air meanwhile is lost
    outages: tuple[tuple[int, int], ...] = ()  # the same by schedule, ns since the model's start
    overhead_bytes: int = OVERHEAD_BYTES  # on the wire beside each message
    queue_bytes: int = 8192  # wire bytes waiting or in transmission; what does not fit is dropped

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigError: Naming the value and what it may be.
        """
        for name in ('loss', 'reorder', 'duplicate', 'corrupt'):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f'link {name} is {getattr(self, name)}: it must be in 0..1')
        for name in ('delay_ns', 'jitter_ns', 'reorder_ns', 'overhead_bytes', 'queue_bytes'):
            if getattr(self, name) < 0:
                raise ConfigError(f'link {name} is {getattr(self, name)}: it must not be negative')
        if self.burst_loss is not None and not all(
            0.0 <= p <= 1.0
            for p in (
                self.burst_loss.to_bad,
                self.burst_loss.to_good,
                self.burst_loss.loss_good,
                self.burst_loss.loss_bad,
            )
        ):
            raise ConfigError(f'link burst_loss is {self.burst_loss}: use probabilities in 0..1')
        flat = [t for window in self.outages for t in window]
        if any(len(window) != 2 for window in self.outages) or flat != sorted(flat):
            raise ConfigError(f'link outages are {self.outages}: give (start, end) pairs in order')


@dataclass(frozen=True)
class Delivery:
    """A message that came out at the far end."""

    time_ns: int
    sent_ns: int
    size: int  # bytes without overhead
    payload: Any
    corrupt: bool  # the caller is to damage it
    copy: bool  # a duplicate of one delivered or lost before


@dataclass(frozen=True)
class LinkCounters:
    """What became of the messages.

    sent + duplicated = delivered + lost + outage_lost + queue_dropped + in flight.
    """

    sent: int = 0
    duplicated: int = 0
    delivered: int = 0
    lost: int = 0
    outage_lost: int = 0
    queue_dropped: int = 0
    reordered: int = 0
    corrupted: int = 0
    wire_bytes: int = 0  # put on the air, overhead included


@dataclass(frozen=True)
class _Queued:
    sent_ns: int
    size: int
    payload: Any
    copy: bool


class LinkModel:
    """One direction of a link; deterministic by settings, seed and the calls made.

    Call :meth:`send` when a message enters, :meth:`advance` no later than
    :meth:`next_event_ns`. Times may not run backwards; an earlier one counts as the latest seen.

    Attributes:
        settings: What the link does.
        seed: Of loss, jitter, reordering, duplication and corruption.
        start_ns: The time at which the bandwidth trace and the outage schedule begin.
    """

    def __init__(self, settings: LinkSettings, seed: int, start_ns: int = 0) -> None:
        """Start with an empty queue, in the good state."""
        self._settings = settings
        self._rng = np.random.default_rng(seed)
        self._start_ns = start_ns
        self._now = start_ns
        self._queue: deque[_Queued] = deque()
        self._queued_bytes = 0
        self._began_ns = start_ns  # of the head's transmission
        self._head_left = 0  # bits * 1e9 of the head still to go at _resumed_ns
        self._resumed_ns = start_ns
        self._finish_ns: int | None = None
        self._head_hit = False  # an outage met the head
        self._bad = False
        self._last_in_order = start_ns
        self._air: list[tuple[int, int, Delivery]] = []
        self._order = count()
        self.counters = LinkCounters()

    @property
    def settings(self) -> LinkSettings:
        """Return the settings in force."""
        return self._settings

    @property
    def queued_bytes(self) -> int:
        """Wire bytes waiting or in transmission."""
        return self._queued_bytes

    @property
    def in_flight(self) -> int:
        """Messages waiting, in transmission or on their way."""
        return len(self._queue) + len(self._air)

    def rate(self, now_ns: int) -> int | None:
        """Return the bandwidth at a time in bit/s; 0 in an outage, None without limit."""
        since = max(now_ns - self._start_ns, 0)
        if self._settings.outage or self._in_outage(since, since):
            return 0
        bandwidth = self._settings.bandwidth
        return None if bandwidth is None else bandwidth.rate_at(since)

    def send(self, now_ns: int, size: int, payload: Any) -> bool:
        """Put a message into the queue.

        Args:
            size: bytes, without the link's overhead.

        Returns:
            False if the queue had no room and the message is gone.
        """
        self._run(now_ns)
        self._count(sent=1)
        wire = size + self._settings.overhead_bytes
        if self._queued_bytes + wire > self._settings.queue_bytes:
            self._count(queue_dropped=1)
            return False
        self._queue.append(_Queued(self._now, size, payload, copy=False))
        self._queued_bytes += wire
        if len(self._queue) == 1:
            self._begin(self._now)
        return True

    def next_event_ns(self) -> int | None:
        """Return when :meth:`advance` has something to do next; None: not before a send."""
        times = [
            t for t in (self._finish_ns, self._air[0][0] if self._air else None) if t is not None
        ]
        return min(times) if times else None

    def advance(self, now_ns: int) -> list[Delivery]:
        """Return what comes out up to and including a time, in order of delivery."""
        self._run(now_ns)
        out = []
        while self._air and self._air[0][0] <= self._now:
            out.append(heapq.heappop(self._air)[2])
        self._count(delivered=len(out))
        return out

    def configure(self, now_ns: int, settings: LinkSettings) -> None:
        """Change what the link does from a time on; what is on the air goes on under the new."""
        self._run(now_ns)
        if self._queue:
            self._settle_head()
            wire_change = settings.overhead_bytes - self._settings.overhead_bytes
            self._queued_bytes += wire_change * len(self._queue)
        self._settings = settings
        if self._queue:
            self._head_hit = self._head_hit or settings.outage
            self._schedule_head()

    def _count(self, **more: int) -> None:
        self.counters = replace(
            self.counters, **{k: getattr(self.counters, k) + v for k, v in more.items()}
        )

    def _run(self, now_ns: int) -> None:
        """Finish the transmissions that end by a time."""
        while self._finish_ns is not None and self._finish_ns <= now_ns:
            self._complete(self._finish_ns)
        self._now = max(self._now, now_ns)

    def _begin(self, now_ns: int) -> None:
        wire_bits = 8 * (self._queue[0].size + self._settings.overhead_bytes)
        self._began_ns = self._resumed_ns = now_ns
        self._head_left = wire_bits * SECOND
        self._head_hit = self._settings.outage
        self._schedule_head()

    def _settle_head(self) -> None:
        """Take off the head what has passed by now, before the bandwidth changes."""
        bandwidth = self._settings.bandwidth
        passed = (
            self._head_left
            if bandwidth is None
            else bandwidth.capacity(self._resumed_ns - self._start_ns, self._now - self._start_ns)
        )
        self._head_left = max(self._head_left - passed, 0)
        self._resumed_ns = self._now

    def _schedule_head(self) -> None:
        bandwidth = self._settings.bandwidth
        self._finish_ns = (
            self._resumed_ns
            if bandwidth is None
            else (
                self._start_ns
                + bandwidth.finish(self._resumed_ns - self._start_ns, self._head_left)
            )
        )

    def _in_outage(self, first: int, last: int) -> bool:
        """Tell whether [first, last], ns since the start, meets a scheduled outage."""
        ends = [end for _, end in self._settings.outages]
        index = bisect_right(ends, first)
        return index < len(ends) and self._settings.outages[index][0] <= last

    def _complete(self, now_ns: int) -> None:
        """Take the head off the serialiser and decide its fate."""
        settings = self._settings
        message = self._queue.popleft()
        wire = message.size + settings.overhead_bytes
        self._queued_bytes -= wire
        self._count(wire_bytes=wire)
        luck = self._rng.random(7)
        burst = settings.burst_loss
        burst_lost = False
        if burst is not None:
            self._bad = luck[0] >= burst.to_good if self._bad else luck[0] < burst.to_bad
            burst_lost = luck[1] < (burst.loss_bad if self._bad else burst.loss_good)
        outage = self._head_hit or self._in_outage(
            self._began_ns - self._start_ns, now_ns - self._start_ns
        )
        if luck[2] < settings.duplicate and not message.copy:
            self._count(duplicated=1)
            self._queue.appendleft(replace(message, copy=True))
            self._queued_bytes += wire
        if outage:
            self._count(outage_lost=1)
        elif burst_lost or luck[3] < settings.loss:
            self._count(lost=1)
        else:
            arrival = now_ns + settings.delay_ns + int(luck[4] * settings.jitter_ns)
            if luck[5] < settings.reorder:
                self._count(reordered=1)
                arrival += settings.reorder_ns
            else:
                arrival = self._last_in_order = max(arrival, self._last_in_order)
            corrupt = bool(luck[6] < settings.corrupt)
            self._count(corrupted=int(corrupt))
            heapq.heappush(
                self._air,
                (
                    arrival,
                    next(self._order),
                    Delivery(
                        arrival,
                        message.sent_ns,
                        message.size,
                        message.payload,
                        corrupt,
                        message.copy,
                    ),
                ),
            )
        self._finish_ns = None
        if self._queue:
            self._begin(now_ns)


def read_trace(path: Path = TRACE_FILE) -> tuple[int, ...]:
    """Read a bandwidth trace: CSV with a header line, kbit/s in the last column, # for comments.

    Returns:
        Bit/s, one per line.

    Raises:
        ConfigError: If the file has no rates or something that is not one.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding='utf-8').splitlines()]
        rows = [line for line in lines if line and not line.startswith('#')][1:]
        rates = tuple(round(float(row.split(',')[-1]) * 1000) for row in rows)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f'bandwidth trace {path}: {error}; give CSV with kbit/s in its last '
            'column under a header line'
        ) from error
    if not rates:
        raise ConfigError(f'bandwidth trace {path} has no rates under its header line')
    return rates


def named_link(name: str) -> LinkSettings:
    """Return the settings of a link by name.

    `none`, `light`, `heavy`: constant, by the jamming under which the rate was measured;
    `trace`: the published 60 rates, half a second each; `unlimited`: no bandwidth limit.

    Raises:
        ConfigError: If there is no such link.
    """
    constant = {'none': 67_500, 'light': 52_000, 'heavy': 34_300}
    if name in constant:
        return LinkSettings(bandwidth=Bandwidth((constant[name],)))
    if name == 'trace':
        return LinkSettings(bandwidth=Bandwidth(read_trace()))
    if name == 'unlimited':
        return LinkSettings()
    raise ConfigError(f"link '{name}' is unknown: choose one of {', '.join(LINKS)}")


LINKS = ('none', 'light', 'heavy', 'trace', 'unlimited')
