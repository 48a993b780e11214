# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run `ros2 launch` as a person does: in a terminal of its own, ended by Ctrl-C."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from ros_domains import own_domain_id

ROOT = Path(__file__).resolve().parent.parent
ROS2 = 'import sys; from ros2cli.cli import main; sys.exit(main())'


def why_no_launch():
    """Return why nothing can be launched here, or an empty text."""
    for package in ('launch', 'launch_ros', 'ros2cli', 'ros2launch'):
        if importlib.util.find_spec(package) is None:
            return f'{package} comes with an installed ROS 2'
    return ''


needs_launch = pytest.mark.skipif(bool(why_no_launch()), reason=why_no_launch() or 'it is there')


def launch_command(name, *arguments):
    """Return the command that launches a file of the source tree."""
    return [sys.executable, '-c', ROS2, 'launch', str(ROOT / 'launch' / name), *arguments]


class Launched:
    """A running launch; `domain_id` is that of its nodes."""

    def __init__(self, process, domain_id):
        self.process, self.domain_id = process, domain_id
        self._lines, self._ended, self._news = [], False, threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def output(self):
        """Return what was printed so far."""
        return ''.join(self._lines)

    def wait(self, predicate, timeout, what):
        """Wait until the predicate is true of the output; fail with what was printed."""
        end = time.monotonic() + timeout
        with self._news:
            while not (result := predicate()):
                assert not self._ended, f'ended before {what}:\n{self.output}'
                left = end - time.monotonic()
                assert left > 0, f'no {what} in {timeout} s:\n{self.output}'
                self._news.wait(left)
        return result

    def interrupt(self, timeout=40.0):
        """Press Ctrl-C; return the exit code and the processes that are left."""
        os.killpg(self.process.pid, signal.SIGINT)
        code = self.wait_ended(timeout)
        return code, self.processes()

    def wait_ended(self, timeout):
        """Wait until it has ended and everything is printed; return the exit code."""
        code = self.process.wait(timeout=timeout)
        # Not for ever: a process that was left behind holds the output open.
        self._reader.join(5.0)
        return code

    def processes(self):
        """Return the command lines of the processes in this terminal."""
        found = []
        for folder in Path('/proc').glob('[0-9]*'):
            try:
                stat = (folder / 'stat').read_text().rpartition(')')[2].split()
                if int(stat[3]) == self.process.pid and stat[0] != 'Z':
                    found.append((folder / 'cmdline').read_text().replace('\0', ' '))
            except (OSError, ValueError):
                continue
        return found


@contextmanager
def launched(name, tmp_path, *arguments, environment=None, prefix=()):
    """Launch a file; whatever still runs at the end is killed.

    Args:
        prefix: A command that becomes the launch, such as nsenter.
    """
    domain_id = own_domain_id()
    process = subprocess.Popen(
        [*prefix, *launch_command(name, *arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
        env={
            **os.environ,
            'ROS_DOMAIN_ID': str(domain_id),
            'ROS_LOG_DIR': str(tmp_path),
            **(environment or {}),
        },
        start_new_session=True,
    )
    running = Launched(process, domain_id)
    try:
        yield running
    finally:
        for number in (signal.SIGINT, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                running.wait_ended(timeout=10.0)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
