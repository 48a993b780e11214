# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Every way to reach the diverters, by the name that the parameter `output` has for it.

An output is one file here with an `OUTPUT`, and its name in the registry below;
docs/howto/add_an_actuator.md shows one.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from stl_conveyor.hardware.output import Output

REGISTRY = (
    'topic',  # a driver of its own, over ROS
    'gpio',  # pins of a Raspberry Pi
    'ros2_control',  # joints of a controller
    'modbus',  # coils or registers of a PLC
)

OUTPUTS: dict[str, Output[Any]] = {
    name: import_module(f'{__name__}.{name}').OUTPUT for name in REGISTRY
}
