# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""One run of the cell over a shaped link; bench.network.link starts it on the device's side.

Everything but the edge classifier runs in this process's network namespace, the edge classifier in
the one that ``--edge-prefix`` enters. Writes OUT/traffic.json beside the run's own files.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from stl_conveyor.deploy import fastdds_profiles
from stl_conveyor.errors import ConveyorError
from stl_conveyor.interrupts import take_sigterm_like_ctrl_c
from stl_conveyor.nodes.base import topics
from stl_conveyor.run.settings import RunSettings
from stl_conveyor_lab.bench.network.shaped_link import (
    ADDRESSES,
    DEVICE,
    EDGE,
    ETHERNET_HEADER,
    INTERFACE,
)

AT_THE_EDGE = ('edge_gateway', *topics.EDGE)
QUIET = 1.0  # s without discovery after which both sides know each other
_IPV4 = 0x0800
_UDP = 17


def traffic_class(port: int, domain: int) -> str:
    """Return what is sent to a UDP port: 'topics' or 'discovery'.

    What ROS tells of its graph (ros_discovery_info) goes to a port of its own and counts as
    discovery, as all does that is no topic of the cell.
    """
    first = fastdds_profiles.user_port(domain, 0)
    return 'topics' if port in range(first, first + 240, 2) else 'discovery'


class PacketCounter:
    """Counts the bytes on the link, as Ethernet frames, by direction and purpose."""

    def __init__(self, domain: int) -> None:
        """Listen to every frame on the link, which takes root."""
        self._domain = domain
        self._counts: Counter[tuple[str, str]] = Counter()
        # By IP identification: only the first fragment of a datagram names its port.
        self._fragments: dict[tuple[str, int], str] = {}
        self._lock = threading.Lock()
        self._last_discovery = time.monotonic()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        self._socket.bind((INTERFACE, 3))
        self._thread = threading.Thread(target=self._run, name='packet counter', daemon=True)
        self._thread.start()

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Return bytes so far: direction ('up' to the edge, 'down') → purpose → bytes."""
        with self._lock:
            return {
                way: {kind: self._counts[way, kind] for kind in ('discovery', 'topics', 'other')}
                for way in ('up', 'down')
            }

    def is_quiet(self) -> bool:
        """Return whether discovery has been silent for a while in both directions."""
        return time.monotonic() - self._last_discovery > QUIET

    def _run(self) -> None:
        while True:
            packet, (_, protocol, packet_type, *_) = self._socket.recvfrom(65535)
            way = 'up' if packet_type == socket.PACKET_OUTGOING else 'down'
            kind = self._kind(packet, way) if protocol == _IPV4 else 'other'
            if kind == 'discovery':
                self._last_discovery = time.monotonic()
            with self._lock:
                self._counts[way, kind] += len(packet) + ETHERNET_HEADER

    def _kind(self, packet: bytes, way: str) -> str:
        if len(packet) < 28 or packet[9] != _UDP:
            return 'other'
        number, fragment = struct.unpack_from('!HH', packet, 4)
        if fragment & 0x1FFF:  # not the first
            return self._fragments.get((way, number), 'other')
        (port,) = struct.unpack_from('!H', packet, 4 * (packet[0] & 15) + 2)
        kind = traffic_class(port, self._domain)
        if fragment:
            self._fragments[way, number] = kind
        return kind


def write_profiles(folder: Path, domain: int) -> Mapping[str, Path]:
    """Write the profile of each role into a folder; return the files by role."""
    peers = {'uplink': ADDRESSES[EDGE], 'downlink': ADDRESSES[DEVICE]}
    paths = {}
    for role in ('local', *fastdds_profiles.GATEWAYS):
        paths[role] = folder / f'{role}.xml'
        paths[role].write_text(
            fastdds_profiles.profile_xml(role, domain=domain, peer=peers.get(role, '')),
            encoding='utf-8',
        )
    return paths


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m stl_conveyor_lab.bench.network.run',
        description='Run the cell over a shaped link, once.',
    )
    parser.add_argument('--items', type=int, required=True, help='number of items')
    parser.add_argument('--seed', type=int, required=True, help='of the run')
    parser.add_argument('--out', type=Path, required=True, help='folder for the results')
    parser.add_argument('--edge-prefix', required=True, help='command that enters the edge')
    parser.add_argument('--link', default='light', help='of the policy, for the report')
    parser.add_argument('--models', default='', metavar='DIR', help='model folder')
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cell once; return the exit code."""
    options = parse(arguments)
    take_sigterm_like_ctrl_c()
    domain = int(os.environ.get('ROS_DOMAIN_ID', '0'))
    options.out.mkdir(parents=True, exist_ok=True)
    profiles = write_profiles(options.out, domain)
    # The monitor is in this process, and must take its profile before rclpy is there.
    os.environ.update(fastdds_profiles.environment(profiles['local']))
    from stl_conveyor.run.cell_run import run_cell
    from stl_conveyor.run.plan import READERS, Deployment
    from stl_conveyor.run.settings import NODES, SIMULATOR

    counter = PacketCounter(domain)
    nodes = tuple(node for node in (SIMULATOR, *NODES) if node != 'link_emulator')
    deployment = Deployment(
        nodes=nodes + topics.GATEWAYS,
        readers={
            **READERS,
            'device_gateway': {'link/features': 1, 'feedback_rx': 2, 'edge_classification': 2},
        },
        prefixes={node: tuple(shlex.split(options.edge_prefix)) for node in AT_THE_EDGE},
        environments={
            node: fastdds_profiles.environment(
                profiles[fastdds_profiles.NODE_ROLES.get(node, 'local')]
            )
            for node in nodes + topics.GATEWAYS
        },
        out_of_sight=AT_THE_EDGE,
        is_settled=counter.is_quiet,
    )
    phases: dict[str, object] = {}

    def note(phase: str) -> None:
        phases[phase] = {'time': time.monotonic(), 'bytes': counter.counts()}

    try:
        result = run_cell(
            RunSettings(
                items=options.items, seed=options.seed, link=options.link, models=options.models
            ),
            options.out,
            'lines',
            deployment=deployment,
            at_phase=note,
        )
    except ConveyorError as error:
        print(f'network_run: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    (options.out / 'traffic.json').write_text(json.dumps(phases, indent=1), encoding='utf-8')
    return 0 if result.summary.complete else 1


if __name__ == '__main__':
    sys.exit(main())
