# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Leave a topic to the node that publishes it already, where a second one would do harm."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from rclpy.timer import Timer

from stl_conveyor.cell.sole_claim import SoleClaim
from stl_conveyor.cell.sole_sign import LEAVES, SoleSign
from stl_conveyor.errors import Level
from stl_conveyor.msg import Heartbeat
from stl_conveyor.nodes.base.clock import clock_ns
from stl_conveyor.nodes.base.heart import but_its_age
from stl_conveyor.nodes.base.polled_topic import PolledTopic

if TYPE_CHECKING:
    from stl_conveyor.nodes.base.conveyor_node import ConveyorNode


ASK_S = 0.05  # s between two looks whether it is known
MOST_WAITING = 16


class Place(Protocol):
    """Where nodes of one name on one machine meet before the middleware lets them.

    Attributes:
        held: Whether another one had it at the last look.
    """

    held: bool

    def look(self) -> SoleSign | None:
        """Take the place if it is free, else return the latest sign of who has it."""

    def write(self, acts_for_ns: int) -> None:
        """Leave a sign of life, if this one has the place; from any thread."""


class SolePublisher:
    """What a node asks before it publishes what must come once: an item, an outcome.

    The nodes of a kind learn of each other by their signs of life, in which each says for how
    long it has had the topic to itself. These are listened to from when the graph has a second
    publisher. One on the same machine is known before that, from the start on, by the `Place` that
    it has taken.
    """

    def __init__(
        self,
        node: ConveyorNode,
        topic: str,
        *,
        ghosts: int = 0,
        place: Place | None = None,
        on_free: Callable[[], None] = lambda: None,
    ) -> None:
        """Watch until the node's resources are closed.

        Args:
            topic: That the node has begun to publish.
            ghosts: How many publishers of processes that are known to be dead the graph may have.
            place: Of the node on its machine, if there is such a thing.
            on_free: Called by a look around when who had that place has ended, as soon as it is
                known whether this one may publish; not by this constructor.
        """
        self._node = node
        self._place = place
        self._on_free: Callable[[], None] | None = None
        self._is_freed = False
        self._leaves = False
        self._ghosts = ghosts
        self._waiting: deque[Callable[[bool], None]] = deque(maxlen=MOST_WAITING)
        self._timer: Timer | None = None
        self._heartbeats: PolledTopic | None = None
        self.topic: str = node.resolve_topic_name(topic)
        contested = place is not None and place.held
        self._claim = SoleClaim(node.instance, self._now_ns(), contested=contested)
        node.sole_publisher = self
        node.resources.callback(setattr, node, 'sole_publisher', None)
        node.watch(self._look)
        self._look()
        self._on_free = on_free

    def may_publish(self) -> bool:
        """Return whether nobody else does."""
        if self._heartbeats is not None:
            self._heartbeats.look()
        return self._claim.acts(self._now_ns())

    def undecided_ns(self) -> int:
        """Look around; return for how long (ns) it is not known yet whether this one may."""
        self._look_beside()
        undecided_ns = self._claim.undecided_ns(self._now_ns())
        if self._is_freed and self._on_free and not undecided_ns:
            self._is_freed = False
            self._on_free()
        return undecided_ns

    def when_known(self, call: Callable[[bool], None]) -> None:
        """Call with whether nobody else publishes, at once or as soon as that is known."""
        if not self.undecided_ns():
            call(self.may_publish())
            return
        self._waiting.append(call)
        if self._timer is None:
            self._timer = self._node.every(ASK_S, self._answer)

    def _answer(self) -> None:
        may_publish = self.may_publish()
        if self.undecided_ns():
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            self._waiting.popleft()(may_publish)

    def beat(self) -> float:
        """Return what a sign of life says: for how long (s); 0 = another one does. Any thread."""
        acts_for_ns = self._claim.beat(self._now_ns())
        if self._place is not None:
            self._place.write(LEAVES if self._leaves else acts_for_ns)
        return acts_for_ns / 1e9

    def leave(self) -> int:
        """Leave what comes to others from now on: the node ends, and may take a while for it.

        Returns:
            For how long (ns) one has been known that stood by until now; 0 = there is none.
        """
        followed_ns = self._claim.followed_ns(self._now_ns()) if self.may_publish() else 0
        self._leaves = True
        if self._place is not None:
            self._place.write(LEAVES)
        return followed_ns

    def _now_ns(self) -> int:
        return clock_ns(self._node.steady_clock)

    def _look_beside(self) -> None:
        """Look for another one on this machine, whom the graph may not know yet."""
        if self._place is not None and self._place.held:
            name = self._node.get_fully_qualified_name()  # the place is that of this name
            self._claim.found(self._place.look(), name, self._now_ns())
            if not self._place.held:
                self._claim.freed(self._now_ns())
                self._is_freed = True

    def _look(self) -> None:
        self.undecided_ns()
        publishers = self._node.count_publishers(self.topic)
        if publishers > 1 and self._heartbeats is None:
            self._heartbeats = self._node.look(
                'heartbeat', self._on_heartbeat, alike=but_its_age, period=None
            )
        if publishers > 1 + self._ghosts:
            self._claim.contested(self._now_ns())
        acts, fault = self.may_publish(), f'stands_by.{self.topic.rpartition("/")[2]}'
        if acts or self._claim.undecided_ns(self._now_ns()):
            self._node.clear_condition(fault, f'nobody else publishes {self.topic}')
        else:
            self._node.set_condition(
                fault,
                Level.ERROR,
                f'stands_by: {" and ".join(self._claim.rivals)} publishes {self.topic} and was '
                'there first; this node does nothing until that is gone. Stop one of them',
            )

    def _on_heartbeat(self, message: Heartbeat, _: object) -> None:
        if message.sole_topic == self.topic and message.active:
            self._claim.heard(
                message.instance,
                f'/{message.node[:200]}',
                round(min(max(message.sole_for, 0.0), 1e9) * 1e9),
                self._now_ns(),
            )
        else:
            self._claim.left(message.instance)
