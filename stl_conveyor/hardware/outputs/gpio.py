# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Diverters on the GPIO pins of a Raspberry Pi."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from stl_conveyor.errors import ConfigError, HardwareError
from stl_conveyor.hardware.diverter import DiverterEvents
from stl_conveyor.hardware.output import DirectOutput, Site
from stl_conveyor.hardware.pins import LARGEST_PIN, NO_PIN, open_pin, without_arguments
from stl_conveyor.parameters import parameter


@dataclass(frozen=True)
class GpioSettings:
    """Parameters of the output gpio."""

    gpio_pins: tuple[int, ...] = parameter(
        (17, 27, 22),
        "Output of each lane's diverter, in the order of the cell description (BCM "
        'numbers), with output gpio.',
    )
    gpio_feedback_pins: tuple[int, ...] = parameter(
        (5, 6, 13),
        "Input of each lane's end switch, active while the diverter is out; -1: "
        'there is none, and only the output is read back.',
    )
    gpio_active_high: bool = parameter(
        True, 'Whether the high level of an output moves the diverter out.'
    )
    gpio_feedback_pull_up: bool = parameter(
        True, 'Whether an end switch connects its input to ground (with a pull-up), else to 3.3 V.'
    )
    gpio_bounce_time: float = parameter(
        0.005, 'Seconds for which an end switch may bounce.', minimum=0.0, maximum=0.1
    )


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
                self._outputs[name] = open_pin(
                    'DigitalOutputDevice',
                    pins.output,
                    active_high=active_high,
                    initial_value=False,
                )
                if pins.feedback != NO_PIN:
                    switch = open_pin(
                        'DigitalInputDevice',
                        pins.feedback,
                        pull_up=feedback_pull_up,
                        bounce_time=bounce_time or None,
                    )
                    switch.when_activated = without_arguments(self._on_switch, name)
                    self._feedback[name] = switch
        except BaseException:
            self.close()
            raise

    def _on_switch(self, lane: str) -> None:
        self._events.confirmed(lane, None)

    def extend(self, lane: str, serial: int, late: float = 0.0) -> None:
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
        """Move a diverter back.

        Raises:
            HardwareError: If the output does not take the level.
        """
        try:
            self._outputs[lane].off()
        except Exception as error:  # the pin library's and the kernel's errors
            raise HardwareError(
                f'GPIO {self._lanes[lane].output} cannot be switched off '
                f'({type(error).__name__}: {error}): the diverter of lane {lane} stays out; cut '
                'its supply, and look for another program that uses the pin'
            ) from error

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
        """Move everything back and let go of the pins.

        Raises:
            HardwareError: If an output cannot be switched off; the others are all the same.
        """
        with ExitStack() as last_first:
            last_first.callback(self._outputs.clear)
            last_first.callback(self._feedback.clear)
            for device in (*self._outputs.values(), *self._feedback.values()):
                last_first.callback(device.close)
            for lane in self._outputs:
                last_first.callback(self.retract, lane)


def check(settings: GpioSettings) -> None:
    """Refuse pins that do not exist or have two uses.

    Raises:
        ConfigError: Naming the parameter.
    """
    used: list[int] = []
    for name, pins in (
        ('gpio_pins', settings.gpio_pins),
        ('gpio_feedback_pins', settings.gpio_feedback_pins),
    ):
        for pin in pins:
            if pin == NO_PIN and name == 'gpio_feedback_pins':
                continue
            if not 0 <= pin <= LARGEST_PIN:
                raise ConfigError(f'{name}: {pin} is no BCM number of 0..{LARGEST_PIN}')
            if pin in used:
                raise ConfigError(f'{name}: GPIO {pin} is used twice')
            used.append(pin)


def open_diverters(settings: GpioSettings, site: Site) -> GpioDiverters:
    """Open the pins of every lane."""
    pins = zip(site.lanes, settings.gpio_pins, settings.gpio_feedback_pins)
    return GpioDiverters(
        {lane: GpioLane(output, feedback) for lane, output, feedback in pins},
        site.events,
        active_high=settings.gpio_active_high,
        feedback_pull_up=settings.gpio_feedback_pull_up,
        bounce_time=settings.gpio_bounce_time,
    )


OUTPUT = DirectOutput(
    settings=GpioSettings,
    check=check,
    open=open_diverters,
    per_lane=('gpio_pins', 'gpio_feedback_pins'),
)
