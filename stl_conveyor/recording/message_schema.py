# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Message definitions as a recording holds them, so that a reader needs none of its own."""

from __future__ import annotations

import re
from collections.abc import Callable

PRIMITIVES = frozenset(
    'bool byte char float32 float64 int8 uint8 int16 uint16 int32 uint32 int64 uint64 string '
    'wstring'.split()
)
_RULE = '=' * 80


def nested_types(package: str, definition: str) -> list[str]:
    r"""Return the types that a message definition is made of, as 'package/Name'; each once.

    Args:
        package: That the definition belongs to.
        definition: The text of a .msg file.

    Examples:
        >>> nested_types('stl_conveyor', 'std_msgs/Header header\nuint8[<=4] data  # octets')
        ['std_msgs/Header']
    """
    found: dict[str, None] = {}
    for line in definition.splitlines():
        word = line.split('#', 1)[0].strip().split(' ', 1)[0]
        kind = re.split(r'\[|<=', word, maxsplit=1)[0]
        if not kind or kind in PRIMITIVES:
            continue
        parts = kind.split('/')
        if kind == 'Header':
            parts = ['std_msgs', 'Header']
        elif len(parts) == 1:
            parts = [package, kind]
        found[f'{parts[0]}/{parts[-1]}'] = None
    return list(found)


def constants_beside_fields(definition: str) -> str:
    r"""Return a message definition with the names of a field's values right above the field.

    There Foxglove and Lichtblick look for them, to show a name beside the number. They are known
    by the name of the field, in capitals; nothing else depends on where they stand.

    Examples:
        >>> constants_beside_fields('uint8 KIND_A=1\nbool there\nuint8 kind\n')
        'bool there\nuint8 KIND_A=1\nuint8 kind\n'
    """
    lines = definition.splitlines(keepends=True)
    words = [line.split('#', 1)[0].split() for line in lines]
    fields = {(each[0], each[1]) for each in words if len(each) == 2 and '=' not in each[1]}
    above: dict[tuple[str, str], list[str]] = {}
    kept: list[tuple[str, tuple[str, str] | None]] = []
    for line, each in zip(lines, words):
        owner = None
        if len(each) >= 2 and '=' in ''.join(each[1:]):
            owners = [
                (kind, name)
                for kind, name in fields
                if kind == each[0] and each[1].startswith(f'{name.upper()}_')
            ]
            owner = max(owners, key=lambda field: len(field[1]), default=None)
        if owner is not None:
            above.setdefault(owner, []).append(line)
        else:
            kept.append((line, (each[0], each[1]) if len(each) == 2 else None))
    return ''.join(''.join(above.get(field, [])) + line if field else line for line, field in kept)


def schema_text(message_type: str, definition_of: Callable[[str, str], str]) -> str:
    """Return a message definition followed by those that it is made of (`ros2msg` of MCAP).

    Args:
        message_type: 'package/Name'.
        definition_of: Returns the text of a .msg file by package and name.
    """
    package, name = message_type.split('/')
    whole = definition_of(package, name)
    waiting, known = nested_types(package, whole), {message_type}
    parts = [constants_beside_fields(whole).rstrip('\n')]
    while waiting:
        each = waiting.pop(0)
        if each in known:
            continue
        known.add(each)
        inner_package, inner_name = each.split('/')
        inner = definition_of(inner_package, inner_name)
        parts.append(f'{_RULE}\nMSG: {each}\n{constants_beside_fields(inner).rstrip()}')
        waiting += nested_types(inner_package, inner)
    return '\n'.join(parts) + '\n'
