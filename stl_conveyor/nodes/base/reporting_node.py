# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A node with declared parameters that reports on itself, and whose callbacks cannot end it."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter

from stl_conveyor.errors import ConfigError, ConveyorError
from stl_conveyor.nodes.base.clock import clock_ns, to_stamp
from stl_conveyor.nodes.base.health import Level, NodeHealth, fault_status_name
from stl_conveyor.nodes.base.heart import Turn
from stl_conveyor.nodes.base.qos import make_profile, overriding_options
from stl_conveyor.nodes.base.settings import (
    NodeSettings,
    changed_settings,
    declare_settings,
    fixed_while_configured,
)
from stl_conveyor.nodes.base.topics import Profile

SHORTLY_S = 0.1  # in which what changes together is reported together
HEARD_NS = 500_000_000  # in which who listens takes in the last word


class ReportingNode(LifecycleNode):
    """Holds the parameters in `settings`, and publishes `health` on /diagnostics."""

    NAME: ClassVar[str]
    SETTINGS: ClassVar[type[NodeSettings]] = NodeSettings

    def __init__(self, **arguments: Any) -> None:
        """Declare the parameters; `arguments` are those of rclpy's Node but the name.

        With `meant_parameters`, names, others that are set may be those of another node.

        Raises:
            ConfigError: Naming the parameter that is unknown or has a wrong value.
        """
        meant = arguments.pop('meant_parameters', None)
        super().__init__(arguments.pop('node_name', self.NAME), **arguments)
        self.health = NodeHealth()
        self.turn = Turn()
        self.steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        try:
            self.settings: Any = declare_settings(self, self.SETTINGS, self.check_settings, meant)
        except ConfigError:
            self.destroy_node()
            raise
        self._last_report_ns = 0
        self._unsaid = False
        self._shortly = self.create_timer(
            SHORTLY_S, self.guarded(self._report_once), clock=self.steady_clock
        )
        self._shortly.cancel()
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

    # What a subclass overrides.

    def check_settings(self, settings: Any) -> None:
        """Raise ConfigError, naming the parameter, if the values do not fit together."""

    def settings_changed(self) -> None:
        """Take in the new values of tunable parameters, which are in `settings`."""

    def refresh_health(self) -> None:
        """Put present values into `health`, just before it is reported."""

    @property
    def is_configured(self) -> bool:
        """Return whether the node works with the parameters that may not change while it does."""
        return True

    def node_values(self) -> Iterable[tuple[str, str]]:
        """Return what is reported of every node, beside its health: names and values."""
        return ()

    # What a subclass uses.

    def tick(self, name: str) -> None:
        """Take in one occurrence of something whose rate is reported."""
        self.health.tick(name, clock_ns(self.steady_clock))

    def warn(self, name: str, message: str) -> None:
        """Report and count an event that the node coped with."""
        self._event(name, Level.WARN, message)

    def error(self, name: str, message: str) -> None:
        """Report and count an event that kept the node from doing its work."""
        self._event(name, Level.ERROR, message)

    def set_condition(self, name: str, level: Level, message: str) -> None:
        """Report a lasting condition, at once if it is new."""
        now_ns = clock_ns(self.steady_clock)
        if self.health.set_condition(name, level, message, now_ns):
            self._log(level, message)
            self._report_soon()

    def clear_condition(self, name: str, message: str) -> None:
        """End a lasting condition, and say so."""
        if self.health.clear_condition(name):
            self.get_logger().info(message)
            self._report_soon()

    def report_value(self, name: str, value: object) -> None:
        """Report what holds from now on, and log it."""
        self.health.set_value(name, value)
        self.get_logger().info(f'{name} {value}')

    def guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        """Return the callback with every exception turned into a diagnostic and a log line."""

        @functools.wraps(callback)
        def call(*arguments: Any) -> None:
            begun = self.turn.begin()
            try:
                callback(*arguments)
            except ConveyorError as error:
                self.warn(type(error).__name__, str(error))
            except Exception as error:  # nothing that a message contains may stop the cell
                self.error('exception', f'{type(error).__name__} in {callback.__name__}: {error}')
                self.get_logger().debug(traceback.format_exc())
            finally:
                if begun:
                    self.turn.end()

        return call

    def report_news(self) -> None:
        """Publish the node's health if there is something new: now, or shortly after a report."""
        if not self._unsaid:
            return
        if clock_ns(self.steady_clock) - self._last_report_ns > SHORTLY_S * 1e9:
            self.report()
        else:
            self.report_shortly()

    def say_the_rest(self) -> None:
        """Publish the node's health now if there is something new, as it may be the last time.

        Who listens has a moment to take it in: with the process goes what is on its way.
        """
        if self._unsaid:
            self.report()
        self._diagnostics.wait_for_all_acked(Duration(nanoseconds=HEARD_NS))

    def report_shortly(self) -> None:
        """Publish the node's health once in a moment, with what else is new by then."""
        if self._shortly.is_canceled():
            self._shortly.reset()

    def _report_once(self) -> None:
        self._shortly.cancel()
        self.report()

    def report(self) -> None:
        """Publish the node's health: a status for the node, and one for each of its faults."""
        self.refresh_health()
        self._unsaid = False
        self._last_report_ns = clock_ns(self.steady_clock)
        health = self.health.report(self._last_report_ns)
        name = self.get_fully_qualified_name().lstrip('/')
        whole = _status(name, health.level, health.message, (*self.node_values(), *health.values))
        faults = [
            _status(
                fault_status_name(name, fault.name),
                fault.level,
                fault.message,
                (('seconds', f'{fault.seconds:.1f}'), ('count', str(fault.count))),
            )
            for fault in health.faults
        ]
        array = DiagnosticArray(status=[whole, *faults])
        array.header.stamp = to_stamp(clock_ns(self.get_clock()))
        self._diagnostics.publish(array)

    # Details.

    def _event(self, name: str, level: Level, message: str) -> None:
        now_ns = clock_ns(self.steady_clock)
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
        # A flood of bad messages must not become a flood of reports: one in SHORTLY_S at most, but
        # nothing that is new waits for the next periodic one.
        self._unsaid = True
        self.report_news()

    def _on_set_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        fixed = fixed_while_configured(self.SETTINGS, (item.name for item in parameters))
        if fixed and self.is_configured:
            return SetParametersResult(
                successful=False,
                reason=f'{", ".join(fixed)}: this changes only while the node is not configured; '
                'take it there with the transitions deactivate and cleanup, and back with '
                'configure and activate',
            )
        own = vars(self.settings)
        changes = {item.name: item.value for item in parameters if item.name in own}
        if not changes:  # such as the QoS of a topic, which is declared with its end
            return SetParametersResult(successful=True)
        try:
            self.settings = changed_settings(self.settings, changes, self.check_settings)
            self.settings_changed()
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def _status(
    name: str, level: Level, message: str, values: Iterable[tuple[str, str]]
) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=bytes([level]),
        name=name,
        message=message,
        hardware_id='stl_conveyor',
        values=[KeyValue(key=key, value=value) for key, value in values],
    )
