# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""One process has the place of a node on its machine, for as long as it lives, and says so."""

from __future__ import annotations

import subprocess
import sys

from stl_conveyor.nodes.device.sign_file import SignFile

HOLDS = """
import pathlib, sys
from stl_conveyor.nodes.device.sign_file import SignFile
sign = SignFile(pathlib.Path(sys.argv[1]), 7)
print(sign.held, flush=True)
sys.stdin.read()
"""


def test_who_comes_first_has_the_place_and_the_other_one_reads_its_signs(tmp_path):
    path = tmp_path / 'state' / 'actuator.sign'
    first = SignFile(path, 7)
    second = SignFile(path, 2**64 - 1)
    assert (first.held, second.held) == (False, True)
    started = second.look()
    assert (started.instance, started.acts_for_ns) == (7, 1), 'it has said so at once'
    assert second.look() == started, 'nothing new'
    first.write(10**18)
    assert second.look().acts_for_ns == 10**18
    first.write(0)
    assert second.look()[:2] == (7, 0)
    second.write(5)  # who has no place leaves no sign
    assert second.look()[:2] == (7, 0)
    first.close()
    first.write(6)
    assert not path.exists() and second.look() is None and not second.held
    third = SignFile(path, 8)
    assert third.held and third.look().instance == 2**64 - 1
    second.close()
    third.close()
    assert third.look() is None, 'who is closed looks no more'
    assert list(path.parent.iterdir()) == []


def test_the_place_of_a_process_that_was_killed_is_free_at_once(tmp_path):
    path = tmp_path / 'actuator.sign'
    with subprocess.Popen(
        [sys.executable, '-c', HOLDS, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == 'False\n'
        waits = SignFile(path, 8)
        assert waits.held and waits.look().instance == 7
        process.kill()
        process.wait()
    assert not SignFile(path, 9).held
    assert waits.look() is None or waits.held


def test_half_a_line_is_none(tmp_path):
    path = tmp_path / 'actuator.sign'
    first, second = SignFile(path, 7), SignFile(path, 8)
    path.write_bytes(path.read_bytes()[:-90])
    assert second.look() is None and second.held
    first.write(3)
    assert second.look().acts_for_ns == 3


def test_a_file_that_cannot_be_had_holds_nobody_back(tmp_path):
    (tmp_path / 'aim').write_text('not ours')
    (tmp_path / 'link').symlink_to(tmp_path / 'aim')
    for path in (None, tmp_path / 'link', tmp_path / 'aim' / 'sign', tmp_path):
        sign = SignFile(path, 7)
        sign.write(1)
        assert not sign.held and sign.look() is None
        sign.close()
    assert (tmp_path / 'aim').read_text() == 'not ours'
