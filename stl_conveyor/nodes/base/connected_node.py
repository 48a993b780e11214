# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A node that joins the graph by the table of topics, and owns what it opens for that."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rclpy.clock import Clock
from rclpy.event_handler import (
    PublisherEventCallbacks,
    SubscriptionEventCallbacks,
    UnsupportedEventTypeError,
)
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from stl_conveyor.nodes.base.clock import ScheduleClock
from stl_conveyor.nodes.base.qos import (
    Watchdogs,
    in_namespace,
    make_profile,
    message_class,
    overriding_options,
)
from stl_conveyor.nodes.base.reporting_node import ReportingNode
from stl_conveyor.nodes.base.topics import TOPICS, Profile, Topic, publisher_of, subscriber_of


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
        if isinstance(topic, str):
            entry = publisher_of(topic, self.NAME, self.topics)
            kind, name, profile = message_class(entry), topic, entry.profile_of(self.NAME)
        else:
            kind = topic
        assert profile is not None
        topic = in_namespace(name, cell)

        def missed(_: Any) -> None:
            self.warn('deadline_offered_missed', f'nothing published on {topic} in time')

        qos = make_profile(profile, self._watchdogs())
        events = PublisherEventCallbacks(
            deadline=missed if self._watchdogs().deadline and profile.watched else None,
            incompatible_qos=self._incompatible(topic),
        )
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

    def listen(
        self, topic: str | type, *rest: Any, cell: str = '', raw: bool = False
    ) -> Subscription:
        """Return a guarded subscription that lives until the node is deactivated.

        Takes the topic and the callback; type and QoS are those of `topics`. A topic whose name
        is a parameter is given as class, name, profile and callback. A middleware that does not
        report a missed deadline is replaced by a timer.

        Args:
            cell: Namespace of the topic, if it is not that of the node.
            raw: Hand over serialised messages, as bytes.

        Raises:
            LookupError: The table does not say that this node listens to the topic.
        """
        callback: Callable[[Any], None]
        if isinstance(topic, str):
            entry = subscriber_of(topic, self.NAME, self.topics)
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
        events = SubscriptionEventCallbacks(
            deadline=missed if watchdogs.deadline else None,
            liveliness=alive if watchdogs.lease else None,
            incompatible_qos=self._incompatible(topic),
        )
        guarded = self.guarded(callback)
        try:
            subscription = self.create_subscription(
                kind,
                topic,
                guarded,
                qos,
                event_callbacks=events,
                raw=raw,
                qos_overriding_options=overriding_options(),
            )
        except UnsupportedEventTypeError:
            if watchdogs.deadline:
                timer = self.every(watchdogs.deadline, missed)
                guarded = _resetting(timer, guarded)
            subscription = self.create_subscription(
                kind,
                topic,
                guarded,
                qos,
                raw=raw,
                qos_overriding_options=overriding_options(),
                event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            )
        self.resources.callback(self.destroy_subscription, subscription)
        return subscription

    def every(
        self, period: float, callback: Callable[[], None], *, clock: Clock | None = None
    ) -> Timer:
        """Return a guarded timer (s, steady clock by default) of the active node."""
        timer = self.create_timer(period, self.guarded(callback), clock=clock or self.steady_clock)
        self.resources.callback(self.destroy_timer, timer)
        return timer

    def take_waiting(self, subscription: Subscription) -> None:
        """Have the callback of a subscription take what has come; for who holds the executor."""
        callback: Callable[..., None] = subscription.callback
        while True:
            with subscription.handle:
                taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
            if taken is None:
                return
            callback(taken[0])

    def _close_publisher(self, publisher: Publisher) -> None:
        self.open_publishers.remove(publisher)
        self.destroy_publisher(publisher)

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


def _resetting(timer: Timer, callback: Callable[[Any], None]) -> Callable[[Any], None]:
    def call(message: Any) -> None:
        timer.reset()
        callback(message)

    return call
