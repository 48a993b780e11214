# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A node that joins the graph by the table of topics, and owns what it opens for that."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rclpy.clock import Clock
from rclpy.duration import Duration
from rclpy.event_handler import (
    PublisherEventCallbacks,
    SubscriptionEventCallbacks,
    UnsupportedEventTypeError,
)
from rclpy.publisher import Publisher
from rclpy.qos import QoSReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from stl_conveyor.errors import Level
from stl_conveyor.nodes.base.clock import ClockWatch, ScheduleClock, clock_ns
from stl_conveyor.nodes.base.decoding import MessageDecoder, with_info
from stl_conveyor.nodes.base.one_shot import OneShot
from stl_conveyor.nodes.base.outside_input import (
    PATIENCE_S,
    NumberMemory,
    OutsideInput,
    StampRules,
)
from stl_conveyor.nodes.base.polled_topic import NeverReady, PolledTopic
from stl_conveyor.nodes.base.qos import (
    Watchdogs,
    in_namespace,
    make_profile,
    message_class,
    overriding_options,
)
from stl_conveyor.nodes.base.reporting_node import ReportingNode
from stl_conveyor.nodes.base.run_log import RunLog
from stl_conveyor.nodes.base.settings import parameter_overrides
from stl_conveyor.nodes.base.sole_topic import OwnTopic
from stl_conveyor.nodes.base.topics import (
    TOPICS,
    Profile,
    Topic,
    full_name,
    publisher_of,
    subscriber_of,
)

if TYPE_CHECKING:
    from rclpy.subscription import MessageInfo

# Between two looks at what nothing tells of by itself. A wait-set executor pays a millisecond or
# more for every timer that fires, so whoever has to look shares one.
WATCH_S = 0.25
UNSET_S = 3600.0  # period of a timer that waits for one to be set


class ConnectedNode(ReportingNode):
    """Makes publishers, subscriptions and timers; `topics` says which, and with which QoS.

    Whatever is opened for an activation is put on the stack `resources`: publishers,
    subscriptions and timers by the methods below, and files, threads and devices by who opens
    them, with `resources.callback(device.close)` or `resources.enter_context(file)` in the next
    line. The stack is closed, the newest first, when the node is deactivated, and also when its
    activation fails halfway; so the next activation finds everything free.
    """

    topics: ClassVar[Sequence[Topic]] = TOPICS

    def __init__(self, **arguments: Any) -> None:
        """Be in the graph with diagnostics and parameters only.

        Raises:
            ConfigError: Naming the parameter that is unknown or has a wrong value.
        """
        super().__init__(**arguments)
        self.schedule_clock = ScheduleClock(self)
        self.resources = contextlib.ExitStack()
        self.open_publishers: list[Publisher] = []
        self._watched: list[Callable[[], None]] = []
        self._listeners: list[int] = []  # of each open publisher, when they were counted last
        self._outside: list[OutsideInput] = []
        self._clock_watch: ClockWatch | None = None
        self._jumped_ns: int | None = None
        self._clockless_ns = 0

    @property
    def subscriptions(self) -> Iterator[Subscription]:
        """Yield those of which an executor is to take the messages; who polls takes its own."""
        return (
            each
            for each in super().subscriptions
            if not isinstance(each.callback_group, NeverReady)
        )

    def publish_on(
        self, topic: str | type, name: str = '', profile: Profile | None = None, *, cell: str = ''
    ) -> Publisher:
        """Return a publisher that lives until the node is deactivated; type and QoS by `topics`.

        A topic whose name is a parameter stands in no table; it is given as class, name and
        profile.

        Args:
            cell: Namespace of the topic, if it is not that of the node.

        Raises:
            LookupError: The table does not say that this node publishes the topic.
        """
        promised = 0.0
        if isinstance(topic, str):
            entry = publisher_of(topic, self.NAME, self.topics)
            kind, name, profile = message_class(entry), topic, entry.profile_of(self.NAME)
            promised = entry.promised
        else:
            kind = topic
        assert profile is not None
        topic = in_namespace(name, cell)

        def missed(_: Any) -> None:
            self.warn('deadline_offered_missed', f'nothing published on {topic} in time')

        qos = make_profile(profile, self._watchdogs())
        if promised:
            qos.deadline = Duration(nanoseconds=round(promised * 1e9))
        events = PublisherEventCallbacks(
            deadline=missed if self._watchdogs().deadline and profile.watched else None,
            incompatible_qos=self._incompatible(topic),
        )
        if not self.open_publishers:
            self.watch(self._look_for_listeners)
        publisher: Publisher
        try:
            publisher = self.create_publisher(
                kind,
                topic,
                qos,
                event_callbacks=events,
                qos_overriding_options=overriding_options(),
            )
        except UnsupportedEventTypeError:
            publisher = self.create_publisher(
                kind,
                topic,
                qos,
                qos_overriding_options=overriding_options(),
                event_callbacks=PublisherEventCallbacks(use_default_callbacks=False),
            )
        self.open_publishers.append(publisher)
        self.resources.callback(self._close_publisher, publisher)
        return publisher

    def _look_for_listeners(self) -> None:
        """Report soon when others listen: whoever starts a cell waits for that.

        Looked at, since rclpy's EventsExecutor (9.1) crashes over the event that a listener came
        or went, where the publisher is given up before the event is served.
        """
        listeners = [each.get_subscription_count() for each in self.open_publishers]
        if listeners != self._listeners:
            self._listeners = listeners
            self.report_shortly()

    def listen(
        self,
        topic: str | type,
        *rest: Any,
        cell: str = '',
        raw: bool = False,
        best_effort: bool = False,
        sole: bool = False,
        incompatible: Callable[[Any], None] | None = None,
    ) -> Subscription:
        """Return a guarded subscription that lives until the node is deactivated.

        Takes the topic and the callback; type and QoS are those of `topics`. A topic whose name
        is a parameter is given as class, name, profile and callback. A middleware that does not
        report a missed deadline is replaced by a timer.

        Args:
            cell: Namespace of the topic, if it is not that of the node.
            raw: Hand over serialised messages, as bytes.
            best_effort: Ask for no more, whatever the profile says.
            sole: Whether what others send than the node that publishes the topic is refused.
            incompatible: Called in place of a report when a publisher offers less.

        Raises:
            LookupError: The table does not say that this node listens to the topic.
        """
        callback: Callable[[Any], None]
        own: OwnTopic | None = None
        if isinstance(topic, str):
            entry = subscriber_of(topic, self.NAME, self.topics)
            own = self._own_topic(entry, cell) if sole else None
            (callback,) = rest
            kind, name, profile = message_class(entry), topic, entry.heard_by(self.NAME)
        else:
            kind, (name, profile, callback) = topic, rest
        topic = in_namespace(name, cell)

        def missed(_: Any = None) -> None:
            self.warn('deadline_missed', f'nothing came on {topic} in time')

        def alive(status: Any) -> None:
            if status.not_alive_count:
                self.warn('liveliness_lost', f'a publisher on {topic} is gone')

        watchdogs = self._watchdogs() if profile.watched else Watchdogs()
        qos = make_profile(profile, watchdogs)
        overridable = overriding_options(reliability=not best_effort)
        if best_effort:
            qos.reliability = QoSReliabilityPolicy.BEST_EFFORT
        events = SubscriptionEventCallbacks(
            deadline=missed if watchdogs.deadline else None,
            liveliness=alive if watchdogs.lease else None,
            incompatible_qos=incompatible or self._incompatible(topic),
        )
        decoder = None if raw else MessageDecoder(self, kind, topic)
        take = self._taker(callback, decoder, own)
        try:
            subscription = self.create_subscription(
                kind,
                topic,
                take,
                qos,
                event_callbacks=events,
                raw=True,
                qos_overriding_options=overridable,
            )
        except UnsupportedEventTypeError:
            if watchdogs.deadline:
                timer = self.every(watchdogs.deadline, missed)
                take = self._taker(_resetting(timer, callback), decoder, own)
            subscription = self.create_subscription(
                kind,
                topic,
                take,
                qos,
                raw=True,
                qos_overriding_options=overridable,
                event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            )
        self.resources.callback(self.destroy_subscription, subscription)
        return subscription

    def look(
        self,
        topic: str,
        callback: Callable[[Any, Any], None],
        *,
        alike: Callable[[bytes], Hashable | None],
        period: float | None,
        cell: str = '',
        remembers: bool = False,
        sole: bool = False,
    ) -> PolledTopic:
        """Return a topic at which a timer looks until the node is deactivated.

        Args:
            topic: As for `listen`.
            cell: Likewise.
            callback: Takes a message, and what the middleware knows of it or None; guarded.
            alike: Returns the same for serialised messages of which the latest is enough, and None
                for those that are not wanted.
            period: Seconds between two looks; None: the caller looks.
            remembers: Whether what is alike says the same, whenever it comes.
            sole: As for `listen`.

        Raises:
            LookupError: The table does not say that this node listens to the topic.
        """
        entry = subscriber_of(topic, self.NAME, self.topics)
        own = self._own_topic(entry, cell) if sole else None

        def take(message: Any, info: Any) -> None:
            if own is None or own.admits(info, functools.partial(take, message, info)):
                callback(message, info)

        kind = message_class(entry)
        topic = in_namespace(topic, cell)
        subscription = self.create_subscription(
            kind,
            topic,
            _no_one,
            make_profile(entry.profile_of(self.NAME), Watchdogs()),
            callback_group=NeverReady(),
            raw=True,
            qos_overriding_options=overriding_options(),
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        )
        self.resources.callback(self.destroy_subscription, subscription)
        timer = None if period is None else self.every(period, lambda: polled.look())
        decoder = MessageDecoder(self, kind, topic)
        polled: PolledTopic = PolledTopic(
            subscription, timer, self.guarded(take), alike, decoder, remembers
        )
        return polled

    def listen_outside(
        self,
        topic: str,
        callback: Callable[[Any, int], None],
        rules: StampRules | None = None,
        *,
        stamp_of: Callable[[Any], Any] = operator.attrgetter('header.stamp'),
        concerns: Callable[[Any], bool] | None = None,
        unstamped: bool = False,
        required: bool = True,
        remedy: str = '',
        alike: Callable[[bytes], Hashable | None] | None = None,
        period: float = 0.1,
        sole: bool = False,
        memory: NumberMemory | None = None,
    ) -> OutsideInput:
        """Return a subscription to what something outside the cell publishes.

        It calls back with the message and its time (ns, ROS time), if that can be right.

        Args:
            rules: How stamps are judged; None = as the node's parameters say.
            stamp_of: Returns the stamp of a message.
            concerns: Whether a message is for us at all; the others are not judged.
            unstamped: Whether the stamp zero is taken for that of the arrival, and any order.
            required: Whether it is a fault if nobody publishes.
            remedy: What else to do about that, in words.
            alike: As for `look`, where more comes than anybody needs; None = take every message.
            period: Seconds between two looks then.
            sole: Whether there is room for one publisher only: what others send is refused.
            memory: Who keeps the numbers of the messages.

        Raises:
            LookupError: The table does not say that this node listens to the topic.
        """
        self.watch_clock()
        opened = OutsideInput(
            self,
            topic,
            callback,
            StampRules.of(self.settings) if rules is None else rules,
            stamp_of=stamp_of,
            concerns=concerns,
            unstamped=unstamped,
            required=required,
            remedy=remedy,
            alike=alike,
            period=period,
            sole=sole,
            memory=memory,
        )
        self._outside.append(opened)
        self.resources.callback(self._outside.remove, opened)
        return opened

    def watch_clock(self) -> None:
        """Have `clock_jumped` called, until the node is deactivated, when ROS time is set."""
        if self._clock_watch is None:
            self._clock_watch = ClockWatch(
                self, self.steady_clock, self.guarded(self._on_clock_jump)
            )
            self.resources.callback(self._close_clock_watch)
            self._clockless_ns = clock_ns(self.steady_clock)
            # Inputs from outside look at the clock themselves; else who does not heed a jump of
            # the system's clock need not know of it.
            heeds = type(self).clock_jumped is not ConnectedNode.clock_jumped
            if self.schedule_clock.simulated or heeds:
                self.watch(self._look_at_clock)

    def check_clock(self) -> None:
        """Look now whether ROS time was set, before a stamp is compared with it."""
        if self._clock_watch is not None:
            self._clock_watch.check()

    def clock_jumped(self, jump_ns: int) -> None:
        """Take in that ROS time was set by `jump_ns`; see `watch_clock`. A subclass overrides."""

    def spans_jump(self, since_ns: int) -> bool:
        """Return whether simulated time was set since a time on the schedule's clock.

        What was measured across that tells of the jump, and of no delay.
        """
        return self._jumped_ns is not None and since_ns <= self._jumped_ns

    def overrides_qos(self, topic: str, policy: str) -> bool:
        """Return whether a parameter file sets a policy for subscriptions to a topic.

        Args:
            topic: Its full name.
            policy: Such as 'reliability'.
        """
        return f'qos_overrides.{topic}.subscription.{policy}' in parameter_overrides(self)

    def watch(self, look: Callable[[], None]) -> None:
        """Have a function called every WATCH_S seconds until the node is deactivated; guarded."""
        if not self._watched:
            self.every(WATCH_S, self._look_around)
        guarded = self.guarded(look)
        self._watched.append(guarded)
        self.resources.callback(self._watched.remove, guarded)

    def every(
        self, period: float, callback: Callable[[], None], *, clock: Clock | None = None
    ) -> Timer:
        """Return a guarded timer (s, steady clock by default) of the active node."""
        guarded = self._while_open(self.guarded(callback))
        # EventsExecutor hands its view of the time to a callback that could take an argument.
        timer = self.create_timer(period, lambda: guarded(), clock=clock or self.steady_clock)
        self.resources.callback(self.destroy_timer, timer)
        return timer

    def once(self, callback: Callable[[], None], *, clock: Clock | None = None) -> OneShot:
        """Return what calls once after a delay; guarded, of the active node, clock as `every`."""

        @functools.wraps(callback)
        def call() -> None:
            timer.cancel()  # first, as the callback may set it for the next time
            callback()

        timer = self.every(UNSET_S, call, clock=clock)
        timer.cancel()
        return OneShot(timer)

    def watch_log(self, log: RunLog | None) -> None:
        """Put what was noted into its file, and report if that is not possible."""
        if log is not None:
            log.flush()
            if log.trouble:
                self.set_condition('log', Level.ERROR, log.trouble)

    def _on_clock_jump(self, jump_ns: int) -> None:
        if self.schedule_clock.simulated:  # the other schedule has a clock that nobody sets
            self._jumped_ns = self.schedule_clock.now_ns()
        for opened in self._outside:
            opened.gate.start_anew()
        self.clock_jumped(jump_ns)

    def _look_around(self) -> None:
        for look in tuple(self._watched):
            look()

    def _look_at_clock(self) -> None:
        self.check_clock()
        if not self.schedule_clock.simulated:
            return
        now_ns = clock_ns(self.steady_clock)
        if clock_ns(self.get_clock()) or self.count_publishers('/clock'):
            self._clockless_ns = now_ns
            self.clear_condition('clock', '/clock is published')
        elif now_ns - self._clockless_ns > PATIENCE_S * 1e9:
            self.set_condition(
                'clock',
                Level.ERROR,
                '/clock: nobody publishes it, and use_sim_time is set; start the simulation or '
                '`ros2 bag play --clock`, or set `use_sim_time: false`',
            )

    def _close_clock_watch(self) -> None:
        watch, self._clock_watch = self._clock_watch, None
        if watch is not None:
            watch.close()

    def _close_publisher(self, publisher: Publisher) -> None:
        self.open_publishers.remove(publisher)
        self.destroy_publisher(publisher)

    def _own_topic(self, entry: Topic, cell: str) -> OwnTopic:
        namespace = cell or self.get_namespace()
        nodes = [full_name(namespace, name) for name in entry.publishers]
        topic = in_namespace(entry.name, cell)
        return OwnTopic(self, topic, self.resolve_topic_name(topic), nodes)

    def _taker(
        self, callback: Callable[[Any], None], decoder: MessageDecoder | None, own: OwnTopic | None
    ) -> Callable[..., None]:
        """Return what the executors call with serialised messages."""
        guarded = self._while_open(self.guarded(callback))
        if decoder is None:
            return guarded

        def take(data: bytes, info: MessageInfo | None) -> None:
            if own is not None and not own.admits(info, functools.partial(take, data, info)):
                return
            message = decoder(data, info)
            if message is not None:
                guarded(message)

        return with_info(take)

    def _while_open(self, callback: Callable[..., None]) -> Callable[..., None]:
        """Return what calls a function until the node is deactivated.

        EventsExecutor has what it was told of in a queue, and takes it from there after the timer
        or the subscription is gone.
        """
        open_ = [True]
        self.resources.callback(open_.clear)

        @functools.wraps(callback)
        def call(*arguments: Any) -> None:
            if open_:
                callback(*arguments)

        return call

    def _watchdogs(self) -> Watchdogs:
        if self.schedule_clock.simulated:
            return Watchdogs()
        settings = self.settings
        return Watchdogs(
            settings.topic_deadline, settings.topic_lifespan, settings.liveliness_lease
        )

    def _incompatible(self, topic: str) -> Callable[[Any], None]:
        def callback(event: Any) -> None:
            self.error(
                'incompatible_qos',
                f'{topic}: the other side has another QoS '
                f'(policy {event.last_policy_kind}); compare qos_overrides and watchdogs',
            )

        return callback


def _no_one(_: bytes) -> None:
    """Stand where rclpy wants a callback; no executor sees the subscription."""


def _resetting(timer: Timer, callback: Callable[[Any], None]) -> Callable[[Any], None]:
    def call(message: Any) -> None:
        timer.reset()
        callback(message)

    return call
