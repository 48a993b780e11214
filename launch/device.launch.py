# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Start the side that stands at the belt, for instance on a Raspberry Pi.

`ros2 launch stl_conveyor device.launch.py --show-args` lists the arguments.
"""

from __future__ import annotations

from stl_conveyor.deploy.launch_actions import cell_description
from stl_conveyor.deploy.launching import with_defaults
from stl_conveyor.nodes.base.topics import DEVICE
from stl_conveyor.resources import share_path


def generate_launch_description():
    """Return the description that `ros2 launch` runs."""
    return cell_description(
        __file__,
        with_defaults(
            nodes=' '.join(DEVICE),
            params_file=str(share_path('config/device.yaml')),
            emulate_link=False,
        ),
    )
