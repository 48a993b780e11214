# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Fast DDS profiles for the network between device and edge.

``python -m stl_conveyor.deploy.fastdds_profiles uplink --peer 192.168.1.20 > uplink.xml`` prints
one; a process takes it with ``FASTDDS_DEFAULT_PROFILES_FILE=uplink.xml`` (Jazzy:
``FASTRTPS_DEFAULT_PROFILES_FILE``) and ``ROS_AUTOMATIC_DISCOVERY_RANGE=SYSTEM_DEFAULT``.

For Wi-Fi (docs/two_machines.md), shipped as config/fastdds_device.xml and fastdds_edge.xml:

* ``device``: every process at the belt. Wi-Fi sends multicast at its lowest rate and does not
  repeat what is lost, so the edge is found by its address and multicast is not used. A datagram
  stays below one MTU, because one lost fragment loses all of it. A pause of the radio of up to a
  minute does not end the acquaintance.
* ``edge``: the same on the server, where the devices announce themselves; it knows of none.

For a slow link (docs/network.md). By default every ROS process announces itself to everybody
again and again and tells of all its parameter services, which alone fills a link of 34 kbit/s.
With these only one node of each side, its gateway, knows of the other side; it announces itself
rarely and to one port. Images, captures and simulation never leave the machine.

* ``local``: every other node, on both sides. Shared memory and the loopback interface only.
* ``uplink``: device_gateway. ``downlink``: edge_gateway. Each is told the address of the other. It
  says that it is at the loopback address, too: by that the other nodes of its machine find it when
  it was started again because the machine got another address, which they know nothing of.

A reliable writer sends its heartbeat every 50 ms while something is unacknowledged
(``stl_conveyor.nodes.base.middleware`` says why), a gateway's every 250 ms: what the link has lost
holds back the later answers until then, and 50 ms would fill the link. And, but for the gateways,
no writer or reader has room for a hundred samples before the first: a node has some 27 of them,
and each of its services two, which made one megabyte of memory for each node.

A process that starts is told of some hundred ends by each of the others within milliseconds. What
its socket has no room for is told again a second later at the earliest (Fast DDS has this period
fixed), and until then two ends that belong together do not know of each other. So no participant
tells what its types look like, which makes each message longer and which nobody asks for (ROS
tells them apart by name and hash), and sockets have room for more where the system allows it
(``net.core.rmem_max``).

``writers`` has this alone; nodes load it by themselves where no other profile is chosen. Fast DDS
2, which Jazzy has, names it otherwise: a profile is written for the distribution in
``ROS_DISTRO``, and what ships for Jazzy ends with ``_jazzy``.

The launch argument gateway_peer writes and uses these.
"""

from __future__ import annotations

import argparse
import ipaddress
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree

from stl_conveyor.errors import ConfigError, exit_code
from stl_conveyor.nodes.base.middleware import (
    HEARTBEAT_NS,
    OLD_PROFILES_VARIABLE,
    PROFILES_VARIABLE,
    has_old_fastdds,
)

WIFI = ('device', 'edge')
GATEWAYS = ('uplink', 'downlink')
NODE_ROLES = MappingProxyType({'device_gateway': 'uplink', 'edge_gateway': 'downlink'})
ROLES = (*WIFI, 'local', *GATEWAYS, 'writers')
MOST_GATEWAYS = 20  # on one machine; participants above 119 run into the ports of the next domain
LEASE = 60  # s without an announcement after which a participant counts as gone
PROCESSES = 32  # ROS processes on one machine that find each other over loopback
GATEWAY = 100  # number of a gateway's participant, so that its port is known beforehand
SOCKET_ROOM = 4 * 2**20  # bytes of messages that have come and were not read yet
SEGMENT = 16 * 2**20  # bytes of shared memory: some frames of a camera; 512 kB hold not one
#: Between two heartbeats over a slow link (ns); one is a frame of some 100 bytes.
SLOW_HEARTBEAT_NS = 250_000_000
DOMAINS = 232  # more have no ports (RTPS 2.5, 9.6.2.3)
LOOPBACK = '127.0.0.1'
ANY_ADDRESS = '0.0.0.0'  # those of the interfaces that run at the start
EDGE_ADDRESS = '${EDGE_ADDRESS}'  # Fast DDS puts the environment's variable there

# Room for samples that an end has before any is there; more comes with the samples.
_FEW_AT_FIRST: Mapping[str, Any] = {'topic': {'resourceLimitsQos': {'allocated_samples': 1}}}
# A participant tells the names of its types, and not what they look like.
_NAMES_OF_TYPES: Mapping[str, Any] = {
    'propertiesPolicy': {
        'properties': {'property': {'name': 'fastdds.type_propagation', 'value': 'disabled'}}
    }
}
# What differs: seconds between announcements, how many at first, and the transports.
_ON_WIFI: Mapping[str, Any] = {
    'announcement': 10,
    'first': 10,
    'shared_memory': {'port_queue_capacity': 4096},
    'udp': {'maxMessageSize': 1400, 'sendBufferSize': 2**20, 'maxInitialPeersRange': 16},
    'builtin': {'avoid_builtin_multicast': 'true'},
}
_ON_A_SLOW_LINK: Mapping[str, Any] = {
    'announcement': 15,
    'first': 3,
    'shared_memory': {},
    'udp': {'maxInitialPeersRange': PROCESSES},
    'builtin': {},
}


def discovery_port(domain: int, participant: int) -> int:
    """Return the UDP port on which a participant is told of others (RTPS 2.5, 9.6.2.3)."""
    return 7400 + 250 * domain + 10 + 2 * participant


def user_port(domain: int, participant: int) -> int:
    """Return the UDP port on which a participant receives its topics (RTPS 2.5, 9.6.2.3)."""
    return discovery_port(domain, participant) + 1


def profile_xml(
    role: str, *, domain: int = 0, peer: str = '', number: int = 0, old: bool | None = None
) -> str:
    """Return a profile as the text of an XML file.

    Args:
        role: One of `ROLES`.
        domain: ROS_DOMAIN_ID, for a gateway.
        peer: Address (IPv4) of the other side, for a gateway or the device; of the device: empty
            leaves it to the variable EDGE_ADDRESS.
        number: Of the gateway, from 0; the same on both sides, and one for each cell.
        old: For Fast DDS 2; by default if the environment is that of Jazzy.

    Raises:
        ConfigError: If there is no such role, domain or number, or the peer is no address.
    """
    if role not in ROLES:
        raise ConfigError(f'there is no profile {role!r}; choose from {", ".join(ROLES)}')
    if not 0 <= domain <= DOMAINS:
        raise ConfigError(f'domain {domain} is not within 0..{DOMAINS}')
    if not 0 <= number < MOST_GATEWAYS:
        raise ConfigError(f'gateway {number} is not within 0..{MOST_GATEWAYS - 1}')
    root = ElementTree.Element('dds', xmlns='http://www.eprosima.com')
    profiles = ElementTree.SubElement(root, 'profiles')
    if role == 'writers':
        participant = _participant(profiles, role)
        _add(participant, {'rtps': {'listenSocketBufferSize': SOCKET_ROOM, **_NAMES_OF_TYPES}})
    else:
        _add_participant(profiles, role, domain, peer, number)
    crosses = role in GATEWAYS
    writer = ElementTree.SubElement(
        profiles, 'data_writer', profile_name='quick', is_default_profile='true'
    )
    old = has_old_fastdds() if old is None else old
    period = 'heartbeatPeriod' if old else 'heartbeat_period'
    between = {'sec': 0, 'nanosec': SLOW_HEARTBEAT_NS if crosses else HEARTBEAT_NS}
    _add(writer, {**({} if crosses else _FEW_AT_FIRST), 'times': {period: between}})
    if not crosses:
        reader = ElementTree.SubElement(
            profiles, 'data_reader', profile_name='small', is_default_profile='true'
        )
        _add(reader, _FEW_AT_FIRST)
    ElementTree.indent(root)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<!-- Written by: python -m stl_conveyor.deploy.fastdds_profiles {role} -->\n'
        + ElementTree.tostring(root, encoding='unicode')
        + '\n'
    )


def _add_participant(
    profiles: ElementTree.Element, role: str, domain: int, peer: str, number: int
) -> None:
    link = _ON_WIFI if role in WIFI else _ON_A_SLOW_LINK
    peers: list[dict[str, Any]] = [{'address': LOOPBACK}]
    interfaces: dict[str, Any] = {}
    identity: dict[str, Any] = {}
    met_at: dict[str, Any] = {}
    if role == 'local':
        interfaces = {'interfaceWhiteList': {'address': LOOPBACK}}
    elif role == 'device':
        peers.append({'address': _address(peer) if peer else EDGE_ADDRESS})
    elif role in GATEWAYS:
        here = {
            'locator': [{'udpv4': {'address': address}} for address in (ANY_ADDRESS, LOOPBACK)]
        }
        identity = {'participantID': GATEWAY + number, 'defaultUnicastLocatorList': here}
        met_at = {'metatrafficUnicastLocatorList': here}
        peers.append({'port': discovery_port(domain, GATEWAY + number), 'address': _address(peer)})
    _add(
        profiles,
        {
            'transport_descriptors': {
                'transport_descriptor': [
                    {
                        'transport_id': 'shared_memory',
                        'type': 'SHM',
                        'segment_size': SEGMENT,
                        **link['shared_memory'],
                    },
                    {
                        'transport_id': 'udp',
                        'type': 'UDPv4',
                        'receiveBufferSize': SOCKET_ROOM,
                        **link['udp'],
                        **interfaces,
                    },
                ]
            }
        },
    )
    _add(
        _participant(profiles, role),
        {
            'rtps': {
                **identity,
                'useBuiltinTransports': 'false',
                'userTransports': {'transport_id': ['shared_memory', 'udp']},
                'builtin': {
                    **link['builtin'],
                    'discovery_config': {
                        'leaseDuration': {'sec': LEASE},
                        'leaseAnnouncement': {'sec': link['announcement']},
                        'initialAnnouncements': {'count': link['first'], 'period': {'sec': 1}},
                    },
                    **met_at,
                    'initialPeersList': {'locator': [{'udpv4': place} for place in peers]},
                },
                **_NAMES_OF_TYPES,
            }
        },
    )


def _participant(profiles: ElementTree.Element, role: str) -> ElementTree.Element:
    return ElementTree.SubElement(
        profiles, 'participant', profile_name=role, is_default_profile='true'
    )


def _address(peer: str) -> str:
    try:
        return str(ipaddress.IPv4Address(peer))
    except ValueError as error:
        raise ConfigError(f'peer {peer!r}: give the IPv4 address of the other side') from error


def _add(parent: ElementTree.Element, content: Mapping[str, Any]) -> None:
    """Add elements: a mapping has elements of its own, a list is one element after another."""
    for name, value in content.items():
        for each in value if isinstance(value, list) else [value]:
            child = ElementTree.SubElement(parent, name)
            if isinstance(each, Mapping):
                _add(child, each)
            else:
                child.text = str(each)


def environment(profile: Path) -> Mapping[str, str]:
    """Return the variables with which a process takes its discovery from a profile alone."""
    # Fast DDS 2 knows the older name; later ones warn of it.
    name = OLD_PROFILES_VARIABLE if has_old_fastdds() else PROFILES_VARIABLE
    return {
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SYSTEM_DEFAULT',
        'ROS_STATIC_PEERS': '',
        name: str(profile),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a profile; return the exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m stl_conveyor.deploy.fastdds_profiles',
        description='Print a Fast DDS profile for the network between device and edge.',
    )
    parser.add_argument('role', choices=ROLES, help='which side of the link')
    parser.add_argument('--domain', type=int, default=0, help='ROS_DOMAIN_ID')
    parser.add_argument('--peer', default='', help='address (IPv4) of the other side')
    parser.add_argument(
        '--number', type=int, default=0, help='of the gateway, where several cells have one each'
    )
    options = parser.parse_args(arguments)

    def work() -> None:
        print(
            profile_xml(
                options.role, domain=options.domain, peer=options.peer, number=options.number
            ),
            end='',
        )

    return exit_code('fastdds_profiles', work)


if __name__ == '__main__':
    sys.exit(main())
