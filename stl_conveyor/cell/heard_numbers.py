# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How far each publisher was heard, as a line that outlives the process that heard it."""

from __future__ import annotations

import json

#: Characters that a line has at most, whatever it says.
LONGEST = 1024
#: Publishers that are kept, those that were heard last.
MOST_PUBLISHERS = 8


class HeardNumbers:
    """The newest number of each publisher, and what is missing from a predecessor's to the first.

    A publisher numbers what it sends, whoever listens. So a process that is started again knows
    from the first number that it hears how many were sent since the last one that its predecessor
    heard. Of a publisher that the predecessor has not heard nothing is known: it may have sent for
    hours to nobody.

    Attributes:
        follows: Whether there is a line of a predecessor.
        listeners: How many listened to the predecessor; then, to this one.

    Examples:
        >>> numbers = HeardNumbers()
        >>> numbers.first(b'driver', 5_000), numbers.follows  # it ran before
        (0, False)
        >>> numbers.heard(b'driver', 5_000)
        >>> successor = HeardNumbers(numbers.line())
        >>> successor.first(b'driver', 5_004), successor.first(b'another', 70)
        (3, 0)
    """

    def __init__(self, line: str = '') -> None:
        """Take in what a predecessor has left; what is none of ours is as good as nothing."""
        self._newest: dict[str, int] = {}
        self.listeners = 0
        self.follows = bool(line.strip())
        try:
            listeners, newest = json.loads(line[: LONGEST + 1])
            self._newest = {key[:64]: _number(number) for key, number in newest.items()}
            self.listeners = _number(listeners)
        except (ValueError, TypeError, AttributeError, RecursionError):
            self._newest = {}
        self._before = dict(self._newest)

    def first(self, publisher: bytes, number: int) -> int:
        """Return how many the predecessor and this one have missed of a publisher, once.

        Args:
            publisher: By what the middleware tells it apart.
            number: Of the first message of it that this one hears.
        """
        before = self._before.pop(publisher.hex(), number)
        return max(0, number - before - 1)

    def heard(self, publisher: bytes, number: int) -> None:
        """Take in that everything up to a number is accounted for."""
        key = publisher.hex()
        self._newest.pop(key, None)  # so that the one that was heard last stands last
        self._newest[key] = number
        while len(self._newest) > MOST_PUBLISHERS:
            del self._newest[next(iter(self._newest))]

    def line(self) -> str:
        """Return what a successor takes in."""
        return json.dumps([self.listeners, self._newest], separators=(',', ':'))


def _number(value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**64:
        raise ValueError('no number')
    return value
