# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Start processes, kill and restart them by name, and leave none behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stl_conveyor.errors import ConfigError
from stl_conveyor.nodes.base.priority import die_with_parent
from stl_conveyor.run.nursery import ForkedProcess, ForkPlan, Nursery, quiet_environment

Process = subprocess.Popen | ForkedProcess


@dataclass(frozen=True)
class ProcessPlan:
    """A process to be.

    Attributes:
        arguments: Those after the interpreter.
        prefix: A command that runs the interpreter, such as nsenter; it must become it.
        environment: Variables beside those of this process.
        may_fork: Whether a nursery may fork it; else its interpreter is started.
        replaces: Files of an earlier run that go before it is started first.
    """

    name: str
    arguments: tuple[str, ...]
    prefix: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    may_fork: bool = False
    replaces: tuple[Path, ...] = ()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time, user and system, that a process has used; 0 if it is gone."""
    try:
        fields = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    except (OSError, IndexError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Let SIGINT and SIGTERM take effect afterwards.

    Python drops an exception that a signal handler raises among the hooks of a fork, and with it
    the user's Ctrl-C.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread alone
        return
    held: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda caught, _: held.append(caught))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for caught in held:
            signal.raise_signal(caught)


class Supervisor:
    """Runs Python processes in sessions of their own, each with its output in a file.

    A signal from the terminal reaches only this process, which then ends the others in order.
    Use it as a context manager.

    Attributes:
        log_folder: Where NAME.log files go.
    """

    def __init__(self, log_folder: Path, nursery: Nursery | None = None) -> None:
        """Start with no processes.

        Args:
            nursery: Forks what may be forked; None: every process has its own interpreter.
        """
        self._log_folder = log_folder
        self._nursery = nursery
        self._plans: dict[str, ProcessPlan] = {}
        self._processes: dict[str, Process] = {}
        self._cpu_of_ended: dict[str, float] = {}
        log_folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Supervisor:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """End all processes."""
        self.stop_all()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all processes ever started."""
        return tuple(self._plans)

    def log_path(self, name: str) -> Path:
        """Return the file with a process's output."""
        return self._log_folder / f'{name}.log'

    def start(self, plan: ProcessPlan) -> None:
        """Start a process, or start it again under its name."""
        given = {**os.environ, **plan.environment}
        environment = {**given, **quiet_environment(given)}
        self._plans[plan.name] = plan
        with _signals_held_back(), open(self.log_path(plan.name), 'ab') as log:
            process = self._forked(plan, environment, log.fileno())
            self._processes[plan.name] = process or subprocess.Popen(
                [*plan.prefix, sys.executable, *plan.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def _forked(
        self, plan: ProcessPlan, environment: Mapping[str, str], output: int
    ) -> ForkedProcess | None:
        """Return a process of the nursery; None if it is to have an interpreter of its own."""
        if self._nursery is None or not plan.may_fork or plan.prefix or plan.environment:
            return None
        option, module, *words = plan.arguments
        assert option == '-m'
        return self._nursery.fork(ForkPlan(module, tuple(words), environment), output)

    def kill(self, name: str) -> None:
        """End a process at once, as a crash would.

        Raises:
            ConfigError: If no such process was started.
        """
        process = self._process(name)
        self._note_cpu(name, process)
        process.kill()
        process.wait()

    def send_signal(self, name: str, number: int) -> None:
        """Send a signal to a process; to one that has ended nothing is sent.

        Raises:
            ConfigError: If no such process was started.
        """
        self._process(name).send_signal(number)

    def restart(self, name: str) -> None:
        """Start a process that has ended, as it was started first.

        Raises:
            ConfigError: If no such process was started.
        """
        self._process(name)
        self.start(self._plans[name])

    def dead(self) -> list[tuple[str, int]]:
        """Return the names and exit codes of the processes that have ended."""
        return [
            (name, code)
            for name, process in self._processes.items()
            if (code := process.poll()) is not None
        ]

    def pid(self, name: str) -> int:
        """Return the number of a process.

        Raises:
            ConfigError: If no such process was started.
        """
        return self._process(name).pid

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds that each process has used, earlier lives included."""
        return {
            name: self._cpu_of_ended.get(name, 0.0)
            + (cpu_seconds(process.pid) if process.poll() is None else 0.0)
            for name, process in self._processes.items()
        }

    def tail(self, name: str, lines: int = 15) -> str:
        """Return the last lines that a process wrote."""
        try:
            text = self.log_path(name).read_text(encoding='utf-8', errors='replace')
        except OSError:
            return ''
        return '\n'.join(text.splitlines()[-lines:])

    def stop_all(self, patience: float = 4.0) -> None:
        """Ask all processes to end, wait, then insist. Safe to call twice."""
        self._stop(self._processes, patience)

    def stop(self, name: str, patience: float = 4.0) -> None:
        """Ask a process to end, wait, then insist; one that does not run is ended already."""
        self._stop({n: p for n, p in self._processes.items() if n == name}, patience)

    def _stop(self, processes: Mapping[str, Process], patience: float) -> None:
        running = {n: p for n, p in processes.items() if p.poll() is None}
        for name, process in running.items():
            self._note_cpu(name, process)
            process.terminate()
        end = time.monotonic() + patience
        for process in running.values():
            try:
                process.wait(max(end - time.monotonic(), 0.05))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _process(self, name: str) -> Process:
        if name not in self._processes:
            raise ConfigError(f"no process '{name}': there are {', '.join(self._processes)}")
        return self._processes[name]

    def _note_cpu(self, name: str, process: Process) -> None:
        if process.poll() is None:
            self._cpu_of_ended[name] = self._cpu_of_ended.get(name, 0.0) + cpu_seconds(process.pid)


def signal_text(code: int) -> str:
    """Return an exit code in words."""
    if code < 0:
        return f'killed by {signal.Signals(-code).name}'
    return f'exit code {code}'
