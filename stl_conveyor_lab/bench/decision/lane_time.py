# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Each lane at its own time beside one deadline for all, on the link's model.

It plays in simulated time what device and edge do, on the pure core: policy, token bucket, a
stream at a time over the model of the link, answers of the edge as measured at each length. The
nodes are not in it, so that it says what the rule brings and not what a machine delays.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from stl_conveyor.cell.deadline import sorting_deadline, stroke_time_ns
from stl_conveyor.cell.description import CellDescription, Costs
from stl_conveyor.decision.calibration_record import CalibrationRecord, CellDecider
from stl_conveyor.decision.lane_time import useful_until_ns
from stl_conveyor.policy import PolicyInput, TokenBucket, make_policy
from stl_conveyor.policy.worth import CostWorth
from stl_conveyor.sim.link import Bandwidth, LinkModel, LinkSettings, named_link
from stl_conveyor_lab.train.decision import LENGTHS, Looked

LINKS = {
    'heavy': named_link('heavy'),
    'trace': named_link('trace'),
    'a quarter of heavy': LinkSettings(bandwidth=Bandwidth((8_575,))),
}
PERIOD_NS = 350_000_000
RATE, DEPTH = Fraction(1, 4), Fraction(4)
TOKEN = 512  # payload bytes
PACKET = 64  # payload bytes
LOCAL_NS = 60_000_000  # from the capture to the decision of the policy
EDGE_NS = 60_000_000  # from the arrival of a packet to its answer at the device
STEP_NS = 5_000_000


@dataclass(frozen=True)
class LaneTimeRow:
    """What came of one link and one rule.

    Attributes:
        used: Share of the offloaded items whose edge answer decided.
        cost: Mean of an item, with its 95 % interval.
    """

    link: str
    own_time: bool
    items: int
    offloaded: float
    payload: float
    used: float
    cost: float
    low: float
    high: float


@dataclass
class _Item:
    number: int
    row: int
    capture_ns: int
    until_ns: int
    budget: int = 0
    sent: int = 0
    arrived: int = 0


def play_lanes(
    cell: CellDescription,
    labels: tuple[str, ...],
    record: CalibrationRecord,
    looked: Looked,
    link: str,
    own_time: bool,
    seed: int = 0,
) -> LaneTimeRow:
    """Play all items once over a link.

    Args:
        link: One of LINKS.
        own_time: Whether each lane has its own time; else all are decided at the first one's.
    """
    cell = replace(cell, costs=cell.costs or Costs())
    decider = CellDecider(cell, labels, replace(record, local_unknown=None, edge_unknown=None))
    worth = CostWorth(decider, TOKEN)
    expected = worth.of_all(looked.local, looked.posterior)
    policy = make_policy(
        'mdp', rate=RATE, depth=DEPTH, rewards=worth.distribution, budgets=worth.budgets
    )
    bucket = TokenBucket(RATE, DEPTH, PERIOD_NS, TOKEN, start_ns=0)
    model = LinkModel(LINKS[link], seed)
    order = np.random.default_rng((seed, 73)).permutation(len(looked.classes))
    answers: dict[int, list[tuple[int, int]]] = {}  # by item: (time, bytes) of the edge's
    items: list[_Item] = []
    current: _Item | None = None
    due: list[tuple[int, int]] = []  # (time of the policy's decision, item)
    now_ns, last_ns = 0, len(order) * PERIOD_NS + 4_000_000_000
    while now_ns < last_ns:
        for delivery in model.advance(now_ns):
            item = items[delivery.payload]
            item.arrived += delivery.size
            answers.setdefault(delivery.payload, []).append(
                (delivery.time_ns + EDGE_NS, item.arrived)
            )
        while len(items) < len(order) and len(items) * PERIOD_NS <= now_ns:
            number = len(items)
            row = int(order[number])
            capture_ns = number * PERIOD_NS
            deadline_ns = sorting_deadline(capture_ns, cell)
            until_ns = (
                useful_until_ns(capture_ns, deadline_ns, cell, labels, looked.local[row])
                if own_time
                else deadline_ns
            )
            items.append(_Item(number, row, capture_ns, until_ns - cell.guard_ns - EDGE_NS))
            heapq.heappush(due, (capture_ns + LOCAL_NS, number))
        while due and due[0][0] <= now_ns:
            number = heapq.heappop(due)[1]
            item = items[number]
            bucket.advance(now_ns)
            decision = policy.decide(
                PolicyInput(float(expected[item.row]), bucket.available, bucket.denominator)
            )
            budget = round(decision.share * TOKEN) if decision.offload else 0
            if budget and bucket.spend(budget):
                item.budget = budget
                current = item  # what is under way gives way, as the encoder has it
        if current is not None:
            known = answers.get(current.number, [])
            if current.sent >= current.budget or now_ns > current.until_ns:
                current = None
            elif (
                known
                and decider.suffices(
                    looked.edge[_place(known[-1][1]), current.row][None], None, known[-1][1], 0.97
                )[0]
            ):
                current = None
            elif current.sent - current.arrived <= PACKET:  # a packet is under way, one waits
                size = min(PACKET, current.budget - current.sent)
                if model.send(now_ns, size, current.number):
                    current.sent += size
        now_ns += STEP_NS
    return _scored(cell, decider, looked, items, answers, link, own_time)


def _place(received: int) -> int:
    return max(0, int(np.searchsorted(LENGTHS, received, side='right')) - 1)


def _scored(
    cell: CellDescription,
    decider: CellDecider,
    looked: Looked,
    items: Sequence[_Item],
    answers: dict[int, list[tuple[int, int]]],
    link: str,
    own_time: bool,
) -> LaneTimeRow:
    table = decider.decider(None).table
    reject = len(cell.lanes)
    turn = sorted(range(reject), key=lambda k: cell.lanes[k].diverter_x)
    costs, used, sent = [], [], []
    for item in items:
        deadline_ns = sorting_deadline(item.capture_ns, cell)
        local = decider.choose(looked.local[item.row], 0.0, None).lane

        def best(by_ns: int, item: _Item = item, local: int = local) -> tuple[int, bool]:
            heard = answers.get(item.number, [])
            known = [size for time_ns, size in heard if time_ns <= by_ns]
            if not known or known[-1] < LENGTHS[0]:
                return local, False
            answer = looked.edge[_place(known[-1]), item.row]
            return decider.choose(answer, 0.0, known[-1]).lane, True

        lane, by_edge = best(deadline_ns - cell.guard_ns)
        if own_time:
            for k in turn:
                time_ns = stroke_time_ns(item.capture_ns, deadline_ns, cell, cell.lanes[k].name)
                lane, by_edge = best(time_ns - cell.guard_ns)
                if lane == k:
                    break
            else:
                lane = reject
        costs.append(float(table.costs[looked.classes[item.row], lane]))
        if item.budget:
            used.append(by_edge)
            sent.append(item.sent)
    mean, half = float(np.mean(costs)), 1.96 * float(np.std(costs)) / np.sqrt(len(costs))
    return LaneTimeRow(
        link,
        own_time,
        len(items),
        len(used) / len(items),
        float(np.mean(sent)) if sent else 0.0,
        float(np.mean(used)) if used else 0.0,
        mean,
        max(mean - half, 0.0),
        mean + half,
    )


def measure_lane_time(
    cell: CellDescription, labels: tuple[str, ...], record: CalibrationRecord, looked: Looked
) -> list[LaneTimeRow]:
    """Play both rules over each link."""
    return [
        play_lanes(cell, labels, record, looked, link, own_time)
        for link in LINKS
        for own_time in (False, True)
    ]


def lane_time_lines(rows: Sequence[LaneTimeRow]) -> list[str]:
    """Return the table."""
    return [
        f'An item every {PERIOD_NS / 1e9:g} s, r = {float(RATE):g}, b = {float(DEPTH):g}, '
        f'{TOKEN} B for a token.',
        '',
        '| link | decided | offloaded | payload of each | edge answer used | cost of an item '
        '[95 %] |',
        '|---|---|---:|---:|---:|---:|',
        *(
            f'| {r.link} | {"each lane at its own time" if r.own_time else "all at the first"} '
            f'| {r.offloaded:.0%} | {r.payload:.0f} B | {r.used:.1%} '
            f'| {r.cost:.4f} [{r.low:.4f}, {r.high:.4f}] |'
            for r in rows
        ),
    ]


def draw_lane_time(pyplot: Any, rows: Sequence[LaneTimeRow]) -> Any:
    """Draw the share of answers used and the cost, of both rules."""
    figure, panels = pyplot.subplots(1, 2, figsize=(8, 3.2))
    names = [f'{row.link}\n{"own time" if row.own_time else "one deadline"}' for row in rows]
    colours = ['#1f4e79' if row.own_time else '#9aa5b1' for row in rows]
    panels[0].bar(names, [100 * row.used for row in rows], color=colours)
    panels[0].set_ylabel('% of edge answers used')
    spread = [[row.cost - row.low for row in rows], [row.high - row.cost for row in rows]]
    panels[1].bar(names, [row.cost for row in rows], yerr=spread, color=colours)
    panels[1].set_ylabel('cost of an item')
    figure.tight_layout()
    return figure
