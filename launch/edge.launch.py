# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Start the side with the strong classifier, on a server near the belt.

One edge serves several cells: `cells:='line_1 line_2'` names their namespaces. Takes every
argument of cell.launch.py; this lists them:
`ros2 launch stl_conveyor edge.launch.py --show-args`
"""

from __future__ import annotations

from stl_conveyor.deploy.launching import cell_with, shared
from stl_conveyor.nodes.base.topics import EDGE


def generate_launch_description():
    """Return the description that `ros2 launch` runs."""
    return cell_with(EDGE, shared('config', 'edge.yaml'), emulate_link=False)
