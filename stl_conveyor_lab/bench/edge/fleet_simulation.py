# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Simulate a fleet: a thousand cells, their edges with measured service times, and one that dies.

Assumptions: every cell brings items evenly, at its rate and from a time of its own on, of which a
share is sent; an item asks for one answer or more, the next when the one before has come; an
answer takes one worker a time that is log-normal with the measured mean and spread, and depends on
nothing else; workers take the earliest deadline first; the network takes a constant time each way
and loses nothing; all clocks agree. Cells belong to pools of a few edges, in which homes follow
from the names.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stl_conveyor.cell.edge_pool import preference


@dataclass(frozen=True)
class FleetPlan:
    """What is simulated; times in seconds.

    Attributes:
        edges: In all.
        pool: Edges of a pool; its cells are served by these alone.
        workers: Of an edge.
        rate: Items per second of a cell.
        sent: Share of the items of which something is sent.
        answers: Mean number of answers to an item that is sent.
        service: Mean time of a worker for an answer.
        service_cv: Its standard deviation, divided by the mean.
        network: From device to edge, and back.
        deadline: From a capture to the latest answer that counts.
        takeover: Until a standby answers for an edge that died.
    """

    cells: int = 1000
    edges: int = 30
    pool: int = 3
    workers: int = 2
    rate: float = 2.0
    sent: float = 1.0
    answers: float = 1.6
    service: float = 0.010
    service_cv: float = 0.3
    network: float = 0.005
    deadline: float = 0.74
    takeover: float = 1.0


@dataclass(frozen=True)
class FleetResult:
    """What came of it.

    Attributes:
        sent: Items of which something was sent.
        late: Share of these without an answer in time.
        p99: Of the time from sending a packet to its answer (s).
        busiest: Share of the time in which the workers of the busiest edge worked.
        late_in_failure: Share of the items without an answer in time, of the cells of the edge
            that died, and in the time from its death until five seconds after.
        late_after: Share likewise, of all cells of its pool, from one second after the standby has
            taken over.
        p99_after: Of the time to an answer, likewise (s).
    """

    sent: int
    late: float
    p99: float
    busiest: float
    late_in_failure: float
    late_after: float
    p99_after: float


def simulate(plan: FleetPlan, seconds: float = 60.0, seed: int = 0) -> FleetResult:
    """Play a fleet, in which one edge dies halfway."""
    return _Simulation(plan, seconds, seed).run()


class _Simulation:
    def __init__(self, plan: FleetPlan, seconds: float, seed: int) -> None:
        self._plan, self._seconds = plan, seconds
        self._random = np.random.default_rng(seed)
        self._names = [f'edge_{number}' for number in range(plan.edges)]
        pools = math.ceil(plan.edges / plan.pool)
        self._members = [self._names[number::pools] for number in range(pools)]
        self._orders = [
            preference(f'line_{cell}', self._members[cell % pools]) for cell in range(plan.cells)
        ]
        self._dead = self._orders[0][0]
        self._died = seconds / 2
        self._events: list[tuple[float, int, str, tuple[object, ...]]] = []
        self._count = itertools.count()
        self._free = dict.fromkeys(self._names, plan.workers)
        self._waiting: dict[str, list[tuple[float, int, int]]] = {n: [] for n in self._names}
        self._busy = dict.fromkeys(self._names, 0.0)
        # Of each item: cell, capture, answers that it asks for yet, when the packet was sent.
        self._items: list[list[float]] = []
        self._delays: list[tuple[float, int, float]] = []  # sent, cell, delay
        self._answered: set[int] = set()
        spread = math.sqrt(math.log(1 + plan.service_cv**2))
        self._draw = itertools.chain.from_iterable(
            self._random.lognormal(math.log(plan.service) - spread**2 / 2, spread, 10_000).tolist()
            for _ in itertools.count()
        )

    def run(self) -> FleetResult:
        plan = self._plan
        for cell in range(plan.cells):
            at = float(self._random.uniform(0, 1 / plan.rate))
            while at < self._seconds:
                if self._random.random() < plan.sent:
                    wanted = 1 + self._random.poisson(max(0.0, plan.answers - 1))
                    self._items.append([cell, at, wanted, at])
                    self._at(at + plan.network, 'arrive', len(self._items) - 1)
                at += 1 / plan.rate
        while self._events:
            now, _, what, arguments = heapq.heappop(self._events)
            getattr(self, f'_{what}')(now, *arguments)
        return self._result()

    def _at(self, when: float, what: str, *arguments: object) -> None:
        heapq.heappush(self._events, (when, next(self._count), what, arguments))

    def _home(self, cell: int, now: float) -> str | None:
        """Return who answers; None while nobody knows yet that the home is gone."""
        order = self._orders[cell]
        if order[0] != self._dead or now < self._died:
            return order[0]
        if len(order) == 1 or now < self._died + self._plan.takeover:
            return None
        return order[1]

    def _arrive(self, now: float, item: int) -> None:
        cell, captured, _, _ = self._items[item]
        edge = self._home(int(cell), now)
        if edge is None:
            # The standby keeps the packets, and answers when it takes over.
            if len(self._orders[int(cell)]) > 1:
                self._at(self._died + self._plan.takeover, 'arrive', item)
            return
        heapq.heappush(self._waiting[edge], (captured, next(self._count), item))
        self._work(now, edge)

    def _work(self, now: float, edge: str) -> None:
        waiting = self._waiting[edge]
        while waiting and self._free[edge] and not (edge == self._dead and now >= self._died):
            captured, _, item = heapq.heappop(waiting)
            if captured + self._plan.deadline <= now:
                continue
            service = next(self._draw)
            self._free[edge] -= 1
            self._busy[edge] += service
            self._at(now + service, 'done', edge, item)

    def _done(self, now: float, edge: str, item: int) -> None:
        self._free[edge] += 1
        if not (edge == self._dead and now >= self._died):
            self._at(now + self._plan.network, 'answer', item)
        self._work(now, edge)

    def _answer(self, now: float, item: int) -> None:
        cell, captured, wanted, sent = self._items[item]
        self._delays.append((sent, int(cell), now - sent))
        if now > captured + self._plan.deadline:
            return
        self._answered.add(item)
        if wanted > 1:
            self._items[item][2:] = [wanted - 1, now]
            self._at(now + self._plan.network, 'arrive', item)

    def _result(self) -> FleetResult:
        plan = self._plan
        mourning = {c for c in range(plan.cells) if self._orders[c][0] == self._dead}
        pool = {c for c in range(plan.cells) if self._dead in self._orders[c]}
        settled = self._died + plan.takeover + 1.0

        def late(cells: set[int] | range, begin: float, end: float) -> float:
            own = [
                number in self._answered
                for number, (cell, captured, _, _) in enumerate(self._items)
                if begin <= captured < end and cell in cells
            ]
            return 1.0 - sum(own) / len(own) if own else 0.0

        def p99(delays: Sequence[float]) -> float:
            return float(np.percentile(delays, 99)) if delays else math.nan

        return FleetResult(
            sent=len(self._items),
            late=late(range(plan.cells), 0.0, self._died - plan.deadline),
            p99=p99([d for sent, _, d in self._delays if sent < self._died - 1.0]),
            busiest=max(
                busy / (plan.workers * (self._died if name == self._dead else self._seconds))
                for name, busy in self._busy.items()
            ),
            late_in_failure=late(mourning, self._died - plan.deadline, self._died + 5.0),
            late_after=late(pool, settled, self._seconds),
            p99_after=p99([d for s, c, d in self._delays if s >= settled and c in pool]),
        )
