# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Names for models that come and go in a simulator that answers late.

A simulator publishes poses by name, and a bridge must know the names before it starts: so models
are named by slots. A pose may still be on its way when its model is gone, and must be taken
neither for one of the next model in the slot nor for one of a model that somebody left there.
"""

from __future__ import annotations

from collections import deque


class ModelSlots:
    """Which slots are free, which hold a model, and of which the removal was asked for.

    Attributes:
        count: Number of slots, 0 to count - 1.

    Examples:
        >>> slots = ModelSlots(2, linger_ns=500)
        >>> slot = slots.take(0)
        >>> slots.ask(slot, asked_ns=10)
        >>> slots.removed(slot, 1000)
        True
        >>> slots.left_behind(slot, 1400), slots.left_behind(slot, 1500)
        (False, True)
    """

    def __init__(self, count: int, linger_ns: int) -> None:
        """Begin with all slots free.

        Args:
            linger_ns: How long after a removal poses of the model may come, by their stamps.
        """
        self.count = count
        self._linger_ns = linger_ns
        self._free = deque(range(count))
        self._asked_ns: dict[int, int] = {}
        self._freed_ns: dict[int, int] = {}

    @property
    def full(self) -> bool:
        """Whether every slot holds a model."""
        return not self._free

    @property
    def held(self) -> tuple[int, ...]:
        """Slots with a model of which nobody has asked for the removal."""
        return tuple(sorted(set(range(self.count)) - set(self._free) - set(self._asked_ns)))

    def take(self, now_ns: int) -> int | None:
        """Return the slot that was free for longest, now taken; None while poses may linger."""
        if not self._free or self._lingers(self._free[0], now_ns):
            return None
        return self._free.popleft()

    def ask(self, slot: int, asked_ns: int) -> None:
        """Take in that the removal of what a slot holds is asked for, on a clock of the caller."""
        if slot in self._free:
            self._free.remove(slot)
        self._asked_ns[slot] = asked_ns

    def unanswered(self, before_ns: int) -> tuple[int, ...]:
        """Return the slots of which the removal was asked for before a time, by that clock."""
        return tuple(slot for slot, asked_ns in self._asked_ns.items() if asked_ns < before_ns)

    def removed(self, slot: int, now_ns: int) -> bool:
        """Use a slot again, whose model is gone; return whether its removal was asked for."""
        if self._asked_ns.pop(slot, None) is None:
            return False
        self._free.append(slot)
        self._freed_ns[slot] = now_ns
        return True

    def is_free(self, slot: int) -> bool:
        """Return whether a slot holds nothing that is known of."""
        return slot in self._free

    def left_behind(self, slot: int, stamp_ns: int) -> bool:
        """Return whether a pose says that a slot holds a model that nobody knows of."""
        return self.is_free(slot) and not self._lingers(slot, stamp_ns)

    def _lingers(self, slot: int, time_ns: int) -> bool:
        freed_ns = self._freed_ns.get(slot)
        return freed_ns is not None and time_ns < freed_ns + self._linger_ns
