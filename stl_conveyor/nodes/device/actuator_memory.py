# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What an actuator remembers of itself when its process was killed and started again."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from stl_conveyor.cell.ledger import Answer, ItemKey
from stl_conveyor.cell.number_gaps import NumberGaps
from stl_conveyor.cell.owed_items import (
    OwedItem,
    OwedItems,
    answered,
    captured,
    decided,
    succession,
    surroundings,
)
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.health import Level
from stl_conveyor.nodes.base.items import MOST_NAMED, named
from stl_conveyor.nodes.device.item_journal import ItemJournal
from stl_conveyor.nodes.device.own_journal import open_journal

# What is older, or from the future, is of another run or by another clock.
OLDEST_NS = 600_000_000_000
AHEAD_NS = 2_000_000_000
HELD = (
    'journal: another node of this name on this machine has it; what is open will not survive a '
    'crash of this node'
)


class ActuatorMemory:
    """The journal of an actuator, and what it says of the process before.

    Attributes:
        inherited: What the process before owed, in the order of the captures.
        follows_a_crash: Whether there was one lately that did not end in order.
    """

    def __init__(self, node: ConveyorNode, *, held: bool = False) -> None:
        """Open the journal; without one the node works, and says so.

        Args:
            held: Whether another process of this node's name has it.
        """
        self._node = node
        if held:
            self._journal = ItemJournal(None)
            node.set_condition('journal', Level.WARN, HELD)
        else:
            self._journal = open_journal(node, ItemJournal)
        last = self._inherit(self._journal.owed)
        self.follows_a_crash = last is not None
        self._gaps = NumberGaps(last)
        self._missed: list[int] = []

    def succeed(self, acted: Container[ItemKey]) -> bool:
        """Take over the journal of another process of this name, which has ended.

        Args:
            acted: Items that have their outcome from this one.

        Returns:
            Whether that could be had; `inherited` is then what is to be acted on.
        """
        own = self._journal.owed
        journal = open_journal(self._node, ItemJournal)
        if journal.path is None:
            return False
        self._journal = journal
        for line in succession(journal.owed, own, acted):
            self._note(line)
        self._inherit(journal.owed, acted)
        return True

    def _inherit(self, owed: OwedItems, acted: Container[ItemKey] = ()) -> ItemKey | None:
        """Take up what is not too old; return the last item, if it is not."""

        def is_recent(key: ItemKey) -> bool:
            return -AHEAD_NS <= now_ns - key.stamp_ns <= OLDEST_NS

        now_ns = self._node.schedule_clock.ros_now_ns()
        self.inherited: tuple[OwedItem, ...] = ()
        for item in owed.items:
            if not is_recent(item.key):
                self._journal.close_item(item.key)
            elif item.key not in acted:
                self.inherited += (item,)
        self._surroundings = (owed.follows_belt, owed.readers)
        return owed.last if owed.last is not None and is_recent(owed.last) else None

    @property
    def followed_belt(self) -> bool:
        """Return whether items were followed by what is reported of the belt."""
        return self._surroundings[0]

    @property
    def readers(self) -> int:
        """Return how many heard the outcomes."""
        return self._surroundings[1]

    def note_surroundings(self, follows_belt: bool, readers: int) -> None:
        """Note what a successor must know before it acts."""
        if (follows_belt, readers) != self._surroundings:
            self._surroundings = follows_belt, readers
            self._note(surroundings(follows_belt, readers))

    def captured(self, key: ItemKey, deadline_ns: int, frame_id: str) -> None:
        """Note a new item; report those before it that were never heard of."""
        self._note(captured(key, deadline_ns, frame_id))
        missing = self._gaps.heard(key)
        if missing:
            self._missed = [*self._missed, *missing[-MOST_NAMED:]][-MOST_NAMED:]
            self._node.health.count('total.captures_missed', len(missing))
            self._node.health.set_value('captures_missed.items', named(self._missed))
            self._node.error(
                'captures_missed',
                f'items {named(self._missed)} were captured, by their numbers, and never heard of '
                'here: they pass unsorted',
            )

    def answered(self, key: ItemKey, answer: Answer) -> None:
        """Note an answer that counts, if the item is known."""
        clock = self._node.schedule_clock
        ago_ns = clock.now_ns() - answer.received_ns
        if self._journal.owed.knows(key):
            self._note(
                answered(key, replace(answer, received_ns=clock.ros_now_ns() - max(0, ago_ns)))
            )

    def decided(self, key: ItemKey, lane: str, stroke_ns: int) -> None:
        """Note an outcome to which a stroke (ns, ROS time) belongs."""
        self._note(decided(key, lane, stroke_ns))

    def closed(self, key: ItemKey) -> None:
        """Note that nothing is owed to an item any more."""
        self._journal.close_item(key)

    def report(self, taken_up: list[int], lost: list[int]) -> None:
        """Say which items of the process before are acted on, and which passed meanwhile."""
        if taken_up:
            self._node.health.set_value('taken_up.items', named(taken_up))
            self._node.warn(
                'taken_up',
                f'items {named(taken_up)} were open when this node ended, and are acted on now',
            )
        if lost:
            self._node.health.set_value('unacted_while_gone.items', named(lost))
            self._node.error(
                'unacted_while_gone',
                f'items {named(lost)} passed their diverters while this node was not there',
            )

    def _note(self, line: str) -> None:
        self._journal.note(line)
        if self._journal.trouble:
            self._node.set_condition('journal', Level.WARN, self._journal.trouble)
