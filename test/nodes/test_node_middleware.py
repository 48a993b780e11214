# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Quick heartbeats: a node that was frozen does not wait for what it missed."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CELL, CellHarness, make_capture, make_classification, node_process  # noqa: E402

import stl_conveyor
from stl_conveyor.msg import Classification, ItemCapture  # noqa: E402
from stl_conveyor.nodes.base.middleware import use_quick_heartbeats  # noqa: E402

MISSED = 12  # messages, more than a node's shared memory holds


@pytest.mark.parametrize(
    'environment, added',
    [
        ({}, 'FASTDDS_DEFAULT_PROFILES_FILE'),
        (
            {'RMW_IMPLEMENTATION': 'rmw_fastrtps_cpp', 'ROS_DISTRO': 'lyrical'},
            'FASTDDS_DEFAULT_PROFILES_FILE',
        ),
        ({'ROS_DISTRO': 'jazzy'}, 'FASTRTPS_DEFAULT_PROFILES_FILE'),
        ({'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}, 'CYCLONEDDS_URI'),
        ({'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp', 'CYCLONEDDS_URI': 'file:///mine.xml'}, None),
        ({'RMW_IMPLEMENTATION': 'rmw_zenoh_cpp'}, None),
        ({'FASTDDS_DEFAULT_PROFILES_FILE': 'mine.xml'}, None),
        ({'FASTRTPS_DEFAULT_PROFILES_FILE': 'mine.xml'}, None),
    ],
)
def test_only_where_nobody_chose_a_profile(environment, added, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = dict(environment)
    use_quick_heartbeats(environment)
    new = {name: value for name, value in environment.items() if name not in given}
    assert list(new) == ([added] if added else [])
    for path in new.values():
        text = Path(path.removeprefix('file://')).read_text()
        assert ('Period' in text) == (given.get('ROS_DISTRO') == 'jazzy')
    if added == 'CYCLONEDDS_URI':
        return
    (tmp_path / 'DEFAULT_FASTDDS_PROFILES.xml').touch()
    second = dict(given)
    use_quick_heartbeats(second)
    assert second == given


@pytest.mark.ros
@pytest.mark.skipif(
    os.environ.get('RMW_IMPLEMENTATION') != 'rmw_fastrtps_cpp', reason='a matter of Fast DDS'
)
def test_an_actuator_that_was_frozen_has_what_it_missed_at_once():
    """The answers that came while it stood are there long before a default heartbeat."""
    crop = np.zeros((160, 160, 3), np.uint8)
    with (
        CellHarness([], watched=('sort_outcome', '/diagnostics')) as cell,
        node_process(
            'actuator', domain_id=cell.domain_id, parameters={'diagnostics_period': 0.1}
        ) as process,
    ):
        captures = cell.publisher('capture', ItemCapture, timeout=60)
        answers = cell.publisher('classification', Classification)

        def show(item_id):
            stamp_ns = cell.now_ns()
            captures.publish(make_capture(item_id, stamp_ns, crop))
            answers.publish(make_classification(item_id, stamp_ns, CELL.classes[0]))

        def answered():
            latest = list(cell.statuses('actuator'))[-1:]
            return sum(
                int(value.value)
                for status in latest
                for value in status.values
                if value.key.startswith('local.')  # in time or not
            )

        show(1)
        cell.wait(lambda: answered() == 1, 30, 'the first answer')
        # A default heartbeat comes every 3 s; a busy machine is not that slow every time.
        took = math.inf
        for begin in range(2, 2 + 3 * MISSED, MISSED):
            process.send_signal(signal.SIGSTOP)
            for item_id in range(begin, begin + MISSED):
                show(item_id)
            process.send_signal(signal.SIGCONT)
            woke = time.monotonic()
            cell.wait(lambda end=begin + MISSED: answered() == end - 1, 30, 'every answer')
            took = min(took, time.monotonic() - woke)
        assert took < 2.0, f'{took:.2f} s: that is a heartbeat of the default, 3 s'


@pytest.mark.ros
def test_every_participant_of_a_process_is_made_where_the_settings_are():
    """Fast DDS reads its profiles once, for the first participant of a process."""
    root = Path(stl_conveyor.__file__).parent
    made = [path for path in root.rglob('*.py') if 'rclpy.init(' in path.read_text()]
    assert made == [root / 'nodes' / 'base' / 'middleware.py']


def test_the_generator_of_messages_is_not_loaded():
    script = (
        'import sys\n'
        'from stl_conveyor.nodes.base.middleware import leave_out_code_generator\n'
        'leave_out_code_generator()\n'
        'from rclpy.serialization import serialize_message\n'
        'from stl_conveyor.msg import SortOutcome\n'
        'assert serialize_message(SortOutcome(item_id=1))\n'
        'print([name for name in sys.modules if name == "em" or "generate_py" in name])\n'
        'import rosidl_generator_py.generate_py_impl\n'  # for who wants it
    )
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '[]\n', '')
