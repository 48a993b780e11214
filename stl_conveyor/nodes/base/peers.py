# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Waiting for the nodes that must be there before the first item comes."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.publisher import Publisher

from stl_conveyor.nodes.base.clock import clock_ns
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.health import Level
from stl_conveyor.nodes.base.settings import NodeSettings, parameter

ORDINARY_NS = 10_000_000_000  # that a start takes; beyond, something is missing


@dataclass(frozen=True)
class WaitingSettings(NodeSettings):
    """Parameters of a node that waits for others."""

    wait_for: tuple[str, ...] = parameter(
        ('',),
        'Topics that must have a publisher before the first item comes, so that nothing '
        'passes nodes that are still loading their models. An empty name is none.',
    )
    wait_limit: float = parameter(
        60.0, 'Seconds after which items come even so.', minimum=0.0, maximum=3600.0
    )


class PeerWatch:
    """Looks for the nodes that must be there before the first item comes."""

    def __init__(self, node: ConveyorNode, heard_on: Publisher | None = None) -> None:
        """Begin to wait for the publishers that the node's parameter `wait_for` names.

        Args:
            node: Whose parameters say what is waited for.
            heard_on: A publisher of the node to which each of those others must listen.
        """
        self._node = node
        self._heard_on = heard_on
        self._since_ns = clock_ns(node.steady_clock)
        self._present = False
        self._said = self._warned = False

    def present(self) -> bool:
        """Return whether items may come; say what is missing until then."""
        if self._present:
            return True
        node, settings = self._node, self._node.settings
        awaited = [topic for topic in settings.wait_for if topic]
        missing = [topic for topic in awaited if not node.count_publishers(topic)]
        text = f'waiting for publishers of {", ".join(missing)}'
        if not missing and self._heard_on is not None:
            readers = self._heard_on.get_subscription_count()
            if readers < len(awaited):
                missing = [self._heard_on.topic_name]
                text = (
                    f'waiting for listeners to {self._heard_on.topic_name}: there are {readers} '
                    f'of {len(awaited)}'
                )
        waited_ns = clock_ns(node.steady_clock) - self._since_ns
        if missing and waited_ns < settings.wait_limit * 1e9:
            if waited_ns > ORDINARY_NS:
                node.set_condition('wait_for', Level.WARN, text)
                self._warned = True
            elif not self._said:
                node.get_logger().info(text)
                self._said = True
            return False
        self._present = True
        if self._warned:
            node.clear_condition('wait_for', 'the cell is there: items come')
        elif self._said:
            node.get_logger().info('the cell is there: items come')
        return True
