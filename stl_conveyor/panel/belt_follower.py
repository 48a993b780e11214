# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Where an item lies on the belt now, for who looks on."""

from __future__ import annotations

from dataclasses import dataclass

from stl_conveyor.cell.belt_history import STANDSTILL, BeltHistory
from stl_conveyor.cell.description import CellDescription

DESCRIBED, RUNNING, STOPPED, UNKNOWN = 'described', 'running', 'stopped', 'unknown'


@dataclass(frozen=True)
class BeltMotion:
    """How the belt moves.

    Attributes:
        speed: m/s; 0 where it stands or nobody knows.
        state: DESCRIBED (nobody reports it: the speed of the cell description), RUNNING, STOPPED
            or UNKNOWN.
    """

    speed: float
    state: str


class BeltFollower:
    """Follows the belt by what counts its way, or by its described speed where nothing does.

    Times are ns of ROS time.

    Examples:
        >>> from stl_conveyor import CellDescription, share_path
        >>> belt = BeltFollower(CellDescription.load(share_path('config/cell.yaml')))
        >>> round(belt.x_of(0, now_ns=500_000_000), 3)  # half a second behind the camera
        0.2
    """

    def __init__(self, cell: CellDescription) -> None:
        """Know the description alone."""
        self._cell = cell
        self._history = BeltHistory(counter_length=cell.belt.counter_length)

    def use(self, cell: CellDescription) -> None:
        """Know another description from now on."""
        self._cell = cell

    def add(self, time_ns: int, position: float, speed: float, origin: int) -> None:
        """Take in what was reported: metres, m/s, and the number of the origin."""
        self._history.add(time_ns, position, speed, origin=origin)

    def motion(self, now_ns: int) -> BeltMotion:
        """Return how the belt moves now."""
        if not self._history.has_spoken:
            return BeltMotion(self._cell.belt.speed, DESCRIBED)
        if not self._history.is_known(now_ns):
            return BeltMotion(0.0, UNKNOWN)
        speed = self._history.speed()
        return BeltMotion(speed, RUNNING if abs(speed) >= STANDSTILL else STOPPED)

    def x_of(self, stamp_ns: int, now_ns: int) -> float | None:
        """Return where (m, x of the cell) an item lies that was captured at a time.

        None: the belt's position was lost since.
        """
        if not self._history.has_spoken:
            way = (now_ns - stamp_ns) / 1e9 * self._cell.belt.speed
        else:
            latest_ns = self._history.latest_ns or now_ns
            # A belt that nobody knows any more is drawn where it was seen last.
            seen_ns = now_ns if self._history.is_known(now_ns) else latest_ns
            then = self._history.place(stamp_ns, seen_ns)
            moved = None if then is None else self._history.way_since(then, seen_ns)
            if moved is None:
                return None
            way = moved
        return self._cell.camera.x + way
