# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Which publishers and subscribers of a cell are missing, or too many, by the table of topics."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from stl_conveyor.nodes.base.decoding import SOMEBODY, UNKNOWN, endpoint_name
from stl_conveyor.nodes.base.topics import EDGE, TOPICS, Topic

# Topics on which a second publisher would do an item's work twice, forge it, or be a second of
# what there is one of: a camera, an actuator, an edge, a belt.
SINGLE = (
    'camera/image_raw',
    'camera/image_raw/compressed',
    'break_beam',
    'capture',
    'classification',
    'offload_decision',
    'features_tx',
    'feedback_rx',
    'edge_classification',
    'transfer',
    'token_bucket',
    'sort_outcome',
    'belt_state',
    'safe_to_run',
)
# Of these a cell may have one for each edge of its pool.
OF_EDGES = ('feedback_rx', 'edge_classification')
# Which of these the camera listens to depends on its parameters.
BY_PARAMETERS = ('camera/image_raw', 'camera/image_raw/compressed', 'break_beam', 'belt_state')


class Graph(Protocol):
    """What a node knows of the graph."""

    def count_publishers(self, topic_name: str, /) -> int:
        """Return how many publish on a topic."""

    def count_subscribers(self, topic_name: str, /) -> int:
        """Return how many listen to a topic."""

    def get_publishers_info_by_topic(self, topic_name: str, /) -> Sequence[Any]:
        """Return who publishes on a topic."""

    def get_subscriptions_info_by_topic(self, topic_name: str, /) -> Sequence[Any]:
        """Return who listens to a topic."""


class Surplus(NamedTuple):
    """Publishers of a topic of which there must be one: how many there are, and what is said."""

    publishers: int
    text: str


class GraphEnds:
    """Compares the graph around a node with the table, and asks no more than it must.

    To count ends costs little, to ask whose they are much. So it is asked when a count has changed
    and then has been the same for a while, in which an end that was just made becomes known.
    """

    def __init__(
        self,
        graph: Graph,
        expected: Collection[str],
        *,
        settle: int = 4,
        table: Sequence[Topic] = TOPICS,
    ) -> None:
        """Look at the topics of the expected nodes.

        Args:
            settle: How many looks must find the same before it is asked whose the ends are.
        """
        self._graph = graph
        self._settle = settle
        self._topics = tuple(
            topic
            for topic in table
            if not topic.name.startswith('/')
            and topic.name not in BY_PARAMETERS
            and set(expected) & {*topic.publishers, *topic.subscribers} - set(topic.optional)
        )
        self._seen: object = None
        self._same = 0
        self._missing: dict[str, str] = {}

    def surplus(self, ghosts: Mapping[str, int] = MappingProxyType({})) -> dict[str, Surplus]:
        """Return the topics with publishers of which there must be one.

        Args:
            ghosts: Topic → how many of its publishers are of processes that are known to be dead,
                which the graph remembers for a while.
        """
        found = {}
        for topic in SINGLE:
            if self._graph.count_publishers(topic) > 1 + ghosts.get(topic, 0):
                ends = self._graph.get_publishers_info_by_topic(topic)
                if topic in OF_EDGES and all(end.node_name in EDGE for end in ends):
                    continue
                names = [endpoint_name(end) or SOMEBODY for end in ends]
                if len(names) > 1:
                    found[topic] = Surplus(
                        len(names),
                        f'surplus_publisher: {len(names)} publish on {topic}, '
                        f'{", ".join(sorted(names))}: one is right',
                    )
        return found

    def missing(self, active: Iterable[str], namespace: str) -> dict[str, str]:
        """Return fault → what is said of an end that an active node should have and has not.

        Args:
            active: Names of the nodes that are active now.
            namespace: Of these nodes, without the first slash.
        """
        active = frozenset(active)
        counts = tuple(
            (self._graph.count_publishers(topic.name), self._graph.count_subscribers(topic.name))
            for topic in self._topics
        )
        if (active, counts) != self._seen:
            self._seen, self._same, self._missing = (active, counts), 0, {}
        self._same += 1
        # What is missing may come while something else goes.
        if self._same == self._settle or (self._missing and self._same % self._settle == 0):
            self._missing = self._ask(active, namespace)
        return self._missing

    def _ask(self, active: frozenset[str], namespace: str) -> dict[str, str]:
        missing = {}
        for topic in self._topics:
            for verb, listed, ask in (
                ('publishes', topic.publishers, self._graph.get_publishers_info_by_topic),
                ('listens', topic.subscribers, self._graph.get_subscriptions_info_by_topic),
            ):
                wanted = (active & set(listed)) - set(topic.optional)
                if not wanted:
                    continue
                ends = ask(topic.name)
                if any(end.node_name == UNKNOWN for end in ends):
                    self._same = 0  # ask again
                    continue
                there = {
                    end.node_name for end in ends if end.node_namespace.strip('/') == namespace
                }
                fault = 'missing_publisher' if verb == 'publishes' else 'missing_subscriber'
                for name in sorted(wanted - there):
                    missing[f'{fault}.{name}.{topic.name}'] = (
                        f'{fault}: {name} is active, and nothing of it {verb} on {topic.name}: '
                        'compare the remappings and the ROS domains'
                    )
        return missing
