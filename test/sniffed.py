#!/usr/bin/env python3
# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run a command in a network namespace of its own and see what it sends.

The namespace has a loopback and an interface with a default route, whose other end nobody listens
at. So the command finds a network, and looks for hosts as it would anywhere.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

INTERFACE = 'air'
ADD = ('ip', 'link', 'add', INTERFACE, 'type', 'veth', 'peer', 'name', 'far')
NETWORK = (
    ('ip', 'link', 'set', 'lo', 'up'),
    ADD,
    ('ip', 'link', 'set', 'far', 'up'),
    ('ip', 'addr', 'add', '192.0.2.2/24', 'dev', INTERFACE),
    ('ip', 'link', 'set', INTERFACE, 'up'),
    ('ip', 'route', 'add', 'default', 'via', '192.0.2.1'),
    # Nobody answers there: with its address known, packets to it are sent all the same.
    ('ip', 'neigh', 'add', '192.0.2.1', 'lladdr', '02:00:00:00:00:01', 'dev', INTERFACE),
)
NO_IPV6 = Path('/proc/sys/net/ipv6/conf/all/disable_ipv6')
ALL_PROTOCOLS = 3
DNS = 53


@dataclass(frozen=True)
class Traffic:
    """What was sent to others, in words, and how the command ended."""

    packets: list[str]
    code: int
    output: str


def why_no_namespace() -> str:
    """Return why nothing can be sniffed here, or an empty string."""
    if os.geteuid():
        return 'a network namespace needs root'
    missing = [name for name in ('ip', 'unshare') if not shutil.which(name)]
    if missing:
        return f'{" and ".join(missing)} not installed (iproute2, util-linux)'
    probe = subprocess.run(['unshare', '-n', *ADD], capture_output=True, text=True)
    return f'no virtual interface here: {probe.stderr.strip()}' if probe.returncode else ''


def unprotected(home: Path) -> dict[str, str]:
    """Return the variables of a caller with that home, who asks for reports to be sent."""
    places = ('HOME', 'XDG_CACHE_HOME', 'XDG_DATA_HOME', 'XDG_CONFIG_HOME')
    return {**os.environ, **dict.fromkeys(places, str(home)), 'ORT_DISABLE_TELEMETRY': '0'}


def traces(home: Path) -> list[str]:
    """Return what somebody left to know the machine or its use again."""
    return [
        str(path.relative_to(home))
        for path in home.rglob('*')
        if {'microsoft', 'deviceid', 'telemetry'} & set(str(path).lower().split('/'))
        or path.suffix == '.db'
    ]


def sniff(command: Sequence[str], env: Mapping[str, str], seconds: float) -> Traffic:
    """Run a command for at most so many seconds and return what it sent.

    A command that reads its standard input finds its end there when the time is over; one that
    then goes on is interrupted as by Ctrl-C, with all that it started, and killed if that is of
    no use.
    """
    done = subprocess.run(
        ['unshare', '-n', sys.executable, __file__, str(seconds), *command],
        env=dict(env),
        capture_output=True,
        text=True,
        check=True,
    )
    return Traffic(**json.loads(done.stdout.splitlines()[-1]))


def describe(packet: bytes, interface: str) -> str | None:
    """Return a packet in words if it is meant for somebody else, else None."""
    ethernet = packet[12:14]
    if ethernet != b'\x08\x00':
        return None if interface == 'lo' else f'ethernet type {ethernet.hex()} by {interface}'
    header = 4 * (packet[14] & 15)
    protocol, target = packet[23], socket.inet_ntoa(packet[30:34])
    port = int.from_bytes(packet[14 + header + 2 : 14 + header + 4], 'big')
    # A name service on this machine asks others in turn.
    if interface == 'lo' and port != DNS:
        return None
    return f'IP protocol {protocol} to {target} port {port} by {interface}'


def _watch(seconds: float, command: Sequence[str]) -> Traffic:
    if NO_IPV6.exists():
        NO_IPV6.write_text('1')  # the kernel itself would look for neighbours
    for step in NETWORK:
        subprocess.run(step, check=True, capture_output=True)
    packets: list[str] = []
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS)) as tap,
        tempfile.TemporaryFile('w+') as output,
    ):
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        ended = os.pidfd_open(process.pid)
        end = time.monotonic() + seconds
        waiting: list[socket.socket | int] = [tap, ended]
        while time.monotonic() < end + 1:
            # What was sent just before the end is still to be read.
            left = max(end - time.monotonic(), 0) if ended in waiting else 0
            ready, _, _ = select.select(waiting, [], [], left)
            if tap in ready:
                packet, (interface, _, kind, *_) = tap.recvfrom(65535)
                # One packet on the loopback is seen twice.
                if kind == socket.PACKET_OUTGOING and (found := describe(packet, interface)):
                    packets.append(found)
            elif ended in ready:
                waiting.remove(ended)
            else:
                break
        assert process.stdin is not None
        process.stdin.close()
        code = _end(process)
        os.close(ended)
        output.seek(0)
        return Traffic(packets, code, output.read())


def _end(process: subprocess.Popen[bytes]) -> int:
    for number, patience in ((None, 30), (signal.SIGINT, 30), (signal.SIGKILL, None)):
        if number is not None:
            os.killpg(process.pid, number)
        try:
            return process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError('what was killed ends')


if __name__ == '__main__':
    print(json.dumps(_watch(float(sys.argv[1]), sys.argv[2:]).__dict__))
