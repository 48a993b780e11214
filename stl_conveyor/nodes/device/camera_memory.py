# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a camera remembers of itself when its process was killed and started again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from rclpy.publisher import Publisher

from stl_conveyor.cell.heard_numbers import LONGEST, HeardNumbers
from stl_conveyor.nodes.base.clock import clock_ns
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.decoding import UNKNOWN
from stl_conveyor.nodes.base.health import Level
from stl_conveyor.nodes.base.topics import DEVICE
from stl_conveyor.nodes.device.own_journal import open_journal
from stl_conveyor.nodes.device.record_file import RecordFile

#: After a crash those who listened before are expected back for so long (ns).
SETTLES_NS = 10_000_000_000
#: For so long (s) one that has not heard its driver since counts as a node that cannot work:
#: as long as `safe_to_run` stays down after an item was lost. A driver may have nothing to send.
UNHEARD_S = 5.0
#: Nodes without which an item may pass unsorted. A recording, a page or a tool that has ended
#: meanwhile holds nothing back.
HEARERS = frozenset(DEVICE) - {'camera'}
ITEMS = 'items that came before all who had heard of items were connected again'


class CameraMemory:
    """How far the camera has heard its drivers, and what it says of what came while it was gone.

    Attributes:
        follows_a_crash: Whether there was a process before that did not end in order.
    """

    def __init__(self, node: ConveyorNode) -> None:
        """Open the file; without one the node works, and says so."""
        self._node = node
        self._file = open_journal(
            node,
            lambda path: RecordFile(path, LONGEST),
            'pictures that come after a crash of this node will not be counted',
        )
        self._numbers = HeardNumbers(self._file.line)
        self.follows_a_crash = self._numbers.follows
        self._expected = self._numbers.listeners  # after a crash, until all are there
        self._counted = -1  # who listened, when their names were looked at
        self._start_ns = clock_ns(node.steady_clock)
        self._missed: Counter[str] = Counter()
        self._awaited: set[str] = set()  # topics of which nothing was heard since a crash
        self._when_known: Callable[[Callable[[bool], None]], None] = lambda call: call(True)
        self._write()

    def ask(self, when_known: Callable[[Callable[[bool], None]], None]) -> None:
        """Have it asked, before anything is said, whether another camera has taken the place.

        Args:
            when_known: As that of `SolePublisher`.
        """
        self._when_known = when_known

    def awaits(self, topic: str) -> None:
        """Say after a crash that nothing has come on a topic yet, until something does."""
        if not self.follows_a_crash:
            return
        self._awaited.add(self._node.resolve_topic_name(topic))
        self._node.cannot_work('driver', UNHEARD_S)
        self._node.set_condition(
            'driver_not_heard',
            Level.WARN,
            'driver_not_heard: since a crash of its process this node has heard nothing on '
            f'{" and ".join(sorted(self._awaited))}: what is sent now is lost, and is counted '
            'with the first that comes',
        )

    def came(self, topic: str) -> None:
        """Take in that something has come on a topic."""
        if self._awaited:
            self._awaited.discard(self._node.resolve_topic_name(topic))
            if not self._awaited:
                self._node.can_work('driver')
                self._node.clear_condition('driver_not_heard', 'the driver is heard again')

    def first(self, topic: str, publisher: bytes, number: int) -> None:
        """Take in the first number of a publisher; say how many came before and after a crash."""
        self._miss(
            f'messages on {self._node.resolve_topic_name(topic)} that were sent meanwhile',
            self._numbers.first(publisher, number),
        )

    def heard(self, publisher: bytes, number: int) -> None:
        """Note that everything of a publisher up to a number is accounted for."""
        self._numbers.heard(publisher, number)
        self._write()

    def lacks(self, publisher: Publisher) -> bool:
        """Return whether some are not back, of the device's nodes that listened before a crash."""
        return self.settles and _listeners(publisher, self._names(publisher)) < self._expected

    @property
    def settles(self) -> bool:
        """Return whether those who listened before a crash are still expected back."""
        return self.follows_a_crash and self._now_ns() - self._start_ns < SETTLES_NS

    def dropped_item(self) -> None:
        """Take in an item that is not captured because the others are not there yet."""
        if self.follows_a_crash:
            self._miss(ITEMS, 1)

    def captured_item(self, publisher: Publisher) -> None:
        """Take in an item that is published now; after a crash some may not hear of it."""
        if self.lacks(publisher):
            self._miss(ITEMS, 1)
            return
        self._expected = 0
        connected = publisher.get_subscription_count()
        if connected != self._counted:
            names = self._names(publisher)
            self._numbers.listeners = _listeners(publisher, names)
            self._counted = -1 if UNKNOWN in names else connected
            self._write()

    def _names(self, publisher: Publisher) -> set[str]:
        ends = self._node.get_subscriptions_info_by_topic(publisher.topic_name)
        return {end.node_name for end in ends}

    def _now_ns(self) -> int:
        return clock_ns(self._node.steady_clock)

    def _miss(self, what: str, count: int) -> None:
        if count:
            self._when_known(lambda alone: self._say(what, count) if alone else None)

    def _say(self, what: str, count: int) -> None:
        self._missed[what] += count
        self._node.health.count('total.missed_while_gone', count)
        missed = ' and '.join(f'{number} {each}' for each, number in self._missed.items())
        self._node.error(
            'missed_while_gone',
            f'after a crash of its process this node has missed {missed}; what they show may have '
            'passed unsorted',
        )

    def _write(self) -> None:
        self._file.write(self._numbers.line())
        if self._file.trouble:
            self._node.set_condition('journal', Level.WARN, self._file.trouble)


def _listeners(publisher: Publisher, names: set[str]) -> int:
    """Return how many of the device's nodes listen, of those with names."""
    # By their names: one that died may be among them for as long as its lease.
    return min(publisher.get_subscription_count(), len(HEARERS & names))
