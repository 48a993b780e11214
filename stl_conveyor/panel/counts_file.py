# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The hours and shifts that are counted, in a file, so that they survive a restart."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from stl_conveyor.errors import ConfigError
from stl_conveyor.outside_files import UnusableFile, read_json
from stl_conveyor.panel.counts import ShiftCounts
from stl_conveyor.resources import write_whole


def read_counts(path: Path, counts: ShiftCounts) -> str:
    """Have counts go on with the hours of a file.

    Returns:
        Why not, in which case they begin empty; an empty text: they do, or there is no file yet.
    """
    if not os.path.lexists(path):
        return ''
    try:
        counts.take_up(read_json(path))
    except (UnusableFile, ConfigError) as error:
        return f'{path}: the counts cannot be read, and begin empty: {error}'
    return ''


def write_counts(path: Path, kept: Mapping[str, object]) -> str:
    """Write what `ShiftCounts.kept` returned; the file holds all of it or what it held before.

    Returns:
        Why that could not be; an empty text: it could.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(kept).encode())
    except OSError as error:
        return f'{path}: the counts cannot be written: {error.strerror}'
    return ''
