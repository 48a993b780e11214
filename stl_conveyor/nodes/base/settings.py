# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Parameters of a node as a frozen dataclass: one definition with default, range and meaning."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from stl_conveyor.cell.moved_parameters import cell_key
from stl_conveyor.errors import ConfigError
from stl_conveyor.nodes.base.cell_values import check_moved
from stl_conveyor.parameters import ParameterRule, parameter

SettingsT = TypeVar('SettingsT', bound='NodeSettings')

# Overrides that rclpy itself reads.
_FRAMEWORK_PREFIXES = ('qos_overrides.', 'use_sim_time', 'start_type_description_service')


@dataclass(frozen=True)
class NodeSettings:
    """Parameters that every node has."""

    autostart: bool = parameter(
        True,
        'Configure and activate by itself, and try again when that fails. Set it to false '
        'where a lifecycle manager does so.',
        fixed=True,
    )
    retry_period: float = parameter(
        3.0, 'Seconds between attempts to configure.', minimum=0.1, maximum=3600.0
    )
    diagnostics_period: float = parameter(
        1.0, 'Seconds between two reports on /diagnostics.', minimum=0.1, maximum=60.0, fixed=True
    )
    niceness: int = parameter(
        -5,
        'Scheduling priority of the thread that runs the node: -20 (first) to 19. What the '
        'system does not permit is reported and otherwise left out.',
        minimum=-20,
        maximum=19,
        fixed=True,
    )
    topic_deadline: float = parameter(
        0.0,
        'DDS deadline (s) offered and requested on the topics of the cell: a watchdog on '
        'silence. 0 = off. Use the same value in every node; ignored with use_sim_time.',
        minimum=0.0,
        maximum=3600.0,
    )
    topic_lifespan: float = parameter(
        0.0,
        'DDS lifespan (s) of what is published on the topics of the cell. 0 = off; ignored '
        'with use_sim_time.',
        minimum=0.0,
        maximum=3600.0,
    )
    liveliness_lease: float = parameter(
        0.0,
        'DDS liveliness lease (s) offered and requested on the topics of the cell. 0 = off; '
        'use the same value in every node; ignored with use_sim_time.',
        minimum=0.0,
        maximum=3600.0,
    )


def declare_settings(
    node: Node, cls: type[SettingsT], check: Callable[[SettingsT], None]
) -> SettingsT:
    """Declare every field of `cls` as a parameter of the node and return what was set.

    Args:
        check: Raises ConfigError if the values do not fit together.

    Raises:
        ConfigError: Naming the parameter that is unknown or has a wrong value.
    """
    overrides = parameter_overrides(node)
    kind = getattr(node, 'NAME', '')
    moved = {name: overrides.pop(name).value for name in list(overrides) if cell_key(kind, name)}
    known = {item.name for item in fields(cls)}
    for name in overrides:
        if name not in known and not name.startswith(_FRAMEWORK_PREFIXES):
            raise ConfigError(
                f'{node.get_name()}: unknown parameter {name!r}; known are '
                f'{", ".join(sorted(known))}'
            )
    for item in fields(cls):
        _declare(node, item)
    settings = read_settings(node, cls)
    check(settings)
    check_moved(kind, moved, getattr(settings, 'cell_file', ''), node.get_logger().warning)
    return settings


def read_settings(node: Node, cls: type[SettingsT]) -> SettingsT:
    """Return the present values of the declared parameters."""
    values = {item.name: node.get_parameter(item.name).value for item in fields(cls)}
    return _build(cls, values)


def fixed_while_configured(cls: type[NodeSettings], names: Iterable[str]) -> list[str]:
    """Return those of some parameters that may not change while the node is configured."""
    rules = {item.name: item.metadata['rule'] for item in fields(cls)}
    return [name for name in names if name in rules and not rules[name].tunable]


def changed_settings(
    settings: SettingsT, changes: dict[str, Any], check: Callable[[SettingsT], None]
) -> SettingsT:
    """Return the settings with some values changed.

    Raises:
        ConfigError: Naming the parameter whose value is wrong.
    """
    values = {item.name: getattr(settings, item.name) for item in fields(settings)}
    for name, value in changes.items():
        if name in values:
            values[name] = value
    changed = _build(type(settings), values)
    check(changed)
    return changed


def _build(cls: type[SettingsT], values: dict[str, Any]) -> SettingsT:
    for item in fields(cls):
        rule: ParameterRule = item.metadata['rule']
        value = values[item.name]
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f'{item.name}: {value} is not a finite number')
        if rule.choices and value not in rule.choices:
            raise ConfigError(f'{item.name}: {value!r} is not one of {", ".join(rule.choices)}')
        if isinstance(_default(item), tuple):
            values[item.name] = tuple(value)
    return cls(**values)


def parameter_overrides(node: Node) -> dict[str, Any]:
    """Return what was asked for on the command line and in files; rclpy has no public list."""
    return getattr(node, '_parameter_overrides', {})


def _default(item: Any) -> Any:
    return item.default if item.default is not MISSING else item.default_factory()


def _declare(node: Node, item: Any) -> None:
    rule: ParameterRule = item.metadata['rule']
    default = _default(item)
    descriptor = ParameterDescriptor(description=rule.description, read_only=rule.fixed)
    if rule.choices:
        descriptor.additional_constraints = 'one of ' + ', '.join(rule.choices)
    if rule.minimum is not None and rule.maximum is not None:
        if isinstance(default, float):
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(rule.minimum), to_value=float(rule.maximum))
            ]
        else:
            descriptor.integer_range = [
                IntegerRange(from_value=int(rule.minimum), to_value=int(rule.maximum))
            ]
    overrides = parameter_overrides(node)
    override = overrides.get(item.name)
    if (
        override is not None
        and isinstance(default, float)
        and isinstance(override.value, int)
        and not isinstance(override.value, bool)
    ):
        # YAML writes 1 where a person means 1.0.
        overrides[item.name] = type(override)(item.name, value=float(override.value))
    try:
        node.declare_parameter(
            item.name, list(default) if isinstance(default, tuple) else default, descriptor
        )
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        given = None if override is None else override.value
        bounds = '' if rule.minimum is None else f' within {rule.minimum}..{rule.maximum}'
        kind = 'list of texts' if isinstance(default, tuple) else type(default).__name__
        raise ConfigError(
            f'{node.get_name()}: parameter {item.name} is {given!r}; it takes a {kind}{bounds}'
        ) from error
