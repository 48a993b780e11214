# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Parameters as fields of a frozen dataclass, each with default, range and meaning; no ROS."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ParameterRule:
    """What a parameter means and which values it takes; `tunable` ones may change at run time."""

    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    tunable: bool = False


def parameter(
    default: Any,
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Iterable[str] = (),
    tunable: bool = False,
) -> Any:
    """Return a dataclass field that is a ROS parameter."""
    rule = ParameterRule(description, minimum, maximum, tuple(choices), tunable)
    if isinstance(default, (list, tuple)):
        return field(default_factory=lambda: tuple(default), metadata={'rule': rule})
    return field(default=default, metadata={'rule': rule})
