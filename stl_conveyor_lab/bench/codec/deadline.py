# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What arrives of an item's stream before its deadline, over the link model of the simulation.

An item is captured, encoded, and its packets enter the queue of an idle link at once; what has
come out by the deadline counts. Every message, whoever sends it, costs the same overhead on the
wire and the same propagation. A codec that does not stream has to choose its size beforehand,
one that streams its packet size: the choice for each half of the items is the one that was best
on the other half, so that no choice is judged by the items that it was made on. For the sizes
there is a clairvoyant choice besides, the largest that will arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stl_conveyor.errors import ConfigError
from stl_conveyor.sim.link import (
    MILLISECOND,
    SECOND,
    Bandwidth,
    LinkModel,
    LinkSettings,
    named_link,
)

DEADLINES_MS = (300, 500, 700)
LINK_NAMES = ('none', 'light', 'heavy', 'trace')


@dataclass(frozen=True)
class Plan:
    """One way of sending every item with one codec."""

    #: What was chosen: bytes of the whole, or of each packet.
    choice: int
    #: Sizes of each item's packets in order.
    packets: Sequence[Sequence[int]]
    #: Whether item i is answered rightly from its first n packets, bool[N, most + 1].
    right: np.ndarray


@dataclass(frozen=True)
class Sender:
    """One codec as it is sent, with all ways of sending it."""

    name: str
    plans: Sequence[Plan]
    #: Milliseconds from capture until the packet of that index is ready.
    ready_ms: Callable[[int], float]
    streams: bool


@dataclass(frozen=True)
class DeadlineScore:
    """Accuracy of one codec over one link at one deadline."""

    codec: str
    link: str
    deadline_ms: int
    accuracy: float
    #: Chosen for the items of the even and of the odd half.
    choices: tuple[int, int]
    #: With the clairvoyant choice of the size; None for a codec that streams.
    clairvoyant: float | None
    mean_bytes: float


def shaping(settings: LinkSettings) -> Bandwidth:
    """Return what limits a link.

    Raises:
        ConfigError: If nothing does: then every size arrives.
    """
    if settings.bandwidth is None:
        raise ConfigError('a link without limit has no deadline to miss; choose light or heavy')
    return settings.bandwidth


def starts_ns(count: int, link: str) -> list[int]:
    """Return when each item is captured: along the whole trace, evenly; else at 0."""
    bandwidth = shaping(named_link(link))
    lap = bandwidth.hold_ns * len(bandwidth.rates)
    return [lap * k // count if len(bandwidth.rates) > 1 else 0 for k in range(count)]


def byte_budget(settings: LinkSettings, deadline_ms: float, ready_ms: float) -> int:
    """Return the largest message that surely arrives over a link of constant rate."""
    first = round(ready_ms * MILLISECOND)
    last = round(deadline_ms * MILLISECOND) - settings.delay_ns - settings.jitter_ns
    return max(
        0, shaping(settings).capacity(first, last) // (8 * SECOND) - settings.overhead_bytes
    )


def budgets(ready_ms: float, largest: int) -> tuple[int, ...]:
    """Return the exact sizes for all deadlines and links of constant rate, up to `largest`."""
    found = {
        min(largest, byte_budget(named_link(link), deadline, ready_ms))
        for link in LINK_NAMES
        if link != 'trace'
        for deadline in DEADLINES_MS
    }
    return tuple(sorted(size for size in found if size > 0))


def delivered(
    sizes: Sequence[int],
    ready_ms: Callable[[int], float],
    settings: LinkSettings,
    start_ns: int,
    deadline_ms: float,
    seed: int,
) -> int:
    """Return how many packets of an item come out by the deadline."""
    # The queue is as long as the item: nobody else uses the link.
    room = sum(sizes) + len(sizes) * settings.overhead_bytes
    link = LinkModel(replace(settings, queue_bytes=max(room, settings.queue_bytes)), seed)
    link.advance(start_ns)
    end = start_ns + round(deadline_ms * MILLISECOND)
    for k, size in enumerate(sizes):
        ready = start_ns + round(ready_ms(k) * MILLISECOND)
        if ready >= end:
            break
        link.send(ready, size, k)
    # Without loss or reordering packets come out in order.
    return sum(1 for _ in link.advance(end)) if sizes else 0


def deadline_cells(
    sender: Sender, links: Sequence[str] = LINK_NAMES, deadlines_ms: Sequence[int] = DEADLINES_MS
) -> dict[tuple, tuple]:
    """Return {(link, deadline): (DeadlineScore, right bool[N])} of one codec."""
    count = len(sender.plans[0].packets)
    items = np.arange(count)
    result = {}
    for link in links:
        settings = named_link(link)
        starts = starts_ns(count, link)
        for deadline in deadlines_ms:
            arrived = np.array(
                [
                    [
                        delivered(
                            plan.packets[k], sender.ready_ms, settings, starts[k], deadline, seed=k
                        )
                        for k in range(count)
                    ]
                    for plan in sender.plans
                ]
            )
            right = np.array([plan.right[items, row] for plan, row in zip(sender.plans, arrived)])
            sent = np.array(
                [
                    [sum(plan.packets[k][:n]) for k, n in enumerate(row)]
                    for plan, row in zip(sender.plans, arrived)
                ]
            )
            chosen = np.zeros(count, np.int64)
            choices: list[int] = []
            for half in (0, 1):
                best = int(right[:, items % 2 != half].mean(1).argmax())
                chosen[items % 2 == half] = best
                choices.append(sender.plans[best].choice)
            answers = right[chosen, items]
            clairvoyant = None
            if not sender.streams:
                largest = sent.argmax(0)
                clairvoyant = round(float(right[largest, items].mean()), 4)
            result[link, deadline] = (
                DeadlineScore(
                    sender.name,
                    link,
                    deadline,
                    round(float(answers.mean()), 4),
                    (choices[0], choices[1]),
                    clairvoyant,
                    round(float(sent[chosen, items].mean()), 1),
                ),
                answers,
            )
    return result
