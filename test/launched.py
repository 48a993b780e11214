# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run `ros2 launch` as a person does: in a terminal of its own, ended by Ctrl-C."""
from contextlib import contextmanager
import importlib.util
import os
from pathlib import Path
import random
import signal
import subprocess
import sys
import time

import pytest

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

    def __init__(self, process, domain_id, log):
        self.process, self.domain_id, self._log = process, domain_id, log

    @property
    def output(self):
        """Return what was printed so far."""
        return self._log.read_text(encoding='utf-8', errors='replace')

    def wait(self, predicate, timeout, what):
        """Wait until the predicate is true; fail with what was printed."""
        end = time.monotonic() + timeout
        while not (result := predicate()):
            assert self.process.poll() is None, f'ended before {what}:\n{self.output}'
            assert time.monotonic() < end, f'no {what} in {timeout} s:\n{self.output}'
            time.sleep(0.1)
        return result

    def interrupt(self, timeout=40.0):
        """Press Ctrl-C; return the exit code and the processes that are left."""
        os.killpg(self.process.pid, signal.SIGINT)
        code = self.process.wait(timeout=timeout)
        return code, self.processes()

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
def launched(name, tmp_path, *arguments, environment=None):
    """Launch a file; whatever still runs at the end is killed."""
    domain_id = random.SystemRandom().randint(101, 200)
    log = tmp_path / 'launch.log'
    with open(log, 'wb') as output:
        process = subprocess.Popen(
            launch_command(name, *arguments), stdout=output, stderr=subprocess.STDOUT,
            env={**os.environ, 'ROS_DOMAIN_ID': str(domain_id), 'ROS_LOG_DIR': str(tmp_path),
                 **(environment or {})},
            start_new_session=True)
    try:
        yield Launched(process, domain_id, log)
    finally:
        for number in (signal.SIGINT, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(timeout=10.0)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
