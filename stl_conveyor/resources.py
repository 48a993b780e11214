# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Find the files that ship beside the code, and name those that cannot be written."""

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
