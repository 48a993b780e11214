# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Parameters of a node as a frozen dataclass: one definition with default, range and meaning."""

from __future__ import annotations

import array
import math
from collections.abc import Callable, Container, Iterable
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from stl_conveyor.cell.moved_parameters import MOVED, cell_key
from stl_conveyor.errors import ConfigError
from stl_conveyor.nodes.base.cell_values import check_moved
from stl_conveyor.outside_files import read_yaml
from stl_conveyor.parameter_files import nearest_name, sections
from stl_conveyor.parameters import ParameterRule, parameter
from stl_conveyor.resources import share_path

SettingsT = TypeVar('SettingsT', bound='NodeSettings')

# Overrides that rclpy itself reads.
_FRAMEWORK_PREFIXES = ('qos_overrides.', 'use_sim_time', 'start_type_description_service')
_NOT_PERMITTED = 'What the system does not permit is reported and otherwise left out.'


def niceness_parameter(
    default: int, about: str, threads: str = 'thread that runs the node'
) -> Any:
    """Return the field `niceness` of a node.

    Args:
        about: Why that, and what else there is to say.
        threads: Of which it is the niceness.
    """
    return parameter(
        default,
        f'Scheduling priority of the {threads}: -20 (first) to 19. {about}',
        minimum=-20,
        maximum=19,
        fixed=True,
    )


def urgent_niceness() -> Any:
    """Return the field `niceness` of a node for which an item waits, and that has no model."""
    return niceness_parameter(-10, f'It must not wait for models. {_NOT_PERMITTED}')


def onlooker_niceness() -> Any:
    """Return the field `niceness` of a node that only looks on."""
    return niceness_parameter(10, 'Looking on must not slow what is looked at.')


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
    niceness: int = niceness_parameter(-5, _NOT_PERMITTED)
    realtime_priority: int = parameter(
        0,
        'Priority of the thread that runs the node among those of the real-time queue '
        '(SCHED_FIFO), 1 to 99; 0 = it is none of them. What the system does not permit is '
        'reported.',
        minimum=0,
        maximum=99,
        fixed=True,
    )
    executor: str = parameter(
        'auto',
        'What calls the callbacks: events is called by the middleware, and comes with Kilted; '
        'wait_set makes a list of all that the node has for every message; auto takes events '
        'where there is it.',
        choices=('auto', 'events', 'wait_set'),
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
    node: Node,
    cls: type[SettingsT],
    check: Callable[[SettingsT], None],
    meant: Container[str] | None = None,
) -> SettingsT:
    """Declare every field of `cls` as a parameter of the node and return what was set.

    Args:
        check: Raises ConfigError if the values do not fit together.
        meant: Parameters that were set for this node by its name; others, which were set for every
            node, may be those of another one. None: all were set for this node.

    Raises:
        ConfigError: Naming the parameter that is unknown or has a wrong value.
    """
    overrides = parameter_overrides(node)
    kind = getattr(node, 'NAME', '')
    moved = {name: overrides.pop(name).value for name in list(overrides) if cell_key(kind, name)}
    known = {item.name for item in fields(cls)}
    for name in sorted(set(overrides) - known):
        if not name.startswith(_FRAMEWORK_PREFIXES):
            _check_unknown(node, name, known, meant is None or name in meant)
    for item in fields(cls):
        _declare(node, item)
    settings = read_settings(node, cls)
    check(settings)
    check_moved(kind, moved, getattr(settings, 'cell_file', ''), node.get_logger().warning)
    return settings


def _check_unknown(node: Node, name: str, known: set[str], meant: bool) -> None:
    """Refuse a parameter that the node does not have, unless it is another one's.

    Raises:
        ConfigError: If it was meant for this node, or its name is nearly one of this node's.
    """
    others = set() if meant else _names_of_all_nodes()
    if name in others:
        return
    kind = getattr(node, 'NAME', '')
    nearest = nearest_name(name, known | {old for old in MOVED if cell_key(kind, old)})
    if nearest:
        raise ConfigError(
            f'{node.get_name()}: unknown parameter {name!r}; did you mean {nearest}?'
        )
    if meant:
        raise ConfigError(
            f'{node.get_name()}: unknown parameter {name!r}; known are {", ".join(sorted(known))}'
        )
    node.get_logger().warning(
        f'parameter {name}, which is set for every node, is none of this one; it is left out'
    )


def _names_of_all_nodes() -> set[str]:
    """Return the parameters of all nodes of this package, by their shipped files."""
    names = set(MOVED)
    for path in share_path('config').glob('*.yaml'):
        for _, parameters in sections(read_yaml(path)):
            names.update(parameters)
    return names


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
        if isinstance(_default(item), tuple):
            values[item.name] = value = tuple(value)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise ConfigError(f'{item.name}: {number} is not a finite number')
        if rule.choices and value not in rule.choices:
            raise ConfigError(f'{item.name}: {value!r} is not one of {", ".join(rule.choices)}')
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
    override = parameter_overrides(node).get(item.name)
    if override is not None:
        value = _as_meant(override.value, default)
        if isinstance(default, tuple) and value == []:
            descriptor.dynamic_typing = True  # rclpy takes an empty list for one of bytes
        elif value is None:
            raise ConfigError(
                f'{node.get_name()}: parameter {item.name} is an empty list; it takes '
                f'{_kind(item)}'
            )
        parameter_overrides(node)[item.name] = Parameter(item.name, value=value)
    try:
        node.declare_parameter(
            item.name, list(default) if isinstance(default, tuple) else default, descriptor
        )
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        given = None if override is None else override.value
        if isinstance(given, (array.array, tuple)):
            given = list(given)
        bounds = '' if rule.minimum is None else f' within {rule.minimum}..{rule.maximum}'
        raise ConfigError(
            f'{node.get_name()}: parameter {item.name} is {given!r}; it takes {_kind(item)}'
            f'{bounds}{_hint(given, default)}'
        ) from error


_KINDS = {bool: 'true or false', int: 'a whole number', float: 'a number', str: 'a text'}
_LISTS = {bool: 'true and false', int: 'whole numbers', float: 'numbers', str: 'texts'}


def _element(default: Any) -> type:
    """Return the type of a parameter's value, or of the elements of its list."""
    return type(default[0]) if isinstance(default, tuple) else type(default)


def _kind(item: Any) -> str:
    """Return in words what a parameter takes."""
    default = _default(item)
    if isinstance(default, tuple):
        return f'a list of {_LISTS[_element(default)]}'
    return _KINDS[_element(default)]


def _as_meant(value: Any, default: Any) -> Any:
    """Return a value of YAML as a person means it, where its type alone is another one.

    A whole number stands for a number and for a text (`device: 0`), and `[]`, which comes as a
    list of bytes or as not set, for an empty list of whatever the parameter takes.
    """
    element = _element(default)

    def one(entry: Any) -> Any:
        whole = isinstance(entry, int) and not isinstance(entry, bool)
        return element(entry) if whole and element in (float, str) else entry

    if not isinstance(default, tuple):
        return one(value)
    if value is None or isinstance(value, (list, tuple, array.array, bytes)) and not len(value):
        return []
    return [one(entry) for entry in value] if isinstance(value, (list, array.array)) else value


def _hint(given: Any, default: Any) -> str:
    """Return how YAML takes the value as it was meant, if that can be told."""
    if isinstance(default, tuple) and not isinstance(given, list):
        return f'; write it in brackets: [{given}]'
    first = given[0] if isinstance(given, list) and given else given
    if isinstance(first, str) and _element(default) is not str:
        return '; write it without quotes'
    if isinstance(first, (bool, float)) and _element(default) is str:
        return '; write it in quotes, since YAML takes a bare yes, no, on or off for true or false'
    return ''
