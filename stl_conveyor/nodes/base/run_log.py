# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Files into which nodes of the simulation note what no message tells."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from stl_conveyor.errors import ConfigError


def open_log(resources: ExitStack, path: str, heading: str) -> TextIO | None:
    """Open a CSV file to append to, with its heading if it is new; None for an empty path.

    Args:
        resources: The file is closed with them.
        path: Of the file; empty = there is none.
        heading: First line of a new file.

    Raises:
        ConfigError: If the file cannot be written.
    """
    if not path:
        return None
    try:
        new = not Path(path).exists()
        log = resources.enter_context(open(path, 'a', encoding='utf-8'))
    except OSError as error:
        raise ConfigError(f'log_path {path}: {error}; name a file that can be written') from error
    if new:
        log.write(heading + '\n')
    return log
