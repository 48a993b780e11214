# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Processes are started, killed, restarted, counted, and never left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from stl_conveyor.errors import ConfigError
from stl_conveyor.run.processes import ProcessPlan, Supervisor, signal_text

SLEEPER = ('-c', "print('up', flush=True); import time; time.sleep(60)")
STUBBORN = (
    '-c',
    'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); '
    "print('up', flush=True); time.sleep(60)",
)


def wait_for(condition, seconds=20):
    """Wait for what a process writes into its file, of which Python cannot be told."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'waited too long'
        time.sleep(0.02)


def test_kill_and_restart(tmp_path):
    with Supervisor(tmp_path) as supervisor:
        supervisor.start(ProcessPlan('a', SLEEPER))
        wait_for(lambda: 'up' in supervisor.tail('a'))
        supervisor.kill('a')
        assert supervisor.dead() == [('a', -signal.SIGKILL)]
        supervisor.restart('a')
        wait_for(lambda: supervisor.tail('a').count('up') == 2)
        assert supervisor.dead() == []
        assert supervisor.cpu()['a'] > 0
    assert [name for name, _ in supervisor.dead()] == ['a']
    supervisor.stop_all()


def test_a_process_that_does_not_listen_is_ended_all_the_same(tmp_path):
    supervisor = Supervisor(tmp_path)
    supervisor.start(ProcessPlan('stubborn', STUBBORN))
    wait_for(lambda: 'up' in supervisor.tail('stubborn'))
    supervisor.stop_all(patience=0.2)
    assert supervisor.dead() == [('stubborn', -signal.SIGKILL)]


def test_cpu_time_of_the_ended_is_kept(tmp_path):
    burner = ('-c', "sum(range(10 ** 7)); print('up', flush=True); import time; time.sleep(60)")
    with Supervisor(tmp_path) as supervisor:
        supervisor.start(ProcessPlan('burner', burner))
        wait_for(lambda: 'up' in supervisor.tail('burner'))
        before = supervisor.cpu()['burner']
    assert before > 0.02
    assert supervisor.cpu()['burner'] == pytest.approx(before, abs=0.05)


def test_a_name_that_was_never_started_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='ghost'):
        Supervisor(tmp_path).kill('ghost')


def test_children_do_not_outlive_a_killed_supervisor(tmp_path):
    script = textwrap.dedent(f"""
        import pathlib, signal
        from stl_conveyor.run.processes import ProcessPlan, Supervisor
        supervisor = Supervisor(pathlib.Path({str(tmp_path)!r}))
        supervisor.start(ProcessPlan('child', {SLEEPER!r}))
        print(supervisor._processes['child'].pid, flush=True)
        signal.pause()""")
    parent = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    # A file descriptor of a process becomes readable when the process ends.
    end = os.pidfd_open(child)
    assert not select.select([end], [], [], 0)[0]
    parent.kill()
    parent.communicate()
    assert select.select([end], [], [], 20)[0], 'the child lives on'
    os.close(end)


def test_signal_text():
    assert signal_text(-9) == 'killed by SIGKILL' and signal_text(3) == 'exit code 3'


def test_an_interrupt_during_a_fork_is_not_lost(tmp_path):
    interrupting = True

    def interrupt():
        if interrupting:
            signal.raise_signal(signal.SIGINT)

    os.register_at_fork(before=interrupt)
    try:
        with Supervisor(tmp_path) as supervisor:
            with pytest.raises(KeyboardInterrupt):
                supervisor.start(ProcessPlan('a', SLEEPER))
            assert supervisor.names == ('a',) and not supervisor.dead()
    finally:
        interrupting = False
    assert [code for _, code in supervisor.dead()] == [-signal.SIGTERM]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
