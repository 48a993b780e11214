# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A PLC for the situations: pymodbus's own server, with the program of three diverters."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

SIZE = 64
ECHO = 32  # a stroke's number comes back so many registers further
MOVE_TIME = 0.04  # s from a command until a diverter is out
START = 10.0  # s in which the server must stand
COIL, REGISTER = 5, 6  # function codes: write a coil, write a register
REGISTERS = 16  # the same, several at once
INPUTS = 2


@dataclass(frozen=True)
class PlcStroke:
    """A stroke that the program began: when (s, monotonic), and of which coil or register."""

    time: float
    address: int


class Plc:
    """Serves Modbus TCP on a free port of this machine, in a thread of its own.

    The program: a coil that is set moves a diverter out, and the discrete input of its number
    follows; a register whose number changes makes a stroke, and the number is copied ECHO
    registers further when the diverter was out.

    Attributes:
        delay: Seconds after which a request is carried out and answered.
        refusal: Exception code of every answer; None = none.
        silent: No request is answered, as behind a gateway that knows no such unit.
        close_after_answer: Every answer is the last one of its connection.
        idle_close: Seconds without a request after which connections are closed; 0 = never.
        strokes: What was made.
        writes: Every write to a register: when, address, value.
    """

    def __init__(self) -> None:
        """Start to serve, with all registers 0."""
        self.delay = 0.0
        self.refusal: ExcCodes | None = None
        self.silent = False
        self.close_after_answer = False
        self.idle_close = 0.0
        self.strokes: list[PlcStroke] = []
        self.writes: list[tuple[float, int, int]] = []
        self.port = 0
        self._loop: asyncio.AbstractEventLoop
        # It logs every packet when a connection is closed, which is what is played here.
        logging.getLogger('pymodbus.logging').setLevel(logging.CRITICAL)
        self._server: Any = None
        self.boot()

    def __enter__(self) -> Plc:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Switch it off."""
        self.switch_off()

    def boot(self) -> None:
        """Begin to serve, with all registers 0, on the port of before."""
        self._coils, self._numbers, self._echoes = [False] * SIZE, [0] * SIZE, [0] * SIZE
        self._asked = time.monotonic()
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(ready)), name='plc', daemon=True
        )
        self._thread.start()
        if not ready.wait(START):
            raise TimeoutError(f'the PLC on port {self.port} did not start')

    def switch_off(self) -> None:
        """Stop to serve; what is connected is closed."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._off.set)
            self._thread.join(START)

    def drop(self) -> None:
        """Close every connection; a new one is taken at once."""
        self._loop.call_soon_threadsafe(self._close_connections)

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._off = asyncio.Event()
        bits, words = (
            [SimData(0, count=SIZE, values=values, datatype=kind)]
            for values, kind in ((False, DataType.BITS), (0, DataType.REGISTERS))
        )
        device = SimDevice(1, simdata=(bits, bits, words, words), action=self._program)
        self._server = ModbusTcpServer(
            device, address=('127.0.0.1', self.port), trace_pdu=self._on_pdu
        )
        if not await self._server.listen():
            raise OSError(f'port {self.port} cannot be had')
        self.port = self._server.transport.sockets[0].getsockname()[1]
        ready.set()
        while not self._off.is_set():
            if self.idle_close and time.monotonic() - self._asked > self.idle_close:
                self._close_connections()
            try:
                await asyncio.wait_for(self._off.wait(), 0.02)
            except asyncio.TimeoutError:
                continue
        await self._server.shutdown()

    def _close_connections(self) -> None:
        for connection in list(self._server.active_connections.values()):
            connection.close()

    def _on_pdu(self, sending: bool, pdu: Any) -> Any:
        self._asked = time.monotonic()
        if sending and self.close_after_answer:
            self._loop.call_later(0.002, self._close_connections)
        return pdu

    async def _program(
        self,
        code: int,
        start: int,
        address: int,
        count: int,
        current: list[int],
        values: list[Any] | None,
    ) -> ExcCodes | None:
        """Carry out a request; pymodbus calls this before it reads or writes its own memory."""
        writes = code in (COIL, REGISTER, 15, REGISTERS)
        if writes and values is None:
            return None  # it reads back what it wrote, for the answer
        if self.silent:
            await self._off.wait()
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.refusal is not None:
            return self.refusal
        first = address - start
        if writes and values is not None:
            for place, value in enumerate(values, first):
                self._written(code, place, value)
        elif code == INPUTS:  # `count` is of words of 16 bits here
            for place, out in enumerate(self._coils):
                word, bit = divmod(place, 16)
                current[word] = current[word] & ~(1 << bit) | out << bit
        else:
            for place in range(max(first, ECHO), min(first + count, len(current))):
                current[place] = self._echoes[place]
        return None

    def _written(self, code: int, place: int, value: Any) -> None:
        now = time.monotonic()
        if code in (COIL, 15):
            if value and not self._coils[place]:
                self.strokes.append(PlcStroke(now, place))
            self._coils[place] = bool(value)
            return
        self.writes.append((now, place, value))
        if place + ECHO < SIZE and self._numbers[place] != value:
            self._numbers[place] = value
            self.strokes.append(PlcStroke(now, place))
            self._loop.call_later(MOVE_TIME, self._echoes.__setitem__, place + ECHO, value)
