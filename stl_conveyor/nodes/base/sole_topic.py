# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Hear one publisher of a topic where there is room for one only, and say who else publishes."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import TYPE_CHECKING

from stl_conveyor.cell.sole_source import SILENCE_NS, SUCCESSION_NS, SoleSource
from stl_conveyor.errors import Level
from stl_conveyor.nodes.base.clock import clock_ns
from stl_conveyor.nodes.base.decoding import SOMEBODY, endpoint_name, publisher_gid

if TYPE_CHECKING:
    from rclpy.subscription import MessageInfo
    from rclpy.topic_endpoint_info import TopicEndpointInfo

    from stl_conveyor.nodes.base.connected_node import ConnectedNode

#: Who was refused less than this ago (ns) is named.
INTRUSION_NS = 5_000_000_000
#: Between two looks (ns) at who a message is of that comes from a process not known yet.
STRANGER_PERIOD_NS = 50_000_000
#: For so long (ns) what such a process says may wait until the middleware tells its name, and so
#: many messages of it. After a crash that can take until the dead process's lease has run out.
NAMING_NS = 300_000_000
MOST_HELD = 16
MOST_NAMED = 3
#: Of the 16 bytes that tell publishers apart the first twelve are those of their participant, and
#: so of their process, in DDS.
PARTICIPANT_BYTES = 12


def some(names: set[str]) -> str:
    """Return a few names, for a sentence."""
    return ' and '.join(sorted(name or SOMEBODY for name in names)[:MOST_NAMED])


def participant(gid: bytes) -> bytes:
    """Return by what processes are told apart, where the middleware is DDS."""
    return gid[:PARTICIPANT_BYTES]


class SoleTopic:
    """What one node hears on a topic that one publisher has, from the one that was there first."""

    def __init__(
        self,
        node: ConnectedNode,
        topic: str,
        name: str,
        *,
        succession_ns: int = SUCCESSION_NS,
        silence_ns: float = SILENCE_NS,
        source_of: Callable[[bytes], bytes] = bytes,
    ) -> None:
        """Know of nobody yet.

        Args:
            node: Who hears.
            topic: As the node calls it; the fault is `intruder.TOPIC`.
            name: Its full name.
            succession_ns: As for `SoleSource`.
            silence_ns: Likewise.
            source_of: Returns by what those who publish are told apart, from what tells
                publishers apart.
        """
        self._node = node
        self._topic = topic
        self._name = name
        self._source_of = source_of
        self._sole = SoleSource(succession_ns=succession_ns, silence_ns=silence_ns)
        self._unnamed: dict[bytes, int] = {}  # source → when it was heard first
        self._held: list[Callable[[], None]] = []

    @property
    def holds(self) -> bool:
        """Return whether something waits for a name."""
        return bool(self._held)

    def name_of(self, info: MessageInfo | None) -> str | None:
        """Return of which node a message is; None where the middleware does not tell.

        Empty: it was not there when `present` was called last.
        """
        gid = publisher_gid(info)
        return None if gid is None else self._sole.name_of(self._source_of(gid))

    def admits(self, info: MessageInfo | None, again: Callable[[], None]) -> bool:
        """Return whether a message is taken; it is where the middleware does not tell of whom.

        Args:
            info: What the middleware tells of the message.
            again: Is called after the next look at who is there, if it cannot be told now.
        """
        gid = publisher_gid(info)
        if gid is None:
            return True
        source, now_ns = self._source_of(gid), clock_ns(self._node.steady_clock)
        nameless = self._sole.may_succeed(source, now_ns)
        if nameless:
            waits_ns = now_ns - self._unnamed.setdefault(source, now_ns)
            if waits_ns < NAMING_NS and len(self._held) < MOST_HELD:
                self._held.append(again)
                return False
        return self._sole.admit(source, now_ns, nameless=nameless)

    def present(
        self, publishers: Sequence[TopicEndpointInfo], expected: Collection[str] = ()
    ) -> None:
        """Take in who publishes the topic now, and the full names of those that are to."""
        names: dict[Hashable, str] = {}
        for each in publishers:
            source = self._source_of(bytes(each.endpoint_gid))
            name = endpoint_name(each)
            if names.get(source) not in expected or source not in names:
                names[source] = name
        self._sole.present(names, expected=expected, now_ns=clock_ns(self._node.steady_clock))
        self._unnamed = {
            source: since_ns for source, since_ns in self._unnamed.items() if not names.get(source)
        }
        held, self._held = self._held, []
        for again in held:
            again()

    def look(self) -> None:
        """Say who publishes where there is room for one."""
        now_ns = clock_ns(self._node.steady_clock)
        condition = f'intruder.{self._topic}'
        refused = self._sole.intruders(now_ns, INTRUSION_NS)
        intruders: set[str] = set()
        others: set[str] = set()
        for each in self._node.get_publishers_info_by_topic(self._name) if refused else ():
            source = self._source_of(bytes(each.endpoint_gid))
            (intruders if source in refused else others).add(endpoint_name(each))
        if intruders:
            self._node.health.set_value(f'refused.{self._topic}', self._sole.refused)
            self._node.set_condition(
                condition,
                Level.ERROR,
                f'{self._name}: {some(intruders)} publishes it, too, beside '
                f'{some(others) or "another"}, which was there first; what comes later is '
                'refused. Stop it, or give it a topic of its own',
            )
        elif self._sole.refused:
            self._node.clear_condition(condition, f'{self._name} has one publisher again')


class OwnTopic:
    """A topic of the cell that one of its nodes publishes, heard from the process of that alone.

    Whoever else publishes it is refused for as long as the node is there, whether it says
    something or not; where it is not, everybody is heard: a recording that is played, or an edge
    that needs no gateway.
    """

    #: A node takes over a second after the last sign of life of another one of its name.
    SUCCESSION_NS = 700_000_000
    #: Between two looks at who they are, while their number stays the same (ns).
    PERIOD_NS = 2_000_000_000

    def __init__(
        self, node: ConnectedNode, topic: str, name: str, expected: Collection[str]
    ) -> None:
        """Begin to look, until the node is deactivated.

        Args:
            node: Who hears.
            topic: As in the table of topics.
            name: Its full name.
            expected: Full names of the nodes that are to publish it.
        """
        self._node = node
        self._name = name
        self._expected = expected
        self._topic = SoleTopic(
            node,
            topic,
            name,
            succession_ns=self.SUCCESSION_NS,
            silence_ns=math.inf,
            source_of=participant,
        )
        self._there = False
        self._found = -1
        self._looked_ns = 0
        self._look()
        node.watch(self._look)

    def admits(self, info: MessageInfo | None, again: Callable[[], None]) -> bool:
        """Return whether a message is taken; `again` as for `SoleTopic`."""
        name = self._topic.name_of(info)
        if name is not None and name not in self._expected:
            if self._since_look_ns() > STRANGER_PERIOD_NS:
                self._look_closely()
        return not self._there or self._topic.admits(info, again)

    def _look(self) -> None:
        self._topic.look()
        found = self._node.count_publishers(self._name)
        if self._topic.holds or found != self._found or self._since_look_ns() > self.PERIOD_NS:
            self._look_closely()

    def _since_look_ns(self) -> int:
        return clock_ns(self._node.steady_clock) - self._looked_ns

    def _look_closely(self) -> None:
        publishers = self._node.get_publishers_info_by_topic(self._name)
        self._found, self._looked_ns = len(publishers), clock_ns(self._node.steady_clock)
        self._there = any(endpoint_name(each) in self._expected for each in publishers)
        self._topic.present(publishers, self._expected)
