# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Start the simulated cell: physics, both sides, and the link between them.

Takes every argument of cell.launch.py; this lists them:
`ros2 launch stl_conveyor sim.launch.py --show-args`
"""

from __future__ import annotations

from stl_conveyor.deploy.launching import cell_with, shared
from stl_conveyor.nodes.base.topics import DEVICE, EDGE, SIMULATION


def generate_launch_description():
    """Return the description that `ros2 launch` runs."""
    return cell_with(SIMULATION + DEVICE + EDGE, shared('config', 'sim.yaml'), emulate_link=True)
