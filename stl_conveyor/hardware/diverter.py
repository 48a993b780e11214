# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What every way of driving the diverters has in common."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class DiverterEvents:
    """Where a driver reports; it may call these from any thread.

    Attributes:
        confirmed: (lane, serial or None) a diverter was seen out; the serial of the stroke where
            the diverter says which.
        failed: (lane, serial or None, reason) a stroke could not be commanded; the reason names
            the thing and the remedy.
        connected: (None or a reason) what stands between driver and diverters is there, or was
            lost, for that reason.
    """

    confirmed: Callable[[str, int | None], None]
    failed: Callable[[str, int | None, str], None]
    connected: Callable[[str | None], None]


class Diverters(Protocol):
    """The diverters of a cell, by the name of their lane.

    `connects`: nothing can be commanded before the driver has reported that it is connected.
    """

    connects: bool

    def extend(self, lane: str, serial: int, late: float = 0.0) -> None:
        """Move a diverter out; must not block.

        Args:
            lane: Whose diverter.
            serial: Of the stroke, for what is reported about it.
            late: Seconds that the stroke is past its time. Who cannot make it at once makes it
                until it is `Site.useful_time` late, and not after that: it would hit another item.

        Raises:
            HardwareError: If that is known to be impossible; other failures are reported.
        """

    def retract(self, lane: str) -> None:
        """Move a diverter back; must not block.

        Raises:
            HardwareError: If that is known to be impossible; other failures are reported.
        """

    def is_out(self, lane: str) -> bool | None:
        """Return what the feedback of a lane says now; None if there is none to ask."""

    def remedy(self, lane: str) -> str:
        """Return what to check when the diverter of a lane stays silent."""

    def close(self) -> None:
        """Move everything back and let go of the hardware."""


class StrokeResult(enum.Enum):
    """What became of a stroke."""

    CONFIRMED = 'confirmed'  # the diverter was seen out
    SILENT = 'silent'  # commanded, and not confirmed in time
    FAILED = 'failed'  # it could not be commanded


@dataclass(frozen=True)
class StrokeReport:
    """What a driver that makes the strokes itself says about one.

    Attributes:
        header: std_msgs/Header of the capture; with `item_id` it says who the item is.
        lateness_ns: From the stroke's time to its command; None = not told.
        delay_ns: From the command to the confirmation; None = not told.
        detail: The reason, where there is one.
    """

    header: Any
    item_id: int
    lane: str
    result: StrokeResult
    lateness_ns: int | None
    delay_ns: int | None
    detail: str
