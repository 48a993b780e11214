# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Have something happen once, after a delay that is set anew each time."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.timer import Timer


@dataclass(frozen=True)
class OneShot:
    """A timer that is set for one call; `ConnectedNode.once` makes one, and nothing waits yet.

    What it calls looks at the time all the same: EventsExecutor may call twice.
    """

    timer: Timer

    def after(self, delay_ns: int) -> None:
        """Have the call made in so many ns, in place of when it was to be made before."""
        self.timer.timer_period_ns = max(0, delay_ns)
        self.timer.reset()

    def cancel(self) -> None:
        """Have no call made."""
        self.timer.cancel()
