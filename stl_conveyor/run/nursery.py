# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Fork the processes of a run from one that has loaded what all of them need.

Most of the start of a node is imports, and seven nodes that start together have two cores to do
them on. Here they are done once, while whoever starts the nodes does its own. Needs Linux, and no
ROS on the side of the caller.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stl_conveyor.nodes.base.forking import end_after, fork
from stl_conveyor.nodes.base.priority import die_with_parent

PRELOADED = (
    'stl_conveyor.nodes.base.runner',
    'stl_conveyor.models.classifier',
    'stl_conveyor.codec',
    'onnxruntime',
)
NAME = 'stl_conveyor.run.nursery'  # also where it is run as __main__
PATIENCE_S = 20.0  # for an answer, in which the nursery loads everything at first
LARGEST_PLAN = 128 * 1024  # bytes
# Where the words of a process stand that is forked, and not started by a command line of its own.
ROOM_FOR_WORDS = 8000
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class ForkPlan:
    """What a forked process does.

    Attributes:
        module: Whose `main` it runs.
        words: The command line behind the module's name.
        environment: All variables.
    """

    module: str
    words: tuple[str, ...]
    environment: Mapping[str, str]


class ForkedProcess:
    """A child of this process that another one forked; as subprocess.Popen, as far as needed."""

    def __init__(self, pid: int) -> None:
        """Look after a process."""
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or the negative number of a signal; None while it lives."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has waited for it
                pid, status = self.pid, 0
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, at most so long (s), and return its exit code.

        Raises:
            subprocess.TimeoutExpired: If it lives on.
        """
        if self.poll() is None:
            end = os.pidfd_open(self.pid)
            try:
                select.select([end], [], [], timeout)
            finally:
                os.close(end)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(f'process {self.pid}', timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, if it lives."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """A process that forks others, which become children of this one."""

    def __init__(self) -> None:
        """Start it; it loads what there is to load meanwhile."""
        # Who is forked there loses its parent at once, and is handed to this process.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(PATIENCE_S)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, '-m', NAME, str(other.fileno()), ' ' * ROOM_FOR_WORDS],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **quiet_environment(os.environ)},
                pass_fds=[other.fileno()],
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def fork(self, plan: ForkPlan, output: int) -> ForkedProcess | None:
        """Return a process that follows a plan; None if the nursery is no more.

        Args:
            output: Descriptor of the file that it writes to.
        """
        data = json.dumps([plan.module, plan.words, dict(plan.environment)]).encode()
        if len(data) > LARGEST_PLAN or self._process.poll() is not None:
            return None
        try:
            socket.send_fds(self._socket, [data], [output])
            answer = self._socket.recv(64)
        except OSError:
            self.close()
            return None
        return ForkedProcess(int(answer)) if answer else None

    def close(self) -> None:
        """End it; what was forked lives on."""
        self._socket.close()
        self._process.kill()
        self._process.wait()


def quiet_environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return variables for one thread each of what would otherwise take every core.

    The models and arrays are small. What somebody has set stays.
    """
    own = {
        variable: given.get(variable, '1')
        for variable in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS')
    }
    return {**own, 'PYTHONUNBUFFERED': '1'}


def serve(requests: socket.socket) -> ForkPlan | None:
    """Fork for every request; return its plan in the process that is to follow it.

    Returns:
        None when there is nobody to ask for more.
    """
    starter = os.getppid()
    while True:
        data, files, _, _ = socket.recv_fds(requests, LARGEST_PLAN, 1)
        if not data or not files:
            return None
        (output,) = files
        answer, said = os.pipe()
        between = fork()
        if between == 0:
            pid = fork()
            if pid:
                os.write(said, str(pid).encode())
                os._exit(0)
            requests.close()
            os.close(answer)
            os.close(said)
            _begin(starter, output)
            module, words, environment = json.loads(data)
            return ForkPlan(module, tuple(words), environment)
        os.close(said)
        os.close(output)
        os.waitpid(between, 0)
        requests.send(os.read(answer, 64))
        os.close(answer)


def _begin(starter: int, output: int) -> None:
    """Be a process by itself, which ends with the one that asked for it."""
    os.setsid()
    # Until then its parent is the process in between, which ends right now.
    while os.getppid() != starter:
        if not Path(f'/proc/{starter}').exists():
            os._exit(1)
        time.sleep(0.001)
    die_with_parent()
    if os.getppid() != starter:  # it died before that held
        os._exit(1)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)


def show_words(words: Sequence[str]) -> None:
    """Have the process table show other words, as far as there is room."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        fields = Path('/proc/self/stat').read_text(encoding='utf-8').rpartition(')')[2].split()
        start, end = int(fields[45]), int(fields[46])
        if start:
            room = end - start
            text = '\0'.join(words).encode()[: room - 1]
            ctypes.memmove(start, text.ljust(room, b'\0'), room)


def main(arguments: Sequence[str] | None = None) -> int:
    """Load, serve, and follow the plan in each process that was forked."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    command = [sys.executable, '-m']
    show_words([*command, NAME])
    for name in PRELOADED:
        with contextlib.suppress(ImportError):  # who needs it says so
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that no collector touches what all share
    with socket.socket(fileno=int(words[0])) as requests:
        plan = serve(requests)
    if plan is None:
        return 0
    show_words([*command, plan.module, *plan.words])
    os.environ.clear()
    os.environ.update(plan.environment)

    def work() -> int:
        module = importlib.import_module(plan.module)
        sys.argv = [module.__file__ or plan.module, *plan.words]
        return int(module.main() or 0)

    end_after(work)


if __name__ == '__main__':
    sys.exit(main())
