# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a simulated cell reports while it runs, whatever simulates it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Exposed:
    """The camera took a picture: `image` uint8 [H, W, 3] at mid-exposure `time` seconds."""

    time: float
    serial: int
    image: np.ndarray
    class_id: str
    difficulty: float


@dataclass(frozen=True)
class Rested:
    """An item came to rest in the bin of `lane_name`, or nowhere: 'lost'."""

    time: float
    serial: int
    lane_name: str


@dataclass(frozen=True)
class PusherOut:
    """The pusher of a lane has come out far enough to have pushed what was in front of it."""

    time: float
    lane_name: str
