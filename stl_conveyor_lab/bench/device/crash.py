# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Kill the process of the device, and see how long its items go without an answer."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from stl_conveyor.errors import ConveyorError
from stl_conveyor.msg import Classification, Heartbeat
from stl_conveyor.nodes.base.clock import to_ns
from stl_conveyor.nodes.base.keeper import QUICK_S
from stl_conveyor.nodes.base.middleware import join
from stl_conveyor.nodes.base.qos import make_profile
from stl_conveyor.nodes.base.topics import COMPOSED, Profile
from stl_conveyor.run.plan import composed_plan
from stl_conveyor.run.processes import Supervisor
from stl_conveyor.run.settings import DEVICE_PROCESS

PATIENCE_S = 60.0
RATE = 20.0  # pictures per second: the least that is told apart is a twentieth of a second


class DeviceIsNotBack(ConveyorError):
    """No item was answered in time."""


@dataclass(frozen=True)
class Comeback:
    """Seconds from the end of a process.

    Attributes:
        active: Until all nodes were active in the next one.
        answered: Until the first item that was captured after the end had its answer.
    """

    active: float
    answered: float


class _Probe:
    """Hears who lives and what is answered."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self.active: dict[str, int] = {}  # node -> number of its life, while it is active
        self.answered_ns = 0  # capture stamp of the newest item that was answered

    def on_heartbeat(self, message: Heartbeat) -> None:
        with self._news:
            if message.active:
                self.active[message.node.rpartition('/')[2]] = message.instance
            self._news.notify_all()

    def on_classification(self, message: Classification) -> None:
        with self._news:
            self.answered_ns = max(self.answered_ns, to_ns(message.header.stamp))
            self._news.notify_all()

    def wait(self, seen: Callable[[], bool]) -> float:
        """Wait until something is seen; return when it was (monotonic, s)."""
        with self._news:
            if not self._news.wait_for(seen, PATIENCE_S):
                raise DeviceIsNotBack(f'no answer in {PATIENCE_S:.0f} s; see the log')
            return time.monotonic()


def comebacks(pictures: Path, out: Path, count: int = 3) -> tuple[Comeback, ...]:
    """Kill the device some times, and measure each time how long it is away.

    It runs as it does by itself, with what looks after it; without link and edge.

    Args:
        pictures: Folder of pictures that it is shown again and again.
        out: Where the log goes.

    Raises:
        DeviceIsNotBack: If it does not come back.
    """
    own = {
        'source': 'folder',
        'folder': str(pictures),
        'rate': RATE,
        'repeat': True,
        'wait_for': ('classification', 'sort_outcome'),
    }
    journal = {'journal': str(out / 'actuator.journal')}
    given: Mapping[str, Mapping[str, object]] = {'camera': own, 'actuator': journal}
    plan = composed_plan({node: given.get(node, {}) for node in COMPOSED})
    words = tuple(word for word in plan.arguments if word != '--no-respawn')
    found = []
    with _probe() as probe, Supervisor(out / 'logs') as supervisor:
        supervisor.start(replace(plan, arguments=words))
        probe.wait(lambda: probe.answered_ns > 0 and len(probe.active) == len(COMPOSED))
        for _ in range(count):
            # One that lived shorter is started again later, on purpose.
            threading.Event().wait(QUICK_S)
            before = dict(probe.active)
            (worker,) = _children(supervisor.pid(DEVICE_PROCESS))
            killed, killed_ns = time.monotonic(), time.time_ns()
            os.kill(worker, signal.SIGKILL)
            answered = probe.wait(lambda: probe.answered_ns > killed_ns)
            active = probe.wait(
                lambda: all(probe.active[name] != life for name, life in before.items())
            )
            found.append(Comeback(active - killed, answered - killed))
    return tuple(found)


@contextmanager
def _probe() -> Iterator[_Probe]:
    context = join()
    node = rclpy.create_node('probe', context=context, use_global_arguments=False)
    probe = _Probe()
    node.create_subscription(
        Heartbeat, 'heartbeat', probe.on_heartbeat, make_profile(Profile.HEARTBEAT)
    )
    node.create_subscription(
        Classification, 'classification', probe.on_classification, make_profile(Profile.RESULT)
    )
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin() -> None:
        while context.ok():
            try:
                executor.spin_once(timeout_sec=1.0)
            except ExternalShutdownException:
                return

    thread = threading.Thread(target=spin, name='probe', daemon=True)
    thread.start()
    try:
        yield probe
    finally:
        rclpy.try_shutdown(context=context)
        thread.join(5.0)
        node.destroy_node()


def _children(pid: int) -> list[int]:
    """Return the processes that a process has started from its main thread."""
    text = Path(f'/proc/{pid}/task/{pid}/children').read_text(encoding='ascii')
    return [int(word) for word in text.split()]
