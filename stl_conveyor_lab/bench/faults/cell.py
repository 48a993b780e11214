# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A cell of real node processes without physics, and an exact account of each item."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from stl_conveyor.cell.deadline import sorting_deadline
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.cell.sender import StopReason
from stl_conveyor.errors import ConveyorError
from stl_conveyor.msg import FeatureFeedback, ItemCapture, OffloadDecision, SortOutcome
from stl_conveyor.nodes.base.clock import to_ns
from stl_conveyor.nodes.base.middleware import join
from stl_conveyor.nodes.base.topics import TOPICS
from stl_conveyor.resources import share_path
from stl_conveyor.run.plan import READERS, process_plan
from stl_conveyor.run.processes import ProcessPlan, Supervisor
from stl_conveyor.run.settings import NODES
from stl_conveyor_lab.bench.faults.clock import CellClock
from stl_conveyor_lab.bench.faults.pictures import Picture
from stl_conveyor_lab.bench.faults.tally import Item, Values, Word
from stl_conveyor_lab.bench.line.frames import frame

PATIENCE = 120.0  # s for all nodes to be active
RESPAWN = 1.0  # s after which a process that ended is started again, as launch does
REPORT = 0.5  # s between two reports of a node
STILL = 0.9  # s after which it is noted that a node says the same as before
CELL = CellDescription.load(share_path('config/cell.yaml'))
#: Every item is offloaded, so that every part of the cell has to do with it.
PARAMETERS: Mapping[str, Mapping[str, object]] = {
    'offload_policy': {'policy': 'always', 'rate': 4.0, 'depth': 8.0},
    'actuator': {'confirm_timeout': 0.0},
    'link_emulator': {'link': 'unlimited'},
}
_HEARD = {topic.name for topic in TOPICS if set(topic.subscribers) & set(NODES)}
#: Node → topics to which another node of the cell must listen before anything is shown.
READY = {node: _HEARD & set(READERS[node]) for node in NODES if node in READERS}


#: Who has to do with whether the edge answers an item; what they report is kept.
ON_THE_WAY = ('offload_policy', 'encoder', 'link_emulator', 'edge_classifier')
REASONS = {
    getattr(OffloadDecision, name): name.removeprefix('REASON_').lower()
    for name in dir(OffloadDecision)
    if name.startswith('REASON_')
}
STOPS = {int(reason): reason.name.lower() for reason in StopReason}


class CellIsNotUp(ConveyorError):
    """The processes did not become active; what they wrote is in the message."""


class FaultCell:
    """Processes that are started, killed, frozen and watched; a context manager.

    Attributes:
        items: What was shown, in order.
        words: What the nodes said.
    """

    def __init__(self, folder: Path, pictures: Sequence[Picture], clock: CellClock | None) -> None:
        """Prepare.

        Args:
            folder: Where the logs go.
            clock: Of the processes; None = that of the machine.
        """
        self.folder = folder
        self.items: list[Item] = []
        self.words: list[Word] = []
        self._pictures = pictures
        self._clock = clock
        self._said: dict[str, Word] = {}
        self._by_stamp: dict[int, Item] = {}
        self._values: dict[str, dict[str, str]] = {}
        self._changed = threading.Condition()
        self._kept_down: set[str] = set()
        self._due: dict[str, float] = {}
        self.starts: dict[str, int] = {}
        self._stop = threading.Event()
        self._resources = ExitStack()
        self.supervisor = Supervisor(folder / 'logs')

    def __enter__(self) -> FaultCell:
        """Start everything, and wait until all of it works.

        Raises:
            CellIsNotUp: If it does not.
        """
        try:
            self._open_probe()
            self._resources.enter_context(self.supervisor)
            for node in NODES:
                self.start(node)
            self._thread(self._respawn, 'respawn')
            if not self.wait(self.is_up, PATIENCE):
                raise CellIsNotUp(f'not active: {self.not_up()}')
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End everything."""
        self._stop.set()
        self._resources.close()

    def _open_probe(self) -> None:
        context = join()
        self._resources.callback(rclpy.try_shutdown, context=context)
        self._probe = Node('probe', context=context, use_global_arguments=False)
        self._resources.callback(self._probe.destroy_node)
        deep = QoSProfile(depth=500)
        self._probe.create_subscription(DiagnosticArray, '/diagnostics', self._on_report, deep)
        self._probe.create_subscription(ItemCapture, 'capture', self._on_capture, deep)
        self._probe.create_subscription(SortOutcome, 'sort_outcome', self._on_outcome, deep)
        self._probe.create_subscription(
            OffloadDecision, 'offload_decision', self._on_decision, deep
        )
        self._probe.create_subscription(FeatureFeedback, 'transfer', self._on_transfer, deep)
        self._frames = self._probe.create_publisher(Image, 'camera/image_raw', 16)
        self._link = AsyncParameterClient(self._probe, 'link_emulator')
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(self._probe)

        def spin() -> None:
            while not self._stop.is_set():
                executor.spin_once(timeout_sec=0.2)

        self._thread(spin, 'probe')

    def _thread(self, work: Any, name: str) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        self._resources.callback(thread.join, 5.0)

    # Processes.

    def plan(self, node: str, changes: Mapping[str, object] | None = None) -> ProcessPlan:
        """Return how a node is started."""
        plan = process_plan(
            node, {'diagnostics_period': REPORT, **PARAMETERS.get(node, {}), **(changes or {})}
        )
        environment = dict(self.clock_environment)
        environment['ROS_LOG_DIR'] = str(self.folder / 'logs' / 'ros')
        return ProcessPlan(plan.name, plan.arguments, plan.prefix, environment)

    @property
    def clock_environment(self) -> Mapping[str, str]:
        """Return the variables of a process that has the cell's clock."""
        return self._clock.environment if self._clock else {}

    def start(
        self, node: str, name: str = '', changes: Mapping[str, object] | None = None
    ) -> None:
        """Start a node's process, under another name if there is one already."""
        plan = self.plan(node, changes)
        name = name or node
        self.starts[name] = self.starts.get(name, 0) + 1
        self.supervisor.start(ProcessPlan(name, plan.arguments, plan.prefix, plan.environment))

    def kill(self, name: str, again: bool = True) -> None:
        """Kill a process, which is started again after a while if that is wanted."""
        if not again:
            self._kept_down.add(name)
        self.supervisor.kill(name)

    def end(self, name: str) -> None:
        """End a process in order, for good."""
        self._kept_down.add(name)
        self.supervisor.send_signal(name, signal.SIGTERM)

    def freeze(self, name: str) -> None:
        """Stop a process; it is there and does nothing."""
        self.supervisor.send_signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let it go on."""
        self.supervisor.send_signal(name, signal.SIGCONT)

    def _respawn(self) -> None:
        while not self._stop.wait(0.05):
            for name, _ in self.supervisor.dead():
                if name in self._kept_down:
                    continue
                due = self._due.setdefault(name, time.monotonic() + RESPAWN)
                if time.monotonic() >= due:
                    del self._due[name]
                    self.starts[name] = self.starts.get(name, 0) + 1
                    self.supervisor.restart(name)

    def set_link(self, **parameters: object) -> None:
        """Set parameters of link_emulator, which need not answer."""
        self._link.set_parameters(
            [Parameter(name, value=value) for name, value in parameters.items()]
        )

    # Items.

    def show(self) -> Item:
        """Show the next item to the camera."""
        picture = self._pictures[len(self.items) % len(self._pictures)]
        stamp_ns = self._clock.now_ns() if self._clock else time.time_ns()
        way = (sorting_deadline(stamp_ns, CELL) - stamp_ns) / 1e9
        now = time.monotonic()
        item = Item(now, now + way, picture.lane)
        with self._changed:
            self.items.append(item)
            self._by_stamp[stamp_ns] = item
        self._frames.publish(frame(picture.image, stamp_ns))
        return item

    def _on_capture(self, message: ItemCapture) -> None:
        self._note(message, lambda item: setattr(item, 'captured', True))

    def _on_outcome(self, message: SortOutcome) -> None:
        def note(item: Item) -> None:
            if not item.lanes:
                item.missed = bool(message.missed)
                item.by_edge = message.source == SortOutcome.SOURCE_EDGE
            item.lanes.append(str(message.lane))

        self._note(message, note)

    def _on_decision(self, message: OffloadDecision) -> None:
        def note(item: Item) -> None:
            reason = 'offloaded' if message.offload else REASONS.get(message.reason, 'unknown')
            item.decided = item.decided or reason

        self._note(message, note)

    def _on_transfer(self, message: FeatureFeedback) -> None:
        def note(item: Item) -> None:
            if not item.stopped:
                item.stopped = STOPS.get(message.stop_reason, 'unknown')
                item.packets = message.packets

        self._note(message, note)

    def _note(self, message: Any, note: Any) -> None:
        with self._changed:
            item = self._by_stamp.get(to_ns(message.header.stamp))
            if item is not None:
                note(item)
            self._changed.notify_all()

    def _on_report(self, array: DiagnosticArray) -> None:
        now = time.monotonic()
        with self._changed:
            for status in array.status:
                word = Word(now, status.name, status.level[0], status.message)
                self._say(word)
                self._values[status.name] = {each.key: each.value for each in status.values}
                self._values[status.name]['heard'] = str(now)
            self._changed.notify_all()

    def _say(self, word: Word) -> None:
        """Keep what is new, and now and then what still holds."""
        before = self._said.get(word.node)
        if (
            before is None
            or (before.level, before.message) != (word.level, word.message)
            or word.time - before.time > STILL
        ):
            self._said[word.node] = word
            self.words.append(word)

    def values(self) -> list[Values]:
        """Return what those on the way to the edge and back reported last."""
        now = time.monotonic()
        with self._changed:
            return [
                Values(now, node, dict(self._values[node]))
                for node in ON_THE_WAY
                if node in self._values
            ]

    def publishers(self, topic: str) -> int:
        """Return how many publish a topic."""
        found: int = self._probe.count_publishers(topic)
        return found

    # Waiting.

    def wait(self, predicate: Any, seconds: float) -> Any:
        """Wait until something is true, at most for some seconds; return what it was last."""
        end = time.monotonic() + seconds
        with self._changed:
            while not (result := predicate()) and time.monotonic() < end:
                self._changed.wait(0.1)
        return result

    def is_up(self) -> bool:
        """Return whether every node is active, and has found those who listen to it."""
        return not self.not_up()

    def not_up(self) -> list[str]:
        """Return the nodes that are not active, or whose listeners are not all there."""
        found = []
        now = time.monotonic()
        for node, topics in READY.items():
            values = self._values.get(node, {})
            if (
                values.get('state') != 'active'
                or now - float(values['heard']) > 4 * REPORT
                or not all(_listeners(values, topic) for topic in topics)
            ):
                found.append(node)
        if self._values.get('offload_policy', {}).get('edge_alive') != 'True':
            found.append('edge')
        return found


def _listeners(values: Mapping[str, str], topic: str) -> int:
    return int(values.get(f'/{topic}.subscribers', 0))
