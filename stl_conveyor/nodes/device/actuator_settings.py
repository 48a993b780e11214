# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the actuator: its own, and those of every output in the registry."""

from __future__ import annotations

from dataclasses import dataclass, fields, make_dataclass
from typing import Any

from stl_conveyor.hardware.outputs import OUTPUTS
from stl_conveyor.nodes.base.outside_input import StampSettings
from stl_conveyor.nodes.base.settings import urgent_niceness
from stl_conveyor.parameters import parameter


@dataclass(frozen=True)
class ActuatorSettings(StampSettings):
    """Parameters of the actuator, whatever its output."""

    cell_file: str = parameter(
        '', 'Cell description (YAML). Empty: the one that the package ships.'
    )
    models_dir: str = parameter(
        '',
        'Model folder, for its labels and calibration items; read only where cell_file has costs '
        'or purity targets. Empty: the one that the package ships.',
    )
    niceness: int = urgent_niceness()
    belt_source: str = parameter(
        'auto',
        'How the place of an item on its way to the diverters is known. auto: by belt_state as '
        'soon as somebody publishes it, until then by time. belt_state: by belt_state alone; '
        'until it comes no diverter moves.',
        choices=('auto', 'belt_state'),
    )
    confirm_timeout: float = parameter(
        0.5,
        'Seconds after its time within which a diverter must confirm that it moved, else it '
        'is reported; 0 = no confirmation is awaited.',
        minimum=0.0,
        maximum=10.0,
    )
    stroke_time: float = parameter(
        0.2,
        'Seconds for which a diverter is held out; not with Modbus registers, where the PLC '
        'knows.',
        minimum=0.01,
        maximum=10.0,
    )
    max_open_items: int = parameter(
        256,
        'Most items that wait for their time; beyond, the one with the most time is '
        'decided at once.',
        minimum=1,
        maximum=100_000,
    )
    journal: str = parameter(
        'auto',
        'File by which open items survive a crash of this node. auto: one in the folder that '
        'RUNTIME_DIRECTORY or XDG_RUNTIME_DIR names, else in /dev/shm: in memory, so that no disk '
        'is worn. none: there is none.',
    )


def actuator_settings() -> type[ActuatorSettings]:
    """Return ActuatorSettings with the parameter `output` and those of all outputs.

    Raises:
        ValueError: If two outputs have a parameter of the same name.
    """
    owners = {item.name: 'the actuator' for item in fields(ActuatorSettings)}
    for name, output in OUTPUTS.items():
        for item in fields(output.settings):
            if item.name in owners:
                raise ValueError(
                    f'parameter {item.name} of output {name} is one of {owners[item.name]}'
                )
            owners[item.name] = f'output {name}'
    choice = parameter(
        'topic',
        'Who commands the diverters: topic leaves it to a driver that listens to '
        'sort_outcome and answers on actuation; with the others this node does so itself, at '
        "each diverter's time.",
        choices=OUTPUTS,
    )
    bases: tuple[Any, ...] = (ActuatorSettings, *(each.settings for each in OUTPUTS.values()))
    return make_dataclass(
        'AllActuatorSettings', [('output', str, choice)], bases=bases, frozen=True
    )
