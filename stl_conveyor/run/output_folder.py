# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The folder that a run writes into: one run at a time, and the logs of this run alone."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stl_conveyor.errors import ConfigError

ROS_LOG_DIR = 'ROS_LOG_DIR'
FOLDERS = ('ros', 'other_codec')  # that a run makes below `logs`


@contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """Hold a folder for one run, empty its `logs`, and have ROS write its own logs there.

    The lock lies on the folder `logs` itself and ends with this process, however that happens.
    A ROS_LOG_DIR that the caller has set stays; else ROS would write into the home folder, which
    need not exist or be writable.

    Args:
        out: The folder; it is made if it does not exist.

    Yields:
        Its absolute path.

    Raises:
        ConfigError: If another run writes into the folder.
    """
    out = out.resolve()
    logs = out / 'logs'
    logs.mkdir(parents=True, exist_ok=True)
    held = os.open(logs, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f'{out}: another run writes into this folder; wait for its end, or give this one '
                'another folder (--out; OUT of make)'
            ) from None
        for old in (*logs.glob('*.log'), *logs.glob('*.csv')):
            old.unlink()
        for name in FOLDERS:
            shutil.rmtree(logs / name, ignore_errors=True)
        given = os.environ.get(ROS_LOG_DIR)
        if not given:
            os.environ[ROS_LOG_DIR] = str(logs / 'ros')
        try:
            yield out
        finally:
            if not given:
                del os.environ[ROS_LOG_DIR]
    finally:
        os.close(held)
