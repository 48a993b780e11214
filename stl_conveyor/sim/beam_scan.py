# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Whether a scan of the light barrier in Gazebo meets an item."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.sim.gazebo.world import BEAM_HEIGHT

FAR = 1e3  # m


def something_in_beam(
    cell: CellDescription,
    ranges: NDArray[np.float32],
    first_angle: float,
    step: float,
    least_height: float,
) -> bool:
    """Return whether any ray of a scan ends above the belt.

    The fan hangs BEAM_HEIGHT above the belt's centre line; angle 0 looks straight down.

    Args:
        ranges: metres, one per ray; infinite or not a number where nothing was met.
        first_angle: Of the first ray, rad.
        step: Between two rays, rad.
        least_height: Above the belt that counts, m.
    """
    angles = first_angle + step * np.arange(len(ranges))
    ranges = np.where(np.isfinite(ranges), ranges, FAR)
    heights = BEAM_HEIGHT - ranges * np.cos(angles)
    across = np.abs(ranges * np.sin(angles))
    return bool(np.any((heights > least_height) & (across < cell.belt.width / 2)))
