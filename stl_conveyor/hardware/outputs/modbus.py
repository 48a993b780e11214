# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Diverters behind a PLC, over Modbus TCP, through pymodbus; in a thread of its own."""

from __future__ import annotations

import inspect
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stl_conveyor.errors import ConfigError, HardwareError, MissingDependency
from stl_conveyor.hardware.diverter import DiverterEvents
from stl_conveyor.hardware.output import DirectOutput, Site
from stl_conveyor.parameters import parameter

SETTLE = 1.0  # s after which a diverter that was commanded back must be back
POLL = 0.01  # s between two looks at the feedback while a confirmation is awaited
SMALLEST_SERIAL, LARGEST_SERIAL = 1, 65535  # 0 is what a PLC starts with


@dataclass(frozen=True)
class ModbusSettings:
    """Parameters of the output modbus."""

    modbus_host: str = parameter('192.168.0.10', 'Address of the PLC, with output modbus.')
    modbus_port: int = parameter(502, 'TCP port of the PLC.', minimum=1, maximum=65535)
    modbus_unit: int = parameter(1, 'Unit (device) number of the PLC.', minimum=0, maximum=255)
    modbus_kind: str = parameter(
        'coil',
        'coil: a coil per lane is set and cleared. register: the number of the stroke is '
        'written to a holding register per lane, and the PLC makes the stroke.',
        choices=('coil', 'register'),
    )
    modbus_addresses: tuple[int, ...] = parameter(
        (0, 1, 2), 'Coil or register of each lane, counted from 0.'
    )
    modbus_feedback: tuple[int, ...] = parameter(
        (0, 1, 2),
        'Where each lane confirms: with coils the discrete input of the end switch '
        '(-1: read the coil back); with registers the holding register to which the PLC copies '
        'the number.',
    )
    modbus_timeout: float = parameter(
        0.2, 'Seconds for which a request to the PLC may take.', minimum=0.01, maximum=10.0
    )


@dataclass(frozen=True)
class ModbusLane:
    """Where a PLC has the diverter of a lane; addresses count from 0, as on the wire.

    With `register` the stroke's number (1..65535) is written to a holding register; the PLC makes
    one stroke, out and back, whenever the number changes, and copies it to the holding register
    `feedback` when the diverter was out. Otherwise the coil is set and cleared, and `feedback` is
    the discrete input of the end switch; -1 reads the coil back.
    """

    address: int
    feedback: int
    register: bool = False


@dataclass(frozen=True)
class _Command:
    lane: str
    extend: bool
    serial: int
    until: float  # monotonic s; afterwards it is of no use


@dataclass(frozen=True)
class _Awaited:
    lane: str
    serial: int
    until: float  # monotonic s; afterwards the schedule has called it silent


class ModbusDiverters:
    """Coils or registers of one PLC.

    Commands go into a queue; a thread writes them, polls the feedback while a confirmation is
    awaited, and otherwise reads it every `idle_period`, so that a dead PLC is noticed before the
    next item needs it. A lost connection is opened again.
    """

    connects = True  # and reports that it did

    def __init__(
        self,
        lanes: Mapping[str, ModbusLane],
        events: DiverterEvents,
        *,
        host: str,
        port: int = 502,
        unit: int = 1,
        timeout: float = 0.2,
        confirm_time: float = 0.5,
        idle_period: float = 0.5,
        useful_time: float = 0.1,
    ) -> None:
        """Start the thread.

        Args:
            timeout: Seconds for which a request may take.
            confirm_time: Seconds for which feedback is polled after a command.
            useful_time: Seconds after which a command out that was not written is dropped.

        Raises:
            MissingDependency: If pymodbus is not installed.
        """
        try:
            from pymodbus.client import ModbusTcpClient
        except ImportError as error:
            raise MissingDependency(
                'Modbus needs pymodbus: apt install python3-pymodbus, or pip install pymodbus'
            ) from error
        self._lanes = dict(lanes)
        self._events = events
        self._peer = f'PLC {host}:{port}'
        self._timeout = timeout
        self._confirm_time = confirm_time
        self._idle_period = idle_period
        self._useful_time = useful_time
        # The name of this argument changed in pymodbus 3.10.
        unit_name = (
            'device_id'
            if 'device_id' in inspect.signature(ModbusTcpClient.write_coil).parameters
            else 'slave'
        )
        self._unit: dict[str, Any] = {unit_name: unit}
        self._client: Any = ModbusTcpClient(host, port=port, timeout=timeout, retries=0)
        self._queue: queue.Queue[_Command | None] = queue.Queue()
        self._back_since = dict.fromkeys(self._lanes, 0.0)  # monotonic s, by command
        self._stuck: set[str] = set()
        self._awaited: list[_Awaited] = []
        self._wanted = {name: False for name, place in self._lanes.items() if not place.register}
        self._trouble: str | None = ''  # why nothing can be commanded; None = all is well
        self._thread = threading.Thread(target=self._run, name='modbus', daemon=True)
        self._thread.start()

    def extend(self, lane: str, serial: int) -> None:
        """Move a diverter out, as soon as the thread comes to it.

        Raises:
            HardwareError: If the PLC was unreachable when it was last tried.
        """
        if self._trouble:
            raise HardwareError(f'{self._trouble}; {self.remedy(lane)}')
        self._queue.put(_Command(lane, True, serial, time.monotonic() + self._useful_time))

    def retract(self, lane: str) -> None:
        """Move a diverter back; with registers the PLC does so by itself."""
        if not self._lanes[lane].register:
            self._queue.put(_Command(lane, False, 0, float('inf')))

    def is_out(self, lane: str) -> bool | None:
        """Return None: asking takes time. What is out unasked is reported when idle."""
        return None

    def remedy(self, lane: str) -> str:
        """Return what to check when the diverter of a lane stays silent."""
        place = self._lanes[lane]
        kind = 'register' if place.register else 'coil'
        return (
            f'check that the {self._peer} runs, the network to it, and its program for {kind} '
            f'{place.address}'
        )

    def close(self) -> None:
        """Write what is queued, move everything back, and close the connection."""
        self._queue.put(None)
        self._thread.join(timeout=2.0 + 4 * self._timeout)

    # The thread.

    def _run(self) -> None:
        self._attempt(self._look, 'reading its feedback')
        while True:
            wait = POLL if self._awaited else self._idle_period
            try:
                command = self._queue.get(timeout=wait)
            except queue.Empty:
                self._attempt(self._look, 'reading its feedback')
                continue
            if command is None:
                break
            self._execute(command)
            if self._awaited and self._queue.empty():
                self._attempt(self._look, 'reading its feedback')
        self._wanted = dict.fromkeys(self._wanted, False)
        if not self._trouble:
            self._attempt(self._restore, 'writing')
        self._client.close()

    def _execute(self, command: _Command) -> None:
        late = time.monotonic() - command.until
        if command.extend and late > 0:
            self._events.failed(
                command.lane,
                command.serial,
                f'{self._peer} is too slow: a command waited '
                f'{late + self._useful_time:.2f} s and was dropped',
            )
            return
        if not self._lanes[command.lane].register:
            self._wanted[command.lane] = command.extend
            if not command.extend:
                self._back_since[command.lane] = time.monotonic()
        reason = self._attempt(lambda: self._write(command), 'writing')
        if not command.extend:
            return
        if reason:
            self._events.failed(command.lane, command.serial, reason)
        else:
            self._awaited.append(
                _Awaited(command.lane, command.serial, time.monotonic() + self._confirm_time)
            )

    def _write(self, command: _Command) -> None:
        place = self._lanes[command.lane]
        if place.register:
            reply = self._client.write_register(
                place.address, register_value(command.serial), **self._unit
            )
        else:
            reply = self._client.write_coil(place.address, command.extend, **self._unit)
        self._check(reply, 'register' if place.register else 'coil', place.address)

    def _restore(self) -> None:
        """Bring every coil to where it should be: the connection or this node was gone."""
        for name, out in self._wanted.items():
            self._write(_Command(name, out, 0, 0.0))

    def _look(self) -> None:
        """Read the feedback of every lane that is awaited, or of all when idle."""
        names = dict.fromkeys(each.lane for each in self._awaited) or self._lanes
        values = {name: self._read(self._lanes[name]) for name in names}
        self._watch_stuck(
            {
                name: value
                for name, value in values.items()
                if not self._lanes[name].register and self._lanes[name].feedback >= 0
            }
        )
        awaited, self._awaited = self._awaited, []
        for each in awaited:
            expected = register_value(each.serial) if self._lanes[each.lane].register else 1
            if values[each.lane] == expected:
                self._events.confirmed(each.lane, each.serial)
            elif time.monotonic() <= each.until:
                self._awaited.append(each)

    def _watch_stuck(self, switches: Mapping[str, int]) -> None:
        for name, out in switches.items():
            settled = time.monotonic() - self._back_since[name] > SETTLE
            if out and settled and not self._wanted[name]:
                if name not in self._stuck:
                    self._stuck.add(name)
                    self._events.failed(
                        name,
                        None,
                        f'input {self._lanes[name].feedback} of the {self._peer} says '
                        'out, though it was commanded back: the diverter or its switch is stuck',
                    )
            elif not out:
                self._stuck.discard(name)

    def _read(self, place: ModbusLane) -> int:
        if place.register:
            reply = self._client.read_holding_registers(place.feedback, count=1, **self._unit)
            self._check(reply, 'register', place.feedback)
            return int(reply.registers[0])
        if place.feedback >= 0:
            reply = self._client.read_discrete_inputs(place.feedback, count=1, **self._unit)
            self._check(reply, 'input', place.feedback)
        else:
            reply = self._client.read_coils(place.address, count=1, **self._unit)
            self._check(reply, 'coil', place.address)
        return int(reply.bits[0])

    def _check(self, reply: Any, kind: str, address: int) -> None:
        if reply.isError():
            raise HardwareError(f'{self._peer} refuses {kind} {address} ({type(reply).__name__})')

    def _attempt(self, work: Callable[[], None], doing: str) -> str:
        """Do some work with the PLC; return why it failed, or an empty text."""
        try:
            if not self._client.connected:
                if not self._client.connect():
                    raise HardwareError(f'{self._peer} is unreachable')
                self._restore()
            work()
            reason = None
        except HardwareError as error:
            reason = str(error)
        except Exception as error:  # pymodbus's errors and those of sockets
            reason = f'{self._peer} does not answer while {doing} ({type(error).__name__})'
            self._client.close()
        if reason != self._trouble:
            self._trouble = reason
            self._events.connected(
                reason and f'{reason}; check that it runs, the network to it, and its addresses'
            )
        return reason or ''


def register_value(serial: int) -> int:
    """Return the number of a stroke as a register holds it: 1..65535, going round."""
    return (serial - SMALLEST_SERIAL) % LARGEST_SERIAL + SMALLEST_SERIAL


def check(settings: ModbusSettings) -> None:
    """Refuse addresses that cannot be.

    Raises:
        ConfigError: Naming the parameter.
    """
    for name, values, least in (
        ('modbus_addresses', settings.modbus_addresses, 0),
        ('modbus_feedback', settings.modbus_feedback, 0 if _registers(settings) else -1),
    ):
        for address in values:
            if not least <= address <= 65535:
                raise ConfigError(f'{name}: {address} is not within {least}..65535')
        real = [address for address in values if address >= 0]
        if len(set(real)) < len(real):
            raise ConfigError(f'{name}: {list(values)} has an address twice')


def open_diverters(settings: ModbusSettings, site: Site) -> ModbusDiverters:
    """Begin to talk to the PLC."""
    places = zip(site.lanes, settings.modbus_addresses, settings.modbus_feedback)
    return ModbusDiverters(
        {
            lane: ModbusLane(address, feedback, _registers(settings))
            for lane, address, feedback in places
        },
        site.events,
        host=settings.modbus_host,
        port=settings.modbus_port,
        unit=settings.modbus_unit,
        timeout=settings.modbus_timeout,
        confirm_time=site.confirm_time,
        useful_time=site.useful_time,
    )


def _registers(settings: ModbusSettings) -> bool:
    return settings.modbus_kind == 'register'


OUTPUT = DirectOutput(
    settings=ModbusSettings,
    check=check,
    open=open_diverters,
    per_lane=('modbus_addresses', 'modbus_feedback'),
)
