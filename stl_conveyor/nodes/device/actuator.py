# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Command the diverter for every item in time, with the best answer that came."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from std_msgs.msg import Header

from stl_conveyor.cell.deadline import longest_decision_ns, stroke_time_ns
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.cell.ledger import Admission, Answer, AnswerSource, Decision, ItemLedger, Verdict
from stl_conveyor.cell.strokes import StrokeSchedule
from stl_conveyor.errors import ConfigError
from stl_conveyor.hardware.diverter import DiverterEvents, Diverters
from stl_conveyor.hardware.pins import LARGEST_PIN, NO_PIN
from stl_conveyor.hardware.selection import open_diverters
from stl_conveyor.msg import Classification, ItemCapture, OffloadDecision, SortOutcome
from stl_conveyor.nodes.base.clock import to_ns, to_stamp
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.items import RecentItems, configured_path, item_key
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.settings import NodeSettings, parameter
from stl_conveyor.nodes.device.actuator_outputs import (
    ActuatorOutput,
    ControllerDiverters,
    ControllerJoints,
    Push,
    StrokeOutput,
    TopicOutput,
)

# An honest capture can look a little fresher than it is where two hosts' clocks differ.
CLOCK_TOLERANCE_NS = 50_000_000
FLUSH_NS = 500_000_000
REASONS = {
    OffloadDecision.REASON_NO_TOKENS: 'no tokens',
    OffloadDecision.REASON_EDGE_GONE: 'edge gone',
    OffloadDecision.REASON_TOO_LATE: 'too late to offload',
    OffloadDecision.REASON_BAD_INPUT: 'bad input to the policy',
}
# The parameters of each output that name something for every lane.
OUTPUTS = {
    'topic': (),
    'gpio': ('gpio_pins', 'gpio_feedback_pins'),
    'ros2_control': ('joints',),
    'modbus': ('modbus_addresses', 'modbus_feedback'),
}


@dataclass(frozen=True)
class ActuatorSettings(NodeSettings):
    """Parameters of the actuator."""

    cell_file: str = parameter(
        '', 'Cell description (YAML). Empty: the one that the package ships.'
    )
    niceness: int = parameter(
        -10,
        'Scheduling priority of the thread that runs the node: -20 (first) to 19. It must '
        'not wait for models. What the system does not permit is reported and otherwise left '
        'out.',
        minimum=-20,
        maximum=19,
    )
    guard: float = parameter(
        0.04,
        'Seconds before the deadline at which the diverter is commanded.',
        minimum=0.0,
        maximum=1.0,
    )
    output: str = parameter(
        'topic',
        'Who commands the diverters: topic leaves it to a driver that listens to '
        'sort_outcome and answers on actuation; with the others this node does so itself, at '
        "each diverter's time.",
        choices=tuple(OUTPUTS),
    )
    confirm_timeout: float = parameter(
        0.5,
        'Seconds after its time within which a diverter must confirm that it moved, else it '
        'is reported; 0 = no confirmation is awaited.',
        minimum=0.0,
        maximum=10.0,
    )
    stroke_time: float = parameter(
        0.2,
        'Seconds for which a diverter is held out; not with Modbus registers, where the PLC '
        'knows.',
        minimum=0.01,
        maximum=10.0,
    )
    belt_speed_tolerance: float = parameter(
        0.25,
        'How much slower than in the cell description the belt may run, as a fraction, '
        'before a deadline counts as absurd.',
        minimum=0.0,
        maximum=0.9,
    )
    gpio_pins: tuple[int, ...] = parameter(
        (17, 27, 22),
        "Output of each lane's diverter, in the order of the cell description (BCM "
        'numbers), with output gpio.',
    )
    gpio_feedback_pins: tuple[int, ...] = parameter(
        (5, 6, 13),
        "Input of each lane's end switch, active while the diverter is out; -1: "
        'there is none, and only the output is read back.',
    )
    gpio_active_high: bool = parameter(
        True, 'Whether the high level of an output moves the diverter out.'
    )
    gpio_feedback_pull_up: bool = parameter(
        True, 'Whether an end switch connects its input to ground (with a pull-up), else to 3.3 V.'
    )
    gpio_bounce_time: float = parameter(
        0.005, 'Seconds for which an end switch may bounce.', minimum=0.0, maximum=0.1
    )
    modbus_host: str = parameter('192.168.0.10', 'Address of the PLC, with output modbus.')
    modbus_port: int = parameter(502, 'TCP port of the PLC.', minimum=1, maximum=65535)
    modbus_unit: int = parameter(1, 'Unit (device) number of the PLC.', minimum=0, maximum=255)
    modbus_kind: str = parameter(
        'coil',
        'coil: a coil per lane is set and cleared. register: the number of the stroke is '
        'written to a holding register per lane, and the PLC makes the stroke.',
        choices=('coil', 'register'),
    )
    modbus_addresses: tuple[int, ...] = parameter(
        (0, 1, 2), 'Coil or register of each lane, counted from 0.'
    )
    modbus_feedback: tuple[int, ...] = parameter(
        (0, 1, 2),
        'Where each lane confirms: with coils the discrete input of the end switch '
        '(-1: read the coil back); with registers the holding register to which the PLC copies '
        'the number.',
    )
    modbus_timeout: float = parameter(
        0.2, 'Seconds for which a request to the PLC may take.', minimum=0.01, maximum=10.0
    )
    controller_kind: str = parameter(
        'forward',
        'What the ros2_control controller is: a forward command controller (positions '
        'on diverter_controller/commands) or a joint trajectory controller, with output '
        'ros2_control.',
        choices=('forward', 'trajectory'),
    )
    joints: tuple[str, ...] = parameter(
        ('diverter_a', 'diverter_b', 'diverter_c'),
        "Joint of each lane's diverter, in the order of the controller.",
    )
    joint_extended: float = parameter(
        0.15, 'Position (m or rad) of a joint that is out.', minimum=-10.0, maximum=10.0
    )
    joint_retracted: float = parameter(
        0.0, 'Position (m or rad) of a joint that is back.', minimum=-10.0, maximum=10.0
    )
    joint_tolerance: float = parameter(
        0.01,
        'How near to joint_extended (m or rad) a joint counts as out.',
        minimum=0.0001,
        maximum=1.0,
    )
    joint_travel_time: float = parameter(
        0.1, 'Seconds that a trajectory gives a joint for its way.', minimum=0.001, maximum=10.0
    )
    max_open_items: int = parameter(
        256,
        'Most items that wait for their time; beyond, the one with the most time is '
        'decided at once.',
        minimum=1,
        maximum=100_000,
    )


@dataclass
class _Capture:
    header: Header
    deadline: Time
    stamp_ns: int  # of the capture, on the schedule's clock


class Actuator(ConveyorNode):
    """See the module."""

    NAME = 'actuator'
    SETTINGS = ActuatorSettings

    def check_settings(self, settings: ActuatorSettings) -> None:
        """Refuse a guard that leaves no time."""
        cell = CellDescription.load(configured_path(settings.cell_file, 'config/cell.yaml'))
        if settings.guard * 1e9 >= cell.decision_time_ns:
            raise ConfigError(
                f'guard: {settings.guard} s is not less than the {cell.decision_time_ns / 1e9} s '
                'between camera and diverter'
            )
        for name in OUTPUTS[settings.output]:
            values = getattr(settings, name)
            if len(values) != len(cell.lanes):
                raise ConfigError(
                    f'{name}: {list(values)} must name one for each of the {len(cell.lanes)} '
                    f'lanes {", ".join(lane.name for lane in cell.lanes)}'
                )
        if settings.output == 'gpio':
            check_pins(settings)
        if settings.output == 'modbus':
            check_addresses(settings)
        if settings.output == 'ros2_control' and len(set(settings.joints)) < len(settings.joints):
            raise ConfigError(f'joints: {list(settings.joints)} names a joint twice')

    def configure(self) -> None:
        """Read the cell and start an empty ledger."""
        self.cell = CellDescription.load(
            configured_path(self.settings.cell_file, 'config/cell.yaml')
        )
        self.ledger = ItemLedger(
            guard_ns=round(self.settings.guard * 1e9),
            longest_ns=longest_decision_ns(self.cell, self.settings.belt_speed_tolerance)
            + CLOCK_TOLERANCE_NS,
            max_open=self.settings.max_open_items,
        )
        self._captures: RecentItems[_Capture] = RecentItems(self.settings.max_open_items + 1)
        self._reasons: RecentItems[int] = RecentItems(512)

    def activate(self) -> None:
        """Listen, and be ready to act."""
        self._outcomes = self.publish_on('sort_outcome')
        self._output = self._make_output()
        # Period and start are set whenever an item becomes the next.
        self._timer = self.every(3600.0, self._act, clock=self.schedule_clock.timer_clock)
        self._timer.cancel()
        self._jump = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False
            ),
            post_callback=self.guarded(self._on_clock_set_back),
        )
        self.listen('capture', self._on_capture)
        self.listen('classification', self._on_local)
        self.listen('edge_classification', self._on_edge)
        self.listen('offload_decision', self._on_decision)

    def deactivate(self) -> None:
        """Give what is open its outcome now."""
        self._jump.unregister()
        self._publish(self.ledger.decide_all(self.schedule_clock.now_ns()), 'actuator stopped')
        self._output.finish()
        # A writer that goes takes what is under way with it.
        self._outcomes.wait_for_all_acked(Duration(nanoseconds=FLUSH_NS))

    def refresh_health(self) -> None:
        """Report how many items wait."""
        if self.is_active:
            self.health.set_value('open_items', self.ledger.open_items)

    def _on_capture(self, message: ItemCapture) -> None:
        now_ns, ros_ns = self.schedule_clock.now_ns(), self.schedule_clock.ros_now_ns()
        key = item_key(message)
        admission = self.ledger.capture(key, to_ns(message.deadline) - ros_ns, now_ns)
        if admission in (Admission.DUPLICATE, Admission.CONFLICT):
            self.warn(admission.value, f'item {key.item_id} is known already')
            return
        self.tick('captures')
        self._captures.put(
            key, _Capture(message.header, message.deadline, now_ns - (ros_ns - key.stamp_ns))
        )
        if admission is Admission.ACT_AT_ONCE:
            left = (to_ns(message.deadline) - ros_ns) / 1e9
            self.warn(
                'absurd_deadline' if left > self.settings.guard else 'late_capture',
                f'item {key.item_id}: deadline is {left:.3f} s away',
            )
        self._act()

    def _on_local(self, message: Classification) -> None:
        self._on_answer(message, AnswerSource.LOCAL)

    def _on_edge(self, message: Classification) -> None:
        self._on_answer(message, AnswerSource.EDGE)

    def _on_answer(self, message: Classification, source: AnswerSource) -> None:
        key = item_key(message)
        if message.source != source:
            self.warn(
                'wrong_source',
                f'item {key.item_id}: source {message.source} on the topic '
                f'of {source.name.lower()} answers',
            )
            return
        if self.cell.lane_of(message.class_id) == self.cell.reject_lane:
            self.warn(
                'unknown_class',
                f'item {key.item_id}: no lane sorts '
                f'{message.class_id[:40]!r}; compare cell_file and models_dir',
            )
            return
        now_ns = self.schedule_clock.now_ns()
        verdict = self.ledger.answer(
            key,
            Answer(source, message.class_id, message.score, now_ns, message.bytes_used),
            now_ns,
        )
        if verdict in (Verdict.BAD, Verdict.STALE):
            self.warn(verdict.value, f'item {key.item_id} from {source.name.lower()}')
        else:
            self.health.count(f'{source.name.lower()}.{verdict.value}')

    def _on_decision(self, message: OffloadDecision) -> None:
        self._reasons.put(item_key(message), message.reason)

    def _on_clock_set_back(self, jump: object) -> None:
        # The deadlines of what is open lie in a time that will come twice.
        self.warn('clock_set_back', 'ROS time jumped back; open items are acted on now')
        self._publish(self.ledger.decide_all(self.schedule_clock.now_ns()), 'clock set back')

    def _act(self) -> None:
        self._timer.cancel()
        self._publish(self.ledger.decide_due(self.schedule_clock.now_ns()), '')
        due_ns = self.ledger.next_due_ns()
        if due_ns is not None:
            self._timer.timer_period_ns = max(0, due_ns - self.schedule_clock.now_ns())
            self._timer.reset()

    def _publish(self, decisions: tuple[Decision, ...], why: str) -> None:
        for decision in decisions:
            self.guarded(self._command)(decision, why)  # one that fails takes no other with it

    def _make_output(self) -> ActuatorOutput:
        settings = self.settings
        if settings.output == 'topic':
            return TopicOutput(self, settings.confirm_timeout)
        to_edge = self.cell.diverter.paddle_width / 2 / self.cell.belt.speed
        schedule: StrokeSchedule[Push] = StrokeSchedule(
            hold_ns=round(settings.stroke_time * 1e9),
            confirm_ns=round(settings.confirm_timeout * 1e9),
            max_late_ns=round(to_edge * 1e9),
        )
        output = StrokeOutput(
            self, schedule, lambda events: make_diverters(self, events, self.cell, to_edge)
        )
        self.listen(
            'belt_state',
            lambda message: output.belt_reported(
                self.schedule_clock.from_ros_ns(to_ns(message.header.stamp)),
                message.position,
                message.speed,
            ),
        )
        return output

    def _command(self, decision: Decision, why: str) -> None:
        capture = self._captures.pop(decision.key)
        outcome = self._outcome(decision, capture, why)
        self._outcomes.publish(outcome)
        self._push(outcome, decision, capture)
        self.tick('outcomes')
        self.health.sample('slack', outcome.slack)
        if outcome.missed:
            self.warn('missed_deadline', f'item {outcome.item_id}: {-outcome.slack:.3f} s')

    def _push(self, outcome: SortOutcome, decision: Decision, capture: _Capture) -> None:
        if outcome.lane == self.cell.reject_lane:
            return
        budget_ns = to_ns(capture.deadline) - decision.key.stamp_ns
        if decision.absurd and not 0 <= budget_ns <= longest_decision_ns(
            self.cell, self.settings.belt_speed_tolerance
        ):
            self.warn(
                'no_stroke',
                f'item {outcome.item_id}: its deadline does not tell when it reaches a diverter',
            )
            return
        self._output.push(
            Push(
                decision.key,
                capture.header,
                outcome.lane,
                stroke_time_ns(
                    capture.stamp_ns, capture.stamp_ns + budget_ns, self.cell, outcome.lane
                ),
                capture.stamp_ns,
                self.cell.lane(outcome.lane).diverter_x - self.cell.camera.x,
                round(self.cell.diverter.lead_time * 1e9),
            )
        )

    def _outcome(self, decision: Decision, capture: _Capture, why: str) -> SortOutcome:
        answer = decision.answer
        slack_ns = decision.slack_ns

        def delay(given: Answer | None) -> float:
            return -1.0 if given is None else (given.received_ns - capture.stamp_ns) / 1e9

        return SortOutcome(
            header=capture.header,
            item_id=decision.key.item_id,
            deadline=capture.deadline,
            stamp=to_stamp(to_ns(capture.deadline) - slack_ns),
            lane=self.cell.reject_lane if answer is None else self.cell.lane_of(answer.class_id),
            class_id='' if answer is None else answer.class_id,
            score=0.0 if answer is None else answer.score,
            source=SortOutcome.SOURCE_NONE if answer is None else int(answer.source),
            slack=slack_ns / 1e9,
            missed=slack_ns < 0,
            reason=self._reason(decision, why),
            local_delay=delay(decision.local),
            edge_delay=delay(decision.edge),
            edge_bytes=0 if decision.edge is None else decision.edge.bytes_used,
        )

    def _reason(self, decision: Decision, why: str) -> str:
        policy_reason = self._reasons.get(decision.key)
        if decision.edge is not None:
            return why
        if decision.absurd:
            why = 'absurd deadline'
        elif decision.slack_ns < 0 and not why:
            why = 'past deadline'
        parts = [why] if why else []
        if policy_reason == OffloadDecision.REASON_WORTH_IT:
            parts.append('no edge answer in time')
        elif policy_reason in REASONS:
            parts.append(REASONS[policy_reason])
        if decision.local is None:
            parts.append('no local answer in time')
        return '; '.join(parts)


def check_pins(settings: ActuatorSettings) -> None:
    """Refuse pins that do not exist or have two uses.

    Raises:
        ConfigError: Naming the parameter.
    """
    used: list[int] = []
    for name in OUTPUTS['gpio']:
        for pin in getattr(settings, name):
            if pin == NO_PIN and name == 'gpio_feedback_pins':
                continue
            if not 0 <= pin <= LARGEST_PIN:
                raise ConfigError(f'{name}: {pin} is no BCM number of 0..{LARGEST_PIN}')
            if pin in used:
                raise ConfigError(f'{name}: GPIO {pin} is used twice')
            used.append(pin)


def check_addresses(settings: ActuatorSettings) -> None:
    """Refuse Modbus addresses that cannot be.

    Raises:
        ConfigError: Naming the parameter.
    """
    least = {
        'modbus_addresses': 0,
        'modbus_feedback': 0 if settings.modbus_kind == 'register' else -1,
    }
    for name in OUTPUTS['modbus']:
        values = getattr(settings, name)
        for address in values:
            if not least[name] <= address <= 65535:
                raise ConfigError(f'{name}: {address} is not within {least[name]}..65535')
        real = [address for address in values if address >= 0]
        if len(set(real)) < len(real):
            raise ConfigError(f'{name}: {list(values)} has an address twice')


def make_diverters(
    node: ConveyorNode, events: DiverterEvents, cell: CellDescription, useful_time: float
) -> Diverters:
    """Open what the parameters of the actuator name.

    Args:
        useful_time: Seconds by which a command may be late and still hit its item.

    Raises:
        ConveyorError: If it cannot be had.
    """
    settings: Any = node.settings
    lanes = [lane.name for lane in cell.lanes]
    if settings.output != 'ros2_control':
        return open_diverters(
            settings.output,
            vars(settings),
            lanes,
            events,
            confirm_time=settings.confirm_timeout,
            useful_time=useful_time,
        )
    return ControllerDiverters(
        node,
        events,
        ControllerJoints(
            dict(zip(lanes, settings.joints)),
            settings.joint_extended,
            settings.joint_retracted,
            settings.joint_tolerance,
            settings.joint_travel_time,
        ),
        trajectory=settings.controller_kind == 'trajectory',
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the node as a process."""
    return run_node(Actuator, arguments)


if __name__ == '__main__':
    sys.exit(main())
