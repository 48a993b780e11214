# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What a ROS parameter file says to whom, and which parameter a mistyped name was meant for.

A section that names a node is meant for it. One for every node (`/**`, `/line_1/*`) also holds
what others declare: a robot has one file for all its nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from stl_conveyor.outside_files import UnusableFile, read_yaml

WILDCARDS = ('*', '**')


def sections(content: object, path: str = '') -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the sections of a parameter file: path of the nodes, and parameters by name.

    Paths may be nested (`line_1:`, below it `camera:`), and so may names (`qos_overrides.…`).
    """
    if not isinstance(content, Mapping):
        return
    for key, value in content.items():
        if key == 'ros__parameters':
            yield path, dict(_flat(value))
        else:
            yield from sections(value, f'{path}/{key}'.replace('//', '/'))


def _flat(value: object, name: str = '') -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f'{name}.{key}' if name else str(key))
    elif name:
        yield name, value


def is_for(path: str, node: str) -> bool:
    """Return whether a section names a node; one for every node does not."""
    return path.rsplit('/', 1)[-1] == node


def is_for_everyone(path: str) -> bool:
    """Return whether a section is for every node, or every one of a namespace."""
    return path.rsplit('/', 1)[-1] in WILDCARDS


def names_for(
    arguments: Sequence[str], node: str, read: Callable[[str], Any] = read_yaml
) -> set[str] | None:
    """Return the parameters that a command line sets for a node by the node's name.

    Others that reach it were set for every node: in a section with a wildcard, or as
    `-p name:=value`, which is also what launch files write for all their nodes.

    Args:
        arguments: Of the process, as far as they stand between --ros-args and --.
        node: Its name, without a namespace, where the arguments do not rename it.
        read: Returns what a parameter file says; raises UnusableFile.

    Returns:
        None if a file cannot be read as YAML, so that nothing is known.
    """
    names: set[str] = set()
    given = list(_ros_arguments(arguments))
    renamed = [word[8:] for word in given if word.startswith('__node:=')]
    node = renamed[-1] if renamed else node
    words = iter(given)
    for word in words:
        if word in ('-p', '--param'):
            name = next(words, '').partition(':=')[0]
            who, colon, name = name.rpartition(':')
            if colon and is_for(who, node):
                names.add(name)
        elif word == '--params-file':
            try:
                content = read(next(words, ''))
            except UnusableFile:
                return None
            for path, parameters in sections(content):
                if is_for(path, node):
                    names.update(parameters)
    return names


def _ros_arguments(arguments: Iterable[str]) -> Iterator[str]:
    inside = False
    for word in arguments:
        if word == '--ros-args':
            inside = True
        elif word == '--':
            inside = False
        elif inside:
            yield word


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return the known name that a mistyped one was meant for; '' = none is near.

    Near is one letter that is missing, too many, wrong or exchanged with the next; two such slips
    in names of eight letters or more, if the length differs by one at most; and any way to write
    the words: frame-id, frameId, FRAME_ID.

    Examples:
        >>> nearest_name('thresold', ['threshold', 'travel'])
        'threshold'
        >>> nearest_name('frameId', ['frame_id'])
        'frame_id'
        >>> nearest_name('robot_name', ['threshold', 'travel'])
        ''
    """
    written = _letters(name)
    best, fewest = '', 2 if len(written) >= 8 else 1
    for candidate in sorted(known):
        letters = _letters(candidate)
        if abs(len(letters) - len(written)) > 1:
            continue
        slips = _slips(written, letters)
        if slips < fewest or slips == fewest and not best:
            best, fewest = candidate, slips
    return best


def _letters(name: str) -> str:
    return ''.join(letter for letter in name.lower() if letter.isalnum())


def _slips(one: str, other: str) -> int:
    """Return the least number of slips that make one of the other (optimal string alignment)."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        row = [i]
        for j, wanted in enumerate(other, 1):
            least = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                least = min(least, before[j - 2] + 1)
            row.append(least)
        before, last = last, row
    return last[-1]
