# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Say again what a recording holds; `stl-conveyor replay`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.serialization import deserialize_message, serialize_message
from rosgraph_msgs.msg import Clock

from stl_conveyor.errors import ConfigError
from stl_conveyor.nodes.base.clock import clock_ns, to_stamp
from stl_conveyor.nodes.base.middleware import join
from stl_conveyor.nodes.base.qos import class_of, make_profile
from stl_conveyor.nodes.base.topics import RECORDED, Profile, full_name
from stl_conveyor.recording.playback import TimeMap, messages, move_times, recorded_topics

CLOCK = '/clock'
REPORTS = '/diagnostics'  # every node has its own there, told apart by their names
LOOK_S = 0.05  # between two looks at the graph
# So many times as long a graph must stay as it is before it is believed that nobody is there: on a
# busy machine the others may take that long to be found.
EMPTY_FACTOR = 5.0
LONGEST_FACTOR = 10.0  # after which a graph that never stays as it is is taken as it is
CLOCK_S = 0.02  # between two messages on /clock, at the least


@dataclass(frozen=True)
class Replay:
    """What is to be played, and how.

    Attributes:
        topics: Names in the cell; empty: those that nobody publishes, and of the reports on
            /diagnostics those of nodes that are not here.
        namespace: In place of the recorded one; None: as recorded.
        rate: How many seconds of the recording pass in one.
        loop: Begin again at the end, until it is stopped.
        clock: Leave the stamps as they are, and publish /clock, for nodes with `use_sim_time`.
        patience: Seconds in which nobody comes or goes, before who publishes is believed; that
            nobody is there at all is believed after five times as long.
    """

    file: Path
    topics: tuple[str, ...] = ()
    namespace: str | None = None
    rate: float = 1.0
    loop: bool = False
    clock: bool = False
    patience: float = 2.0


def renamed(topic: str, recorded: str, namespace: str | None) -> str:
    """Return a topic's name in another namespace.

    Args:
        topic: Its full name.
        recorded: Namespace in which it was recorded.
        namespace: None: it stays.

    Examples:
        >>> renamed('/line_1/capture', '/line_1', 'test'), renamed('/clock', '/line_1', 'test')
        ('/test/capture', '/clock')
    """
    before = recorded.rstrip('/') + '/'
    if namespace is None or topic in ABSOLUTE or not topic.startswith(before):
        return topic
    return full_name(namespace, topic[len(before) :])


ABSOLUTE = tuple(topic.name for topic in RECORDED if topic.name.startswith('/'))


class Replayer:
    """Publishes what a recording holds at the times at which it came."""

    def __init__(
        self,
        replay: Replay,
        *,
        domain_id: int | None = None,
        say: Callable[[str], None] = print,
        stop: threading.Event | None = None,
    ) -> None:
        """Look at the file.

        Raises:
            ConfigError: If it is no recording, or has none of the topics.
        """
        self._replay, self._say = replay, say
        self.stop = stop or threading.Event()
        self.published = 0
        self._publishers: dict[str, Publisher] = {}
        self._here: frozenset[str] = frozenset()  # nodes that report on themselves
        if not 0.01 <= replay.rate <= 100:
            raise ConfigError(f'--rate {replay.rate:g}: it is 0.01 to 100')
        self._types = recorded_topics(replay.file)
        self._namespace = self._recorded_namespace()
        self._context = join(domain_id=domain_id)
        self._node: Node = rclpy.create_node(
            'replayer', context=self._context, use_global_arguments=False
        )

    def close(self) -> None:
        """Leave the graph."""
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def run(self) -> int:
        """Play to the end, or until `stop` is set; return how many messages were published.

        Raises:
            ConfigError: If there is nothing to play.
        """
        self._settle()
        self._here = frozenset(
            full_name(each.node_namespace, each.node_name).lstrip('/')
            for each in self._node.get_publishers_info_by_topic(REPORTS)
        )
        chosen = self._chosen()
        publishers = self._publishers = {topic: self._publisher(topic) for topic in chosen}
        clock: Publisher | None = None
        if self._replay.clock:
            clock = self._node.create_publisher(Clock, CLOCK, make_profile(Profile.SENSOR))
        self._say(
            'plays ' + ', '.join(sorted(publisher.topic for publisher in publishers.values()))
        )
        self._settle()
        while not self.stop.is_set():
            self._play(publishers, clock)
            if not self._replay.loop:
                break
        for publisher in publishers.values():
            publisher.wait_for_all_acked()
        return self.published

    def _settle(self) -> None:
        """Wait until the nodes have found each other."""
        patience = self._replay.patience
        names = [renamed(topic, self._namespace, self._replay.namespace) for topic in self._types]
        begun = still_since = time.monotonic()
        seen: list[tuple[int, int, int]] = []
        while not self.stop.wait(LOOK_S):
            ends = [self._others(name) for name in names]
            now = time.monotonic()
            if ends != seen:
                seen, still_since = ends, now
            enough = patience if any(map(any, ends)) else EMPTY_FACTOR * patience
            if now - still_since >= enough or now - begun >= LONGEST_FACTOR * patience:
                return

    def _others(self, name: str) -> tuple[int, int, int]:
        """Return the publishers and subscribers of a topic, and the subscribers that are reached.

        Without this node's own.
        """
        own = [each for each in self._publishers.values() if each.topic == name]
        return (
            self._node.count_publishers(name) - len(own),
            self._node.count_subscribers(name),
            sum(publisher.get_subscription_count() for publisher in own),
        )

    def _play(self, publishers: dict[str, Publisher], clock: Publisher | None) -> None:
        begun: float | None = None
        said_s = 0.0
        kinds = {topic: _message_class(self._types[topic]) for topic in publishers}
        for said in messages(self._replay.file, list(publishers)):
            if begun is None:
                begun = time.monotonic()
                first_ns = said.time_ns
                times = TimeMap(first_ns, clock_ns(self._node.get_clock()), self._replay.rate)
            due = (said.time_ns - first_ns) / 1e9 / self._replay.rate
            while (left := begun + due - time.monotonic()) > 0:
                if clock is not None and time.monotonic() - said_s > CLOCK_S:
                    said_s = time.monotonic()
                    at = first_ns + round((said_s - begun) * self._replay.rate * 1e9)
                    clock.publish(Clock(clock=to_stamp(at)))
                if self.stop.wait(min(left, CLOCK_S if clock is not None else 1.0)):
                    return
            data = said.data
            if clock is None or said.topic == REPORTS:
                message = deserialize_message(data, kinds[said.topic])
                if said.topic == REPORTS and self._is_of_one_here(message):
                    continue
            if clock is None:
                move_times(message, times.moved)
                data = serialize_message(message)
            else:
                clock.publish(Clock(clock=to_stamp(said.time_ns)))
            publishers[said.topic].publish(data)
            self.published += 1
            if self.stop.is_set():
                return

    def _is_of_one_here(self, report: DiagnosticArray) -> bool:
        """Return whether a report is that of a node that is here, and speaks for itself."""
        return any(status.name.partition(': ')[0] in self._here for status in report.status)

    def _chosen(self) -> list[str]:
        """Return the recorded names of the topics to play."""
        found = {
            topic: renamed(topic, self._namespace, self._replay.namespace)
            for topic in self._types
            if topic != CLOCK
        }
        if self._replay.topics:
            asked = {self._recorded_name(name) for name in self._replay.topics}
            if unknown := asked - set(found):
                raise ConfigError(
                    f'{self._replay.file}: it has no {", ".join(sorted(unknown))}; it has '
                    + ', '.join(sorted(found))
                )
            return [topic for topic in found if topic in asked]
        said = [
            topic
            for topic, name in found.items()
            if topic != REPORTS and self._node.count_publishers(name)
        ]
        if said:
            self._say('leaves out what nodes here publish: ' + ', '.join(sorted(said)))
        chosen = [topic for topic in found if topic not in said]
        if not chosen:
            raise ConfigError(
                f'{self._replay.file}: nodes that run here publish every topic of it; stop them, '
                'or name the topics'
            )
        return chosen

    def _recorded_name(self, name: str) -> str:
        return name if name.startswith('/') else f'{self._namespace.rstrip("/")}/{name}'

    def _recorded_namespace(self) -> str:
        """Return the namespace of the cell that was recorded."""
        names = [topic.name for topic in RECORDED if not topic.name.startswith('/')]
        for topic in self._types:
            for name in sorted(names, key=len, reverse=True):
                if topic.endswith(f'/{name}'):
                    return topic[: -len(name) - 1] or '/'
        return '/'

    def _publisher(self, topic: str) -> Publisher:
        name = renamed(topic, self._namespace, self._replay.namespace)
        known = {self._recorded_name(each.name): each for each in RECORDED}
        profile = known[topic].profile if topic in known else Profile.RESULT
        return self._node.create_publisher(
            _message_class(self._types[topic]), name, make_profile(profile)
        )


def _message_class(message_type: str) -> Any:
    """Return the class of a message.

    Raises:
        ConfigError: If its package is not installed.
    """
    try:
        return class_of(message_type)
    except (ImportError, AttributeError) as error:
        package = message_type.partition('/')[0]
        raise ConfigError(
            f'the recording holds {message_type}, and no such message is installed: install '
            f'{package}, or name the topics to play'
        ) from error


def play(
    replay: Replay,
    *,
    domain_id: int | None = None,
    say: Callable[[str], None] = print,
    stop: threading.Event | None = None,
) -> int:
    """Play a recording; return how many messages were published.

    Raises:
        ConfigError: If it cannot be played.
    """
    replayer = Replayer(replay, domain_id=domain_id, say=say, stop=stop)
    try:
        return replayer.run()
    finally:
        replayer.close()
