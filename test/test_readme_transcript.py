# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The transcript of the README's steps: how it is written, and that it is of today's README."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'scripts'))

import readme_transcript  # noqa: E402
from readme_transcript import Heading, StepFailed  # noqa: E402

TRANSCRIPT = ROOT / 'docs' / 'install_transcript.txt'


def play(*steps):
    """Return the lines of a transcript without their times."""
    lines = readme_transcript.play(['bash', '--norc'], steps, time.monotonic())
    return [re.sub(r'^\[ +\d+:\d\d\] ', '', line) for line in lines]


def test_all_steps_are_given_to_one_shell_and_answer_in_turn(tmp_path):
    steps = (Heading('A walk'), f'cd {tmp_path} && export WHO=me', 'echo $WHO; pwd', 'cat; true')
    assert play(*steps) == [
        *('', '# A walk', ''),
        f'$ {steps[1]}',
        *('$ echo $WHO; pwd', 'me', str(tmp_path)),
        '$ cat; true',
    ]


def test_of_long_outputs_begin_and_end_are_kept_and_of_lines_what_a_terminal_shows():
    shown = play("printf 'one\\rtwo \\033[1mthree\\033[0m\\n'", 'seq 100')
    assert shown[:2] == ["$ printf 'one\\rtwo \\033[1mthree\\033[0m\\n'", 'two three']
    first, last = readme_transcript.FIRST, readme_transcript.LAST
    assert shown[3 : 3 + first] == [str(k) for k in range(1, first + 1)]
    assert shown[3 + first] == f'  … {100 - first - last} lines …'
    assert shown[4 + first :] == [str(k) for k in range(101 - last, 101)]


def test_what_a_step_lacks_is_installed_by_the_line_that_it_names(tmp_path):
    install = tmp_path / 'apt-get'
    install.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/installed\n')
    install.chmod(0o755)
    step = "cat installed || (echo '  sudo apt-get install -y make cmake'; exit 3)"
    shown = play(f'cd {tmp_path}; PATH={tmp_path}:$PATH', step)
    assert shown[-3:] == ['$ apt-get install -y make cmake', f'$ {step}', 'install -y make cmake']
    # Once is enough.
    with pytest.raises(StepFailed, match='failed with 3'):
        play('apt-get() { true; }', "(echo '  apt-get install -y make'; exit 3)")


@pytest.mark.parametrize(
    'step, says',
    [
        ('echo so much; false', 'so much\nThis step failed with 1: echo so much; false'),
        ('echo good bye; exit', 'good bye\nThe shell ended in this step: echo good bye; exit'),
    ],
)
def test_a_step_that_fails_is_named_with_what_it_said(step, says):
    with pytest.raises(StepFailed, match=f'^{re.escape(says)}$'):
        play('true', step, 'echo never')


def test_the_transcript_is_of_the_steps_that_the_readme_has():
    shown = re.findall(r'^\[ *\d+:\d\d\] \$ (.*)$', TRANSCRIPT.read_text('utf-8'), re.MULTILINE)
    steps = readme_transcript.readme_steps()
    assert len(steps) >= 5 and steps[0].startswith('cd ~/ros2_ws/src')
    assert shown[-len(steps) - 2 :] == [*steps, readme_transcript.CHECK, readme_transcript.SORT]
    assert shown.count(readme_transcript.readme_run()) == 2  # what is missing was installed
