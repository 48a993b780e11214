# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Read files that others wrote: what is damaged, endless or forged is refused by name.

JSON, YAML and NumPy archives come with a cell file, a model folder or a parameter file that
somebody hands on. Each parser has ways of its own to fail, from a RecursionError to 4 TB asked
for by one header; here all of them become one error, raised before memory is spent.
"""

from __future__ import annotations

import contextlib
import json
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Hashable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from stl_conveyor.errors import ConveyorError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The most that a text is read of (bytes); the largest of ours has 100 kB.
LARGEST_TEXT = 32 << 20
#: The most nodes that a YAML document may have once its aliases are followed.
MOST_NODES = 200_000
#: Levels of a YAML document; at some ten thousand PyYAML's binding to libyaml crashes.
DEEPEST_BY_LIBYAML = 1000
#: The most that the arrays of one archive may take (bytes).
LARGEST_ARRAYS = 512 << 20

#: What zipfile and what unpacks for it raise on damaged, encrypted or exotic archives.
ZIP_ERRORS = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,  # an encrypted entry
)


# What NumPy's reader of headers raises beside those: it parses them as Python literals.
_HEADER_ERRORS = (SyntaxError, tokenize.TokenError, TypeError, MemoryError)


class UnusableFile(ConveyorError):
    """A file from outside cannot be read; the message says why, but not which file."""


def read_bytes(path: str | Path, most: int | None = None) -> bytes:
    """Return what a regular file holds.

    Args:
        path: The file.
        most: The most bytes that are read, or None for no limit.

    Raises:
        UnusableFile: If there is no such file, it is a folder, a pipe or a device, or is larger.
    """
    try:
        if not Path(path).is_file():
            missing = not Path(path).exists()
            raise UnusableFile('No such file or directory' if missing else 'is no regular file')
        with open(path, 'rb') as stream:
            data = stream.read() if most is None else stream.read(most + 1)
    except OSError as error:
        raise UnusableFile(error.strerror or str(error)) from error
    except ValueError as error:  # a path that holds a NUL
        raise UnusableFile(str(error)) from error
    if most is not None and len(data) > most:
        raise UnusableFile(f'larger than {most >> 20} MB')
    return data


def read_text(path: str | Path) -> str:
    """Return a text file in UTF-8.

    Raises:
        UnusableFile: If it cannot be read, is too large or has another encoding.
    """
    data = read_bytes(path, LARGEST_TEXT)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UnusableFile(f'not UTF-8: {error}') from error


def read_json(path: str | Path) -> Any:
    """Return what a JSON file says.

    Raises:
        UnusableFile: If it cannot be read or is no JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableFile(f'not valid JSON ({error})') from error


def read_yaml(path: str | Path) -> Any:
    """Return what a YAML file says.

    Raises:
        UnusableFile: If it cannot be read or `parse_yaml` refuses it.
    """
    return parse_yaml(read_text(path))


def parse_yaml(text: str) -> Any:
    r"""Return what a YAML text says.

    A key that stands twice in one mapping is refused, since YAML's parser would take the last
    one without a word; so are aliases that make a small text a huge document.

    Raises:
        UnusableFile: If it is no YAML, or for the reasons above.

    Examples:
        >>> parse_yaml('belt: {speed: 0.4}')
        {'belt': {'speed': 0.4}}
        >>> try:
        ...     parse_yaml('guard: 0.04\nlanes: []\nguard: 0.4\n')
        ... except ConveyorError as error:
        ...     print(error)
        guard stands twice, in line 1 and again in line 3
    """
    import yaml

    try:
        node = _compose(text)
        if node is None:
            return None
        _check_nodes(node)
        loader = yaml.SafeLoader('')
        try:
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, OverflowError) as error:
        raise UnusableFile(f'not valid YAML: {error}') from error


def _deepest(text: str) -> int:
    """Return how deep a YAML text can be nested at most.

    A level begins with a bracket, or with a dash, a question mark or a colon before it in its
    line, or is further to the right.
    """
    longest = max(
        (
            len(line) - len(line.lstrip()) + sum(map(line.count, '-?:'))
            for line in text.splitlines()
        ),
        default=0,
    )
    return longest + text.count('[') + text.count('{')


def _compose(text: str) -> Any:
    """Return the nodes of a YAML text; by libyaml where it is there, in a tenth of the time."""
    import yaml

    if hasattr(yaml, 'CSafeLoader') and _deepest(text) < DEEPEST_BY_LIBYAML:
        with contextlib.suppress(yaml.YAMLError):
            return yaml.compose(text, Loader=yaml.CSafeLoader)
    # What libyaml refuses is said in the words of the other one, which show the place.
    return yaml.compose(text, Loader=yaml.SafeLoader)


def read_arrays(path: str | Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a `.npz` file that have one of these names; the others stay unread.

    Nothing is unpickled, and each array's size is compared with what the file holds before
    memory is asked for.

    Raises:
        UnusableFile: If the file cannot be read, or is no archive of arrays.
    """
    import numpy as np

    if not Path(path).is_file():
        read_bytes(path)  # for the reason
    found: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            wanted = {name: entries[f'{name}.npy'] for name in names if f'{name}.npy' in entries}
            if sum(entry.file_size for entry in wanted.values()) > LARGEST_ARRAYS:
                raise UnusableFile(f'its arrays take more than {LARGEST_ARRAYS >> 20} MB')
            for name, entry in wanted.items():
                with archive.open(entry) as stream:
                    _check_header(stream, name, entry.file_size)
                with archive.open(entry) as stream:
                    found[name] = np.lib.format.read_array(stream, allow_pickle=False)
    except (*ZIP_ERRORS, *_HEADER_ERRORS) as error:
        raise UnusableFile(f'no archive of arrays ({error})') from error
    return found


def _check_header(stream: IO[bytes], name: str, size: int) -> None:
    """Refuse an array whose header asks for another amount of data than the entry has."""
    import numpy as np

    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    if dtype.hasobject:
        raise UnusableFile(f'{name} holds Python objects, not numbers')
    asked = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or asked != size - stream.tell():
        raise UnusableFile(
            f'{name} claims {asked} bytes, but the file holds {size - stream.tell()}'
        )


def _check_nodes(root: Any) -> None:
    """Refuse keys that stand twice, and documents that grow beyond bounds or into themselves."""
    import yaml

    sizes: dict[int, int] = {}
    under_way: set[int] = set()

    def size_of(node: Any) -> int:
        if isinstance(node, yaml.ScalarNode):
            return 1
        if id(node) in under_way:
            raise UnusableFile(f'line {node.start_mark.line + 1} holds itself')
        if id(node) not in sizes:
            under_way.add(id(node))
            if isinstance(node, yaml.MappingNode):
                _check_keys(node)
                children = [child for pair in node.value for child in pair]
            else:
                children = node.value
            total = 1 + sum(map(size_of, children))
            if total > MOST_NODES:
                raise UnusableFile(f'more than {MOST_NODES} values; that is no file of ours')
            under_way.discard(id(node))
            sizes[id(node)] = total
        return sizes[id(node)]

    size_of(root)


def _check_keys(mapping: Any) -> None:
    import yaml

    lines: dict[Hashable, int] = {}
    for key, _ in mapping.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == 'tag:yaml.org,2002:merge':
            continue
        line = key.start_mark.line + 1
        if key.value in lines:
            raise UnusableFile(
                f'{key.value[:40]} stands twice, in line {lines[key.value]} and again in line '
                f'{line}'
            )
        lines[key.value] = line
