# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""
Fast DDS profiles for a slow link between device and edge.

By default every ROS process announces itself to everybody again and again and tells of all its
parameter services, which alone fills a link of 34 kbit/s. With these profiles only one node of
each side, its gateway, knows of the other side; it announces itself rarely and to one port.
Images, captures and simulation never leave the machine.

* ``local``: every other node, on both sides. Shared memory and the loopback interface only.
* ``uplink``: device_gateway. ``downlink``: edge_gateway. Each is told the address of the other.

``python -m stl_conveyor.fastdds_profiles uplink --peer 192.168.1.20 > uplink.xml``, then run the
node with ``FASTDDS_DEFAULT_PROFILES_FILE=uplink.xml`` (Jazzy: ``FASTRTPS_DEFAULT_PROFILES_FILE``)
and ``ROS_AUTOMATIC_DISCOVERY_RANGE=SYSTEM_DEFAULT``.
"""
from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
import ipaddress
import os
from pathlib import Path
import sys

from stl_conveyor.errors import ConfigError

ROLES = ('local', 'uplink', 'downlink')
MOST_GATEWAYS = 20  # on one machine; participants above 119 run into the ports of the next domain
LEASE = 60  # s without an announcement after which a participant counts as gone
ANNOUNCEMENT = 15  # s between two announcements
PROCESSES = 32  # ROS processes on one machine that find each other over loopback
GATEWAY = 100  # number of a gateway's participant, so that its port is known beforehand
SEGMENT = 16 * 2 ** 20  # bytes of shared memory: some frames of a camera; 512 kB hold not one
DOMAINS = 232  # more have no ports (RTPS 2.5, 9.6.2.3)


def discovery_port(domain: int, participant: int) -> int:
    """Return the UDP port on which a participant is told of others (RTPS 2.5, 9.6.2.3)."""
    return 7400 + 250 * domain + 10 + 2 * participant


def user_port(domain: int, participant: int) -> int:
    """Return the UDP port on which a participant receives its topics (RTPS 2.5, 9.6.2.3)."""
    return discovery_port(domain, participant) + 1


def profile_xml(role: str, *, domain: int = 0, peer: str = '', number: int = 0) -> str:
    """
    Return a profile as the text of an XML file.

    :param role: one of `ROLES`.
    :param domain: ROS_DOMAIN_ID.
    :param peer: address (IPv4) of the other side, for a gateway.
    :param number: of the gateway, from 0; the same on both sides, and one for each cell.
    :raises ConfigError: if there is no such role, domain or number, or the peer is no address.
    """
    if role not in ROLES:
        raise ConfigError(f'there is no profile {role!r}; choose from {", ".join(ROLES)}')
    if not 0 <= domain <= DOMAINS:
        raise ConfigError(f'domain {domain} is not within 0..{DOMAINS}')
    if not 0 <= number < MOST_GATEWAYS:
        raise ConfigError(f'gateway {number} is not within 0..{MOST_GATEWAYS - 1}')
    peers = ['<locator><udpv4><address>127.0.0.1</address></udpv4></locator>']
    interfaces = identity = strangers = ''
    if role == 'local':
        interfaces = (
            '\n        <interfaceWhiteList><address>127.0.0.1</address></interfaceWhiteList>')
        strangers = ('\n            <ignoreParticipantFlags>FILTER_DIFFERENT_HOST'
                     '</ignoreParticipantFlags>')
    else:
        try:
            address = ipaddress.IPv4Address(peer)
        except ValueError as error:
            raise ConfigError(
                f'peer {peer!r}: give the IPv4 address of the other side') from error
        identity = f'\n        <participantID>{GATEWAY + number}</participantID>'
        peers.append(
            f'<locator><udpv4><port>{discovery_port(domain, GATEWAY + number)}</port>'
            f'<address>{address}</address></udpv4></locator>')
    peer_lines = '\n            '.join(peers)
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!-- Written by: python -m stl_conveyor.fastdds_profiles {role} -->
<dds xmlns="http://www.eprosima.com">
  <profiles>
    <transport_descriptors>
      <transport_descriptor>
        <transport_id>shared_memory</transport_id>
        <type>SHM</type>
        <segment_size>{SEGMENT}</segment_size>
      </transport_descriptor>
      <transport_descriptor>
        <transport_id>udp</transport_id>
        <type>UDPv4</type>
        <maxInitialPeersRange>{PROCESSES}</maxInitialPeersRange>{interfaces}
      </transport_descriptor>
    </transport_descriptors>
    <participant profile_name="{role}" is_default_profile="true">
      <rtps>{identity}
        <useBuiltinTransports>false</useBuiltinTransports>
        <userTransports>
          <transport_id>shared_memory</transport_id>
          <transport_id>udp</transport_id>
        </userTransports>
        <builtin>
          <discovery_config>{strangers}
            <leaseDuration><sec>{LEASE}</sec></leaseDuration>
            <leaseAnnouncement><sec>{ANNOUNCEMENT}</sec></leaseAnnouncement>
            <initialAnnouncements>
              <count>3</count>
              <period><sec>1</sec></period>
            </initialAnnouncements>
          </discovery_config>
          <initialPeersList>
            {peer_lines}
          </initialPeersList>
        </builtin>
        <propertiesPolicy>
          <properties>
            <property>
              <name>fastdds.type_propagation</name>
              <value>disabled</value>
            </property>
          </properties>
        </propertiesPolicy>
      </rtps>
    </participant>
  </profiles>
</dds>
"""


def environment(profile: Path) -> Mapping[str, str]:
    """Return the variables with which a process takes its discovery from a profile alone."""
    # Fast DDS 2, which Jazzy has, knows the older name; later ones warn of it.
    name = ('FASTRTPS_DEFAULT_PROFILES_FILE' if os.environ.get('ROS_DISTRO') == 'jazzy'
            else 'FASTDDS_DEFAULT_PROFILES_FILE')
    return {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SYSTEM_DEFAULT', 'ROS_STATIC_PEERS': '',
            name: str(profile)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a profile; return the exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m stl_conveyor.fastdds_profiles',
        description='Print a Fast DDS profile for a slow link between device and edge.')
    parser.add_argument('role', choices=ROLES, help='which side of the link')
    parser.add_argument('--domain', type=int, default=0, help='ROS_DOMAIN_ID')
    parser.add_argument('--peer', default='', help='address (IPv4) of the other side')
    parser.add_argument('--number', type=int, default=0,
                        help='of the gateway, where several cells have one each')
    options = parser.parse_args(arguments)
    try:
        print(profile_xml(options.role, domain=options.domain, peer=options.peer,
                          number=options.number), end='')
    except ConfigError as error:
        print(f'fastdds_profiles: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
