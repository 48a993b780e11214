# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""GPIO pins of a Raspberry Pi, through gpiozero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stl_conveyor.errors import HardwareError, MissingDependency

NO_PIN = -1
LARGEST_PIN = 27  # BCM numbers of the 40-pin header


def import_gpiozero() -> Any:
    """Return the module gpiozero.

    Raises:
        MissingDependency: If it is not installed.
    """
    try:
        import gpiozero
    except ImportError as error:
        raise MissingDependency(
            'GPIO needs gpiozero and, on a Raspberry Pi 5, lgpio: apt install python3-gpiozero '
            'python3-lgpio'
        ) from error
    return gpiozero


def open_pin(kind: str, pin: int, **arguments: Any) -> Any:
    """Return a gpiozero device on a pin.

    Raises:
        HardwareError: Naming the pin; a service of the system or another node may hold it.
    """
    gpiozero = import_gpiozero()
    try:
        return getattr(gpiozero, kind)(pin, **arguments)
    except Exception as error:  # gpiozero's, the pin library's and the kernel's errors
        raise HardwareError(
            f'GPIO {pin} cannot be opened ({type(error).__name__}: {error}); check that the user '
            'is in the group gpio, that no other program holds the pin, and that '
            'GPIOZERO_PIN_FACTORY is unset or lgpio'
        ) from error


def without_arguments(function: Callable[..., None], *given: Any) -> Callable[[], None]:
    """Return a function that gpiozero does not hand its device to."""

    def call() -> None:
        function(*given)

    return call
