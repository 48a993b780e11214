# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The base of every node: its life cycle."""

from __future__ import annotations

import math
import secrets
import traceback
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.serialization import serialize_message

from stl_conveyor.errors import ConveyorError
from stl_conveyor.msg import Heartbeat
from stl_conveyor.nodes.base.clock import clock_ns
from stl_conveyor.nodes.base.connected_node import ConnectedNode
from stl_conveyor.nodes.base.health import Level
from stl_conveyor.nodes.base.heart import HEART, PERIOD_S
from stl_conveyor.nodes.base.qos import make_profile, overriding_options
from stl_conveyor.nodes.base.topics import Profile

if TYPE_CHECKING:
    from stl_conveyor.nodes.base.sole_publisher import SolePublisher


class ConveyorNode(ConnectedNode):
    """A lifecycle node that reports on itself and that no message and no missing file can kill.

    A subclass names its parameters in `SETTINGS` and overrides `configure` (load and check
    models), `activate` (open publishers, subscriptions, timers, threads, files and devices),
    `deactivate` (finish the work that is under way) and `cleanup` (let go of models). What
    `activate` opened stands on the stack `resources`, which the base closes.
    """

    def __init__(self, **arguments: Any) -> None:
        """Start by itself, unless `autostart` is off; `arguments` are those of rclpy's Node.

        Raises:
            ConfigError: Naming the parameter that is unknown or has a wrong value.
        """
        self._configured = False
        self._active = False
        self.on_end: Callable[[int], None] = lambda exit_code: None
        self.instance = secrets.randbits(64)  # two of one name are two nodes
        self.sole_publisher: SolePublisher | None = None
        self._unable_until_ns: dict[str, float] = {}
        super().__init__(**arguments)
        if self.HEARTBEATS:
            self._signs_of_life: dict[tuple[bool, bool], bytes] = {}
            self._heartbeats = self.create_publisher(
                Heartbeat,
                'heartbeat',
                make_profile(Profile.HEARTBEAT),
                qos_overriding_options=overriding_options(),
            )
            HEART.add(self._beat)
        self._starter = self.create_timer(0.0, self.guarded(self._start), clock=self.steady_clock)
        if not self.settings.autostart:
            self._starter.cancel()

    #: Off for what speaks over the network, where its own messages tell that it lives.
    HEARTBEATS: ClassVar[bool] = True

    # What a subclass overrides.

    def configure(self) -> None:
        """Load and check what the node needs; raise ConveyorError if it is not to be had."""

    def activate(self) -> None:
        """Open what the node works with, and put each thing on `resources`."""

    def deactivate(self) -> None:
        """Finish the work under way, while everything is still open."""

    def cleanup(self) -> None:
        """Let go of what `configure` loaded."""

    # What a subclass uses.

    @property
    def is_active(self) -> bool:
        """Return whether the node is in the lifecycle state active."""
        return self._active

    @property
    def is_configured(self) -> bool:
        """Return whether `configure` has read the parameters, and `cleanup` did not follow."""
        return self._configured

    def end(self, exit_code: int = 0) -> None:
        """Ask the process of the node to end, as a signal does; without one nothing happens.

        What is new is said before.
        """
        self.say_the_rest()
        self.on_end(exit_code)

    def cannot_work(self, why: str, seconds: float = math.inf) -> None:
        """Have the signs of life say that the node cannot do its part, from now on or for a while.

        Args:
            why: Name of the fault; its report is the node's own.
            seconds: After which that is over, if `can_work` does not end it.
        """
        until_ns = clock_ns(self.steady_clock) + 1e9 * seconds
        self._unable_until_ns = {**self._unable_until_ns, why: until_ns}

    def can_work(self, why: str) -> None:
        """End what `cannot_work` began."""
        if why in self._unable_until_ns:
            left = {name: end for name, end in self._unable_until_ns.items() if name != why}
            self._unable_until_ns = left

    def forget(self, *names: str) -> None:
        """Drop attributes that `configure` set, such as models, if it came so far."""
        for name in names:
            vars(self).pop(name, None)

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
            self.turn.renew()
            self._beat()
            self.report_shortly()
            self.get_logger().info('active')
        else:
            self._close_resources()
        return result

    def on_deactivate(self, state: Any) -> TransitionCallbackReturn:
        """Leave the graph."""
        self._active = False
        self._beat()
        self.guarded(self.deactivate)()
        self._close_resources()
        self._unable_until_ns = {}
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

    def _close_resources(self) -> None:
        # One that cannot be closed is reported, and keeps none of the others open.
        self.guarded(self.resources.close)()

    def destroy_node(self) -> None:
        """Show no more signs of life, and leave the graph."""
        HEART.remove(self._beat)
        super().destroy_node()

    def _beat(self) -> None:
        """Show a sign of life, from the thread of the heart or that of the executor."""
        if not self.HEARTBEATS:
            return
        busy, active, sole = self.turn.busy, self._active, self.sole_publisher
        unable = self._is_unable()
        if busy >= PERIOD_S or sole is not None:
            busy = busy if busy >= PERIOD_S else 0.0
            self._heartbeats.publish(self._sign_of_life(active, unable, busy, sole))
            return
        kind = active, unable
        if kind not in self._signs_of_life:
            self._signs_of_life[kind] = serialize_message(self._sign_of_life(active, unable, 0.0))
        self._heartbeats.publish(self._signs_of_life[kind])

    def _is_unable(self) -> bool:
        ends_ns = self._unable_until_ns.values()
        return bool(ends_ns) and max(ends_ns) > clock_ns(self.steady_clock)

    def _sign_of_life(
        self, active: bool, unable: bool, busy: float, sole: SolePublisher | None = None
    ) -> Heartbeat:
        return Heartbeat(
            node=self.get_fully_qualified_name().lstrip('/'),
            instance=self.instance,
            active=active,
            busy=busy,
            unable=unable,
            sole_topic='' if sole is None else sole.topic,
            sole_for=0.0 if sole is None else sole.beat(),
        )

    def node_values(self) -> Iterable[tuple[str, str]]:
        """Return the state, and how many listen to what the node publishes."""
        yield 'state', 'active' if self._active else 'not active'
        for publisher in self.open_publishers:
            yield f'{publisher.topic_name}.subscribers', str(publisher.get_subscription_count())
