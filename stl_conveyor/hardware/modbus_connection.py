# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""One Modbus TCP connection, through pymodbus: what it asks, and what a PLC may answer.

Names and codes are those of the MODBUS Application Protocol Specification V1.1b3, chapter 7.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from stl_conveyor.errors import HardwareError, MissingDependency

#: Versions before it name their requests' arguments otherwise.
LEAST_PYMODBUS = (3, 6)
LARGEST_CONNECT = 0.25  # s; a PLC at the other end of a cable takes a connection in a few ms
ACKNOWLEDGE = 5
ADDRESS_REMEDY = (
    'compare modbus_addresses, modbus_feedback and modbus_heartbeat with its program; they count '
    'from 0, so that 40001 of a manual is 0'
)
EXCEPTIONS = {
    1: (
        'ILLEGAL FUNCTION',
        'its server does not offer this; allow it there, or choose the other modbus_kind',
    ),
    2: ('ILLEGAL DATA ADDRESS', ADDRESS_REMEDY),
    3: ('ILLEGAL DATA VALUE', ADDRESS_REMEDY),
    4: ('SERVER DEVICE FAILURE', 'read its own diagnostics; is its program running?'),
    ACKNOWLEDGE: ('ACKNOWLEDGE', 'it is still at work on what it was asked'),
    6: (
        'SERVER DEVICE BUSY',
        'give its Modbus server more time in each cycle, or ask it over fewer modbus_connections',
    ),
    7: ('NEGATIVE ACKNOWLEDGE', 'read its own diagnostics; is its program running?'),
    8: ('MEMORY PARITY ERROR', 'its memory is damaged; read its own diagnostics'),
    10: (
        'GATEWAY PATH UNAVAILABLE',
        'the gateway has no way to this modbus_unit; look at its table of units and its load',
    ),
    11: (
        'GATEWAY TARGET DEVICE FAILED TO RESPOND',
        'check modbus_unit, and the serial line behind the gateway: cable, baud rate, parity',
    ),
}
PASSING = (ACKNOWLEDGE, 6, 10, 11)  # may be over at the next try
LARGEST_READ = {'register': 125, 'coil': 2000, 'input': 2000}  # in one request


class ModbusLost(HardwareError):
    """The PLC cannot be reached or does not answer; the connection is closed.

    Attributes:
        silent: It was waited in vain; otherwise the other side refused, or hung up.
        unreachable: There was no connection to be had.
    """

    def __init__(self, message: str, *, silent: bool, unreachable: bool = False) -> None:
        """Keep what happened."""
        super().__init__(message)
        self.silent = silent
        self.unreachable = unreachable


class ModbusRefused(HardwareError):
    """The PLC, or a gateway before it, answers with an exception.

    Attributes:
        what: What was asked for, such as 'register 4'.
        passing: Whether the next try may succeed.
    """

    def __init__(self, peer: str, what: str, code: int) -> None:
        """Say it by name, with the remedy."""
        name, remedy = EXCEPTIONS.get(code, ('an unknown exception', 'read its manual'))
        super().__init__(f'{peer} refuses {what}: {name} (exception {code:02d}); {remedy}')
        self.what = what
        self.code = code
        self.passing = code in PASSING


@dataclass(frozen=True)
class Run:
    """Addresses without a gap, which one request reads.

    Attributes:
        kind: 'register' (holding registers), 'coil' or 'input' (discrete inputs).
    """

    kind: str
    start: int
    count: int

    def __str__(self) -> str:
        """Return such as 'register 4' or 'registers 4 to 6'."""
        if self.count == 1:
            return f'{self.kind} {self.start}'
        return f'{self.kind}s {self.start} to {self.start + self.count - 1}'

    def covers(self, place: tuple[str, int]) -> bool:
        """Tell whether a (kind, address) lies in it."""
        kind, address = place
        return kind == self.kind and self.start <= address < self.start + self.count


def contiguous(places: Iterable[tuple[str, int]]) -> tuple[Run, ...]:
    """Return the fewest requests that read these (kind, address) and nothing else."""
    runs: list[Run] = []
    for kind, address in sorted(set(places)):
        last = runs[-1] if runs else None
        if (
            last is not None
            and last.kind == kind
            and last.start + last.count == address
            and last.count < LARGEST_READ[kind]
        ):
            runs[-1] = Run(kind, last.start, last.count + 1)
        else:
            runs.append(Run(kind, address, 1))
    return tuple(runs)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers at the front of a version: (3, 7, 0) of '3.7.0dev1'."""
    found = re.match(r'\d+(?:\.\d+)*', version)
    return tuple(map(int, found[0].split('.'))) if found else ()


class ModbusConnection:
    """A connection to a PLC, for one request at a time; opened when it is needed."""

    def __init__(self, host: str, port: int, unit: int) -> None:
        """Open nothing yet.

        Raises:
            MissingDependency: If pymodbus is not installed, or too old.
        """
        try:
            import pymodbus
            from pymodbus.client import ModbusTcpClient
        except ImportError as error:
            raise MissingDependency(
                'Modbus needs pymodbus: apt install python3-pymodbus, or pip install pymodbus'
            ) from error
        if _numbers(pymodbus.__version__) < LEAST_PYMODBUS:
            least = '.'.join(map(str, LEAST_PYMODBUS))
            raise MissingDependency(
                f'Modbus needs pymodbus {least} or newer, and {pymodbus.__version__} is installed '
                f"(Debian 12 has 3.0): PIP_BREAK_SYSTEM_PACKAGES=1 pip install 'pymodbus>={least}'"
            )
        self._address = (host, port)
        self.peer = f'PLC {host}:{port}'
        # The name of this argument changed in pymodbus 3.10.
        unit_name = (
            'device_id'
            if 'device_id' in inspect.signature(ModbusTcpClient.write_coil).parameters
            else 'slave'
        )
        self._unit: dict[str, Any] = {unit_name: unit}
        self._client: Any = ModbusTcpClient(host, port=port, retries=0)
        self.times_opened = 0
        self.answers = 0  # since it was opened
        self.answered_at = float('-inf')  # monotonic s
        self.delay = 0.0  # s that the last answer took

    def read(self, run: Run, timeout: float) -> dict[tuple[str, int], int]:
        """Return the value of each (kind, address) of a run.

        Raises:
            ModbusLost: If no answer comes within `timeout` seconds.
            ModbusRefused: If the answer is an exception.
        """
        function = {
            'register': self._client.read_holding_registers,
            'coil': self._client.read_coils,
            'input': self._client.read_discrete_inputs,
        }[run.kind]
        reply = self._ask(
            str(run),
            f'reading {run}',
            lambda: function(run.start, count=run.count, **self._unit),
            timeout,
        )
        values = reply.registers if run.kind == 'register' else reply.bits
        if len(values) < run.count:
            self.abandon()
            raise ModbusLost(
                f'{self.peer} answers with {len(values)} values for {run}', silent=False
            )
        return {(run.kind, run.start + index): int(values[index]) for index in range(run.count)}

    def write(self, kind: str, address: int, value: int, timeout: float) -> None:
        """Write a 'register' or a 'coil'.

        Raises:
            ModbusLost: If no answer comes within `timeout` seconds.
            ModbusRefused: If the answer is an exception.
        """
        client = self._client
        self._ask(
            f'{kind} {address}',
            f'writing {kind} {address}',
            lambda: (
                client.write_register(address, value, **self._unit)
                if kind == 'register'
                else client.write_coil(address, bool(value), **self._unit)
            ),
            timeout,
        )

    def close(self) -> None:
        """Close it in order."""
        self._client.close()
        self.answers = 0

    def abandon(self) -> None:
        """Close it such that nothing which was sent, and has not arrived, ever arrives."""
        if self._client.socket is not None:
            with contextlib.suppress(OSError):
                self._client.socket.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)
                )
        self.close()

    def open(self, timeout: float) -> None:
        """Open it, if it is not open, or was closed by the other side.

        Raises:
            ModbusLost: If the PLC does not take it within `timeout` seconds, or LARGEST_CONNECT.
        """
        if self._client.socket is not None:
            # Nothing is awaited: what can be read is that the other side hung up.
            if not select.select([self._client.socket], [], [], 0)[0]:
                return
            self.abandon()
        self.answers = 0
        try:
            opened = socket.create_connection(self._address, min(timeout, LARGEST_CONNECT))
        except OSError as error:
            raise ModbusLost(
                f'{self.peer} is unreachable ({error}); check that it runs, the network to it, '
                'modbus_host and modbus_port',
                silent=isinstance(error, TimeoutError),
                unreachable=True,
            ) from error
        # A command must not wait until the answer to the one before it is acknowledged.
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client.socket = opened
        self.times_opened += 1

    def _ask(self, what: str, doing: str, call: Callable[[], Any], timeout: float) -> Any:
        self.open(timeout)
        self._client.comm_params.timeout_connect = timeout
        began = time.monotonic()
        try:
            reply = call()
        except Exception as error:  # pymodbus's own, and those of sockets
            reply = error
        took = time.monotonic() - began
        if isinstance(reply, Exception):  # older versions return it
            self.abandon()
            silent = took >= timeout
            happened = f'does not answer within {took:.2f} s' if silent else 'hung up'
            raise ModbusLost(
                f'{self.peer} {happened} while {doing}; check that it runs, the network to it, '
                'and modbus_unit (a gateway is silent about units that it does not have)',
                silent=silent,
            ) from reply
        self.answers += 1
        self.answered_at = time.monotonic()
        self.delay = took
        if reply.isError():
            raise ModbusRefused(self.peer, what, reply.exception_code)
        return reply
