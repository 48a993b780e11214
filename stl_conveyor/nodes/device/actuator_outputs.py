# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How the actuator's decisions reach the diverters, and how it learns that they moved."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rclpy.duration import Duration
from std_msgs.msg import Header

from stl_conveyor.cell.belt_history import BeltHistory
from stl_conveyor.cell.ledger import ItemKey
from stl_conveyor.cell.stroke_plan import Miss, Passage, StrokePlan
from stl_conveyor.cell.strokes import (
    Extend,
    Retract,
    Silent,
    Stroke,
    StrokeSchedule,
    TooLate,
    Window,
)
from stl_conveyor.errors import HardwareError
from stl_conveyor.hardware.diverter import DiverterEvents, Diverters, StrokeReport, StrokeResult
from stl_conveyor.msg import Actuation
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.health import Level
from stl_conveyor.nodes.base.inbox import Inbox
from stl_conveyor.nodes.base.items import item_key

FINISH_S = 3.0  # from the camera to the last diverter takes less
HELD_S = 1.0  # for a belt that stands to go on
SENT_NS = 500_000_000
UNABLE_S = 5.0  # for which the line should stand after an item whose stroke was not made
MISSES = {
    Miss.PAST: 'its item was past the diverter before the belt was known to bring it there; see '
    'that belt_state comes without gaps, at least 10 times a second',
    Miss.LOST: 'where its item is was lost: the belt moved while nothing came on belt_state, or '
    'before anything did; take the item off the belt, and let belt_state come without gaps',
}


@dataclass(frozen=True)
class Push:
    """An item that a diverter must push.

    Attributes:
        due_ns: Its time on the schedule's clock, as the capture's speed of the belt has it.
        capture_ns: Of the capture, on that clock.
        way: Metres from the camera to the diverter; 0 = not told, the belt is not followed.
        lead_ns: From the command until the item is met.
    """

    key: ItemKey
    header: Header
    lane: str
    due_ns: int
    capture_ns: int = 0
    way: float = 0.0
    lead_ns: int = 0

    @property
    def passage(self) -> Passage | None:
        """Return the item's way to its diverter; None where the belt is not followed."""
        if not self.way:
            return None
        return Passage(self.capture_ns, self.way, self.lead_ns, self.due_ns)


class ActuatorOutput(Protocol):
    """Where pushes go."""

    def push(self, push: Push) -> None:
        """Have a diverter move at its time."""

    def belt_moved(self) -> None:
        """Take in that something new is known of the belt."""

    def finish(self) -> None:
        """Make what is waiting."""


class DiverterHealth:
    """What the diagnostics say about diverters; a lane is well again when it confirms."""

    def __init__(self, node: ConveyorNode) -> None:
        """Report through the node."""
        self._node = node

    def confirmed(self, lane: str, lateness_ns: int | None, delay_ns: int | None) -> None:
        """Take in a confirmation; times in ns where they are known."""
        self._node.can_work(f'diverter.{lane}')
        self._node.clear_condition(f'diverter.{lane}', f'diverter of lane {lane} confirms')
        self._node.tick('confirmed')
        if lateness_ns is not None:
            self._node.health.sample('command_lateness', lateness_ns / 1e9)
        if delay_ns is not None:
            self._node.health.sample('confirm_delay', delay_ns / 1e9)

    def trouble(self, name: str, lane: str, message: str) -> None:
        """Report a diverter that is silent or cannot be commanded, and count the item."""
        self._node.health.count(name)
        self._node.cannot_work(f'diverter.{lane}', UNABLE_S)
        self._node.set_condition(f'diverter.{lane}', Level.ERROR, f'{name}: {message}')


class ReportedStrokes:
    """Strokes that a driver of its own makes and reports.

    The outcome has been published when an item is handed in; here the driver's report is awaited.
    """

    def __init__(
        self,
        node: ConveyorNode,
        confirm_time: float,
        listen: Callable[[Callable[[StrokeReport], None]], None],
        plan: StrokePlan,
    ) -> None:
        """Listen to the driver.

        Args:
            plan: Says when items come to their diverters, as the driver should see it, too.
            confirm_time: Seconds after a diverter's time until which is waited; 0 = not at all.
            listen: Has every report handed to a function.
        """
        self._node = node
        self._confirm_ns = round(confirm_time * 1e9)
        self._health = DiverterHealth(node)
        self._plan = plan
        self._awaited: dict[ItemKey, _Awaited] = {}
        if self._confirm_ns:
            self._timer = node.once(self._expire, clock=node.schedule_clock.timer_clock)
            listen(self._on_report)

    def push(self, push: Push) -> None:
        """Await the driver's answer."""
        if self._confirm_ns:
            self._awaited[push.key] = _Awaited(push.lane, push.passage, push.due_ns)
            self._expire()

    def belt_moved(self) -> None:
        """Await reports for as long as the belt takes."""
        if self._confirm_ns:
            self._expire()

    def finish(self) -> None:
        """Nothing is held."""

    def _on_report(self, report: StrokeReport) -> None:
        awaited = self._awaited.pop(item_key(report), None)
        lane = report.lane if awaited is None else awaited.lane
        if report.result is StrokeResult.CONFIRMED:
            self._health.confirmed(lane, report.lateness_ns, report.delay_ns)
        else:
            silent = report.result is StrokeResult.SILENT
            self._health.trouble(
                'diverter_silent' if silent else 'diverter_failed',
                lane,
                f'lane {lane}: {report.detail}',
            )

    def _expire(self) -> None:
        self._timer.cancel()
        now_ns = self._node.schedule_clock.now_ns()
        next_ns: int | None = None
        for key, awaited in list(self._awaited.items()):
            expiry_ns = self._expiry_ns(awaited, now_ns)
            if expiry_ns is not None and expiry_ns <= now_ns:
                del self._awaited[key]
                self._health.trouble(
                    'diverter_silent',
                    awaited.lane,
                    f'lane {awaited.lane}: no driver confirmed on the topic '
                    'actuation; check that it runs. For one that confirms nothing set '
                    'confirm_timeout to 0',
                )
            elif expiry_ns is not None:
                next_ns = expiry_ns if next_ns is None else min(next_ns, expiry_ns)
        if next_ns is not None:
            self._timer.after(next_ns - now_ns)

    def _expiry_ns(self, awaited: _Awaited, now_ns: int) -> int | None:
        """Return until when a report is awaited; None while the belt brings the item nowhere."""
        if awaited.passage is None or not self._plan.follows:
            return awaited.due_ns + self._confirm_ns
        if awaited.passed_ns is None:
            window = self._plan.when(awaited.passage, now_ns)
            if isinstance(window, Window):
                if window.due_ns <= now_ns:
                    awaited.passed_ns = window.due_ns
                return window.due_ns + self._confirm_ns
            if window is Miss.LOST:
                return now_ns  # nor does the driver know
            if window is Miss.PAST:
                awaited.passed_ns = now_ns
            else:
                return None
        return awaited.passed_ns + self._confirm_ns


@dataclass
class _Awaited:
    lane: str
    passage: Passage | None
    due_ns: int
    passed_ns: int | None = None  # when the belt had brought the item there


class StrokeOutput:
    """Diverters that the actuator commands itself, each at the time at which its item gets there.

    Everything runs in the node's executor; what drivers report from threads of their own is
    brought there.
    """

    def __init__(
        self,
        node: ConveyorNode,
        schedule: StrokeSchedule[Push],
        make_diverters: Callable[[DiverterEvents], Diverters],
        plan: StrokePlan | None = None,
        look_at_belt: Callable[[], None] | None = None,
        done: Callable[[ItemKey], None] = lambda _: None,
    ) -> None:
        """Open the hardware.

        Args:
            plan: Says when items come to their diverters; None: at the time that a push has.
            look_at_belt: Takes in what was reported of the belt, while no executor does.
            done: Called when a stroke of an item was commanded, or cannot be made.

        Raises:
            ConveyorError: If it cannot be had.
        """
        self._node = node
        self._done = done
        self._schedule = schedule
        self._plan = plan or StrokePlan(BeltHistory(), useful_way=0.0, max_late_ns=0)
        self._look_at_belt = look_at_belt
        self._passages: dict[int, Passage] = {}  # of the strokes that wait, by serial
        self._health = DiverterHealth(node)
        self._publisher = node.publish_on('actuation')
        # A writer that goes takes what is under way with it.
        node.resources.callback(self._publisher.wait_for_all_acked, Duration(nanoseconds=SENT_NS))
        self._timer = node.once(self._step, clock=node.schedule_clock.timer_clock)
        self._inbox = Inbox(node)
        self._commanded: dict[int, tuple[Stroke[Push], int]] = {}  # until their end, by serial
        self._diverters = make_diverters(
            DiverterEvents(
                confirmed=self._from_any_thread(self._on_confirmed),
                failed=self._from_any_thread(self._on_failed),
                connected=self._from_any_thread(self._on_connected),
            )
        )
        node.resources.callback(self._diverters.close)

    def push(self, push: Push) -> None:
        """Plan the stroke."""
        stroke = self._schedule.add(push, push.lane, push.due_ns)
        passage = push.passage
        if passage is not None:
            self._passages[stroke.serial] = passage
        self._step()

    def belt_moved(self) -> None:
        """Follow the belt: a stroke waits while it stands, or is not known."""
        self._step()

    def _follow_belt(self) -> None:
        now_ns = self._node.schedule_clock.now_ns()
        missed: list[tuple[Stroke[Push], Miss]] = []

        def when(stroke: Stroke[Push]) -> Window | None:
            passage = self._passages.get(stroke.serial)
            if passage is None:
                return Window(stroke.due_ns, stroke.latest_ns)
            plan = self._plan.when(passage, now_ns)
            if isinstance(plan, Miss):
                missed.append((stroke, plan))
            return plan if isinstance(plan, Window) else None

        self._schedule.replan(when)
        for stroke, miss in missed:
            self._schedule.drop(stroke)
            self._node.guarded(self._failed)(stroke, MISSES[miss])
        self._node.health.set_value('strokes_held', self._schedule.held)

    def finish(self) -> None:
        """Make the strokes that are waiting, each at its time; in simulated time let them be.

        That they are not made is an error where parts move. A simulation ends with its nodes, and
        its clock waits for none of them.
        """
        began = time.monotonic()
        clock = self._node.schedule_clock
        while self._schedule.waiting or self._schedule.next_ns() is not None:
            most = HELD_S if self._schedule.next_ns() is None else FINISH_S
            if clock.simulated or time.monotonic() - began > most:
                break
            self._inbox.drain()
            if self._look_at_belt is not None:
                self._look_at_belt()
            self._step()
            next_ns = self._schedule.next_ns()
            left = 0.01 if next_ns is None else max(0, next_ns - clock.now_ns()) / 1e9
            if self._schedule.waiting or next_ns is not None:
                time.sleep(min(left, 0.01))
        waiting = self._schedule.waiting_strokes()
        for stroke in waiting:
            self._schedule.drop(stroke)
            self._failed(stroke, 'the node stopped while its item was on its way')
        text = f'{len(waiting)} items were on their way to a diverter when the node stopped'
        if waiting and clock.simulated:
            self._node.get_logger().info(text)
        elif waiting:
            self._node.error('strokes_dropped', text)

    def _from_any_thread(self, function: Callable[..., None]) -> Callable[..., None]:
        later = self._inbox.brings(function)
        return lambda *arguments: later(self._node.schedule_clock.now_ns(), *arguments)

    def _step(self) -> None:
        self._timer.cancel()
        clock = self._node.schedule_clock
        self._follow_belt()
        while (action := self._schedule.step(clock.now_ns())) is not None:
            self._node.guarded(self._do)(action)
        next_ns = self._schedule.next_ns()
        if next_ns is not None:
            self._timer.after(next_ns - clock.now_ns())

    def _do(self, action: object) -> None:
        if isinstance(action, Extend):
            self._extend(action)
        elif isinstance(action, Retract):
            self._retract(action.lane)
        elif isinstance(action, TooLate):
            self._failed(
                action.stroke,
                f'its item was {action.lateness_ns / 1e9:.3f} s past the '
                'diverter; raise guard, or move the diverter further from the camera',
            )
        elif isinstance(action, Silent):
            self._commanded.pop(action.stroke.serial, None)
            lane = action.stroke.lane
            self._publish(
                action.stroke,
                Actuation.STATUS_SILENT,
                action.lateness_ns,
                None,
                self._diverters.remedy(lane),
            )
            self._health.trouble(
                'diverter_silent',
                lane,
                f'lane {lane} was commanded and did not confirm; {self._diverters.remedy(lane)}',
            )

    def _extend(self, action: Extend[Push]) -> None:
        stroke = action.stroke
        self._passages.pop(stroke.serial, None)
        self._node.health.sample('stroke_lateness', action.lateness_ns / 1e9)
        if not action.held and self._diverters.is_out(stroke.lane):
            self._failed(
                stroke,
                'it was out before it was commanded: it is stuck, or its '
                f'feedback is; {self._diverters.remedy(stroke.lane)}',
            )
            self._retract(stroke.lane)
            return
        self._commanded[stroke.serial] = stroke, action.lateness_ns
        self._done(stroke.item.key)
        try:
            self._diverters.extend(stroke.lane, stroke.serial, action.lateness_ns / 1e9)
        except HardwareError as error:
            self._failed(stroke, str(error))

    def _retract(self, lane: str) -> None:
        try:
            self._diverters.retract(lane)
        except HardwareError as error:
            self._health.trouble('diverter_failed', lane, f'lane {lane}: {error}')

    def _failed(self, stroke: Stroke[Push], reason: str) -> None:
        self._schedule.withdraw(stroke)
        self._passages.pop(stroke.serial, None)
        self._done(stroke.item.key)
        _, lateness_ns = self._commanded.pop(stroke.serial, (stroke, None))
        self._publish(stroke, Actuation.STATUS_FAILED, lateness_ns, None, reason)
        self._health.trouble('diverter_failed', stroke.lane, f'lane {stroke.lane}: {reason}')

    def _on_confirmed(self, now_ns: int, lane: str, serial: int | None) -> None:
        confirmation = self._schedule.confirm(lane, now_ns, serial)
        if confirmation is None:
            self._node.health.count('unexpected_confirmations')
            return
        self._commanded.pop(confirmation.stroke.serial, None)
        self._publish(
            confirmation.stroke,
            Actuation.STATUS_CONFIRMED,
            confirmation.lateness_ns,
            confirmation.delay_ns,
            '',
        )
        self._health.confirmed(lane, confirmation.lateness_ns, confirmation.delay_ns)

    def _on_failed(self, now_ns: int, lane: str, serial: int | None, reason: str) -> None:
        known = self._commanded.get(serial) if serial is not None else None
        if known is not None:
            self._failed(known[0], reason)
        else:
            self._health.trouble('diverter_failed', lane, f'lane {lane}: {reason}')

    def _on_connected(self, now_ns: int, reason: str | None) -> None:
        if reason is None:
            self._node.can_work('diverters')
            self._node.clear_condition('diverters', 'the diverters can be reached')
        else:
            self._node.cannot_work('diverters')
            self._node.set_condition('diverters', Level.ERROR, reason)

    def _publish(
        self,
        stroke: Stroke[Push],
        status: int,
        lateness_ns: int | None,
        delay_ns: int | None,
        detail: str,
    ) -> None:
        push = stroke.item
        self._publisher.publish(
            Actuation(
                header=push.header,
                item_id=push.key.item_id,
                lane=push.lane,
                status=status,
                lateness=-1.0 if lateness_ns is None else lateness_ns / 1e9,
                delay=-1.0 if delay_ns is None else delay_ns / 1e9,
                detail=detail,
            )
        )
