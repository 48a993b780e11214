# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run nodes: one as a process, or several in this process, each group with its executor."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter

from stl_conveyor.errors import ConfigError
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.middleware import use_quick_heartbeats
from stl_conveyor.nodes.base.refused_node import REFUSED_BY_ROS, refused_node
from stl_conveyor.nodes.base.shared_memory import joining, opened_here, remove_orphans
from stl_conveyor.parameter_files import names_for

# Environment variable: 'wait_set' or 'events'; see `make_executor`.
EXECUTOR = 'STL_CONVEYOR_EXECUTOR'
REFUSED_PERIOD = 5  # s between attempts to start a node whose parameters cannot be used
LONGEST_WAIT = 1.0  # s; without an end EventsExecutor does not wait at all
STOPPED_WORKING = 1  # exit code of a process whose executor ended, and nobody asked it to


@dataclass(frozen=True)
class NodeSpec:
    """A node to run.

    Attributes:
        group: Nodes of one group share an executor and its thread, so that none of them runs while
            another one computes.
    """

    node_class: type[ConveyorNode]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    namespace: str = ''
    group: str = ''
    name: str = ''
    remappings: Mapping[str, str] = field(default_factory=dict)


class NodeRunner:
    """Nodes in this process, as a context manager.

    The nodes start themselves in the order given (unless `autostart` is false) and are
    deactivated in that order on exit, while they can still publish. rclpy need not be
    initialised; with a `domain_id` the nodes have a context of their own.
    """

    def __init__(self, specs: Sequence[NodeSpec], *, domain_id: int | None = None) -> None:
        """Construct the nodes.

        Raises:
            ConfigError: Naming the parameter that cannot be used.
        """
        use_quick_heartbeats()
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain_id)
        self._stop = threading.Event()
        self._executors: dict[str, Executor] = {}
        self._threads: list[threading.Thread] = []
        self.nodes: list[ConveyorNode] = []
        try:
            for spec in specs:
                self._add(spec)
        except BaseException:
            self.stop()
            raise

    def _add(self, spec: NodeSpec) -> None:
        arguments: dict[str, Any] = {'context': self.context, 'use_global_arguments': False}
        if spec.name:
            arguments['node_name'] = spec.name
        if spec.namespace:
            arguments['namespace'] = spec.namespace
        if spec.remappings:
            arguments['cli_args'] = ['--ros-args'] + [
                word for old, new in spec.remappings.items() for word in ('-r', f'{old}:={new}')
            ]
        node = spec.node_class(
            parameter_overrides=[
                Parameter(name, value=list(value) if isinstance(value, tuple) else value)
                for name, value in spec.parameters.items()
            ],
            **arguments,
        )
        self.nodes.append(node)
        executor = self._executors.get(spec.group)
        if executor is None:
            executor = make_executor(self.context)
            self._executors[spec.group] = executor
        executor.add_node(node)

    def node(self, name: str) -> ConveyorNode:
        """Return the first node with this name."""
        return next(node for node in self.nodes if node.get_name() == name)

    def start(self) -> None:
        """Spin every group in a thread of its own."""
        tune_garbage_collection()
        if len(self._executors) > 1:
            # Python lets a busy thread run for 5 ms before another one's turn.
            sys.setswitchinterval(0.001)
        for group, executor in self._executors.items():
            thread = threading.Thread(
                target=self._spin, args=(executor,), name=f'executor {group}', daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def _spin(self, executor: Executor) -> None:
        try:
            _spin(executor, self._stop)
        finally:
            self._stop.set()  # one alone cannot do the work of all

    @property
    def is_running(self) -> bool:
        """Return whether every executor still spins."""
        return bool(self._threads) and not self._stop.is_set()

    def stop(self) -> None:
        """Stop spinning, deactivate the nodes in order, and leave the graph."""
        self._stop.set()
        for executor in self._executors.values():
            executor.create_task(_wake)
        for thread in self._threads:
            thread.join(timeout=2.0)
        for node in self.nodes:
            node.close()
        for executor in self._executors.values():
            executor.shutdown(timeout_sec=0)
        self._threads, self.nodes, self._executors = [], [], {}
        rclpy.try_shutdown(context=self.context)
        # A node is a cycle of objects; frozen, it would keep its DDS participant for ever, and
        # Fast DDS finds no more than 32 of them on a machine.
        gc.unfreeze()
        gc.collect()

    def __enter__(self) -> NodeRunner:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()


def run_node(node_class: type[ConveyorNode], arguments: Sequence[str] | None = None) -> int:
    """Run a node until SIGINT or SIGTERM and return the process's exit code.

    A node whose parameters cannot be used is not started: that is said on standard error and on
    /diagnostics, and tried again every few seconds with what its parameter files hold by then. So
    a wrong setting is one that waits for its correction, as a missing model is, and nobody has to
    start the process again and again.

    The signals are handled here and not by rclpy, because a node has outcomes and accounts to
    publish before the context goes.

    Returns:
        0 after a signal, or what the node ended with; 1 when its executor came to an end by
        itself; 2 when it was never started.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    use_quick_heartbeats()
    remove_orphans()
    said = ''
    opened: set[str] = set()
    try:
        while True:
            try:
                return _run_until(node_class, arguments, stop, opened)
            except (ConfigError, *REFUSED_BY_ROS) as error:
                text = str(error)
                if text != said:
                    _say(f'{node_class.NAME}: {text}')
                    _say(f'{node_class.NAME}: waits, and tries again every {REFUSED_PERIOD:.0f} s')
                said = text
            if _wait_refused(node_class, arguments, said, stop):
                return 2
    finally:
        remove_orphans(opened)
        # `ros2 launch` passes on a Ctrl-C that the terminal has sent already. While the
        # interpreter ends its handlers are gone, and a second signal would look like a crash.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _run_until(
    node_class: type[ConveyorNode],
    arguments: Sequence[str] | None,
    stop: threading.Event,
    opened: set[str],
) -> int:
    """Run a node until `stop` is set; return the exit code.

    Args:
        opened: Takes the names of the files in shared memory that the node had open.

    Raises:
        ConfigError: If a parameter cannot be used.
    """
    executor: Executor | None = None
    node = None
    codes: list[int] = []

    def end(exit_code: int) -> None:
        codes.append(exit_code)
        stop.set()

    try:
        rclpy.init(
            args=None if arguments is None else list(arguments),
            signal_handler_options=rclpy.SignalHandlerOptions.NO,
        )
        executor = make_executor()
        words = sys.argv[1:] if arguments is None else arguments
        with joining():
            node = node_class(meant_parameters=names_for(words, node_class.NAME))
        node.on_end = end
        tune_garbage_collection()
        prioritise_process(node.settings.niceness)
        executor.add_node(node)

        def spin(executor: Executor) -> None:
            try:
                _spin(executor, stop)
            finally:
                if not stop.is_set():
                    _say(f'{node_class.NAME}: stopped working, and nobody asked for that')
                    end(STOPPED_WORKING)

        # The executor blocks outside Python, where no signal handler runs: so not in this thread.
        thread = threading.Thread(target=spin, args=(executor,), daemon=True)
        thread.start()
        stop.wait()
        executor.create_task(_wake)
        thread.join(timeout=1.0)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        opened |= opened_here()
        if node is not None:
            node.close()
        rclpy.try_shutdown()
        # The middleware leaves its shared memory behind, and now and then a lock in it that others
        # wait for, unless it goes before the interpreter does: with the last reference to it.
        executor, node = None, None
        gc.unfreeze()
        gc.collect()
    return codes[0] if codes else 0


def _wait_refused(
    node_class: type[ConveyorNode],
    arguments: Sequence[str] | None,
    text: str,
    stop: threading.Event,
) -> bool:
    """Say on /diagnostics, until it is tried again, why a node is not started.

    Returns:
        Whether the process is to end.
    """
    try:
        with refused_node(node_class.NAME, arguments, text) as report:
            for _ in range(REFUSED_PERIOD):
                report()
                if stop.wait(1.0):
                    return True
    except (ConfigError, *REFUSED_BY_ROS):  # the arguments make no node at all
        return stop.wait(REFUSED_PERIOD)
    return False


def prioritise_process(niceness: int) -> None:
    """Give every thread of this process a priority, the middleware's too, if that is permitted."""
    for thread in os.listdir('/proc/self/task') if os.path.isdir('/proc/self/task') else ():
        with contextlib.suppress(OSError):  # the node's diagnostics tell
            os.setpriority(os.PRIO_PROCESS, int(thread), niceness)


def tune_garbage_collection() -> None:
    """Take what is loaded by now out of the collector's sight, and let it run less often.

    A full collection over the imported modules takes tens of milliseconds, which is a missed
    deadline; what messages leave behind is freed by reference counts.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def make_executor(context: Context | None = None) -> Executor:
    """Return what calls the callbacks of nodes, one after the other.

    SingleThreadedExecutor, which makes a list of all that a node has for every message; with
    `events` in the environment's variable `EXECUTOR` rclpy's EventsExecutor, which the middleware
    calls when something comes (docs/architecture.md).

    Raises:
        ConfigError: If there is no such executor, or this rclpy does not have it.
    """
    kind = os.environ.get(EXECUTOR) or 'wait_set'
    if kind == 'wait_set':
        return SingleThreadedExecutor(context=context)
    if kind != 'events':
        raise ConfigError(f'{EXECUTOR} is {kind!r}: choose wait_set or events')
    try:
        from rclpy.experimental.events_executor import EventsExecutor
    except ImportError as error:
        raise ConfigError(
            f'{EXECUTOR} is events, which this rclpy does not have: it comes with Kilted; choose '
            'wait_set'
        ) from error
    return EventsExecutor(context=context)


def _spin(executor: Executor, stop: threading.Event) -> None:
    """Call back until `stop` is set, or the context has gone."""
    for node in executor.get_nodes():
        if isinstance(node, ConveyorNode):
            node.turn.taken_by_this_thread()
    while not stop.is_set() and executor.context.ok():
        try:
            executor.spin_once(timeout_sec=LONGEST_WAIT)
        except (KeyboardInterrupt, ExternalShutdownException):
            break
        except Exception:  # from rclpy's own services; our callbacks are guarded
            _say(traceback.format_exc().rstrip())


def _say(text: str) -> None:
    """Write on standard error; that nobody can read it, or that its disk is full, ends nothing."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def _wake() -> None:
    """Give a waiting executor something to do, so that it looks at its stop flag."""
