# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""By which address this machine can be reached from another one. Linux, IPv4, needs no ROS."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from collections.abc import Iterator

_SIOCGIFCONF, _SIOCGIFFLAGS = 0x8912, 0x8913  # netdevice(7)
_IFF_RUNNING = 0x40
_NAME_BYTES = 16
_ENTRY_BYTES = 40 if struct.calcsize('P') == 8 else 32  # struct ifreq
_MOST_BYTES = 1024 * _ENTRY_BYTES
_ANY_PORT = 9


def own_address_towards(peer: str) -> str:
    """Return the address from which a peer is reached, if its interface runs; else nothing.

    Nothing is sent. Interfaces that come and go beside that one, such as bridges of containers,
    change nothing.

    Args:
        peer: Address (IPv4) of the other machine.

    Examples:
        >>> own_address_towards('127.0.0.1')
        '127.0.0.1'
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((peer, _ANY_PORT))
        except OSError:  # no way there
            return ''
        address = str(probe.getsockname()[0])
    return address if address in running_addresses() else ''


def running_addresses() -> Iterator[str]:
    """Yield the addresses of interfaces that run: a cable is plugged in, or a radio connected."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        yield from _running(probe)


def _running(probe: socket.socket) -> Iterator[str]:
    space = array.array('B', bytes(_MOST_BYTES))
    place, _ = space.buffer_info()
    answer = fcntl.ioctl(probe, _SIOCGIFCONF, struct.pack('iP', _MOST_BYTES, place))
    (filled,) = struct.unpack_from('i', answer)
    for at in range(0, filled, _ENTRY_BYTES):
        entry = space[at : at + _ENTRY_BYTES].tobytes()
        try:
            flags = fcntl.ioctl(probe, _SIOCGIFFLAGS, entry)
        except OSError:  # it has gone
            continue
        if struct.unpack_from('H', flags, _NAME_BYTES)[0] & _IFF_RUNNING:
            yield socket.inet_ntoa(entry[_NAME_BYTES + 4 : _NAME_BYTES + 8])
