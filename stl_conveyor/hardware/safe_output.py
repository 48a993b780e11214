# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Whether the line may run, on a pin and in a register of a PLC, such that a dead teller shows.

A level that is left alone looks the same whether who set it lives or not. So what says *run* is a
change: of a pin for a watchdog relay, of a number for the program of the PLC. No change, or a low
pin, or 0, is *stand*.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any, Protocol

from stl_conveyor.errors import HardwareError
from stl_conveyor.hardware.modbus_connection import ModbusConnection
from stl_conveyor.hardware.pins import LARGEST_PIN, NO_PIN, open_pin
from stl_conveyor.parameters import parameter

BEAT_S = 0.25  # between two changes of the register
TOLD_S = 0.5  # for which what was told last holds
LARGEST_NUMBER = 65535
NO_REGISTER = -1


@dataclass(frozen=True)
class SafeOutputSettings:
    """Parameters of who tells whether the line may run."""

    safe_pin: int = parameter(
        NO_PIN,
        'GPIO (BCM number) that tells a relay whether the line may run; -1: none.',
        minimum=NO_PIN,
        maximum=LARGEST_PIN,
    )
    safe_pin_kind: str = parameter(
        'pulse',
        'pulse: the pin changes four times a second while the line may run, and is low else; a '
        'watchdog relay falls when this node is dead, too. level: it is high while the line may '
        'run; what it does when the process is killed depends on the board.',
        choices=('pulse', 'level'),
    )
    safe_register: int = parameter(
        NO_REGISTER,
        'Holding register of a PLC that changes four times a second while the line may run, and '
        'is 0 else; -1: none. The PLC stops the line when it is 0 or has not changed for a '
        'second.',
        minimum=NO_REGISTER,
        maximum=LARGEST_NUMBER,
    )
    safe_host: str = parameter('192.168.0.10', 'Address of that PLC.')
    safe_port: int = parameter(502, 'TCP port of that PLC.', minimum=1, maximum=65535)
    safe_unit: int = parameter(1, 'Unit (device) number of that PLC.', minimum=0, maximum=255)


class SafeOutput(Protocol):
    """Tells something whether the line may run.

    Attributes:
        trouble: Why it cannot be told; empty while it can.
    """

    trouble: str

    def tell(self, safe: bool) -> None:
        """Say it; called again and again, also where nothing has changed."""

    def close(self) -> None:
        """Let the line stand."""


class SafePin:
    """A pin that changes, or is high, while the line may run."""

    def __init__(self, pin: int, pulses: bool) -> None:
        """Take the pin, low.

        Raises:
            HardwareError: If it cannot be had.
        """
        self.trouble = ''
        self._pulses = pulses
        self._pin: Any = open_pin('DigitalOutputDevice', pin, initial_value=False)

    def tell(self, safe: bool) -> None:
        """Change the pin, or set its level."""
        self._pin.value = safe and not (self._pulses and self._pin.value)

    def close(self) -> None:
        """Leave the pin low."""
        self._pin.off()
        self._pin.close()


class SafeRegister:
    """A register of a PLC that changes while the line may run; written by a thread."""

    def __init__(self, connection: ModbusConnection, address: int, timeout: float = 0.3) -> None:
        """Start with 0."""
        self.trouble = ''
        self._connection = connection
        self._address = address
        self._timeout = timeout
        self._told = False
        self._told_at = time.monotonic()
        self._number = 0
        self._news = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name='safe register', daemon=True)
        self._thread.start()

    def tell(self, safe: bool) -> None:
        """Say it; what is not said again within half a second holds no more."""
        self._told_at = time.monotonic()
        if safe != self._told:
            self._told = safe
            self._news.set()

    def close(self) -> None:
        """Write 0, and hang up."""
        self._closing = True
        self._news.set()
        self._thread.join(timeout=4 * self._timeout + 1.0)

    def _work(self) -> None:
        while not self._closing:
            self._news.wait(BEAT_S)
            self._news.clear()
            recent = time.monotonic() - self._told_at <= TOLD_S
            self._write(self._number % LARGEST_NUMBER + 1 if self._told and recent else 0)
        self._write(0)
        self._connection.close()

    def _write(self, number: int) -> None:
        try:
            self._connection.write('register', self._address, number, self._timeout)
        except HardwareError as error:
            self.trouble = str(error)
        else:
            self.trouble = ''
            self._number = number or self._number


def open_safe_outputs(settings: SafeOutputSettings) -> list[SafeOutput]:
    """Return what the settings name.

    Raises:
        ConveyorError: If one of them cannot be had.
    """
    outputs: list[SafeOutput] = []
    if settings.safe_pin != NO_PIN:
        outputs.append(SafePin(settings.safe_pin, settings.safe_pin_kind == 'pulse'))
    if settings.safe_register != NO_REGISTER:
        connection = ModbusConnection(settings.safe_host, settings.safe_port, settings.safe_unit)
        outputs.append(SafeRegister(connection, settings.safe_register))
    return outputs
