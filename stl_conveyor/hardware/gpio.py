# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Diverters, light barrier and encoder on the GPIO pins of a Raspberry Pi, through gpiozero."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stl_conveyor.errors import HardwareError, MissingDependency
from stl_conveyor.hardware.diverter import DiverterEvents

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


def _open(kind: str, pin: int, **arguments: Any) -> Any:
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


@dataclass(frozen=True)
class GpioLane:
    """The pins (BCM numbers) of a lane's diverter.

    Attributes:
        output: Drives the valve or solenoid, through an opto-coupler or a relay.
        feedback: End switch that is active while the diverter is out; NO_PIN = there is none, and
            reading the output back is all the confirmation there is.
    """

    output: int
    feedback: int = NO_PIN


class GpioDiverters:
    """One output per lane, and an end switch for those that have one."""

    connects = False

    def __init__(
        self,
        lanes: Mapping[str, GpioLane],
        events: DiverterEvents,
        *,
        active_high: bool = True,
        feedback_pull_up: bool = True,
        bounce_time: float = 0.0,
    ) -> None:
        """Open the pins, with all diverters back.

        Args:
            active_high: Whether the output's high level moves a diverter out.
            feedback_pull_up: The end switch connects its pin to ground; else to 3.3 V.
            bounce_time: Seconds for which an end switch may bounce.

        Raises:
            HardwareError: Naming the pin that cannot be had.
            MissingDependency: If gpiozero is not installed.
        """
        self._lanes = dict(lanes)
        self._events = events
        self._outputs: dict[str, Any] = {}
        self._feedback: dict[str, Any] = {}
        try:
            for name, pins in self._lanes.items():
                self._outputs[name] = _open(
                    'DigitalOutputDevice',
                    pins.output,
                    active_high=active_high,
                    initial_value=False,
                )
                if pins.feedback != NO_PIN:
                    switch = _open(
                        'DigitalInputDevice',
                        pins.feedback,
                        pull_up=feedback_pull_up,
                        bounce_time=bounce_time or None,
                    )
                    switch.when_activated = _without_arguments(self._on_switch, name)
                    self._feedback[name] = switch
        except BaseException:
            self.close()
            raise

    def _on_switch(self, lane: str) -> None:
        self._events.confirmed(lane, None)

    def extend(self, lane: str, serial: int) -> None:
        """Move a diverter out.

        Raises:
            HardwareError: If the output does not take the level.
        """
        output = self._outputs[lane]
        try:
            output.on()
            is_on = bool(output.value)
        except Exception as error:  # the pin library's and the kernel's errors
            raise HardwareError(
                f'GPIO {self._lanes[lane].output} cannot be set ({type(error).__name__}: '
                f'{error}); is another program using it?'
            ) from error
        if not is_on:
            raise HardwareError(
                f'GPIO {self._lanes[lane].output} was set and reads back unset; check the wiring '
                'for a short circuit'
            )
        switch = self._feedback.get(lane)
        if switch is None or switch.value:  # out already, so there comes no edge
            self._events.confirmed(lane, serial)

    def retract(self, lane: str) -> None:
        """Move a diverter back."""
        self._outputs[lane].off()

    def is_out(self, lane: str) -> bool | None:
        """Return whether the end switch of a lane is active; None without one."""
        switch = self._feedback.get(lane)
        return None if switch is None else bool(switch.value)

    def remedy(self, lane: str) -> str:
        """Return what to check when the diverter of a lane stays silent."""
        pins = self._lanes[lane]
        return (
            f'check the supply and air of the valve on GPIO {pins.output}, and the end switch '
            f'on GPIO {pins.feedback}'
        )

    def close(self) -> None:
        """Move everything back and let go of the pins."""
        for output in self._outputs.values():
            output.off()
        for device in (*self._outputs.values(), *self._feedback.values()):
            device.close()
        self._outputs, self._feedback = {}, {}


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
        self._device = _open(
            'DigitalInputDevice', pin, bounce_time=bounce_time or None, **polarity
        )
        self._device.when_activated = _without_arguments(lambda: on_change(True, now_ns()))
        self._device.when_deactivated = _without_arguments(lambda: on_change(False, now_ns()))

    @property
    def is_broken(self) -> bool:
        """Return whether something is in the beam now."""
        return bool(self._device.value)

    def close(self) -> None:
        """Let go of the pin."""
        self._device.close()


class GpioEncoder:
    """An incremental encoder on the belt; counts steps, both ways with two channels.

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
            self._device = _open('DigitalInputDevice', pin_a, pull_up=True)
            self._device.when_activated = _without_arguments(self._step, 1)
        else:
            gpiozero = import_gpiozero()
            try:
                self._device = gpiozero.RotaryEncoder(pin_a, pin_b, max_steps=0)
            except Exception as error:  # as in _open
                raise HardwareError(
                    f'encoder on GPIO {pin_a} and {pin_b} cannot be opened '
                    f'({type(error).__name__}: {error}); check that no other program holds the '
                    'pins'
                ) from error
            self._device.when_rotated_clockwise = _without_arguments(self._step, 1)
            self._device.when_rotated_counter_clockwise = _without_arguments(self._step, -1)

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


def _without_arguments(function: Callable[..., None], *given: Any) -> Callable[[], None]:
    """Return a function that gpiozero does not hand its device to."""

    def call() -> None:
        function(*given)

    return call
