# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Pins of paper: what gpiozero drives in place of those of a Raspberry Pi."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class Pins:
    """The pins of paper of one situation."""

    def __init__(self, factory: Any, rises: list[tuple[float, int]]) -> None:
        """Take gpiozero's factory, and where rises are noted."""
        self._factory = factory
        self._rises = rises

    def drive(self, number: int, high: bool) -> None:
        """Put a level on an input (BCM number)."""
        pin = self._factory.pin(number)
        (pin.drive_high if high else pin.drive_low)()

    def pulse(self, number: int) -> None:
        """Give an input one rising edge."""
        self.drive(number, False)
        self.drive(number, True)

    def rises(self, pins: Sequence[int]) -> list[tuple[float, int]]:
        """Return when (s, monotonic) which of some outputs rose, in order."""
        return [rise for rise in self._rises if rise[1] in pins]


@contextmanager
def mock_pins() -> Iterator[Pins]:
    """Have gpiozero drive pins of paper, and note when an output rises."""
    from gpiozero import Device
    from gpiozero.pins.mock import MockFactory, MockPin

    rises: list[tuple[float, int]] = []

    class NotedPin(MockPin):
        """A mock pin that notes its rises as an output."""

        def _change_state(self, value: bool) -> bool:
            changed = bool(super()._change_state(value))
            if changed and value and self.function == 'output':
                rises.append((time.monotonic(), int(self.info.name.removeprefix('GPIO'))))
            return changed

    before = Device.pin_factory
    Device.pin_factory = MockFactory(pin_class=NotedPin)
    try:
        yield Pins(Device.pin_factory, rises)
    finally:
        Device.pin_factory.reset()
        Device.pin_factory = before
