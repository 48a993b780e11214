# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Pins of a single-board computer that are played, as a fixture."""

from __future__ import annotations

import pytest


@pytest.fixture
def pins(monkeypatch):
    """Return gpiozero's played pins, which every device takes during the test."""
    gpiozero = pytest.importorskip('gpiozero')
    from gpiozero.pins.mock import MockFactory

    factory = MockFactory()
    monkeypatch.setattr(gpiozero.Device, 'pin_factory', factory)
    yield factory
    factory.reset()
