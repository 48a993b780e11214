# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The end of a slow link: the only node of its side that the other side sees.

Two nodes of this package that find each other tell each other of some forty parameter and life
cycle services, each several hundred bytes on the wire; a link of 34 kbit/s is busy with that for a
minute and more. A gateway has none of these. It passes on three topics as they are, serialised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from rclpy.parameter import Parameter
from rclpy.publisher import Publisher

from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.settings import NodeSettings, parameter


@dataclass(frozen=True)
class LinkGatewaySettings(NodeSettings):
    """Parameters of a gateway; there is no service to change them while it runs."""

    niceness: int = parameter(
        -10,
        'Scheduling priority of the thread that runs the node: -20 (first) to 19. It must '
        'not wait for models. What the system does not permit is reported and otherwise left '
        'out.',
        minimum=-20,
        maximum=19,
        fixed=True,
    )


class LinkGateway(ConveyorNode):
    """Passes messages on from one topic to another, in both directions of the link."""

    SETTINGS = LinkGatewaySettings
    HEARTBEATS = False
    RELAYS: ClassVar[Mapping[str, str]]  # topic heard → topic published

    def __init__(self, **arguments: Any) -> None:
        """Make a node with as few publishers and subscriptions as there can be.

        Raises:
            ConfigError: Naming the parameter that is unknown or has a wrong value.
        """
        overrides = [
            *(arguments.pop('parameter_overrides', None) or ()),
            Parameter('start_type_description_service', value=False),
        ]
        super().__init__(
            enable_communication_interface=False,
            enable_rosout=False,
            start_parameter_services=False,
            parameter_overrides=overrides,
            **arguments,
        )

    def activate(self) -> None:
        """Join both sides."""
        for source, target in self.RELAYS.items():
            self._relay(source, self.publish_on(target))

    def _relay(self, source: str, publisher: Publisher) -> None:
        def take(serialized: bytes) -> None:
            self.tick(source)
            self.health.count(f'{source}.bytes', len(serialized))
            publisher.publish(serialized)

        self.listen(source, take, raw=True)


DEVICE_RELAYS = MappingProxyType(
    {
        'features_tx': 'link/features',
        'link/feedback': 'feedback_rx',
        'link/edge_classification': 'edge_classification',
    }
)
EDGE_RELAYS = MappingProxyType(
    {
        'link/features': 'features_rx',
        'feedback_tx': 'link/feedback',
        'edge_classification_tx': 'link/edge_classification',
    }
)
