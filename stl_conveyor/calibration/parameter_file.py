# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Read parameter files without ROS, and change values in YAML files without losing comments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stl_conveyor.cell.description import SHARED, CellDescription
from stl_conveyor.cell.moved_parameters import cell_key
from stl_conveyor.errors import ConfigError, ConveyorError
from stl_conveyor.outside_files import UnusableFile, parse_yaml, read_yaml
from stl_conveyor.parameter_files import is_for, is_for_everyone, sections
from stl_conveyor.resources import share_path, writing


def node_parameters(node: str, path: str | Path | None) -> dict[str, Any]:
    """Return the parameters of a node of the device: the shipped ones, changed by those of a file.

    Raises:
        ConfigError: If the file cannot be read, or holds a parameter that there is not.
    """
    _, values = _read_node(node, share_path('config/device.yaml'))
    if path is not None:
        shared, given = _read_node(node, path)
        values.update({name: value for name, value in shared.items() if name in values})
        for name in [name for name in given if cell_key(node, name)]:
            del given[name]  # of the cell description now, with which the node compares it
        unknown = sorted(set(given) - set(values))
        if unknown:
            raise ConfigError(f'{path}: {node} has no parameter {unknown[0]!r}')
        values.update(given)
    return values


def _read_node(node: str, path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (what a file says to every node, what it says to this one)."""
    try:
        content = read_yaml(path)
    except UnusableFile as error:
        raise ConfigError(f'{path}: cannot be read ({error})') from error
    if not isinstance(content or {}, Mapping):
        raise ConfigError(f'{path}: is no parameter file; it must map nodes to ros__parameters')
    shared: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for section, parameters in sections(content):
        if is_for(section, node):
            found.update(parameters)
        elif is_for_everyone(section):
            shared.update(parameters)
    return shared, found


def parameter_lines(node: str, values: Mapping[str, Any]) -> str:
    """Return the lines of a parameter file that set values of a node."""
    return ''.join(
        [f'/**/{node}:\n  ros__parameters:\n']
        + [f'    {name}: {_text(value)}\n' for name, value in values.items()]
    )


def set_parameters(path: str | Path, node: str, values: Mapping[str, Any]) -> None:
    """Change parameters of a node in a file; a file that is not there starts as the shipped one.

    Raises:
        ConfigError: If the file has no line for the node or the parameter.
    """
    path = Path(path)
    text = _read_or(path, 'config/device.yaml')
    section = re.search(
        rf'^\S*\b{re.escape(node)}:[^\n]*\n(?:(?:[ \t#][^\n]*)?\n)*', text, re.MULTILINE
    )
    if section is None:
        raise ConfigError(f'{path}: has no section for {node}; add\n{parameter_lines(node, {})}')
    changed = section.group(0)
    for name, value in values.items():
        changed, count = re.subn(
            rf'^(\s+{re.escape(name)}: *)[^\n#]*?( *#[^\n]*)?$',
            _put(value),
            changed,
            count=1,
            flags=re.MULTILINE,
        )
        if not count:
            raise ConfigError(
                f'{path}: has no line for {name} of {node}; add\n'
                f'{parameter_lines(node, {name: value})}'
            )
    with writing(path):
        path.write_text(
            text[: section.start()] + changed + text[section.end() :], encoding='utf-8'
        )


def set_cell_values(path: str | Path, values: Mapping[str, float]) -> None:
    """Change values of a cell description: 'guard', 'belt.speed' or 'lanes.A.diverter_x'.

    A file that is not there starts as the shipped description; it is written only if the result
    is a valid one. What has a default and no line yet gets one.

    Raises:
        ConfigError: If the file has no line for a value, or the result contradicts itself.
    """
    path = Path(path)
    text = _read_or(path, 'config/cell.yaml')
    for key, value in values.items():
        section, *rest = key.split('.')
        if not rest:
            pattern = rf'(^{section}: *)[-+.\deE]+'
        elif section == 'lanes':
            lane, name = rest
            pattern = (
                rf'(- *\{{[^}}\n]*\bname: *{re.escape(lane)}\b[^}}\n]*\b{name}: *)'
                r'[-+.\deE]+'
            )
        else:
            pattern = rf'(^{section}:[^\n]*\n(?:(?:[ #][^\n]*)?\n)*?\s+{rest[0]}: *)[-+.\deE]+'
        text, count = re.subn(pattern, _put(value), text, count=1, flags=re.MULTILINE)
        if not count and key in SHARED:
            text, count = _with_line(text, section, *rest, value=_text(value)), 1
        if not count:
            raise ConfigError(f'{path}: has no line for {key}; write {key}: {_text(value)} there')
    try:
        CellDescription.from_mapping(parse_yaml(text))
    except ConveyorError as error:
        raise ConfigError(f'{path}: is not changed, because of the new values: {error}') from error
    with writing(path):
        path.write_text(text, encoding='utf-8')


def _with_line(text: str, section: str, name: str = '', *, value: str) -> str:
    """Return a cell description with a line for a value that it does not have."""
    if not name:
        return f'{text.rstrip()}\n{section}: {value}\n'
    head = re.search(rf'^{section}:[^\n]*\n(?=( +))', text, re.MULTILINE)
    if head is None:
        return f'{text.rstrip()}\n{section}:\n  {name}: {value}\n'
    return f'{text[: head.end()]}{head[1]}{name}: {value}\n{text[head.end() :]}'


def _put(value: Any) -> Callable[[re.Match[str]], str]:
    """Return what replaces a value between the first group of a match and the second, if any."""

    def replace(found: re.Match[str]) -> str:
        rest = found[2] if found.re.groups > 1 else None
        return f'{found[1]}{_text(value)}{rest or ""}'

    return replace


def _read_or(path: Path, shipped: str) -> str:
    try:
        return (path if path.exists() else Path(share_path(shipped))).read_text(encoding='utf-8')
    except OSError as error:
        raise ConfigError(f'{path}: cannot be read ({error.strerror})') from error


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    text = f'{value:.6g}'
    return text if '.' in text or 'e' in text else f'{text}.0'
