# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What looks after the process of the nodes, and the priority that a process asks for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stl_conveyor.nodes.base import priority

ROOT = Path(__file__).resolve().parents[2]
HEAD = """
import os, signal, sys, threading
from stl_conveyor.nodes.base.keeper import keep
"""


def keeper(body):
    """Run a script in which `work` is kept."""
    return subprocess.Popen(
        [sys.executable, '-c', f'{HEAD}\n{body}\nsys.exit(keep(work))'],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_work_that_crashes_is_done_again_and_told_why():
    process = keeper("""
def work(why):
    print(repr(why), flush=True)
    if not why:
        os.kill(os.getpid(), signal.SIGSEGV)
    return 3 if 'SIGSEGV' in why else 0
""")
    said, complained = process.communicate(timeout=60)
    assert said.splitlines() == ["''", "'killed by SIGSEGV'", "'exit code 3'"]
    assert process.returncode == 0
    assert complained.count('is started again') == 2


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_while_the_interpreter_ends_is_no_crash(number):
    # The interpreter puts the handlers of Python back on its way out, but not what is ignored.
    process = keeper(f"""
import atexit
atexit.register(lambda: print(signal.getsignal({int(number)}) is signal.SIG_IGN, flush=True))
def work(why):
    os._exit(0)
""")
    said, complained = process.communicate(timeout=60)
    assert (process.returncode, said, complained) == (0, 'True\n', '')


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_an_end_is_passed_on_and_waited_for(number):
    process = keeper("""
def work(why):
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    print('works', flush=True)
    asked.wait()
    print('finished', flush=True)
    return 0
""")
    with process:
        assert process.stdout.readline() == 'works\n'
        process.send_signal(number)
        assert process.stdout.read() == 'finished\n'
        assert process.wait(60) == 0


def test_nothing_outlives_a_keeper_that_is_killed():
    process = keeper("""
def work(why):
    print(os.getpid(), flush=True)
    threading.Event().wait()
""")
    with process:
        worker = int(process.stdout.readline())
        assert worker != process.pid
        process.kill()
        assert process.stdout.read() == ''  # it ends when nobody holds the pipe any more
        assert process.wait(60) == -signal.SIGKILL


def test_a_session_of_its_own_is_begun_where_that_is_asked_for():
    script = (
        'import os, sys\n'
        'from stl_conveyor.nodes.base.priority import begin_session\n'
        'begin_session()\n'
        'print(os.getsid(0) == os.getpid(), os.environ.get("STL_CONVEYOR_OWN_SESSION"))\n'
    )
    for asked, own in (('1', 'True None\n'), ('', 'False None\n')):
        environment = {**os.environ, priority.OWN_SESSION: asked}
        said = subprocess.run(
            [sys.executable, '-c', script],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert said.stdout == own, said.stderr


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Return a folder that stands for /proc, with autogroups on and no control group."""
    monkeypatch.setattr(priority, '_AUTOGROUPS', tmp_path / 'enabled')
    monkeypatch.setattr(priority, '_AUTOGROUP', tmp_path / 'autogroup')
    monkeypatch.setattr(priority, '_CGROUP', tmp_path / 'cgroup')
    monkeypatch.setattr(os, 'setpriority', lambda *_: None)
    monkeypatch.setattr(os, 'getsid', lambda _: os.getpid())
    (tmp_path / 'enabled').write_text('1\n')
    (tmp_path / 'autogroup').write_text('/autogroup-7 nice 0\n')
    (tmp_path / 'cgroup').write_text('4:memory:/somewhere\n1:cpu,cpuacct:/\n0::/\n')
    return tmp_path


def test_a_session_is_raised_where_autogroups_are_on(system):
    assert priority.prioritise_process(-5) == ''
    assert (system / 'autogroup').read_text() == '-5'


def test_a_session_is_never_lowered(system):
    assert priority.prioritise_process(5) == ''
    assert (system / 'autogroup').read_text() == '/autogroup-7 nice 0\n'


def test_the_session_of_who_only_looks_on_gives_way(system):
    assert priority.prioritise_process(10, looks_on=True) == ''
    assert (system / 'autogroup').read_text() == '10'


def test_a_session_that_others_share_is_left_alone_and_that_is_said(system, monkeypatch):
    monkeypatch.setattr(os, 'getsid', lambda _: 1)
    assert 'acts inside this session alone' in priority.prioritise_process(-5)
    assert 'acts inside this session alone' in priority.prioritise_process(10, looks_on=True)
    assert (system / 'autogroup').read_text() == '/autogroup-7 nice 0\n'


def test_a_session_that_may_not_be_raised_is_named_with_the_remedy(system, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, 'Operation not permitted')

    monkeypatch.setattr(Path, 'write_text', refuse)
    assert 'LimitNICE' in priority.prioritise_process(-5)


@pytest.mark.parametrize(
    'file, text',
    [('enabled', '0\n'), ('cgroup', '1:cpu,cpuacct:/system.slice/stl-conveyor-device.service\n')],
)
def test_where_no_autogroup_holds_the_process_none_is_raised(system, file, text):
    (system / file).write_text(text)
    assert priority.prioritise_process(-5) == ''
    assert (system / 'autogroup').read_text() == '/autogroup-7 nice 0\n'


def test_what_is_refused_to_a_thread_is_said(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, 'Operation not permitted')

    monkeypatch.setattr(os, 'setpriority', refuse)
    monkeypatch.setattr(os, 'sched_setscheduler', refuse)
    said, refused = priority.prioritise_thread(-7, 20)
    assert said == '-7 is not permitted'
    assert set(refused) == {'niceness', 'realtime_priority'}
    assert 'LimitRTPRIO' in refused['realtime_priority']


def test_a_thread_of_the_real_time_queue_says_so(monkeypatch):
    asked = []
    monkeypatch.setattr(os, 'setpriority', lambda *_: None)
    monkeypatch.setattr(os, 'sched_setscheduler', lambda *given: asked.append(given))
    assert priority.prioritise_thread(-7, 20) == ('real-time 20', {})
    assert asked[0][:2] == (0, os.SCHED_FIFO)
