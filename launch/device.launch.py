# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Start the side that stands at the belt, for instance on a Raspberry Pi.

Takes every argument of cell.launch.py; this lists them:
`ros2 launch stl_conveyor device.launch.py --show-args`
"""

from __future__ import annotations

from stl_conveyor.deploy.launching import cell_with, shared
from stl_conveyor.nodes.base.topics import DEVICE


def generate_launch_description():
    """Return the description that `ros2 launch` runs."""
    return cell_with(DEVICE, shared('config', 'device.yaml'), emulate_link=False)
