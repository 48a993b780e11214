# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Open the diverters that the parameters of the actuator describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stl_conveyor.errors import ConfigError
from stl_conveyor.hardware.diverter import DiverterEvents, Diverters
from stl_conveyor.hardware.outputs.gpio import GpioDiverters, GpioLane
from stl_conveyor.hardware.outputs.modbus import ModbusDiverters, ModbusLane


def open_diverters(
    output: str,
    parameters: Mapping[str, Any],
    lanes: Sequence[str],
    events: DiverterEvents,
    *,
    confirm_time: float,
    useful_time: float,
) -> Diverters:
    """Return the diverters of the lanes.

    Args:
        output: Gpio or modbus.
        parameters: Those of the actuator, by name.
        confirm_time: Seconds for which a confirmation is waited for.
        useful_time: Seconds by which a command may be late and still hit its item.

    Raises:
        ConveyorError: If they cannot be had.
    """
    if output == 'gpio':
        pins = zip(lanes, parameters['gpio_pins'], parameters['gpio_feedback_pins'])
        return GpioDiverters(
            {lane: GpioLane(pin, feedback) for lane, pin, feedback in pins},
            events,
            active_high=parameters['gpio_active_high'],
            feedback_pull_up=parameters['gpio_feedback_pull_up'],
            bounce_time=parameters['gpio_bounce_time'],
        )
    if output == 'modbus':
        register = parameters['modbus_kind'] == 'register'
        places = zip(lanes, parameters['modbus_addresses'], parameters['modbus_feedback'])
        return ModbusDiverters(
            {lane: ModbusLane(address, feedback, register) for lane, address, feedback in places},
            events,
            host=parameters['modbus_host'],
            port=parameters['modbus_port'],
            unit=parameters['modbus_unit'],
            timeout=parameters['modbus_timeout'],
            confirm_time=confirm_time,
            useful_time=useful_time,
        )
    raise ConfigError(
        f'output {output!r} is driven elsewhere: choose gpio or modbus. Where a controller or a '
        'driver moves the diverters, the actuator measures them: see confirm_delay in its '
        'diagnostics'
    )
