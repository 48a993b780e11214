# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Send the important packets more than once where a link loses some and nobody can ask again.

Priority encoding (Albanese et al., IEEE Trans. Inf. Theory 1996) with repetition as its code: a
receiver needs no other packet to use a copy, so nothing waits for anything.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from stl_conveyor.errors import ConfigError

#: What the second packet is worth next to the first: about what it adds to the accuracy.
SECOND_WORTH = 0.05


def worth(k: int) -> float:
    """Return what packet k (from 0) adds, next to the first one.

    The first makes the difference between a guess and an answer. From then on accuracy grows
    with about the logarithm of the bytes.
    """
    return SECOND_WORTH / k if k else 1.0


def transmission_order(sizes: Sequence[int], loss_rate: float, max_bytes: int) -> tuple[int, ...]:
    """Return which packet to send each time, in order, so that what arrives is worth the most.

    `sizes` are the bytes of packets, most important first; `loss_rate` in 0..1 is the probability
    that a packet is lost, independent of the others. Each time that packet goes whose (next) copy
    adds the most expected worth: a packet's worth times the probability that all its copies so far
    were lost. Copies count: their sizes add up to at most `max_bytes`. Without loss every packet
    goes once, in order.

    Raises:
        ConfigError: For a rate that is none.
    """
    if not 0 <= loss_rate < 1:
        raise ConfigError(f'loss_rate is {loss_rate}: use a probability from 0 to less than 1')
    waiting = [(-worth(k), k) for k in range(len(sizes))]
    heapq.heapify(waiting)
    order: list[int] = []
    left = max_bytes
    while waiting:
        gain, k = heapq.heappop(waiting)
        if sizes[k] > left or not gain:
            continue
        order.append(k)
        left -= sizes[k]
        heapq.heappush(waiting, (gain * loss_rate, k))
    return tuple(order)
