# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Files into which nodes of the simulation note what no message tells."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from stl_conveyor.errors import ConfigError


def open_log(path: str, heading: str) -> TextIO | None:
    """Open a CSV file to append to, with its heading if it is new; None for an empty path.

    Raises:
        ConfigError: If the file cannot be written.
    """
    if not path:
        return None
    try:
        new = not Path(path).exists()
        log = open(path, 'a', encoding='utf-8')
    except OSError as error:
        raise ConfigError(f'log_path {path}: {error}; name a file that can be written') from error
    if new:
        log.write(heading + '\n')
    return log
