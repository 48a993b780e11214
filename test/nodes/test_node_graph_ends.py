# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Surplus and missing ends are found by the table of topics, once the graph has settled."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from stl_conveyor.nodes.base.topics import DEVICE, TOPICS
from stl_conveyor.nodes.device.graph_ends import (
    BY_PARAMETERS,
    OF_EDGES,
    SINGLE,
    UNKNOWN,
    GraphEnds,
)

NAMES = tuple(name for name in DEVICE if name != 'cell_guard')


def end(node, namespace='/line_1'):
    return SimpleNamespace(node_name=node, node_namespace=namespace)


@dataclass
class FakeGraph:
    publishers: dict = field(default_factory=dict)
    subscribers: dict = field(default_factory=dict)
    asked: int = 0

    def count_publishers(self, topic):
        return len(self.publishers.get(topic, ()))

    def count_subscribers(self, topic):
        return len(self.subscribers.get(topic, ()))

    def get_publishers_info_by_topic(self, topic):
        self.asked += 1
        return self.publishers.get(topic, ())

    def get_subscriptions_info_by_topic(self, topic):
        self.asked += 1
        return self.subscribers.get(topic, ())


@pytest.fixture
def graph():
    """Return a whole cell, without what nodes use with some parameters only."""
    graph = FakeGraph()
    for topic in TOPICS:
        for ends, names in (
            (graph.publishers, topic.publishers),
            (graph.subscribers, topic.subscribers),
        ):
            ends[topic.name] = [
                end(name) for name in names if name in NAMES and name not in topic.optional
            ]
    return graph


def settled(ends, active=NAMES):
    for _ in range(10):
        found = ends.missing(active, 'line_1')
    return found


def test_a_whole_cell_misses_nothing_and_is_not_asked_again(graph):
    ends = GraphEnds(graph, NAMES)
    assert settled(ends) == {} == ends.surplus()
    asked = graph.asked
    assert settled(ends) == {} and graph.asked == asked


@pytest.mark.parametrize(
    'topic', [t for t in TOPICS if t.name not in BY_PARAMETERS and not t.name.startswith('/')]
)
def test_every_end_that_is_missing_is_named(graph, topic):
    for ends, names, fault in (
        (graph.publishers, topic.publishers, 'missing_publisher'),
        (graph.subscribers, topic.subscribers, 'missing_subscriber'),
    ):
        for name in set(names) & set(NAMES) - set(topic.optional):
            whole = list(ends[topic.name])
            ends[topic.name] = [each for each in whole if each.node_name != name]
            looking = GraphEnds(graph, NAMES)
            (text,) = settled(looking).values()
            assert text.startswith(f'{fault}: {name} ') and topic.name in text
            # One that is not active misses nothing, nor does one of another cell count.
            assert settled(looking, [each for each in NAMES if each != name]) == {}
            ends[topic.name].append(end(name, '/line_2'))
            assert len(settled(looking)) == 1
            ends[topic.name] = whole
            assert settled(looking) == {}


@pytest.mark.parametrize('topic', SINGLE)
def test_every_surplus_publisher_is_named(graph, topic):
    graph.publishers[topic] = [end('one'), end('two', '/')]
    ((publishers, text),) = GraphEnds(graph, NAMES).surplus().values()
    assert GraphEnds(graph, NAMES).surplus({topic: 1}) == {}, 'one is dead'
    assert publishers == 2
    assert text == (f'surplus_publisher: 2 publish on {topic}, /line_1/one, /two: one is right')


@pytest.mark.parametrize('topic', OF_EDGES)
def test_several_edges_are_a_pool_and_anything_beside_one_is_named(graph, topic):
    edges = [end('edge_classifier', space) for space in ('/hall/a', '/hall/b', '/')]
    graph.publishers[topic] = edges
    assert GraphEnds(graph, NAMES).surplus() == {}
    graph.publishers[topic] = [*edges, end('link_emulator')]
    ((publishers, text),) = GraphEnds(graph, NAMES).surplus().values()
    assert publishers == 4 and text.startswith(f'surplus_publisher: 4 publish on {topic}, ')


def test_while_the_graph_changes_or_is_half_known_nothing_is_said(graph):
    ends = GraphEnds(graph, NAMES, settle=3)
    (actuator,) = graph.publishers['sort_outcome']
    graph.publishers['sort_outcome'] = []
    for number in range(6):
        assert ends.missing(NAMES, 'line_1') == {}
        graph.subscribers['capture'].append(end(f'monitor_{number}'))
    graph.publishers['sort_outcome'] = [end(UNKNOWN, UNKNOWN)]
    assert settled(ends) == {}
    graph.publishers['sort_outcome'] = [actuator]
    assert settled(ends) == {}


def test_single_topics_are_in_the_table():
    assert set(SINGLE) <= {topic.name for topic in TOPICS}
