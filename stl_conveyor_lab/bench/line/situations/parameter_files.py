# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Parameter files as people write them: each starts the node as a process, as `ros2 run` does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from stl_conveyor.nodes.base.topics import node_module
from stl_conveyor.run.processes import die_with_parent
from stl_conveyor_lab.bench.line.rig import PATIENCE, Rig
from stl_conveyor_lab.bench.line.situation import Finding, Situation, variations

RUNS, REFUSED = 'runs', 'refused'
USAGE = 2  # exit code of a node whose parameters cannot be used


def play(
    node: str, lines: Sequence[str], outcomes: Sequence[str], words: Sequence[str] = ()
) -> Finding:
    """Start a node with a parameter file.

    Args:
        lines: Of the file.
        outcomes: RUNS and REFUSED, where they are right.
        words: All of which stand in what is said when it is refused.
    """
    with tempfile.TemporaryDirectory(prefix='bench_line_') as folder, Rig() as rig:
        path = Path(folder) / 'parameters.yaml'
        path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
        command = [sys.executable, '-m', node_module(node), '--ros-args']
        command += ['--params-file', str(path), '-r', f'__ns:=/{rig.cell}']
        with open(Path(folder) / 'said', 'w+', encoding='utf-8') as said:
            process = subprocess.Popen(
                command,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
                env={**os.environ, 'PYTHONUNBUFFERED': '1'},
            )
            try:
                runs = _came_up(rig, process, node)
            finally:
                process.send_signal(signal.SIGINT)
                code = _end(process)
            said.seek(0)
            text = said.read()
    crashed = 'Traceback' in text
    last = ' '.join(line for line in text.strip().splitlines()[-2:]).strip()
    if runs and code != USAGE:
        good = RUNS in outcomes and code == 0 and not crashed
        return Finding(f'runs, ends with {code}', good, last)
    # It may wait for a correction; then it ends with the same code when it is told to.
    good = (
        REFUSED in outcomes
        and code == USAGE
        and not crashed
        and all(word in text for word in words)
    )
    kind = 'a traceback' if crashed else 'a word'
    waits = ', after it waited for a correction' if runs else ''
    return Finding(f'exit code {code} with {kind}{waits}', good, last)


def _came_up(rig: Rig, process: subprocess.Popen[bytes], node: str) -> bool:
    """Return whether a node reports on itself before its process ends."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        if rig.wait(lambda: node in rig.account.values, 0.1):
            return True
    return False


def _end(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(10.0)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _of(key: str, *lines: str) -> list[str]:
    return [f'{key}:', '  ros__parameters:', *(f'    {line}' for line in lines)]


SITUATIONS: tuple[Situation, ...] = variations(
    'parameters',
    'the node runs',
    play,
    {
        'key-of-another-node-for-all': {
            'node': 'local_classifier',
            'lines': _of('/**', 'use_sim_time: false', 'cell_file: ""', 'frame_id: cam'),
            'outcomes': (RUNS,),
        },
        'strange-key-for-all': {
            'node': 'camera',
            'lines': _of('/**', 'robot_name: line_1', 'frame_id: cam'),
            'outcomes': (RUNS,),
        },
        'device-0': {
            'node': 'camera',
            'lines': _of('/**/camera', 'source: device', 'device: 0'),
            'outcomes': (RUNS,),
        },
        'whole-numbers-in-a-list': {
            'node': 'offload_policy',
            'lines': _of('/**/offload_policy', 'intervals: [1, 2]'),
            'outcomes': (RUNS,),
        },
        'empty-list': {
            'node': 'actuator',
            'lines': _of('/**/actuator', 'gpio_pins: []'),
            'outcomes': (RUNS, REFUSED),
            'words': ('gpio_pins',),
            'right': 'the node runs, or refuses the parameter by name',
        },
        'texts-for-numbers': {
            'node': 'camera',
            'lines': _of('/**/camera', 'encoder_pins: ["20", "21"]'),
            'outcomes': (REFUSED,),
            'words': ('encoder_pins', 'whole numbers'),
            'right': 'refused by name, with the type that is right',
        },
        'one-number-for-a-list': {
            'node': 'actuator',
            'lines': _of('/**/actuator', 'gpio_pins: 17'),
            'outcomes': (REFUSED,),
            'words': ('gpio_pins', 'whole numbers'),
            'right': 'refused by name, with the type that is right',
        },
        'near-miss-for-all': {
            'node': 'camera',
            'lines': _of('/**', 'triger: beam'),
            'outcomes': (REFUSED,),
            'words': ('triger', 'trigger'),
            'right': 'refused, with the name that is meant',
        },
        'near-miss-of-its-own': {
            'node': 'actuator',
            'lines': _of('/**/actuator', 'modbus_hosts: 10.0.0.1'),
            'outcomes': (REFUSED,),
            'words': ('modbus_hosts', 'modbus_host'),
            'right': 'refused, with the name that is meant',
        },
    },
)
