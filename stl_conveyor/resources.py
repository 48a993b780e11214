# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Find the files that ship beside the code, and write others, whole and with their name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stl_conveyor.errors import ConfigError


def share_path(relative: str) -> Path:
    """Return the path of a shipped file or folder, such as 'config/cell.yaml'.

    The source tree wins over an installed copy, so that an edit is seen at once; the installed
    copy is found through AMENT_PREFIX_PATH, or in the environment that pip installed it into.

    Examples:
        >>> from stl_conveyor import share_path
        >>> share_path('config/cell.yaml').name
        'cell.yaml'

    Raises:
        ConfigError: When none has it.
    """
    roots = [Path(__file__).resolve().parents[1]]
    roots += [
        Path(prefix) / 'share' / 'stl_conveyor'
        for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
        if prefix
    ]
    # Where pip puts them.
    roots.append(Path(sys.prefix) / 'share' / 'stl_conveyor')
    for root in roots:
        if (root / relative).exists():
            return root / relative
    raise ConfigError(
        f'{relative} is not shipped in any of {", ".join(map(str, roots))}; '
        'build the package or source its setup file'
    )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file when something goes wrong while it is written.

    The system names a file that cannot be opened, but not one whose disk is full.

    Args:
        path: The file that is written.

    Raises:
        OSError: As it came, with the file's name.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_whole(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file at once or not at all.

    Args:
        path: Of the file; its folder is there.
        data: What it holds.
        private: Whether it is its owner's alone, from the start.

    Raises:
        OSError: With the file's name.
    """
    temporary = path.with_name(f'.{path.name}.new')
    with writing(path):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with open(os.open(temporary, flags, 0o600 if private else 0o644), 'wb') as file:
            file.write(data)
        temporary.replace(path)


def named_path(text: str) -> Path | None:
    """Return the path that a parameter names, with the home folder for ~; None if it is empty."""
    return Path(text).expanduser() if text else None
