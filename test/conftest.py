# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Fixtures and settings that all tests share."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from ros_domains import take_session_domain

# Before any test imports ONNX Runtime, which is told here to keep to itself.
import stl_conveyor  # noqa: F401
from stl_conveyor.nodes.base.middleware import use_quick_heartbeats

# More fixtures lie in fixtures_<area>.py beside this file.
pytest_plugins = sorted(path.stem for path in Path(__file__).parent.glob('fixtures_*.py'))

# Tests talk over real DDS: among themselves, and to nobody else.
os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
take_session_domain()
# Fast DDS reads its settings once, for the first participant of a process; some tests make one
# without any of ours.
use_quick_heartbeats()

# What nodes keep for a crash of theirs is of no other test, nor of a cell that runs here.
RUNTIME_FOLDER = Path(tempfile.mkdtemp(prefix='stl_conveyor_runtime_'))
atexit.register(shutil.rmtree, RUNTIME_FOLDER, ignore_errors=True)
os.environ['XDG_RUNTIME_DIR'] = str(RUNTIME_FOLDER)
os.environ.pop('RUNTIME_DIRECTORY', None)

# A shell starts what runs in the background deaf to SIGINT, and its children inherit that; tests
# that interrupt a process would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if importlib.util.find_spec('hypothesis') is not None:
    from hypothesis import settings

    # The same examples on every run; and a loaded machine is not a failure.
    settings.register_profile('repeatable', deadline=None, derandomize=True)
    settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'repeatable'))


def why_no_ros() -> str:
    """Return why tests with ROS cannot run here, or an empty string."""
    if importlib.util.find_spec('rclpy') is None:
        return 'rclpy is not installed; `make test` brings it'
    if importlib.util.find_spec('stl_conveyor.msg') is None:
        return 'the messages are not built; `make test` builds them'
    return ''


def pytest_collection_modifyitems(items):
    """Skip the tests marked `ros` where ROS is missing."""
    reason = why_no_ros()
    if reason:
        for item in items:
            if item.get_closest_marker('ros'):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def no_journals():
    """Leave nothing of the nodes that a test has killed."""
    yield
    for path in RUNTIME_FOLDER.glob('stl_conveyor/*'):
        path.unlink()


@pytest.fixture(scope='session')
def repo_root() -> Path:
    """Return the root folder of the checkout."""
    return Path(__file__).resolve().parent.parent
