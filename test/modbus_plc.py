# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A PLC to test against: pymodbus's own server, with a program that moves diverters."""

from __future__ import annotations

import asyncio
import queue
import threading
import time

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

SIZE = 64
# Function codes of the requests.
READ_COILS, READ_INPUTS, READ_REGISTERS, WRITE_COIL, WRITE_REGISTER = 1, 2, 3, 5, 6
READS = (READ_COILS, READ_INPUTS, READ_REGISTERS)
ECHO = 32  # registers between a command and its copy


class Plc:
    """Coils 0.. move diverters; discrete inputs 0.. are their end switches, registers 32.. echo.

    `working` False: the diverters do not move. `delay`: seconds that every answer takes.
    `stuck`: end switches that are always active. `reads`: when inputs were read (monotonic s).
    `refuse`: a function that returns the exception code for a function code, or None.
    `strokes`: (register, number) whenever a number changed. `asked`: (function code, address,
    count) of all requests. `answering` cleared: readings get no answer until it is set; `held` is
    set when one waits.
    """

    def __init__(self, port=0, registers=()):
        """Start to serve; port 0 takes a free one. `registers`: values by address."""
        self.working, self.delay, self.stuck = True, 0.0, set()
        self.refuse = lambda code: None
        self.coils = [False] * SIZE
        self.registers = [0] * SIZE
        for address, value in dict(registers).items():
            self.registers[address] = value
        self.writes, self.strokes, self.asked, self.reads = [], [], [], queue.Queue()
        self.answering, self.held = threading.Event(), threading.Event()
        self.answering.set()
        self.changed = threading.Condition()
        self.port = port
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10), 'the PLC did not start'

    async def _answer(self, code, start, address, count, current, values):
        """Be the program of the PLC: see to what is read and to what is written."""
        if code in (WRITE_COIL, WRITE_REGISTER) and values is None:
            return None  # reads back what it wrote, for the reply
        if self.delay:
            await asyncio.sleep(self.delay)
        if code in READS and not self.answering.is_set():
            self.held.set()
            await asyncio.to_thread(self.answering.wait)
        with self.changed:
            self.asked.append((code, address, count))
            refused = self.refuse(code)
            if refused is None:
                self._do(code, address - start, count, current, values)
            self.changed.notify_all()
        return refused and ExcCodes(refused)

    def _do(self, code, offset, count, current, values):
        if code == WRITE_COIL:
            self.coils[offset] = bool(values[0])
            self.writes.append((offset, bool(values[0])))
        elif code == WRITE_REGISTER:
            if self.registers[offset] != values[0]:
                self.strokes.append((offset, values[0]))
            self.registers[offset] = values[0]
            self.writes.append((offset, values[0]))
            if self.working and offset + ECHO < SIZE:
                self.registers[offset + ECHO] = values[0]
        elif code == READ_INPUTS:  # of which the server counts words
            self.reads.put(time.monotonic())
            for index in range(SIZE):
                out = (self.coils[index] and self.working) or index in self.stuck
                word, bit = divmod(index, 16)
                current[word] = current[word] & ~(1 << bit) | out << bit
        elif code == READ_REGISTERS:
            self.reads.put(time.monotonic())
            current[offset : offset + count] = self.registers[offset : offset + count]

    def wait(self, predicate, timeout=10.0):
        """Wait until something holds after a request."""
        with self.changed:
            assert self.changed.wait_for(predicate, timeout), f'not in {timeout} s; {self.asked}'

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self):
        bits = [SimData(0, count=SIZE, values=False, datatype=DataType.BITS) for _ in range(2)]
        words = [SimData(0, count=SIZE, values=0, datatype=DataType.REGISTERS) for _ in range(2)]
        device = SimDevice(
            1, simdata=([bits[0]], [bits[1]], [words[0]], [words[1]]), action=self._answer
        )
        self._server = ModbusTcpServer(device, address=('127.0.0.1', self.port))
        self._stopped = asyncio.Event()
        await self._server.listen()
        self.port = self._server.transport.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopped.wait()
        await self._server.shutdown()

    def stop(self):
        """Die, if it lives."""
        self.answering.set()
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)
