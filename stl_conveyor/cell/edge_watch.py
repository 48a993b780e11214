# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Whether the edge that can read our streams is there, and whether another one is."""

from __future__ import annotations

import math

# How long (ns) an edge that speaks twice a second may be silent before that is said; one that is
# known to speak less often may be silent for so many times its usual pause.
SILENCE_NS = 850_000_000
_PAUSES = 1.5
# The same of an edge behind a slow link, where it speaks four times a second, so that one sign of
# life may be lost and the next ones late.
LINK_SILENCE_NS = 750_000_000
_LINK_PAUSES = 3.0


class EdgeWatch:
    """Tell the signs of life of the known edge from those of any other.

    The known edge has our codec. A sign of life with another codec, from a second edge that
    was set up wrongly or from somebody who only says so, takes nothing away from it: it counts
    as gone when it was silent for the time-out, and not before.

    Examples:
        >>> watch = EdgeWatch(codec_id=7, timeout_ns=1_600_000_000)
        >>> watch.heard(7, now_ns=0)
        >>> watch.heard(8, now_ns=500_000_000)
        >>> watch.is_alive(1_000_000_000), watch.stranger(1_000_000_000)
        (True, 8)
        >>> watch.is_alive(1_700_000_000)
        False
        >>> watch.heard(7, now_ns=2_000_000_000, price=0.25)
        >>> watch.price(3_000_000_000), watch.price(4_000_000_000)
        (0.25, 0.0)
        >>> watch.silent_in_ns(2_800_000_000), watch.silent_in_ns(2_850_000_000)
        (50000000, 0)
    """

    def __init__(self, codec_id: int, timeout_ns: int) -> None:
        """Have heard nobody yet.

        Args:
            codec_id: Identity of our codec.
            timeout_ns: How long an edge may be silent (ns of a clock that is never set).
        """
        self._codec_id = codec_id
        self._timeout_ns = timeout_ns
        self._seen_ns: int | None = None
        self._spoke_ns = 0
        self._pauses_ns = (0, 0)  # between the last signs of life
        self._stranger: tuple[int, int] | None = None
        self._price = 0.0

    def heard(self, codec_id: int, now_ns: int, price: float = 0.0) -> None:
        """Take in a sign of life.

        Args:
            price: What the edge asks an answer to be worth, 0..1; what is no price changes none.
        """
        if codec_id == self._codec_id:
            if self._seen_ns is not None:
                self._pauses_ns = self._pauses_ns[1], now_ns - self._seen_ns
            self._seen_ns = now_ns
            self.spoke(now_ns)
            if math.isfinite(price) and 0.0 <= price <= 1.0:
                self._price = price
        else:
            self._stranger = codec_id, now_ns

    def spoke(self, now_ns: int) -> None:
        """Take in that the known edge said something else: it is not silent."""
        self._spoke_ns = now_ns

    def silent_in_ns(self, now_ns: int, *, behind_link: bool = False) -> int | None:
        """Return in which time the known edge, which may count as alive, misses its beat.

        One pause that is longer than others, such as that of a lost sign, changes nothing.

        Args:
            now_ns: On the clock of `heard`.
            behind_link: Whether a slow link lies between, which may lose a sign or take its time.

        Returns:
            0 once it has; None while it was never heard.
        """
        if self._seen_ns is None:
            return None
        least_ns, pauses = (
            (LINK_SILENCE_NS, _LINK_PAUSES) if behind_link else (SILENCE_NS, _PAUSES)
        )
        allowed_ns = max(least_ns, round(pauses * min(self._pauses_ns)))
        return max(0, allowed_ns - (now_ns - self._spoke_ns))

    @property
    def was_heard(self) -> bool:
        """Return whether the known edge has ever given a sign of life."""
        return self._seen_ns is not None

    def is_alive(self, now_ns: int) -> bool:
        """Return whether the known edge gave a sign of life within the time-out."""
        return self._seen_ns is not None and now_ns - self._seen_ns <= self._timeout_ns

    def price(self, now_ns: int) -> float:
        """Return the price of the known edge's answers; 0 when it was silent for the time-out."""
        return self._price if self.is_alive(now_ns) else 0.0

    def stranger(self, now_ns: int) -> int | None:
        """Return the codec of another edge that gave a sign of life within the time-out."""
        if self._stranger is None or now_ns - self._stranger[1] > self._timeout_ns:
            return None
        return self._stranger[0]
