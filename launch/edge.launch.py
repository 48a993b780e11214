# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Start the side with the strong classifier, on a server near the belt.

One edge serves several cells: `cells:='line_1 line_2'` names their namespaces, or
`fleet:=fleet.yaml` says all of it (docs/fleet.md).
`ros2 launch stl_conveyor edge.launch.py --show-args` lists the arguments.
"""

from __future__ import annotations

import socket

from stl_conveyor.deploy.fleet_launch import FLEET_ARGUMENTS, take_fleet
from stl_conveyor.deploy.launch_actions import cell_description
from stl_conveyor.deploy.launching import with_defaults
from stl_conveyor.nodes.base.topics import EDGE
from stl_conveyor.resources import share_path


def _by_fleet(values):
    take_fleet(values, socket.gethostname())
    return []


def generate_launch_description():
    """Return the description that `ros2 launch` runs."""
    return cell_description(
        __file__,
        with_defaults(
            nodes=' '.join(EDGE),
            params_file=str(share_path('config/edge.yaml')),
            emulate_link=False,
        ),
        extra=FLEET_ARGUMENTS,
        before=_by_fleet,
    )
