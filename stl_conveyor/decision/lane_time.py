# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Until when a better answer about an item is of use, where each lane has its own time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.cell.deadline import stroke_time_ns
from stl_conveyor.cell.description import CellDescription

LIKELY = 0.02  # probability from which a lane is worth waiting for


def useful_until_ns(
    capture_ns: int,
    deadline_ns: int,
    cell: CellDescription,
    labels: Sequence[str] = (),
    probabilities: NDArray[np.floating] | None = None,
) -> int:
    """Return the deadline of the last lane that is still likely, that of the first at least.

    A cell without costs decides about all lanes at the first one's deadline.

    Args:
        capture_ns: Stamp of the capture.
        deadline_ns: That of the first lane.
        labels: Of the probabilities.
        probabilities: [C] as known so far; None = every lane is likely.

    Examples:
        >>> import numpy as np
        >>> from stl_conveyor import share_path
        >>> from dataclasses import replace
        >>> from stl_conveyor.cell.description import Costs
        >>> cell = CellDescription.load(share_path('config/cell.yaml'))
        >>> useful_until_ns(0, 780_000_000, cell)
        780000000
        >>> useful_until_ns(0, 780_000_000, replace(cell, costs=Costs()))  # that of lane C
        1980000000
    """
    if not cell.decides_by_cost:
        return deadline_ns
    latest_ns = deadline_ns
    for lane in cell.lanes:
        if probabilities is not None:
            members = [name in lane.classes for name in labels]
            if float(np.asarray(probabilities)[members].sum()) < LIKELY:
                continue
        latest_ns = max(latest_ns, stroke_time_ns(capture_ns, deadline_ns, cell, lane.name))
    return latest_ns
