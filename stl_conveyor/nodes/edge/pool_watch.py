# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""An edge among others: its signs of life, theirs, and which cells it answers for by them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from stl_conveyor.cell.edge_pool import EdgeMember, EdgePool
from stl_conveyor.errors import Level
from stl_conveyor.msg import EdgeState, FeatureFeedback
from stl_conveyor.nodes.base.clock import clock_ns, to_stamp
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.decoding import publisher_gid, publisher_name
from stl_conveyor.nodes.base.polled_topic import PolledTopic
from stl_conveyor.nodes.base.qos import in_namespace

if TYPE_CHECKING:
    from rclpy.subscription import MessageInfo

BEATS = 5  # signs of life in the time after which a silent edge counts as gone
JOINING_BEATS = 2  # for which an edge listens who is there, where there are others
# Of a sign of life of somebody else; more is no name, and no number of cells, of ours.
LONGEST_NAME = 256
MOST_CELLS = 4096
# Where the status lies in a feedback whose frame_id is empty (CDR).
_STATUS_AT = 36


class PoolWatch:
    """Keeps an `EdgePool` for a node, and says who is wrong in it."""

    def __init__(
        self,
        node: ConveyorNode,
        cells: Sequence[str],
        models: tuple[int, int],
        takeover: float,
        describe: Callable[[EdgeState], None],
        gained: Callable[[Sequence[int]], None],
    ) -> None:
        """Join the pool; until the node is deactivated.

        Args:
            cells: Namespaces of the cells, as the node's topics have them.
            models: See EdgeMember.
            takeover: Seconds without a sign of life after which an edge counts as gone.
            describe: Fills in what a sign of life tells of the work.
            gained: Called with the places, in `cells`, of those that the node answers for anew.
        """
        self._node = node
        self._describe = describe
        self._gained = gained
        self._spaces = tuple(
            node.resolve_topic_name(in_namespace('edges', cell), only_expand=True)[1:-6]
            for cell in cells
        )
        self._cells = tuple(cells)
        self._own = EdgeMember(
            node.get_fully_qualified_name().lstrip('/'),
            secrets.randbits(64),
            models,
            frozenset(self._spaces),
        )
        self._silence_ns = round(takeover * 1e9)
        self._pool = EdgePool(self._own, self._silence_ns)
        self._places = [1] * len(cells)
        self._since_ns = [0] * len(cells)
        self._feedback: dict[int, PolledTopic] = {}
        period = takeover / BEATS
        self._publisher = node.publish_on('/edges')
        node.resources.callback(self._leave)
        node.listen('/edges', self._on_state)
        self._joined_ns = self._came_ns = self._now_ns()
        self._is_alone = False
        if node.count_publishers('/edges') > 1:
            self._joined_ns += round(JOINING_BEATS * period * 1e9)
        node.every(period, self.beat)

    def serves(self, cell: int) -> bool:
        """Return whether the node answers for a cell."""
        return self._places[cell] == 0

    def stands_by(self, cell: int) -> bool:
        """Return whether the node is the next to answer for a cell."""
        return self._places[cell] == 1

    def serves_since_ns(self, cell: int) -> int:
        """Return since when (ns, steady) it answers for a cell, for the last time."""
        return self._since_ns[cell]

    @property
    def is_alone(self) -> bool:
        """Return whether no other edge is there, as is known some time after this one came."""
        return self._now_ns() - self._came_ns > self._silence_ns and not self.others

    @property
    def others(self) -> tuple[str, ...]:
        """Return the names of the other edges that are there."""
        return tuple(member.name for member in self._pool.members(self._now_ns())[1:])

    @property
    def served(self) -> tuple[int, ...]:
        """Return the cells that the node answers for."""
        return tuple(cell for cell, place in enumerate(self._places) if place == 0)

    def asked(self, cell: int) -> None:
        """Take in a packet of a cell that another edge should answer."""
        self._pool.asked(self._spaces[cell], self._now_ns())

    def reached(self, cell: int) -> None:
        """Take in that a packet of a cell arrived, which may make the cell this node's."""
        if self._pool.reached(self._spaces[cell]):
            self._refresh(self._now_ns())
            if self.serves(cell):
                self._publisher.publish(self._state())

    def beat(self) -> None:
        """Show a sign of life, and look who shows none."""
        for polled in self._feedback.values():
            polled.look()
        now_ns = self._now_ns()
        for space, name in self._pool.look(now_ns).items():
            self._node.warn(
                'mute_edge',
                f'{name} should answer for {space or "/"}, and nobody acknowledges anything of '
                'it; the next edge answers. End it if it hangs; who else publishes on /edges?',
            )
        self._refresh(now_ns)
        was_alone, self._is_alone = self._is_alone, self.is_alone
        if self._is_alone and not was_alone:
            self._gained(self.served)  # what seemed to be another one's is not
        self._report(now_ns)
        self._publisher.publish(self._state())

    def _now_ns(self) -> int:
        return clock_ns(self._node.steady_clock)

    def _state(self, *, leaving: bool = False) -> EdgeState:
        now_ns = self._now_ns()
        state = EdgeState(
            edge=self._own.name,
            instance=self._own.instance,
            leaving=leaving,
            codec_id=self._own.models[0],
            model_id=self._own.models[1],
            cells=list(self._spaces),
            serves=[
                space for space in self._spaces if not leaving and self._pool.claims(space, now_ns)
            ],
        )
        state.header.stamp = to_stamp(clock_ns(self._node.get_clock()))
        self._describe(state)
        return state

    def _leave(self) -> None:
        self._publisher.publish(self._state(leaving=True))

    def _on_state(self, message: EdgeState) -> None:
        if (
            len(message.edge) > LONGEST_NAME
            or max(len(message.cells), len(message.serves)) > MOST_CELLS
        ):
            self._node.health.count('edges_refused')
            return
        member = EdgeMember(
            message.edge,
            message.instance,
            (message.codec_id, message.model_id),
            frozenset(message.cells),
            frozenset(message.serves),
        )
        now_ns = self._now_ns()
        if message.leaving:
            if member.key != self._own.key:
                self._pool.left(member.key)
                self._refresh(now_ns)
        elif self._pool.heard(member, now_ns):
            self._refresh(now_ns)

    def _refresh(self, now_ns: int) -> None:
        """Take up the cells that are the node's now, and leave those that are another one's."""
        if now_ns < self._joined_ns:
            return
        gained = []
        for cell, space in enumerate(self._spaces):
            place = self._pool.take(space, now_ns)
            if place and cell not in self._feedback:
                self._listen(cell)
            if not place and self._places[cell]:
                self._since_ns[cell] = now_ns
                gained.append(cell)
            self._places[cell] = place
        if gained:
            self._gained(gained)

    def _listen(self, cell: int) -> None:
        """See from now on whether another edge acknowledges what a cell sends."""
        space = self._spaces[cell]
        topic = self._node.resolve_topic_name(in_namespace('feedback_tx', self._cells[cell]))

        def take(message: FeatureFeedback, info: MessageInfo | None) -> None:
            if message.status == FeatureFeedback.STATUS_ALIVE:
                return
            if not self.serves(cell):
                self._pool.answered(space)
            elif self._pool.is_passed_over(space):
                name = publisher_name(self._node, topic, publisher_gid(info))
                self._pool.acknowledges(space, name.lstrip('/'))

        self._feedback[cell] = self._node.look(
            'feedback_tx',
            take,
            alike=lambda data: data[_STATUS_AT] if len(data) > _STATUS_AT else None,
            period=None,
            cell=self._cells[cell],
        )

    def _report(self, now_ns: int) -> None:
        self._node.health.set_value('pool', ' '.join(self.others) or 'alone')
        self._node.health.set_value('serves', len(self.served))
        differing = self._pool.differing(now_ns)
        if differing:
            named = ', '.join(
                f'{member.name} (codec {member.models[0]:016x}, model {member.models[1]:016x})'
                for member in differing[:3]
            )
            self._node.set_condition(
                'edges_differ',
                Level.ERROR,
                f'edges_differ: {named} serves cells of this edge with other models than these '
                f'(codec {self._own.models[0]:016x}, model {self._own.models[1]:016x}): both '
                'answer them, and one is not believed; give all edges of a cell one model folder',
            )
        else:
            self._node.clear_condition('edges_differ', 'all edges of these cells are alike')
