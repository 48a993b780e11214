# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The end of a slow link: the only node of its side that the other side sees.

Two nodes of this package that find each other tell each other of some forty parameter and life
cycle services, each several hundred bytes on the wire; a link of 34 kbit/s is busy with that for a
minute and more. A gateway has none of these. It passes on three topics as they are, serialised.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from rclpy.parameter import Parameter
from rclpy.publisher import Publisher

from stl_conveyor.errors import ConfigError
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.health import Level
from stl_conveyor.nodes.base.settings import NodeSettings, parameter, urgent_niceness
from stl_conveyor.nodes.link.own_address import own_address_towards, running_addresses

#: Exit code of a gateway that is to be started again, because its machine got another address.
ANOTHER_ADDRESS = 75


@dataclass(frozen=True)
class LinkGatewaySettings(NodeSettings):
    """Parameters of a gateway; there is no service to change them while it runs."""

    peer: str = parameter(
        '',
        'Address (IPv4) of the other side, as in the Fast DDS profile; empty: whether this '
        'machine can be reached from there is not looked at.',
        fixed=True,
    )
    niceness: int = urgent_niceness()


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
        # Of these the middleware tells the other side; it never looks again.
        self._announced = frozenset(running_addresses())
        self._is_unreachable = False
        super().__init__(
            enable_communication_interface=False,
            enable_rosout=False,
            start_parameter_services=False,
            parameter_overrides=overrides,
            **arguments,
        )

    def check_settings(self, settings: LinkGatewaySettings) -> None:
        """Refuse what is no address."""
        if settings.peer:
            try:
                ipaddress.IPv4Address(settings.peer)
            except ValueError as error:
                raise ConfigError(
                    f'peer: {settings.peer!r} is no IPv4 address; give that of the other side'
                ) from error

    def activate(self) -> None:
        """Join both sides."""
        for source, target in self.RELAYS.items():
            self._relay(source, self.publish_on(target))
        if self.settings.peer:
            self.watch(self._look_for_the_way)

    def _look_for_the_way(self) -> None:
        """End when the other side cannot reach this one: the middleware does not look again."""
        peer = self.settings.peer
        here = own_address_towards(peer)
        if not here:
            self.clear_condition('address_changed', f'no interface leads to {peer}')
            self.set_condition(
                'no_way_to_peer',
                Level.WARN,
                f'no interface that runs leads to {peer}: plug the cable in, or connect the radio',
            )
            return
        self.clear_condition('no_way_to_peer', f'{here} leads to {peer}')
        if here in self._announced:
            self.clear_condition('address_changed', f'{here} was there at the start')
            self._is_unreachable = False
        elif self._is_unreachable:  # that has been said by now
            self.end(ANOTHER_ADDRESS)
        else:
            self._is_unreachable = True
            self.set_condition(
                'address_changed',
                Level.ERROR,
                f'{peer} is reached from {here}, which this machine did not have when the node '
                'started: nothing comes back from there; the gateway ends, to be started again',
            )

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
