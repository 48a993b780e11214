# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Every script of examples/ runs, shows what it promises, and is short."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / 'examples').glob('*.py'))
ENVIRONMENT = {
    **os.environ,
    'PYTHONPATH': os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')])),
}


def run_example(name, *arguments):
    done = subprocess.run(
        [sys.executable, str(ROOT / 'examples' / name), *arguments],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_there_are_examples_and_they_are_numbered():
    assert [path.name[:2] for path in EXAMPLES] == ['01', '02', '03', '04']


@pytest.mark.parametrize('path', EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short_and_opens_with_what_it_shows_and_its_command(path):
    text = path.read_text(encoding='utf-8')
    assert len(text.splitlines()) < 60
    about = ast.get_docstring(ast.parse(text))
    assert re.match(r'[A-Z].+\.$', about.splitlines()[0])
    assert f'    scripts/env python examples/{path.name}' in about


def test_encode_and_decode_prints_answers_against_bytes():
    lines = run_example('01_encode_and_decode.py')
    assert re.match(r'weak model, on the device: +hex_screw_m8x40 0\.', lines[0])
    assert re.match(r'strong model, whole picture: +hex_screw_m8x35 [01]\.', lines[1])
    rows = [line.split() for line in lines[3:]]
    assert [int(row[0]) for row in rows] == [32, 64, 128, 256, 512, 1024]
    # The first bytes leave the weak answer in place; a thousandth of the pixels put it right.
    assert rows[0][1] == rows[0][3] == 'hex_screw_m8x40'
    assert all(row[1] == row[3] == 'hex_screw_m8x35' for row in rows[2:])


def test_encode_and_decode_takes_a_picture_of_any_size(tmp_path):
    from PIL import Image

    Image.new('RGB', (300, 200), (90, 90, 90)).save(tmp_path / 'grey.png')
    lines = run_example('01_encode_and_decode.py', str(tmp_path / 'grey.png'))
    assert len(lines) == 9


def test_play_a_policy_offloads_within_the_rate_and_gains_what_the_bound_allows():
    lines = run_example('02_play_a_policy.py')
    assert lines[0] == '5000 items, r = 1/10, b = 4'
    rows = {line.split()[0]: [float(word) for word in line.split()[1:]] for line in lines[2:]}
    assert set(rows) == {'never', 'random', 'always', 'threshold', 'mdp', 'adaptive'}
    # r T + b tokens, each worth an item; printed to three places.
    assert all(share <= 0.1 + 4 / 5000 + 0.0005 for share, _ in rows.values())
    assert rows['never'] == [0.0, 0.0]
    assert rows['always'][1] < rows['threshold'][1] < rows['mdp'][1]
    assert rows['adaptive'][1] > 0.98 * rows['mdp'][1]


def test_play_a_policy_takes_a_trace(tmp_path):
    trace = tmp_path / 'trace.csv'
    trace.write_text('0.5,1\n-0.2,2\n0.9,1\n', encoding='utf-8')
    lines = run_example('02_play_a_policy.py', str(trace))
    rows = {line.split()[0]: [float(word) for word in line.split()[1:]] for line in lines[2:]}
    assert lines[0].startswith('3 items')
    assert rows['always'] == [1.0, pytest.approx(0.4, abs=1e-4)]


def test_drive_diverters_pushes_what_was_told_apart_and_rejects_what_nobody_knows():
    pytest.importorskip('gpiozero')
    assert run_example('03_drive_diverters.py') == [
        '1740 ms: item 1, spring_washer_m8 → B',
        '2380 ms: push in lane B',
        '         lane B confirms stroke 1',
        '2740 ms: item 2, hex_nut_m8 → A',
        '2780 ms: push in lane A',
        '         lane A confirms stroke 2',
        '3740 ms: item 3, no answer → reject',
    ]


@pytest.mark.ros
def test_listen_to_a_cell_prints_the_outcomes_of_a_running_cell():
    import numpy as np
    from cell_harness import CELL, GUARDED, CellHarness, make_capture, make_classification

    from stl_conveyor.nodes.base.runner import NodeSpec
    from stl_conveyor.nodes.device.actuator import Actuator

    with CellHarness([NodeSpec(Actuator, GUARDED)]) as cell:
        cell.wait_active()
        process = subprocess.Popen(
            [sys.executable, str(ROOT / 'examples' / '04_listen_to_a_cell.py')],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**ENVIRONMENT, 'ROS_DOMAIN_ID': str(cell.domain_id)},
        )
        said = []

        def read():
            for line in process.stdout:
                with cell._changed:
                    said.append(line.rstrip('\n'))
                    cell._changed.notify_all()

        reader = threading.Thread(target=read)
        reader.start()
        try:
            cell.connect('sort_outcome', readers=2)  # the probe, and the example
            capture = cell.publisher('capture')
            answer = cell.publisher('classification')
            now = cell.now_ns()
            image = np.zeros((CELL.camera.crop_size,) * 2 + (3,), np.uint8)
            capture.publish(make_capture(7, now, image))
            answer.publish(make_classification(7, now, 'hex_nut_m8', score=0.75))
            cell.wait(lambda: said, what='a line of the example')
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 0
        finally:
            if process.poll() is None:
                process.kill()
            reader.join()
            errors = process.stderr.read()
    assert re.match(
        r'item 7: hex_nut_m8 0\.75 → A, by the device \(0 bytes\), \d+ ms before its deadline',
        said[0],
    )
    assert said[1:] == ['stopped'], errors
