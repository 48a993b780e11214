# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Parameters as fields of a frozen dataclass, each with default, range and meaning; no ROS."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from stl_conveyor.errors import ConfigError


@dataclass(frozen=True)
class ParameterRule:
    """What a parameter means, which values it takes, and when it may change.

    Attributes:
        tunable: It may change at any time.
        fixed: It never changes once the node is there. All others may change while the node is
            not configured.
    """

    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    tunable: bool = False
    fixed: bool = False


def parameter(
    default: Any,
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Iterable[str] = (),
    tunable: bool = False,
    fixed: bool = False,
) -> Any:
    """Return a dataclass field that is a ROS parameter."""
    rule = ParameterRule(description, minimum, maximum, tuple(choices), tunable, fixed)
    if isinstance(default, (list, tuple)):
        return field(default_factory=lambda: tuple(default), metadata={'rule': rule})
    return field(default=default, metadata={'rule': rule})


def value_of(name: str, text: str, default: Any, rule: ParameterRule) -> Any:
    """Return the value that a person means by a text, such as that of a launch argument.

    Args:
        name: Of what is set; it begins the message of the error.
        text: What was written.
        default: Of the parameter; its type is that of the value: int, float, bool or str.
        rule: Which values the parameter takes.

    Raises:
        ConfigError: If the parameter takes no such value.

    Examples:
        >>> value_of('items', '7', 200, ParameterRule('Number of items.', 1, 10))
        7
    """
    word = text.strip()
    if rule.choices:
        if word not in rule.choices:
            raise ConfigError(f'{name}: {text!r} is not one of {", ".join(rule.choices)}')
        return word
    if isinstance(default, bool):
        if word.lower() not in ('true', 'false'):
            raise ConfigError(f'{name}: {text!r} is neither true nor false')
        return word.lower() == 'true'
    if not isinstance(default, (int, float)):
        return text
    whole = isinstance(default, int)
    bounds = '' if rule.minimum is None else f' from {rule.minimum} to {rule.maximum}'
    try:
        value = int(word) if whole else float(word)
        fits = math.isfinite(value)
        if rule.minimum is not None and rule.maximum is not None:
            fits = fits and rule.minimum <= value <= rule.maximum
    except (ValueError, OverflowError):
        fits = False
    if not fits:
        raise ConfigError(
            f'{name}: {text!r} is not a {"whole number" if whole else "number"}{bounds}'
        )
    return value
