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


def schema_text(message_type: str, definition_of: Callable[[str, str], str]) -> str:
    """Return a message definition followed by those that it is made of (`ros2msg` of MCAP).

    Args:
        message_type: 'package/Name'.
        definition_of: Returns the text of a .msg file by package and name.
    """
    package, name = message_type.split('/')
    whole = definition_of(package, name)
    waiting, known = nested_types(package, whole), {message_type}
    parts = [whole.rstrip('\n')]
    while waiting:
        each = waiting.pop(0)
        if each in known:
            continue
        known.add(each)
        inner_package, inner_name = each.split('/')
        inner = definition_of(inner_package, inner_name)
        parts.append(f'{_RULE}\nMSG: {each}\n{inner.rstrip()}')
        waiting += nested_types(inner_package, inner)
    return '\n'.join(parts) + '\n'
