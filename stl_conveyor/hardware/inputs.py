# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Light barrier and belt encoder on the GPIO pins of a Raspberry Pi."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from stl_conveyor.errors import HardwareError
from stl_conveyor.hardware.pins import NO_PIN, import_gpiozero, open_pin, without_arguments


class GpioBreakBeam:
    """A light barrier on a pin."""

    def __init__(
        self,
        pin: int,
        on_change: Callable[[bool, int], None],
        now_ns: Callable[[], int],
        *,
        broken_high: bool = False,
        bounce_time: float = 0.0,
    ) -> None:
        """Watch the pin.

        Args:
            on_change: called, in gpiozero's thread, with whether the beam is broken now, and the
                time (ns).
            broken_high: The pin is high while the beam is broken; else low, with a pull-up.

        Raises:
            HardwareError: Naming the pin.
        """
        polarity: dict[str, Any] = (
            {'pull_up': None, 'active_state': True} if broken_high else {'pull_up': True}
        )
        self._device = open_pin(
            'DigitalInputDevice', pin, bounce_time=bounce_time or None, **polarity
        )
        self._device.when_activated = without_arguments(lambda: on_change(True, now_ns()))
        self._device.when_deactivated = without_arguments(lambda: on_change(False, now_ns()))

    @property
    def is_broken(self) -> bool:
        """Return whether something is in the beam now."""
        return bool(self._device.value)

    def close(self) -> None:
        """Let go of the pin."""
        self._device.close()


class GpioBeltEncoder:
    """An incremental (rotary) encoder on the belt; counts steps, both ways with two channels.

    With two channels a step is a whole cycle of both (gpiozero's RotaryEncoder); with one, a
    rising edge.
    """

    def __init__(
        self,
        pin_a: int,
        pin_b: int,
        on_step: Callable[[int, int], None],
        now_ns: Callable[[], int],
    ) -> None:
        """Watch the pins.

        Args:
            pin_b: Second channel, or NO_PIN.
            on_step: called, in gpiozero's thread, with the count and the time (ns).

        Raises:
            HardwareError: Naming the pin.
        """
        self._on_step = on_step
        self._now_ns = now_ns
        self._count = 0
        self._lock = threading.Lock()
        if pin_b == NO_PIN:
            self._device = open_pin('DigitalInputDevice', pin_a, pull_up=True)
            self._device.when_activated = without_arguments(self._step, 1)
        else:
            gpiozero = import_gpiozero()
            try:
                self._device = gpiozero.RotaryEncoder(pin_a, pin_b, max_steps=0)
            except Exception as error:  # as in open_pin
                raise HardwareError(
                    f'belt encoder on GPIO {pin_a} and {pin_b} cannot be opened '
                    f'({type(error).__name__}: {error}); check that no other program holds the '
                    'pins'
                ) from error
            self._device.when_rotated_clockwise = without_arguments(self._step, 1)
            self._device.when_rotated_counter_clockwise = without_arguments(self._step, -1)

    @property
    def count(self) -> int:
        """Return the steps counted so far."""
        return self._count

    def _step(self, change: int) -> None:
        with self._lock:
            self._count += change
            count = self._count
        self._on_step(count, self._now_ns())

    def close(self) -> None:
        """Let go of the pins."""
        self._device.close()
