# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A topic that something outside the cell publishes: a driver, a PLC's bridge, a recording.

What our own nodes publish fits by construction. What comes from outside may have another type,
another quality of service, the stamps of another clock, or not be there at all; here all of that
is noticed, and said with the remedy.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from rclpy.qos import QoSReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo

from stl_conveyor.cell.stamp_gate import StampGate, Verdict
from stl_conveyor.errors import Level
from stl_conveyor.nodes.base.clock import clock_ns, to_ns
from stl_conveyor.nodes.base.decoding import (
    MessageDecoder,
    endpoint_name,
    publisher_gid,
    with_info,
)
from stl_conveyor.nodes.base.polled_topic import PolledTopic
from stl_conveyor.nodes.base.qos import message_class
from stl_conveyor.nodes.base.settings import NodeSettings, parameter
from stl_conveyor.nodes.base.sole_topic import MOST_NAMED, STRANGER_PERIOD_NS, SoleTopic, some
from stl_conveyor.nodes.base.topics import subscriber_of

if TYPE_CHECKING:
    from rclpy.subscription import MessageInfo

    from stl_conveyor.nodes.base.connected_node import ConnectedNode

LOOK_CLOSELY_S = 1.0  # between two looks at types and QoS, while as many publish as before
PATIENCE_S = 1.0  # for which nobody may publish before that is said
# The same until somebody has published: drivers that start with the node are no fault, and who
# starts a camera without one is told within two seconds.
START_S = 1.5
# /clock tells the time in steps, and comes by another way than the message: no node knows
# simulated time better.
SIMULATED_TOLERANCE_S = 0.1
COMPRESSED = '/compressed'  # what image_transport adds to the name of the topic
TAKE_COMPRESSED = 'set `image_transport: compressed`, or let the driver publish raw images'
TAKE_RAW = 'set `image_transport: raw`, or let the driver publish compressed images'
MOST_AT_ONCE = 32  # messages that are worked on before others of the node have their turn
MOST_TAKEN = 256  # and are taken out of the middleware's queue at once


@dataclass(frozen=True)
class StampSettings(NodeSettings):
    """Parameters of a node that takes in messages with stamps from outside."""

    stamp: str = parameter(
        'header',
        'When a message from outside tells of: the stamp in its header, or its arrival less the '
        'latency, for drivers without stamps or with a clock of their own.',
        choices=('header', 'arrival'),
    )
    stamp_tolerance: float = parameter(
        0.005,
        'Seconds by which a stamp from outside may be ahead of ROS time; what is further ahead '
        'is refused. With use_sim_time it is at least 0.1.',
        minimum=0.0,
        maximum=1.0,
    )
    longest_delay: float = parameter(
        2.0,
        'Seconds by which a stamp from outside may be behind ROS time; what is older is refused.',
        minimum=0.01,
        maximum=60.0,
    )


@dataclass(frozen=True)
class StampRules:
    """How the stamps of one topic are judged; see StampSettings. Times in seconds."""

    by_arrival: bool = False
    latency: float = 0.0
    tolerance: float = StampSettings.stamp_tolerance
    longest_delay: float = StampSettings.longest_delay

    @classmethod
    def of(cls, settings: StampSettings, latency: float = 0.0, stamp: str = '') -> StampRules:
        """Return the rules that the parameters of a node give.

        Args:
            latency: From the event to the arrival of its message.
            stamp: In place of the parameter of that name, if it is given.
        """
        return cls(
            (stamp or settings.stamp) == 'arrival',
            latency,
            settings.stamp_tolerance,
            settings.longest_delay,
        )


class NumberMemory(Protocol):
    """What is told of the numbers that the middleware gives to what each publisher sends."""

    def awaits(self, topic: str) -> None:
        """Take in that a topic is listened to from now on."""

    def came(self, topic: str) -> None:
        """Take in that something has come on it."""

    def first(self, topic: str, publisher: bytes, number: int) -> None:
        """Take in the first number of a publisher that is heard."""

    def heard(self, publisher: bytes, number: int) -> None:
        """Take in that a message was worked on."""


class OutsideInput:
    """A guarded subscription whose messages come with a time that can be right.

    The subscription asks for the quality of service of the table of topics. Where that is reliable
    and a publisher offers best effort only, it asks for best effort too, since the two would not
    meet; it goes back to reliable when all that publish are. A parameter file that overrides the
    reliability has the last word.
    """

    def __init__(
        self,
        node: ConnectedNode,
        topic: str,
        callback: Callable[[Any, int], None],
        rules: StampRules,
        *,
        stamp_of: Callable[[Any], Any],
        concerns: Callable[[Any], bool] | None = None,
        unstamped: bool = False,
        required: bool = True,
        remedy: str = '',
        alike: Callable[[bytes], Hashable | None] | None = None,
        period: float = 0.1,
        sole: bool = False,
        memory: NumberMemory | None = None,
    ) -> None:
        """Subscribe until the node's resources are closed.

        Args:
            callback: Called with each message that passes, and with its time (ns, ROS time).
            stamp_of: Returns the stamp of a message.
            concerns: Whether a message is for us at all; the others are not judged.
            unstamped: Whether the stamp zero is taken for that of the arrival, and any order.
            required: Whether it is a fault if nobody publishes.
            remedy: What else to do about that, in words.
            alike: See `ConnectedNode.look`; the topic's profile must be best effort.
            period: Seconds between two looks.
            sole: Whether there is room for one publisher only: what others send is refused.
            memory: Who keeps the numbers of the messages; the topic must be `required`.
        """
        self._node = node
        self._topic = topic
        self._callback = callback
        self._stamp_of = stamp_of
        self._concerns = concerns
        self._required = required
        self._alone = not unstamped  # what has an order comes from one
        self._remedy = remedy
        self._polled: PolledTopic | None = None
        if alike is not None:
            self._polled = node.look(topic, self._on_message, alike=alike, period=period)
        entry = subscriber_of(topic, node.NAME, node.topics)
        self._type = '/msg/'.join(entry.message_type.split('/'))
        self._longest_delay_ns = round(rules.longest_delay * 1e9)
        simulated = node.schedule_clock.simulated
        self._simulated = simulated
        tolerance = max(rules.tolerance, SIMULATED_TOLERANCE_S if simulated else 0.0)
        self.gate = StampGate(
            topic,
            ahead_ns=round(tolerance * 1e9),
            delay_ns=self._longest_delay_ns,
            by_arrival=rules.by_arrival,
            latency_ns=round(rules.latency * 1e9),
            simulated=simulated,
            unstamped=unstamped,
        )
        self._entry = entry
        # As image_transport does: who maps an image's topic means its compressed one, too.
        base = topic.removesuffix(COMPRESSED)
        self._name = node.resolve_topic_name(base) + topic[len(base) :]
        # The topic of which this one is the compressed sibling, if it is one.
        self._raw = self._name.removesuffix(COMPRESSED) if self._name.endswith(COMPRESSED) else ''
        self._adapts = entry.heard_by(node.NAME).reliable and not node.overrides_qos(
            self._name, 'reliability'
        )
        self._best_effort = False
        self._absent_since_ns: int | None = clock_ns(node.steady_clock)
        self._subscription: Subscription | None = None
        self._numbers: dict[bytes, int] = {}  # of the newest message, by publisher
        self._memory = memory
        if memory is not None:
            memory.awaits(topic)
        self._sole = SoleTopic(node, topic, self._name) if sole else None
        self._waiting: deque[tuple[bytes, MessageInfo | None]] = deque()
        self._decode = MessageDecoder(node, message_class(entry), topic)
        self._open = True
        node.resources.callback(self._close)
        self._closely_ns = 0  # when types and QoS were looked at last
        self._named_ns = 0  # when the name of one that spoke was asked for last
        self._found = 0  # publishers, at the last look
        self._ever_found = False
        self._waiting_said = False
        self._adapt(self._fitting(self._publishers()))
        if self._subscription is None and self._polled is None:
            self._subscribe()
        node.watch(self._look)

    def every(self, period: float) -> None:
        """Look once in `period` seconds from now on, at a topic at which is looked."""
        if self._polled is not None:
            self._polled.every(period)

    def _publishers(self) -> Sequence[TopicEndpointInfo]:
        found: Sequence[TopicEndpointInfo] = self._node.get_publishers_info_by_topic(self._name)
        self._found = len(found)
        self._closely_ns = clock_ns(self._node.steady_clock)
        return found

    def _fitting(self, publishers: Sequence[TopicEndpointInfo]) -> list[TopicEndpointInfo]:
        return [each for each in publishers if each.topic_type == self._type]

    def _subscribe(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._numbers.clear()
        self._subscription = self._node.listen(
            message_class(self._entry),
            self._name,
            self._entry.heard_by(self._node.NAME),
            with_info(self._on_data),
            raw=True,
            best_effort=self._best_effort,
            incompatible=self._on_incompatible if self._adapts else None,
        )

    def _on_data(self, data: bytes, info: MessageInfo | None) -> None:
        """Work on what the executor brings, and on what else waits where others publish, too."""
        if not self._open:
            return
        self._sort_in(data, info)
        for _ in range(MOST_AT_ONCE):
            if self._sole is not None:
                # The queue is one for all who publish: what is refused must not fill it.
                self._empty_queue()
            if not self._waiting:
                return
            self._node.guarded(self._take)(*self._waiting.popleft())
        while self._waiting:
            self._node.guarded(self._take)(*self._waiting.popleft())

    def _empty_queue(self) -> None:
        for _ in range(MOST_TAKEN):
            taken = self._next()
            if taken is None:
                return
            self._sort_in(*taken)

    def _sort_in(self, data: bytes, info: MessageInfo | None) -> None:
        if self._sole is not None and not self._admits(self._sole, data, info):
            return
        self._waiting.append((data, info))

    def _admits(self, sole: SoleTopic, data: bytes, info: MessageInfo | None) -> bool:
        if sole.name_of(info) == '':
            # One of the name of the first may be its successor.
            since_ns = clock_ns(self._node.steady_clock) - self._named_ns
            if since_ns > STRANGER_PERIOD_NS:
                self._present(sole)
        return sole.admits(info, partial(self._sort_in, data, info))

    def _present(self, sole: SoleTopic) -> None:
        """See who is there, and take what was waiting for that."""
        self._named_ns = clock_ns(self._node.steady_clock)
        sole.present(self._fitting(self._node.get_publishers_info_by_topic(self._name)))
        while self._waiting:
            self._node.guarded(self._take)(*self._waiting.popleft())

    def _next(self) -> tuple[bytes, MessageInfo | None] | None:
        subscription = self._subscription
        assert subscription is not None
        with subscription.handle:
            taken: tuple[bytes, MessageInfo | None] | None = subscription.handle.take_message(
                subscription.msg_type, subscription.raw
            )
        return taken

    def _take(self, data: bytes, info: MessageInfo | None) -> None:
        numbered = self._number_of(info)
        if numbered is not None:
            self._count_lost(*numbered)
        if self._memory is not None:
            self._memory.came(self._topic)
        message = self._decode(data, info)
        if message is not None:
            self._on_message(message, info)
        if numbered is not None and self._memory is not None:
            self._memory.heard(*numbered)  # not before: a crash may come meanwhile

    def _number_of(self, info: MessageInfo | None) -> tuple[bytes, int] | None:
        """Return publisher and number of a message, where it matters that none is missing."""
        number = None if info is None else info.get('publication_sequence_number')
        key = publisher_gid(info)
        if not self._required or self._concerns is not None or number is None or key is None:
            return None  # not every middleware tells
        return key, number

    @property
    def is_published(self) -> bool:
        """Return whether anybody published the topic at the last look."""
        return self._found > 0

    def take_waiting(self) -> None:
        """Take what has come meanwhile; for who holds the executor."""
        while (taken := self._next()) is not None:
            self._node.guarded(self._take)(*taken)

    def _on_message(self, message: Any, info: MessageInfo | None) -> None:
        if self._concerns is not None and not self._concerns(message):
            return
        self._node.check_clock()
        now_ns = clock_ns(self._node.get_clock())
        verdict = self.gate.admit(
            to_ns(self._stamp_of(message)),
            now_ns,
            arrival_ns=self._arrival_ns(info, now_ns),
            uptimes_ns=_uptimes_ns(),
        )
        self._say(verdict)
        if verdict.time_ns is not None:
            self._callback(message, verdict.time_ns)

    def _count_lost(self, key: bytes, number: int) -> None:
        """Compare the number of a message with that of the one before of its publisher."""
        if self._memory is not None and key not in self._numbers:
            self._memory.first(self._topic, key, number)
        lost = number - self._numbers.get(key, number) - 1
        self._numbers[key] = number
        if lost > 0:
            self._node.health.count('messages_lost.' + self._topic, lost)
            self._node.error(
                'messages_lost',
                f'{lost} messages on {self._name} never came to the node: the queue was full '
                '(free the machine, or raise depth in qos_overrides), or the driver publishes '
                'best effort (set it to reliable)',
            )

    def _arrival_ns(self, info: MessageInfo | None, now_ns: int) -> int | None:
        """Return when the middleware received a message, which may have waited since."""
        received_ns = 0 if info is None else info['received_timestamp']
        if self._simulated or not 0 <= now_ns - received_ns <= self._longest_delay_ns:
            return None
        return received_ns

    def _say(self, verdict: Verdict) -> None:
        if verdict.level is Level.ERROR:
            self._node.error(verdict.name, verdict.text)
        elif verdict.level is Level.WARN:
            self._node.warn(verdict.name, verdict.text)

    def _on_incompatible(self, _: object) -> None:
        # A subscription cannot go while the middleware tells of it.
        executor = self._node.executor
        if executor is not None:
            executor.create_task(self._node.guarded(self._look_closely))

    def _close(self) -> None:
        self._open = False

    def _look(self) -> None:
        """See who publishes, and now and then what."""
        self._node.check_clock()
        if self._sole is not None:
            if self._sole.holds:
                self._present(self._sole)
            self._sole.look()
        # To count them is cheap, and to be told of each is not.
        count = self._node.count_publishers(self._name)
        since_ns = clock_ns(self._node.steady_clock) - self._closely_ns
        period_s = LOOK_CLOSELY_S if count or not self._required else 0.0
        if count != self._found or since_ns >= period_s * 1e9:
            self._look_closely()

    def _look_closely(self) -> None:
        """Compare what is published with what is asked for."""
        if not self._open:
            return
        publishers = self._publishers()
        fitting = self._fitting(publishers)
        if self._sole is not None:
            self._present(self._sole)
        others = [each for each in publishers if each.topic_type != self._type]
        self._adapt(fitting)
        if self._alone:
            self._count_sources(fitting)
        condition = f'input.{self._topic}'
        if others:
            self._node.set_condition(condition, Level.ERROR, self._other_type(others))
        elif fitting or not self._required:
            self._ever_found = True
            self._absent_since_ns = None
            self._node.clear_condition(condition, f'{self._name} is published')
        else:
            now_ns = clock_ns(self._node.steady_clock)
            if self._absent_since_ns is None:
                self._absent_since_ns = now_ns
            self._say_absent((now_ns - self._absent_since_ns) / 1e9)

    def _say_absent(self, seconds: float) -> None:
        """Say that nobody publishes; at first, that somebody is waited for."""
        if seconds < PATIENCE_S:
            return
        sibling = self._sibling()
        text = self._nobody(sibling)
        if self._ever_found or sibling or seconds >= START_S:
            self._node.set_condition(f'input.{self._topic}', Level.ERROR, text)
        elif not self._waiting_said:
            self._node.get_logger().info(f'{text}. That is a fault after {START_S:g} s')
            self._waiting_said = True

    def _count_sources(self, publishers: Sequence[TopicEndpointInfo]) -> None:
        """Say who they are if several publish what only one can know."""
        condition = f'publishers.{self._topic}'
        if len(publishers) < 2:
            self._node.clear_condition(condition, f'{self._name} has one publisher')
            return
        named = some({endpoint_name(each) for each in publishers})
        self._node.set_condition(
            condition,
            Level.WARN,
            f'{self._name}: {named} publish it, and what they say need not go together; stop all '
            'but one (a recording that plays, a driver that was started twice), or remap it',
        )

    def _adapt(self, publishers: Sequence[TopicEndpointInfo]) -> None:
        if not self._adapts or not publishers:
            return
        best_effort = any(
            each.qos_profile.reliability is QoSReliabilityPolicy.BEST_EFFORT for each in publishers
        )
        if best_effort != self._best_effort:
            self._best_effort = best_effort
            self._subscribe()

    def _other_type(self, others: Sequence[TopicEndpointInfo]) -> str:
        kinds = ', '.join(sorted({each.topic_type for each in others}))
        nodes = ', '.join(sorted({each.node_name for each in others})[:MOST_NAMED])
        text = f'{self._name}: {nodes} publishes {kinds} on it, and {self._type} is expected; '
        if any(each.topic_type.endswith('/CompressedImage') for each in others):
            return text + f'remap that to {self._name}{COMPRESSED} and {TAKE_COMPRESSED}'
        return text + 'give that topic another name'

    def _sibling(self) -> str:
        """Return which form of the input is there in its place, with the remedy; or nothing."""
        compressed = self._name + COMPRESSED
        if self._node.count_publishers(compressed):
            return f'{compressed}; {TAKE_COMPRESSED}'
        if self._raw and self._node.count_publishers(self._raw):
            return f'{self._raw}; {TAKE_RAW}'
        return ''

    def _nobody(self, sibling: str) -> str:
        text = f'{self._name}: nobody publishes it'
        text += f', only {sibling}' if sibling else '; start its driver'
        if self._remedy:
            text += f', {self._remedy}'
        alike = [
            name
            for name, kinds in self._node.get_topic_names_and_types()
            if self._type in kinds and name != self._name and self._node.count_publishers(name)
        ]
        if alike:
            named = ' or '.join(f'{self._topic}:={name}' for name in sorted(alike)[:MOST_NAMED])
            text += f', or remap a topic of the same type ({named})'
        return text + '; on another machine compare ROS_DOMAIN_ID'


def _uptimes_ns() -> tuple[int, ...]:
    clocks = [time.CLOCK_MONOTONIC]
    if hasattr(time, 'CLOCK_BOOTTIME'):
        clocks.append(time.CLOCK_BOOTTIME)
    return tuple(time.clock_gettime_ns(clock) for clock in clocks)
