# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Which publishers of a topic publish nothing: those of the dead, and those that stand by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

REMEMBERED_NS = 25_000_000_000  # for which the graph has ends of processes that were killed
MOST_CLAIMS = 64  # somebody who speaks under many numbers must not fill the memory


class _Claim(NamedTuple):
    """Who says that it is the only publisher of a topic, or stands by to become that."""

    topic: str
    heard_ns: int
    stands_by: bool


class TopicClaims:
    """Keep what nodes say of the topics that each of them publishes alone.

    Times are ns of a clock that is never set.

    Examples:
        >>> claims = TopicClaims(silence_ns=600_000_000)
        >>> claims.heard(7, 'capture', now_ns=0)
        >>> claims.idle(now_ns=500_000_000)['capture']
        0
        >>> claims.idle(now_ns=700_000_000)['capture']  # it is dead, and the graph has its end
        1
        >>> claims.idle(now_ns=30_000_000_000)['capture']  # it is forgotten by the graph, too
        0
    """

    def __init__(self, silence_ns: int) -> None:
        """Know of nobody.

        Args:
            silence_ns: How long a node that is there may be silent.
        """
        self._silence_ns = silence_ns
        self._claims: dict[int, _Claim] = {}

    def heard(self, instance: int, topic: str, now_ns: int, *, stands_by: bool = False) -> None:
        """Take in a claim.

        Args:
            instance: Number that the node drew at its start.
            topic: That it claims.
            now_ns: When this was heard.
            stands_by: Whether it leaves the topic to another one.
        """
        self.left(instance)
        self._claims[instance] = _Claim(topic, now_ns, stands_by)
        while len(self._claims) > MOST_CLAIMS:  # the oldest is the first
            del self._claims[next(iter(self._claims))]

    def left(self, instance: int) -> None:
        """Take in that a node claims nothing."""
        self._claims.pop(instance, None)

    def ghosts(self, now_ns: int) -> Counter[str]:
        """Return topic → how many of its publishers the graph has of nodes that are dead."""
        return self._count(now_ns, self._is_silent)

    def idle(self, now_ns: int) -> Counter[str]:
        """Return topic → how many of its publishers are of nodes that are dead or stand by."""
        return self._count(
            now_ns, lambda claim, at_ns: claim.stands_by or self._is_silent(claim, at_ns)
        )

    def _is_silent(self, claim: _Claim, now_ns: int) -> bool:
        return now_ns - claim.heard_ns > self._silence_ns

    def _count(self, now_ns: int, counts: Callable[[_Claim, int], bool]) -> Counter[str]:
        # An end that the graph has forgotten is no publisher that could be idle.
        return Counter(
            claim.topic
            for claim in self._claims.values()
            if now_ns - claim.heard_ns < REMEMBERED_NS and counts(claim, now_ns)
        )
