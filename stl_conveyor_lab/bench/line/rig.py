# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Real nodes on real DDS, a probe that hears all they say, and the time in which all happens."""

from __future__ import annotations

import secrets
import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Protocol

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from stl_conveyor.errors import ConveyorError, Level
from stl_conveyor.msg import Actuation, BeltState, Classification, ItemCapture, SortOutcome
from stl_conveyor.nodes.base.clock import to_stamp
from stl_conveyor.nodes.base.health import fault_of_status
from stl_conveyor.nodes.base.middleware import join
from stl_conveyor.nodes.base.runner import NodeRunner, NodeSpec
from stl_conveyor_lab.bench.line.account import Account, Heard

HEARD = {
    'capture': ItemCapture,
    'classification': Classification,
    'sort_outcome': SortOutcome,
    'actuation': Actuation,
    'belt_state': BeltState,
}
PATIENCE = 30.0  # s for a node to become active or for a subscription to be found
SAID_WITHIN = 2.0  # s in which a fault must be said, by the rules of the package
REPORT = 1.0  # s between two reports of a node: what is known is said by then


class CellIsNotUp(ConveyorError):
    """The nodes of a situation did not become active; what they said is in the message."""


class LineTime(Protocol):
    """The time of a situation, in seconds since its beginning."""

    simulated: bool

    def stamp_ns(self, seconds: float) -> int:
        """Return a time of the situation as ROS time (ns)."""

    def wait_until(self, seconds: float) -> None:
        """Let the time come."""

    def at(self, monotonic: float) -> float:
        """Return which time it was when the monotonic clock showed `monotonic`."""

    def now(self) -> float:
        """Return the present time."""


class RealTime:
    """Time as it is."""

    simulated = False

    def __init__(self, ros_now_ns: Callable[[], int]) -> None:
        """Begin now."""
        self._begin = time.monotonic()
        self._begin_ns = ros_now_ns()

    def stamp_ns(self, seconds: float) -> int:
        """Return a time of the situation as ROS time (ns)."""
        return self._begin_ns + round(seconds * 1e9)

    def wait_until(self, seconds: float) -> None:
        """Let the time come."""
        time.sleep(max(0.0, self._begin + seconds - time.monotonic()))

    def at(self, monotonic: float) -> float:
        """Return which time it was when the monotonic clock showed `monotonic`."""
        return monotonic - self._begin

    def now(self) -> float:
        """Return the present time."""
        return time.monotonic() - self._begin


class PlayedTime:
    """Time that the situation plays on /clock, no faster than `pace` says.

    The nodes run with use_sim_time: an hour in which the belt stands passes in seconds, and what
    is decided is decided by the nodes' own code with their own clock. No step is made before the
    nodes have seen the last one, so that a busy machine makes nothing late.
    """

    simulated = True
    BEGIN_NS = 1_000_000_000_000

    def __init__(
        self, tell_ns: Callable[[int], None], seen_ns: Callable[[], int], step: float = 0.004
    ) -> None:
        """Begin.

        Args:
            tell_ns: Publishes a ROS time (ns).
            seen_ns: Returns the ROS time (ns) that every node has seen.
            step: Seconds of played time between two messages.
        """
        self._tell_ns = tell_ns
        self._seen_ns = seen_ns
        self._step = step
        self.pace = 1.0
        self._now = 0.0
        self._track: list[tuple[float, float]] = []
        self._tell()

    def stamp_ns(self, seconds: float) -> int:
        """Return a time of the situation as ROS time (ns)."""
        return self.BEGIN_NS + round(seconds * 1e9)

    def wait_until(self, seconds: float) -> None:
        """Play on."""
        while self._now < seconds - 1e-9:
            step = min(self._step * max(1.0, self.pace), seconds - self._now)
            time.sleep(step / self.pace)
            self._now += step
            self._tell()

    def at(self, monotonic: float) -> float:
        """Return which time it was when the monotonic clock showed `monotonic`."""
        index = bisect_right(self._track, (monotonic, float('inf'))) - 1
        return self._track[max(0, index)][1]

    def now(self) -> float:
        """Return the present time."""
        return self._now

    def _tell(self) -> None:
        self._track.append((time.monotonic(), self._now))
        stamp_ns = self.stamp_ns(self._now)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self._tell_ns(stamp_ns)  # again, where the message was lost
            again = time.monotonic() + 0.2
            while time.monotonic() < again:
                if self._seen_ns() >= stamp_ns:
                    return
                time.sleep(0.0002)
        raise CellIsNotUp(f'the nodes did not see the time {stamp_ns} ns on /clock')


class Rig:
    """Nodes in this process and a probe, as a context manager.

    The nodes are reached by their topics and parameters alone; nothing in them is replaced.
    """

    def __init__(self, *specs: NodeSpec, played: bool = False) -> None:
        """Construct the nodes.

        Args:
            played: The nodes follow a /clock that the situation plays.
        """
        # Whoever else is in the domain is neither heard nor disturbed.
        self.cell = f'line_{secrets.token_hex(4)}'
        self.account = Account()
        self._played = played
        self._resources = ExitStack()
        self.began = time.monotonic()
        self._runner = NodeRunner([self._placed(spec) for spec in specs])
        self._stop = threading.Event()
        self._probe = Node(
            'probe', namespace=self.cell, context=self._runner.context, use_global_arguments=False
        )
        for topic, kind in HEARD.items():
            self._probe.create_subscription(
                kind, topic, lambda m, topic=topic: self.account.take(topic, m), 500
            )
        self._probe.create_subscription(DiagnosticArray, '/diagnostics', self._on_report, 500)
        self._executor = SingleThreadedExecutor(context=self._runner.context)
        self._executor.add_node(self._probe)
        self._thread = threading.Thread(target=self._spin, name='probe', daemon=True)
        self.time: LineTime

    def __enter__(self) -> Rig:
        """Start, and wait until every node is active and is heard.

        Raises:
            CellIsNotUp: Naming what the nodes said, if they did not become active.
        """
        self._thread.start()
        try:
            self._runner.start()
            self.began = time.monotonic()
            up = self.account.wait(self._is_up, PATIENCE)
            if not up:
                raise CellIsNotUp('; '.join(self.account.complaints()) or 'the nodes said nothing')
            if self._played:
                clock = self.publisher(Clock, '/clock', readers=len(self._runner.nodes))
                self.time = PlayedTime(
                    lambda time_ns: clock.publish(Clock(clock=to_stamp(time_ns))), self._seen_ns
                )
            else:
                self.time = RealTime(self.now_ns)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the nodes, then the probe."""
        self._resources.close()
        self._stop.set()
        self._executor.wake()
        self._thread.join(5.0)
        self._executor.remove_node(self._probe)
        self._probe.destroy_node()
        self._executor.shutdown(timeout_sec=0)
        self._runner.stop()

    def now_ns(self) -> int:
        """Return the present ROS time of a node without use_sim_time."""
        return self._probe.get_clock().now().nanoseconds

    def publisher(
        self, kind: type, topic: str, *, reliable: bool = True, depth: int = 50, readers: int = 1
    ) -> Publisher:
        """Return a publisher that so many readers have found; 0 = nobody is awaited."""
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        publisher: Publisher = self._probe.create_publisher(
            kind, topic, QoSProfile(depth=depth, reliability=reliability)
        )
        self.account.wait(lambda: publisher.get_subscription_count() >= readers, PATIENCE)
        return publisher

    def stranger(self, kind: type, topic: str) -> Publisher:
        """Return a publisher of another participant, which may have another type than ours.

        Within one participant the middleware lets a topic have one type only. The other
        participant is there when this returns: how long the middleware takes to find it is not
        what a situation asks.
        """
        context = join()
        self._resources.callback(rclpy.try_shutdown, context=context)
        node = Node('stranger', namespace=self.cell, context=context, use_global_arguments=False)
        self._resources.callback(node.destroy_node)
        publisher: Publisher = node.create_publisher(kind, topic, 50)
        full_name = node.resolve_topic_name(topic)
        self.account.wait(lambda: self._probe.count_publishers(full_name), PATIENCE)
        return publisher

    def listen(self, kind: type, topic: str, callback: Callable[[Any], None]) -> None:
        """Have a callback take what comes on another topic, in the probe's thread."""
        self._probe.create_subscription(kind, topic, callback, 50)

    def wait(self, predicate: Callable[[], Any], seconds: float) -> Any:
        """Wait until something is true of the account; return what it was last."""
        return self.account.wait(predicate, seconds)

    def captures(self) -> list[ItemCapture]:
        """Return the captures so far."""
        return [heard.message for heard in self.account.of('capture')]

    def outcomes(self) -> list[SortOutcome]:
        """Return the outcomes so far."""
        return [heard.message for heard in self.account.of('sort_outcome')]

    def strokes(self) -> list[Heard]:
        """Return the messages about strokes so far."""
        return self.account.of('actuation')

    def _seen_ns(self) -> int:
        return min(node.get_clock().now().nanoseconds for node in self._runner.nodes)

    def _placed(self, spec: NodeSpec) -> NodeSpec:
        clock = {'use_sim_time': True} if self._played else {}
        return replace(spec, parameters={**spec.parameters, **clock}, namespace=self.cell)

    def _is_up(self) -> bool:
        nodes = self._runner.nodes
        heard = {node.get_name() for node in nodes if self._found(node)}
        return len(heard) == len(nodes) and all(node.is_active for node in nodes)

    def _found(self, node: Any) -> bool:
        return any(word.node.endswith(node.get_name()) for word in self.account.words)

    def _on_report(self, array: DiagnosticArray) -> None:
        for status in array.status:
            cell, _, node = status.name.partition('/')
            if cell != self.cell or fault_of_status(status.name):
                continue  # the node's own status tells of its faults, too
            self.account.say(
                node,
                Level(status.level[0]),
                status.message,
                {item.key: item.value for item in status.values},
            )

    def _spin(self) -> None:
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.2)


def said_after(
    rig: Rig, node: str, since: float, *texts: str, there: float = 0.0
) -> tuple[float | None, str]:
    """Return how long (s) after a monotonic time a node first complained, and that in words.

    Args:
        texts: Of which the complaint must contain one; none = any complaint.
        there: When its cause could be seen, if that was later.
    """
    word = rig.account.first_word(node, *texts, since=since)
    if word is None:
        return None, 'nothing said'
    after = max(0.0, word.time - max(since, there))
    return after, f'said after {after:.1f} s'
