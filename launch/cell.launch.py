# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Start nodes of one cell; the argument `nodes` names which.

Nodes are lifecycle nodes that configure and activate themselves and try again where that fails;
with `autostart:=false` they wait for a lifecycle manager.
"""

from __future__ import annotations

from stl_conveyor.deploy.launch_actions import cell_description
from stl_conveyor.deploy.launching import ARGUMENTS


def generate_launch_description():
    """Return the description that `ros2 launch` runs."""
    return cell_description(__file__, ARGUMENTS)
