# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Hear for a while what edges and devices say of themselves; `stl-conveyor fleet status`."""

from __future__ import annotations

from collections.abc import Callable

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context

from stl_conveyor.cell.fleet_signs import SeenEdge, SeenStatus
from stl_conveyor.msg import EdgeState
from stl_conveyor.nodes.base.health import fault_of_status, fault_status_name
from stl_conveyor.nodes.base.onlooker import look_on
from stl_conveyor.nodes.base.qos import make_profile, message_class
from stl_conveyor.nodes.base.topics import subscriber_of

# Names that are kept; somebody who speaks under many must not fill the memory.
MOST_NAMES = 20_000


class FleetWatch:
    """A node that keeps the last that each edge and each node has said."""

    NAME = 'fleet_watch'

    def __init__(self, context: Context) -> None:
        """Listen."""
        self.edges: dict[str, SeenEdge] = {}
        self.statuses: dict[str, SeenStatus] = {}
        self.node = rclpy.create_node(self.NAME, context=context, use_global_arguments=False)
        for name, take in (('/edges', self._on_edge), ('/diagnostics', self._on_diagnostics)):
            topic = subscriber_of(name, self.NAME)
            self.node.create_subscription(
                message_class(topic), topic.name, take, make_profile(topic.heard_by(self.NAME))
            )

    def _on_edge(self, message: EdgeState) -> None:
        if message.leaving:
            self.edges.pop(message.edge, None)
        elif message.edge in self.edges or len(self.edges) < MOST_NAMES:
            self.edges[message.edge] = SeenEdge(
                message.edge,
                message.codec_id,
                message.model_id,
                message.model,
                tuple(message.serves),
                message.load,
                message.answers,
                message.capacity,
                message.price,
            )

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.hardware_id != 'stl_conveyor':
                continue
            if status.name not in self.statuses and len(self.statuses) >= MOST_NAMES:
                continue
            if fault_of_status(status.name) is None:
                # What was wrong with the node, and is not said again.
                faults = fault_status_name(status.name, '')
                for name in [n for n in self.statuses if n.startswith(faults)]:
                    del self.statuses[name]
            self.statuses[status.name] = SeenStatus(
                status.name,
                status.level[0],
                status.message,
                {value.key: value.value for value in status.values},
            )


def watch_fleet(
    seconds: float,
    *,
    domain_id: int | None = None,
    enough: Callable[[FleetWatch], bool] = lambda watch: False,
) -> tuple[list[SeenEdge], list[SeenStatus]]:
    """Return what was heard of edges and nodes.

    Args:
        seconds: For which to listen at most.
        enough: Tells when nothing more needs to be heard.
    """
    watch = look_on(FleetWatch, enough, domain_id=domain_id, seconds=seconds)
    return list(watch.edges.values()), list(watch.statuses.values())
