# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The graph of all nodes: every publisher and subscription can connect."""
from contextlib import contextmanager
import random

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from graph_checks import incompatible_topics, node_interface, wait_until_settled  # noqa: E402
import rclpy  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from std_msgs.msg import Header, String  # noqa: E402

pytestmark = pytest.mark.ros


@pytest.fixture
def domain_id():
    return random.SystemRandom().randint(101, 200)


@contextmanager
def lone_node(name, domain_id):
    """Yield a node with a context, and so a participant, of its own."""
    context = Context()
    rclpy.init(context=context, domain_id=domain_id)
    node = rclpy.create_node(name, context=context, use_global_arguments=False)
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)


@pytest.fixture
def probe(domain_id):
    with lone_node('probe', domain_id) as node:
        yield node


def test_a_graph_in_which_nothing_can_connect_is_found_out(probe, domain_id):
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    probe.create_publisher(String, 'good', 1)
    probe.create_subscription(String, 'good', lambda _: None, best_effort)
    wait_until_settled(probe, ['/probe'])
    assert incompatible_topics(probe) == []
    probe.create_publisher(String, 'bad', best_effort)
    probe.create_subscription(String, 'bad', lambda _: None, 1)
    with lone_node('other', domain_id) as other:
        other.create_publisher(Header, 'good', 1)
        wait_until_settled(probe, ['/probe', '/other'])
        (bad, mixed) = sorted(incompatible_topics(probe))
    assert bad.startswith('/bad: probe -> probe: ') and 'reliab' in bad.lower()
    assert mixed == '/good: has the types std_msgs/msg/Header, std_msgs/msg/String'


def test_a_nodes_interface_is_seen(probe):
    probe.create_publisher(String, 'said', 1)
    wait_until_settled(probe, ['/probe'])
    seen = node_interface(probe, 'probe')
    assert seen.publishers['/said'] == {'std_msgs/msg/String'}
    assert '/probe/get_parameters' in seen.services
    assert not seen.clients and not seen.action_servers and not seen.action_clients
