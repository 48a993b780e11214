# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a graph of nodes is made of, and whether its publishers and subscriptions fit together."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rclpy.action import (
    get_action_client_names_and_types_by_node,
    get_action_server_names_and_types_by_node,
)
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible

# Each action is three services and two topics with this in their names.
ACTION_PART = '/_action/'
# What rmw calls the node of an endpoint that it does not know yet.
UNKNOWN = '_NODE_NAME_UNKNOWN_'


@dataclass(frozen=True)
class NodeInterface:
    """Fully qualified names that a node uses, with the types of each: {name: {type, ...}}."""

    publishers: dict
    subscriptions: dict
    services: dict
    clients: dict
    action_servers: dict
    action_clients: dict


def _by_name(pairs, *, actions=False):
    return {name: set(types) for name, types in pairs if actions or ACTION_PART not in name}


def node_interface(probe: Node, name: str, namespace: str = '/') -> NodeInterface:
    """Return what `probe` sees of a node; actions are told apart from their services."""
    return NodeInterface(
        _by_name(probe.get_publisher_names_and_types_by_node(name, namespace)),
        _by_name(probe.get_subscriber_names_and_types_by_node(name, namespace)),
        _by_name(probe.get_service_names_and_types_by_node(name, namespace)),
        _by_name(probe.get_client_names_and_types_by_node(name, namespace)),
        _by_name(get_action_server_names_and_types_by_node(probe, name, namespace), actions=True),
        _by_name(get_action_client_names_and_types_by_node(probe, name, namespace), actions=True),
    )


def wait_until_settled(probe: Node, names, timeout: float = 30.0, quiet: float = 4.0) -> None:
    """Wait until `probe` sees these nodes ('/namespace/name') and the graph no longer changes.

    Discovery tells of a node before it tells of its endpoints, and of an endpoint before it tells
    to which node that belongs; what is lost of that comes again with the next heartbeat.

    Args:
        quiet: Seconds without a change, every endpoint having its node; longer than the 3 s
            between two heartbeats of Fast DDS.
    """
    end = time.monotonic() + timeout
    before, since = None, time.monotonic()
    while True:
        now = time.monotonic()
        seen = {
            f'{namespace.rstrip("/")}/{name}'
            for name, namespace in probe.get_node_names_and_namespaces()
        }
        endpoints = {
            (topic, find.__name__): sorted(info.node_name for info in find(topic))
            for topic, _ in probe.get_topic_names_and_types()
            for find in (probe.get_publishers_info_by_topic, probe.get_subscriptions_info_by_topic)
        }
        if (seen, endpoints) != before or any(UNKNOWN in owners for owners in endpoints.values()):
            before, since = (seen, endpoints), now
        if set(names) <= seen and now - since >= quiet:
            return
        assert now < end, (
            f'not in the graph: {sorted(set(names) - seen)}, or it never settles; of nobody: '
            f'{sorted(key for key, owners in endpoints.items() if UNKNOWN in owners)}'
        )
        # Python is not told of changes of the graph (rclpy issue 929): rclpy's wait_for_node
        # looks again and again, too.
        time.sleep(0.1)


def incompatible_topics(probe: Node) -> list:
    """Return a line for every publisher and subscription of the graph that cannot connect."""
    found = []
    for topic, types in probe.get_topic_names_and_types():
        if len(types) > 1:
            found.append(f'{topic}: has the types {", ".join(sorted(types))}')
        for publisher in probe.get_publishers_info_by_topic(topic):
            for subscription in probe.get_subscriptions_info_by_topic(topic):
                verdict, reason = qos_check_compatible(
                    publisher.qos_profile, subscription.qos_profile
                )
                if verdict == QoSCompatibility.ERROR:
                    found.append(
                        f'{topic}: {publisher.node_name} -> {subscription.node_name}: {reason}'
                    )
    return found
