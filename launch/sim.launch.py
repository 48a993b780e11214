# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Start the simulated cell: physics, both sides, and the link between them.

After the last item it prints a summary and writes a report; `end_when_done:=true` ends it then.
`ros2 launch stl_conveyor sim.launch.py --show-args` lists the arguments.
"""

from __future__ import annotations

from stl_conveyor.deploy.launch_actions import cell_description
from stl_conveyor.deploy.launching import with_defaults
from stl_conveyor.nodes.base.topics import DEVICE, EDGE, SIMULATION
from stl_conveyor.resources import share_path


def generate_launch_description():
    """Return the description that `ros2 launch` runs."""
    return cell_description(
        __file__,
        with_defaults(
            nodes=' '.join(SIMULATION + DEVICE + EDGE),
            params_file=str(share_path('config/sim.yaml')),
            emulate_link=True,
        ),
    )
