# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run nodes: one as a process, or several in this process, each group with its executor."""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.task import Future

from stl_conveyor.errors import ConfigError, Level
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.ending import take_ending
from stl_conveyor.nodes.base.middleware import join
from stl_conveyor.nodes.base.priority import begin_session, prioritise_process, prioritise_thread
from stl_conveyor.nodes.base.refused_node import REFUSED_BY_ROS, refused_node
from stl_conveyor.nodes.base.shared_memory import PortWatch, joining, opened_here, remove_orphans
from stl_conveyor.nodes.base.topics import ONLOOKERS
from stl_conveyor.outside_files import read_yaml
from stl_conveyor.parameter_files import names_for

PORTS_PERIOD = 2.0  # s between looks at the ports in shared memory
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
        self.context = join(domain_id=domain_id)
        self._stop = _Stop()
        self._spinners: dict[tuple[str, str], _Spinner] = {}
        self._started = False
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
        kind = node.settings.executor
        spinner = self._spinners.get((spec.group, kind))
        if spinner is None:
            executor = make_executor(kind, self.context)
            spinner = _Spinner(spec.group, executor, self._stop, self._stopped_working)
            self._spinners[spec.group, kind] = spinner
        spinner.add(node)

    def spin_also(self, name: str, executor: Executor) -> None:
        """Have another executor of this context spin in a thread of its own, from the start on."""
        self._spinners[name, ''] = _Spinner(name, executor, self._stop, self._stopped_working)

    def _stopped_working(self, _: Sequence[ConveyorNode]) -> None:
        self._stop.set()  # one alone cannot do the work of all

    def node(self, name: str) -> ConveyorNode:
        """Return the first node with this name."""
        return next(node for node in self.nodes if node.get_name() == name)

    def start(self) -> None:
        """Spin every group in a thread of its own."""
        tune_garbage_collection()
        if len(self._spinners) > 1:
            share_the_interpreter()
        for spinner in self._spinners.values():
            spinner.start()
        self._started = True

    @property
    def is_running(self) -> bool:
        """Return whether every executor still spins."""
        return self._started and not self._stop.is_set()

    def stop(self) -> None:
        """Stop spinning, deactivate the nodes in order, and leave the graph."""
        self._stop.set()
        _close(tuple(self._spinners.values()), self.nodes, patience=2.0)
        self._started = False
        self.nodes, self._spinners = [], {}
        rclpy.try_shutdown(context=self.context)
        _free_nodes()

    def __enter__(self) -> NodeRunner:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()


def run_node(node_class: type[ConveyorNode], arguments: Sequence[str] | None = None) -> int:
    """Run a node until SIGINT or SIGTERM and return the process's exit code; see `run_nodes`."""
    return run_nodes({node_class: ''}, arguments)


def run_nodes(
    groups: Mapping[type[ConveyorNode], str],
    arguments: Sequence[str] | None = None,
    *,
    restarted: str = '',
) -> int:
    """Run nodes until SIGINT or SIGTERM and return the process's exit code.

    A node whose parameters cannot be used is not started: that is said on standard error and on
    /diagnostics, and tried again every few seconds with what its parameter files hold by then. So
    a wrong setting is one that waits for its correction, as a missing model is, and nobody has to
    start the process again and again.

    The signals are handled here and not by rclpy, because a node has outcomes and accounts to
    publish before the context goes.

    Args:
        groups: Nodes, in the order in which they are deactivated; those with the same text share
            an executor and its thread, so that none of them runs while another one computes.
        arguments: Those of the process; None: those of the command line.
        restarted: How the process before this one ended, where one crashed.

    Returns:
        0 after a signal, or what a node ended with; 1 when an executor came to an end by itself; 2
        when no node was ever started.
    """
    begin_session()
    stop = _Stop()
    signals = take_ending(stop.set)
    remove_orphans()
    host = _Host(arguments, stop)
    said: dict[str, str] = {}
    try:
        waiting = dict(groups)
        while not stop.is_set():
            refused = host.bring(waiting)
            if restarted:
                host.warn('process_restarted', f'{restarted}: the process was started again')
                restarted = ''
            waiting = {node_class: groups[node_class] for node_class in refused}
            if not refused:
                stop.wait()
                break
            for node_class, text in refused.items():
                name = node_class.NAME
                if said.get(name) != text:
                    _say(f'{name}: {text}')
                    _say(f'{name}: waits, and tries again every {REFUSED_PERIOD:.0f} s')
                said[name] = text
            if _wait_refused(refused, arguments, stop):
                break
        return host.exit_code
    finally:
        host.close()
        # `ros2 launch` passes on a Ctrl-C that the terminal has sent already. While the
        # interpreter ends its handlers are gone, and a second signal would look like a crash.
        signals.close(ignoring=True)


class _Host:
    """The nodes of a process with their contexts, executors and threads."""

    def __init__(self, arguments: Sequence[str] | None, stop: threading.Event) -> None:
        """Run nothing yet; `stop` ends the process, and is set when a node asks for that."""
        self._arguments = arguments
        self._stop = stop
        self._contexts: list[Context] = []
        self._nodes: list[ConveyorNode] = []
        self._spinners: list[_Spinner] = []
        self._exit_code: int | None = None
        self._ports: threading.Thread | None = None

    @property
    def exit_code(self) -> int:
        """Return with what the process ends."""
        if self._exit_code is not None:
            return self._exit_code
        return 0 if self._nodes else 2

    def bring(self, groups: Mapping[type[ConveyorNode], str]) -> dict[type[ConveyorNode], str]:
        """Construct nodes and spin them; return those whose parameters cannot be used, and why."""
        try:
            context = join(arguments=self._arguments)
        except REFUSED_BY_ROS as error:
            return dict.fromkeys(groups, str(error))
        words = sys.argv[1:] if self._arguments is None else self._arguments
        read = functools.cache(read_yaml)  # once for all nodes
        refused: dict[type[ConveyorNode], str] = {}
        brought: dict[tuple[str, str], list[ConveyorNode]] = {}
        for node_class, group in groups.items():
            try:
                with joining():
                    node = node_class(
                        context=context, meant_parameters=names_for(words, node_class.NAME, read)
                    )
            except (ConfigError, *REFUSED_BY_ROS) as error:
                refused[node_class] = str(error)
                continue
            node.on_end = self._end
            brought.setdefault((group, node.settings.executor), []).append(node)
        if not brought:
            rclpy.try_shutdown(context=context)
            return refused
        self._contexts.append(context)
        new = [node for nodes in brought.values() for node in nodes]
        self._nodes += new
        tune_garbage_collection()
        if len(brought) > 1:
            share_the_interpreter()
        trouble = prioritise_process(
            min(node.settings.niceness for node in self._nodes),
            looks_on=all(node.NAME in ONLOOKERS for node in self._nodes),
        )
        for (group, kind), nodes in brought.items():
            executor = make_executor(kind, context)
            spinner = _Spinner(group, executor, self._stop, self._stopped_working, trouble)
            for node in nodes:
                spinner.add(node)
            self._spinners.append(spinner)
            spinner.start()
        if self._ports is None:
            self._ports = threading.Thread(target=self._watch_ports, name='ports', daemon=True)
            self._ports.start()
        return refused

    def warn(self, name: str, message: str) -> None:
        """Have every node report an event."""
        for node in self._nodes:
            node.warn(name, message)

    def close(self) -> None:
        """Stop spinning, deactivate the nodes in order, and leave the graph."""
        self._stop.set()
        if self._ports is not None:
            self._ports.join(1.0)
        opened = opened_here()
        _close(self._spinners, self._nodes, patience=1.0)
        for context in self._contexts:
            rclpy.try_shutdown(context=context)
        # The middleware leaves its shared memory behind, and now and then a lock in it that others
        # wait for, unless it goes before the interpreter does: with the last reference to it.
        self._spinners, self._nodes, self._contexts = [], [], []
        _free_nodes()
        remove_orphans(opened)

    def _watch_ports(self) -> None:
        watch = PortWatch()
        while not self._stop.wait(PORTS_PERIOD):
            say_stale_ports(watch.stale(time.monotonic()), self._nodes)

    def _stopped_working(self, nodes: Sequence[ConveyorNode]) -> None:
        if not self._stop.is_set():
            names = ', '.join(node.NAME for node in nodes)
            _say(f'{names}: stopped working, and nobody asked for that')
            self._end(STOPPED_WORKING)

    def _end(self, exit_code: int) -> None:
        if self._exit_code is None:
            self._exit_code = exit_code
        self._stop.set()


def say_stale_ports(ports: Sequence[str], nodes: Iterable[ConveyorNode]) -> None:
    """Have nodes say that what their process sends through some ports reaches nobody."""
    for node in nodes:
        if ports:
            node.set_condition(
                'stale_port',
                Level.ERROR,
                f'stale_port: what this process sends through {", ".join(ports)} in shared memory '
                'does not reach the process that listens there, since that was started again; '
                'start this one again, too',
            )
        else:
            node.clear_condition('stale_port', 'everybody on this machine is reached again')


def _wait_refused(
    refused: Mapping[type[ConveyorNode], str],
    arguments: Sequence[str] | None,
    stop: threading.Event,
) -> bool:
    """Say on /diagnostics, until it is tried again, why nodes are not started.

    Returns:
        Whether the process is to end.
    """
    with contextlib.ExitStack() as stack:
        reports: list[Callable[[], None]] = []
        for node_class, text in refused.items():
            with contextlib.suppress(ConfigError, *REFUSED_BY_ROS):
                # Else the arguments make no node at all.
                reports.append(stack.enter_context(refused_node(node_class.NAME, arguments, text)))
        for _ in range(REFUSED_PERIOD):
            for report in reports:
                report()
            if stop.wait(1.0):
                return True
    return False


def tune_garbage_collection() -> None:
    """Take what is loaded by now out of the collector's sight, and let it run less often.

    A full collection over the imported modules takes tens of milliseconds, which is a missed
    deadline; what messages leave behind is freed by reference counts.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def share_the_interpreter() -> None:
    """Let a busy thread of several run for 1 ms, and not Python's 5, before another one's turn."""
    sys.setswitchinterval(0.001)


def make_executor(kind: str = 'auto', context: Context | None = None) -> Executor:
    """Return what calls the callbacks of nodes, one after the other (docs/architecture.md).

    Args:
        kind: `events` = rclpy's EventsExecutor, which the middleware calls when something comes;
            `wait_set` = its SingleThreadedExecutor, which makes a list of all that a node has for
            every message; `auto` = events where this rclpy has it.

    Raises:
        ConfigError: If this rclpy does not have it.
    """
    if kind == 'wait_set':
        return SingleThreadedExecutor(context=context)
    try:
        from rclpy.experimental.events_executor import EventsExecutor
    except ImportError as error:
        if kind == 'auto':
            return SingleThreadedExecutor(context=context)
        raise ConfigError(
            'executor: events is not to be had from this rclpy, it comes with Kilted; choose auto '
            'or wait_set'
        ) from error
    # It turns on faulthandler, which takes the real standard error only, and not one in its place.
    with contextlib.redirect_stderr(sys.__stderr__):
        return EventsExecutor(context=context)


class _Spinner:
    """An executor, its nodes and its thread."""

    def __init__(
        self,
        name: str,
        executor: Executor,
        stop: threading.Event,
        on_end: Callable[[Sequence[ConveyorNode]], None],
        trouble: str = '',
    ) -> None:
        """Be ready for nodes.

        Args:
            on_end: Called with the nodes when the executor has come to an end.
            trouble: What keeps the priority of the process from acting.
        """
        self._executor = executor
        self._stop = stop
        self._on_end = on_end
        self._trouble = trouble
        self._nodes: list[ConveyorNode] = []
        self._thread = threading.Thread(
            target=self._spin, name=f'executor {name}'.strip(), daemon=True
        )

    def add(self, node: ConveyorNode) -> None:
        """Take in a node, before the start."""
        self._nodes.append(node)
        self._executor.add_node(node)

    def start(self) -> None:
        """Spin in a thread of its own: the executor blocks where no signal handler runs."""
        self._thread.start()

    def wake(self) -> None:
        """Give the executor something to do, so that it looks whether it is to stop."""
        self._executor.create_task(_nothing)

    def join(self, patience: float) -> None:
        """Wait for the end of the thread, at most so long (s)."""
        if self._thread.ident is not None:
            self._thread.join(timeout=patience)

    def shutdown(self) -> None:
        """Let go of the nodes."""
        self._executor.shutdown(timeout_sec=0)

    def _prioritise(self) -> None:
        if not self._nodes:
            return
        niceness = min(node.settings.niceness for node in self._nodes)
        realtime = max(node.settings.realtime_priority for node in self._nodes)
        said, refused = prioritise_thread(niceness, realtime)
        if self._trouble and not realtime:
            said += f'; {self._trouble}'
        for node in self._nodes:
            node.health.set_value('niceness', said)
            if 'realtime_priority' in refused:
                # Somebody asked for it; the niceness is a default that not every system permits.
                node.set_condition(
                    'realtime_priority',
                    Level.WARN,
                    f'realtime_priority: {refused["realtime_priority"]}',
                )

    def _spin(self) -> None:
        try:
            self._prioritise()
            for node in self._nodes:
                node.turn.taken_by_this_thread()
            _spin(self._executor, self._stop)
        finally:
            self._on_end(self._nodes)


def _close(
    spinners: Sequence[_Spinner], nodes: Iterable[ConveyorNode], *, patience: float
) -> None:
    """Stop spinning, then deactivate the nodes in order, while they can still publish.

    Args:
        patience: Seconds that each spinner has for its present callback.
    """
    for spinner in spinners:
        spinner.wake()
    for spinner in spinners:
        spinner.join(patience)
    for node in nodes:
        node.close()
    for spinner in spinners:
        spinner.shutdown()


def _free_nodes() -> None:
    """Free the nodes that nobody holds any more, and with them their DDS participants.

    A node is a cycle of objects; frozen, it would keep its participant for ever, and Fast DDS
    finds no more than 32 of them on a machine. Now and then, on a busy machine, one collection
    frees a few objects alone, and only the next one the nodes.
    """
    gc.unfreeze()
    for _ in range(2):
        gc.collect()


def _nothing() -> None:
    """Do nothing; see `_Spinner.wake`."""


def _spin(executor: Executor, stop: threading.Event) -> None:
    """Call back until `stop` is set, or the context has gone."""
    while not stop.is_set() and executor.context.ok():
        try:
            if isinstance(stop, _Stop) and not isinstance(executor, SingleThreadedExecutor):
                # An EventsExecutor comes back from `spin_once` after every event, and spends as
                # much on that as on the event.
                executor.spin_until_future_complete(stop.future(), timeout_sec=LONGEST_WAIT)
            else:
                executor.spin_once(timeout_sec=LONGEST_WAIT)
        except (KeyboardInterrupt, ExternalShutdownException):
            break
        except Exception:  # from rclpy's own services; our callbacks are guarded
            _say(traceback.format_exc().rstrip())


class _Stop(threading.Event):
    """An event that completes the futures, too, for which executors spin."""

    def __init__(self) -> None:
        """Not be set."""
        super().__init__()
        self._futures: dict[int, Future[None]] = {}  # by thread, the latest

    def future(self) -> Future[None]:
        """Return a future of the calling thread that is done as soon as the event is set."""
        future: Future[None] = Future()
        self._futures[threading.get_ident()] = future
        if self.is_set():
            future.set_result(None)
        return future

    def set(self) -> None:
        """Set the event."""
        super().set()
        for future in list(self._futures.values()):
            if not future.done():
                future.set_result(None)


def _say(text: str) -> None:
    """Write on standard error; that nobody can read it, or that its disk is full, ends nothing."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)
