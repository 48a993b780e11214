# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Processes that are forked are children as any other, and see what they were given."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stl_conveyor.run.nursery import ForkPlan, Nursery
from stl_conveyor.run.processes import ProcessPlan, Supervisor

SAYS = """
import os, sys, threading

def main():
    print(sys.argv[1:], os.environ.get('GIVEN'), os.environ.get('HOME'), flush=True)
    if 'wait' in sys.argv:
        threading.Event().wait()
    return int(os.environ.get('CODE', 0))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Return a folder with the module that is run."""
    folder = tmp_path_factory.mktemp('modules')
    (folder / 'forked_module.py').write_text(SAYS)
    return folder


@pytest.fixture(scope='module')
def nursery(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PYTHONPATH', f'{folder}{os.pathsep}{os.environ.get("PYTHONPATH", "")}')
        made = Nursery()
    yield made
    made.close()


def fork(nursery, *words, **environment):
    """Return a process, and the file that it writes to."""
    read, write = os.pipe()
    plan = ForkPlan('forked_module', words, {'HOME': '/', **environment})
    process = nursery.fork(plan, write)
    os.close(write)
    return process, os.fdopen(read)


def test_it_has_the_words_and_the_variables_of_its_plan_and_no_others(nursery, monkeypatch):
    monkeypatch.setenv('GIVEN', 'to somebody else')
    process, output = fork(nursery, '--a', 'b c', CODE='3')
    assert output.read() == "['--a', 'b c'] None /\n"
    assert process.wait(20) == 3
    assert process.poll() == 3
    output.close()


def test_it_is_a_child_of_this_process_with_words_of_its_own(nursery):
    process, output = fork(nursery, 'wait', 'at the belt')
    assert output.readline()
    assert str(process.pid) in Path('/proc/self/task', str(os.getpid()), 'children').read_text()
    words = Path(f'/proc/{process.pid}/cmdline').read_bytes().rstrip(b'\0').split(b'\0')
    assert words[1:] == [b'-m', b'forked_module', b'wait', b'at the belt']
    assert os.getsid(process.pid) == process.pid
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.kill()  # it is gone, and nobody else is hit
    output.close()


def test_what_is_forked_ends_with_who_asked_for_it(folder):
    script = """
import os, signal, sys
from stl_conveyor.run.nursery import ForkPlan, Nursery
process = Nursery().fork(ForkPlan('forked_module', ('wait',), dict(os.environ)), 2)
print(process.pid, flush=True)
signal.pause()"""
    parent = subprocess.Popen(
        [sys.executable, '-c', script],
        env={**os.environ, 'PYTHONPATH': f'{folder}{os.pathsep}{os.environ["PYTHONPATH"]}'},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    child = int(parent.stdout.readline())
    assert parent.stderr.readline()  # it works
    end = os.pidfd_open(child)
    assert not select.select([end], [], [], 0)[0]
    parent.kill()
    parent.communicate()
    assert select.select([end], [], [], 20)[0], 'the child lives on'
    os.close(end)


def test_a_supervisor_forks_what_may_be_forked_and_starts_the_rest(nursery, tmp_path):
    plan = ProcessPlan('a', ('-m', 'forked_module', 'x'), may_fork=True)
    with Supervisor(tmp_path, nursery) as supervisor:
        supervisor.start(plan)
        assert supervisor._process('a').wait(20) == 0
        assert supervisor.dead() == [('a', 0)]
        assert "['x']" in supervisor.tail('a')
        supervisor.restart('a')
        assert supervisor._process('a').wait(20) == 0
        assert supervisor.tail('a').count("['x']") == 2
        supervisor.start(ProcessPlan('b', ('-c', 'print("started")'), may_fork=False))
        assert supervisor._process('b').wait(20) == 0
        assert supervisor.tail('b') == 'started'


def test_without_a_nursery_an_interpreter_is_started(folder, tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', f'{folder}{os.pathsep}{os.environ.get("PYTHONPATH", "")}')
    (folder / 'started_module.py').write_text('import sys; print(sys.argv[1:])')
    gone = Nursery()
    gone.close()
    with Supervisor(tmp_path, gone) as supervisor:
        supervisor.start(ProcessPlan('a', ('-m', 'started_module', 'x'), may_fork=True))
        assert supervisor._process('a').wait(20) == 0
        assert supervisor.tail('a') == "['x']"
