# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Cyclone DDS takes the settings that ship, as the library of the system reads them."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = Path(__file__).resolve().parents[2] / 'config' / 'cyclonedds_writers.xml'
LIBRARY = ctypes.util.find_library('ddsc')
JOIN = """
import ctypes, sys
dds = ctypes.CDLL(sys.argv[1])
participant = dds.dds_create_participant(0, None, None)
if participant < 0:
    dds.dds_strretcode.restype = ctypes.c_char_p
    sys.exit(dds.dds_strretcode(participant).decode())
dds.dds_delete(participant)
"""
ALONE = (
    '<General><Interfaces><NetworkInterface name="lo"/></Interfaces>'
    '<AllowMulticast>false</AllowMulticast></General>'
    '<Tracing><Verbosity>config</Verbosity><OutputFile>stdout</OutputFile></Tracing>'
)


def joined(*settings):
    """Return a process that has joined a domain with settings, one after the other."""
    return subprocess.run(
        [sys.executable, '-c', JOIN, LIBRARY],
        env={**os.environ, 'CYCLONEDDS_URI': ','.join(settings)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.skipif(LIBRARY is None, reason='Cyclone DDS is not installed')
def test_cyclone_takes_the_settings_that_ship(tmp_path):
    done = joined(CONFIG.as_uri(), ALONE)
    assert done.returncode == 0, done.stderr + done.stdout
    taken = [
        line.split('config: Domain/Internal/', 1)[1].split(' {')[0]
        for line in done.stdout.splitlines()
        if 'Internal/HeartbeatInterval' in line
    ]
    assert {'HeartbeatInterval/#text: 50 ms', 'HeartbeatInterval[@max]: 50 ms'} <= set(taken), (
        taken
    )
    # It refuses what it does not know, so that a name that changes is seen.
    other = tmp_path / 'other.xml'
    other.write_text(CONFIG.read_text().replace(' max=', ' most='))
    assert joined(other.as_uri(), ALONE).returncode != 0
