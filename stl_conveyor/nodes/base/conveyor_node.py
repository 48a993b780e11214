# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The base of every node: parameters, life cycle, diagnostics, and staying alive."""

from __future__ import annotations

import functools
import os
import traceback
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import (
    PublisherEventCallbacks,
    SubscriptionEventCallbacks,
    UnsupportedEventTypeError,
)
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from stl_conveyor.errors import ConfigError, ConveyorError
from stl_conveyor.nodes.base.clock import ScheduleClock
from stl_conveyor.nodes.base.health import Level, NodeHealth
from stl_conveyor.nodes.base.qos import (
    Watchdogs,
    in_namespace,
    make_profile,
    message_class,
    overriding_options,
)
from stl_conveyor.nodes.base.settings import NodeSettings, changed_settings, declare_settings
from stl_conveyor.nodes.base.topics import TOPICS, Profile, Topic, publisher_of, subscriber_of


class ConveyorNode(LifecycleNode):
    """A lifecycle node that reports on itself and that no message and no missing file can kill.

    A subclass names its parameters in `SETTINGS` and overrides `configure` (load and check
    models), `activate` (make publishers, subscriptions and timers with the methods below),
    `deactivate` (finish what is open) and `cleanup` (let go of models). What `activate` made is
    destroyed by the base when the node is deactivated.
    """

    NAME: ClassVar[str]
    SETTINGS: ClassVar[type[NodeSettings]] = NodeSettings
    topics: ClassVar[Sequence[Topic]] = TOPICS

    def __init__(self, **arguments: Any) -> None:
        """Declare the parameters; `arguments` are those of rclpy's Node but the name.

        Raises:
            ConfigError: Naming the parameter that is unknown or has a wrong value.
        """
        super().__init__(arguments.pop('node_name', self.NAME), **arguments)
        self.health = NodeHealth()
        self.steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        try:
            self.settings: Any = declare_settings(self, self.SETTINGS, self.check_settings)
        except ConfigError:
            self.destroy_node()
            raise
        self.schedule_clock = ScheduleClock(self)
        self._configured = False
        self._active = False
        self._publishers_made: list[Publisher] = []
        self._subscriptions_made: list[Subscription] = []
        self._timers_made: list[Timer] = []
        self._last_report_ns = 0
        self._diagnostics = self.create_publisher(
            DiagnosticArray,
            '/diagnostics',
            make_profile(Profile.DIAGNOSTICS),
            qos_overriding_options=overriding_options(),
        )
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.create_timer(
            self.settings.diagnostics_period, self.guarded(self.report), clock=self.steady_clock
        )
        if self.settings.niceness:
            self._prioritiser = self.create_timer(0.0, self._set_priority, clock=self.steady_clock)
        self._starter = self.create_timer(0.0, self.guarded(self._start), clock=self.steady_clock)
        if not self.settings.autostart:
            self._starter.cancel()

    # What a subclass overrides.

    def check_settings(self, settings: Any) -> None:
        """Raise ConfigError, naming the parameter, if the values do not fit together."""

    def configure(self) -> None:
        """Load and check what the node needs; raise ConveyorError if it is not to be had."""

    def activate(self) -> None:
        """Make publishers, subscriptions and timers."""

    def deactivate(self) -> None:
        """Finish what is open; publishers are still there."""

    def cleanup(self) -> None:
        """Let go of what `configure` loaded."""

    def settings_changed(self) -> None:
        """Take in the new values of tunable parameters, which are in `settings`."""

    def refresh_health(self) -> None:
        """Put present values into `health`, just before it is reported."""

    # What a subclass uses.

    @property
    def is_active(self) -> bool:
        """Return whether the node is in the lifecycle state active."""
        return self._active

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
        self._publishers_made.append(publisher)
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
            kind, name, profile = message_class(entry), topic, entry.profile_of(self.NAME)
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
        self._subscriptions_made.append(subscription)
        return subscription

    def every(
        self, period: float, callback: Callable[[], None], *, clock: Clock | None = None
    ) -> Timer:
        """Return a guarded timer (s, steady clock by default) of the active node."""
        timer = self.create_timer(period, self.guarded(callback), clock=clock or self.steady_clock)
        self._timers_made.append(timer)
        return timer

    def tick(self, name: str) -> None:
        """Take in one occurrence of something whose rate is reported."""
        self.health.tick(name, self.steady_clock.now().nanoseconds)

    def warn(self, name: str, message: str) -> None:
        """Report and count an event that the node coped with."""
        self._event(name, Level.WARN, message)

    def error(self, name: str, message: str) -> None:
        """Report and count an event that kept the node from doing its work."""
        self._event(name, Level.ERROR, message)

    def set_condition(self, name: str, level: Level, message: str) -> None:
        """Report a lasting condition, at once if it is new."""
        if self.health.set_condition(name, level, message):
            self._log(level, message)
            self._report_soon()

    def clear_condition(self, name: str, message: str) -> None:
        """End a lasting condition, and say so."""
        if self.health.clear_condition(name):
            self.get_logger().info(message)
            self._report_soon()

    def guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        """Return the callback with every exception turned into a diagnostic and a log line."""

        @functools.wraps(callback)
        def call(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except ConveyorError as error:
                self.warn(type(error).__name__, str(error))
            except Exception as error:  # nothing that a message contains may stop the cell
                self.error('exception', f'{type(error).__name__} in {callback.__name__}: {error}')
                self.get_logger().debug(traceback.format_exc())

        return call

    def report(self) -> None:
        """Publish the node's health."""
        self.refresh_health()
        self._last_report_ns = self.steady_clock.now().nanoseconds
        health = self.health.report(self._last_report_ns)
        state = 'active' if self._active else 'not active'
        status = DiagnosticStatus(
            level=bytes([health.level]),
            name=self.get_fully_qualified_name().lstrip('/'),
            message=health.message,
            hardware_id='stl_conveyor',
            values=[KeyValue(key='state', value=state)]
            + [
                KeyValue(
                    key=f'{publisher.topic_name}.subscribers',
                    value=str(publisher.get_subscription_count()),
                )
                for publisher in self._publishers_made
            ]
            + [KeyValue(key=key, value=value) for key, value in health.values],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _set_priority(self) -> None:
        self._prioritiser.cancel()
        try:
            # Linux takes 0 for the calling thread: that of the executor.
            os.setpriority(os.PRIO_PROCESS, 0, self.settings.niceness)
            self.health.set_value('niceness', self.settings.niceness)
        except OSError:
            self.health.set_value('niceness', f'{self.settings.niceness} is not permitted')

    # Life cycle.

    def on_configure(self, state: Any) -> TransitionCallbackReturn:
        """Load; stay unconfigured and say why if that fails."""
        result = self._transition(self.configure, 'configure', super().on_configure, state)
        self._configured = result is TransitionCallbackReturn.SUCCESS
        return result

    def on_activate(self, state: Any) -> TransitionCallbackReturn:
        """Join the graph."""
        result = self._transition(self.activate, 'activate', super().on_activate, state)
        if result is TransitionCallbackReturn.SUCCESS:
            self._active = True
            self.get_logger().info('active')
        else:
            self._destroy_made()
        return result

    def on_deactivate(self, state: Any) -> TransitionCallbackReturn:
        """Leave the graph."""
        self._active = False
        self.guarded(self.deactivate)()
        self._destroy_made()
        return super().on_deactivate(state)

    def on_cleanup(self, state: Any) -> TransitionCallbackReturn:
        """Let go of models."""
        self._configured = False
        self.guarded(self.cleanup)()
        return super().on_cleanup(state)

    def on_shutdown(self, state: Any) -> TransitionCallbackReturn:
        """Leave the graph and let go of models for good."""
        self._starter.cancel()
        if self._active:
            self.on_deactivate(state)
        self.guarded(self.cleanup)()
        return super().on_shutdown(state)

    def close(self) -> None:
        """Deactivate, let go of everything, and leave the graph; nothing may spin the node."""
        if self._active:
            self.trigger_deactivate()
        self.guarded(self.cleanup)()
        self.destroy_node()

    def _start(self) -> None:
        self._starter.cancel()
        if not self._configured:
            self.trigger_configure()
        if self._configured and not self._active:
            self.trigger_activate()
        if not self._active:
            self._starter.timer_period_ns = round(self.settings.retry_period * 1e9)
            self._starter.reset()

    def _transition(
        self, work: Callable[[], None], name: str, inherited: Callable[[Any], Any], state: Any
    ) -> TransitionCallbackReturn:
        try:
            work()
        except ConveyorError as error:
            self.set_condition(name, Level.ERROR, f'cannot {name}: {error}')
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # an unknown failure must not end the node either
            self.set_condition(
                name, Level.ERROR, f'cannot {name}: {type(error).__name__}: {error}'
            )
            self.get_logger().error(traceback.format_exc())
            return TransitionCallbackReturn.FAILURE
        self.clear_condition(name, f'can {name} again')
        return inherited(state)

    def _destroy_made(self) -> None:
        for timer in self._timers_made:
            self.destroy_timer(timer)
        for subscription in self._subscriptions_made:
            self.destroy_subscription(subscription)
        for publisher in self._publishers_made:
            self.destroy_publisher(publisher)
        self._timers_made, self._subscriptions_made, self._publishers_made = [], [], []

    # Details.

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

    def _event(self, name: str, level: Level, message: str) -> None:
        now_ns = self.steady_clock.now().nanoseconds
        if self.health.event(name, level, message, now_ns):
            self._log(level, f'{name}: {message}')
            self._report_soon()

    def _log(self, level: Level, message: str) -> None:
        # rclpy lets each line of code log with one severity only.
        if level is Level.ERROR:
            self.get_logger().error(message)
        else:
            self.get_logger().warning(message)

    def _report_soon(self) -> None:
        # A flood of bad messages must not become a flood of reports.
        if self.steady_clock.now().nanoseconds - self._last_report_ns > 100_000_000:
            self.report()

    def _on_set_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        try:
            self.settings = changed_settings(
                self.settings, {item.name: item.value for item in parameters}, self.check_settings
            )
            self.settings_changed()
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def _resetting(timer: Timer, callback: Callable[[Any], None]) -> Callable[[Any], None]:
    def call(message: Any) -> None:
        timer.reset()
        callback(message)

    return call
