# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What edges and nodes show of themselves to whoever looks on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SeenEdge:
    """An edge as its last sign of life shows it; see EdgeState.msg."""

    node: str
    codec_id: int
    model_id: int
    model: str
    serves: tuple[str, ...]
    load: float
    answers: float
    capacity: float
    price: float


@dataclass(frozen=True)
class SeenStatus:
    """A status on /diagnostics.

    Attributes:
        level: 0 = in order, 1 = a warning, more = an error.
    """

    name: str
    level: int
    message: str
    values: Mapping[str, str] = field(default_factory=dict)
