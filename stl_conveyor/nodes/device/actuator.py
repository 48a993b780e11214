# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Command the diverter for every item in time, with the best answer that came."""

from __future__ import annotations

import sys
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from std_msgs.msg import Header

from stl_conveyor.cell.belt_history import BeltHistory
from stl_conveyor.cell.deadline import longest_decision_ns, stroke_time_ns
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.cell.edge_claims import Claim, EdgeClaims
from stl_conveyor.cell.ledger import (
    Admission,
    Answer,
    AnswerSource,
    ItemKey,
    ItemLedger,
    ItemOutcome,
    Stage,
    Verdict,
)
from stl_conveyor.cell.owed_items import OwedItem
from stl_conveyor.cell.stroke_plan import Hold, Passage, StrokePlan
from stl_conveyor.cell.strokes import StrokeSchedule
from stl_conveyor.decision.decide import Doubt
from stl_conveyor.decision.strangeness import is_stranger
from stl_conveyor.errors import BadProbabilities
from stl_conveyor.hardware.output import DirectOutput, DriverOutput, Site
from stl_conveyor.hardware.outputs import OUTPUTS
from stl_conveyor.models.classifier import check_probabilities
from stl_conveyor.msg import (
    BeltState,
    Classification,
    ItemCapture,
    ItemTruth,
    OffloadDecision,
    SortOutcome,
)
from stl_conveyor.nodes.base.clock import clock_ns, to_ns, to_stamp
from stl_conveyor.nodes.base.connected_node import WATCH_S
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.decisions import load_decider
from stl_conveyor.nodes.base.health import Level
from stl_conveyor.nodes.base.items import RecentItems, configured_path, item_key
from stl_conveyor.nodes.base.polled_topic import arrived_ns
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.sole_publisher import SolePublisher
from stl_conveyor.nodes.device.actuator_memory import ActuatorMemory
from stl_conveyor.nodes.device.actuator_outputs import (
    ActuatorOutput,
    Push,
    ReportedStrokes,
    StrokeOutput,
)
from stl_conveyor.nodes.device.actuator_settings import actuator_settings
from stl_conveyor.nodes.device.sign_file import open_sign

# An honest capture can look a little fresher than it is where two hosts' clocks differ.
CLOCK_TOLERANCE_NS = 50_000_000
FLUSH_NS = 500_000_000
CONNECTED_NS = 2_000_000_000  # after which one whose signs of life come hears everything
WAIT_S = 0.05  # between two looks whether anybody hears the outcomes again
LONGEST_WAIT_NS = 1_000_000_000
LONGEST_REPORT_NS = 10_000_000_000  # the same where nothing can be done for an item any more
# It speaks four times a second: so long a silence is said, and after the other it counts as gone.
GUARD_SILENT_NS = 800_000_000
GUARD_GONE_NS = 1_250_000_000
VERIFIABLE = 2000  # items whose lane is remembered until somebody verified them
UNKNOWN_NS = 400_000_000  # a belt that is unknown for longer is reported
WORK_PERIOD = 0.2  # s after which an output may know again that this node's callbacks run
# SortOutcome.REASON_* in words; what needs none is empty.
REASONS = {
    SortOutcome.REASON_NONE: '',
    SortOutcome.REASON_BELOW_THRESHOLD: '',
    SortOutcome.REASON_NO_TOKENS: 'no tokens',
    SortOutcome.REASON_EDGE_GONE: 'edge gone',
    SortOutcome.REASON_TOO_LATE: 'too late to offload',
    SortOutcome.REASON_BAD_INPUT: 'bad input to the policy',
    SortOutcome.REASON_NO_EDGE_ANSWER: 'no edge answer in time',
    SortOutcome.REASON_NO_LOCAL_ANSWER: 'no local answer in time',
    SortOutcome.REASON_PAST_DEADLINE: 'past deadline',
    SortOutcome.REASON_ABSURD_DEADLINE: 'absurd deadline',
    SortOutcome.REASON_CLOCK_SET_BACK: 'clock set back',
    SortOutcome.REASON_STOPPED: 'actuator stopped',
    SortOutcome.REASON_NO_DECISION: '',
    SortOutcome.REASON_DOUBTFUL: 'doubtful',
    SortOutcome.REASON_UNKNOWN: 'unknown',
    SortOutcome.REASON_LANE_PASSED: 'its lane was passed',
    SortOutcome.REASON_EDGE_FULL: 'edge full',
}
DOUBTS: dict[int, int] = {
    Doubt.DOUBTFUL: SortOutcome.REASON_DOUBTFUL,
    Doubt.UNKNOWN: SortOutcome.REASON_UNKNOWN,
}


@dataclass
class _Capture:
    header: Header
    deadline: Time
    stamp_ns: int  # of the capture, on the schedule's clock


class Actuator(ConveyorNode):
    """See the module."""

    NAME = 'actuator'
    SETTINGS = actuator_settings()

    def check_settings(self, settings: Any) -> None:
        """Refuse what the output cannot have."""
        cell = CellDescription.load(configured_path(settings.cell_file, 'config/cell.yaml'))
        OUTPUTS[settings.output].verify(settings, [lane.name for lane in cell.lanes])

    def configure(self) -> None:
        """Read the cell and start an empty ledger."""
        self.cell = CellDescription.load(
            configured_path(self.settings.cell_file, 'config/cell.yaml')
        )
        self._begin_account()
        self.decider = load_decider(self.cell, self.settings.models_dir)
        self._lanes_in_turn = sorted(self.cell.lanes, key=lambda lane: lane.diverter_x)
        self._acted: RecentItems[bool] = RecentItems(512)  # that have their outcome from here
        self._reasons: RecentItems[int] = RecentItems(512)
        self._claims: EdgeClaims[Answer] = EdgeClaims()
        # Lanes that items were sent to, by capture stamp, for what is verified afterwards.
        self._entered: OrderedDict[int, str] = OrderedDict()

    def _begin_account(self) -> None:
        """Know of no item."""
        self.ledger = ItemLedger(
            guard_ns=self.cell.guard_ns,
            longest_ns=longest_decision_ns(self.cell) + CLOCK_TOLERANCE_NS,
            max_open=self.settings.max_open_items,
            # Closer than a paddle is wide, two items cannot be sorted apart.
            apart_ns=round(self.cell.diverter.paddle_width / self.cell.belt.speed * 1e9),
        )
        self._captures: RecentItems[_Capture] = RecentItems(self.settings.max_open_items + 1)

    def activate(self) -> None:
        """Listen, and be ready to act."""
        self.watch_clock()
        place = open_sign(self)
        self._memory = ActuatorMemory(self, held=place.held)
        self._outcomes = self.publish_on('sort_outcome')
        # After a crash the one before may be known to the graph for a while.
        ghosts = int(self._memory.follows_a_crash)
        self._sole = SolePublisher(
            self, 'sort_outcome', ghosts=ghosts, place=place, on_free=self._succeed
        )
        # A writer that goes takes what is under way with it.
        self.resources.callback(self._outcomes.wait_for_all_acked, Duration(nanoseconds=FLUSH_NS))
        self._output = self._make_output()
        # Set whenever an item becomes the next.
        self._timer = self.once(self._act, clock=self.schedule_clock.timer_clock)
        self.listen('capture', self._on_capture, sole=True)
        self.listen('classification', self._on_local, sole=True)
        self.listen('edge_classification', self._on_edge, sole=True)
        self.listen('offload_decision', self._on_decision, sole=True)
        self._safety = self.look('safe_to_run', self._on_guard, alike=lambda _: True, period=None)
        self._guard_ns: int | None = None
        # Begins anew whenever the guard speaks.
        self._guard_silence = self.every(GUARD_SILENT_NS / 1e9, self._watch_guard)
        self._guard_silence.cancel()
        self.watch(self._watch_guard)
        if self.decider is not None and self.decider.adaptive:
            self.listen('item_truth', self._on_truth)
        self._take_up()

    def deactivate(self) -> None:
        """Give what is open its outcome now, or leave it to one that has heard of it, too."""
        followed_ns = self._sole.leave()
        if followed_ns > longest_decision_ns(self.cell) + CONNECTED_NS:
            for key, _ in self._captures.items():
                self.health.count('left_to_another_actuator')
                self._memory.closed(key)
        else:
            now_ns = self.schedule_clock.now_ns()
            self._publish(self.ledger.decide_all(now_ns), SortOutcome.REASON_STOPPED)
        self._output.finish()

    def refresh_health(self) -> None:
        """Report how many items wait."""
        if self.is_active:
            self.health.set_value('open_items', self.ledger.open_items)

    def _on_capture(self, message: ItemCapture) -> None:
        key = item_key(message)
        before = self.ledger.open_stamps(key.item_id)
        admission = self._admit(key, message.header, message.deadline)
        if admission in (Admission.DUPLICATE, Admission.CONFLICT):
            self.warn(admission.value, f'item {key.item_id} is known already')
            return
        self._memory.captured(key, to_ns(message.deadline), message.header.frame_id)
        for answer in self.ledger.answers(key):  # that came before it
            self._memory.answered(key, answer)
        if before:
            self.warn(
                'item_id_again',
                f'item {key.item_id} came again, {(key.stamp_ns - before[-1]) / 1e9:.3f} s after '
                'an item with this number that is still on its way: both are kept; was the camera '
                'started again?',
            )
        self.tick('captures')
        if admission is Admission.ACT_AT_ONCE:
            left = (to_ns(message.deadline) - self.schedule_clock.ros_now_ns()) / 1e9
            self.warn(
                'absurd_deadline' if left > self.cell.guard else 'late_capture',
                f'item {key.item_id}: deadline is {left:.3f} s away',
            )
        self._act()

    def _admit(self, key: ItemKey, header: Header, deadline: Time) -> Admission:
        """Enter an item into the ledger; keep what its outcome repeats of its capture."""
        now_ns, ros_ns = self.schedule_clock.now_ns(), self.schedule_clock.ros_now_ns()
        deadline_ns = to_ns(deadline)
        admission = self.ledger.capture(
            key, deadline_ns - ros_ns, now_ns, self._stages(key, deadline_ns)
        )
        if admission in (Admission.ACCEPTED, Admission.ACT_AT_ONCE):
            self._captures.put(key, _Capture(header, deadline, now_ns - (ros_ns - key.stamp_ns)))
        return admission

    def _take_up(self) -> None:
        """Go on with what a process before this one owed, if it was killed.

        What lies ahead is taken up at once; what is late waits until those who heard the outcomes
        before are there again, so that it is not said to nobody.
        """
        inherited = self._memory.inherited
        if not inherited:
            return
        self._plan.is_reported |= self._memory.followed_belt
        now_ns = self.schedule_clock.ros_now_ns()
        late: list[tuple[int, OwedItem]] = []  # with how long (ns) it may wait
        taken_up: list[int] = []
        lost: list[int] = []
        for item in inherited:
            act_ns = item.stroke_ns if item.lane else item.deadline_ns - self.cell.guard_ns
            has_passed = self._passed_ns(item) <= now_ns
            (lost if has_passed else taken_up).append(item.key.item_id)
            if act_ns > now_ns:
                self.guarded(self._resume)(item)
            else:
                late.append((LONGEST_REPORT_NS if has_passed else LONGEST_WAIT_NS, item))
        self._memory.report(taken_up, lost)
        if not late:
            return
        late.sort(key=lambda each: each[0])
        began_ns = clock_ns(self.steady_clock)

        def resume_late() -> None:
            waited_ns = clock_ns(self.steady_clock) - began_ns
            there = self._outcomes.get_subscription_count() >= max(1, self._memory.readers)
            while late and (there or waited_ns > late[0][0]):
                self.guarded(self._resume)(late.pop(0)[1])
            if not late:
                timer.cancel()

        timer = self.every(WAIT_S, resume_late)

    def _succeed(self) -> None:
        """Go on with what another actuator on this machine owed, which has just ended.

        Its journal tells what has its outcome: more than was heard of it.
        """
        if self._memory.succeed({key for key, _ in self._acted.items()}):
            self._begin_account()
            self._take_up()

    def _passed_ns(self, item: OwedItem) -> int:
        """Return when (ROS time) it is too late for an item."""
        to_edge_ns = round(self.cell.diverter.paddle_width / 2 / self.cell.belt.speed * 1e9)
        if item.lane:
            return item.stroke_ns + to_edge_ns
        answer = item.answers.get(AnswerSource.EDGE) or item.answers.get(AnswerSource.LOCAL)
        lane = self.cell.reject_lane if answer is None else self._lane_of(answer)
        if lane == self.cell.reject_lane:
            return item.deadline_ns
        return to_edge_ns + stroke_time_ns(item.key.stamp_ns, item.deadline_ns, self.cell, lane)

    def _resume(self, item: OwedItem) -> None:
        header = Header(stamp=to_stamp(item.key.stamp_ns), frame_id=item.frame_id)
        if item.lane:
            if not self._sole.may_publish():
                self._memory.closed(item.key)
            elif isinstance(OUTPUTS[self.settings.output], DirectOutput):
                capture_ns = self.schedule_clock.from_ros_ns(item.key.stamp_ns)
                self._output.push(
                    self._push_of(item.key, header, item.lane, item.stroke_ns, capture_ns)
                )
            else:
                self._memory.closed(item.key)  # the driver has heard of it
            return
        for answer in item.answers.values():
            received_ns = self.schedule_clock.from_ros_ns(answer.received_ns)
            now_ns = self.schedule_clock.now_ns()
            self.ledger.answer(item.key, replace(answer, received_ns=received_ns), now_ns)
        self._admit(item.key, header, to_stamp(item.deadline_ns))
        self._act()

    def _stages(self, key: ItemKey, deadline_ns: int) -> tuple[Stage, ...]:
        """Return the times of the lanes; none where all are decided at the first one's."""
        if self.decider is None:
            return ()
        return tuple(
            Stage(
                lane.name,
                stroke_time_ns(key.stamp_ns, deadline_ns, self.cell, lane.name) - deadline_ns,
            )
            for lane in self._lanes_in_turn
        )

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
        if not 0.0 <= message.unknown <= 1.0:
            self.warn(
                Verdict.BAD.value,
                f'item {key.item_id} from {source.name.lower()}: unknown is {message.unknown}',
            )
            return
        if self.cell.lane_of(message.class_id) == self.cell.reject_lane:
            self.warn(
                'unknown_class',
                f'item {key.item_id}: no lane sorts '
                f'{message.class_id[:40]!r}; compare cell_file and models_dir',
            )
            return
        answer = self._judged(message, source)
        if answer is None:
            return
        if source is AnswerSource.EDGE:
            self._weigh(
                key,
                answer,
                self._claims.answered(key, message.model_id, message.bytes_used, answer),
            )
        else:
            self._take(key, answer)

    def _judged(self, message: Classification, source: AnswerSource) -> Answer | None:
        """Return an answer with the lane that follows from it; None for one that cannot be."""
        lane, doubt, probability, cost = self.cell.lane_of(message.class_id), Doubt.NONE, 0.0, 0.0
        if self.decider is None:
            if is_stranger(message.unknown, self.cell.strangers.rejects):
                lane, doubt = self.cell.reject_lane, Doubt.UNKNOWN
        else:
            try:
                given = check_probabilities(message.probabilities, len(self.decider.labels))
            except BadProbabilities as error:
                self.warn(
                    Verdict.BAD.value,
                    f'item {message.item_id} from {source.name.lower()}: {error}',
                )
                return None
            received = message.bytes_used if source is AnswerSource.EDGE else None
            choice = self.decider.choose(given, message.unknown, received)
            lane, doubt = self.decider.lanes[choice.lane], choice.doubt
            probability, cost = choice.probability, choice.cost
        return Answer(
            source,
            message.class_id,
            message.score,
            self.schedule_clock.now_ns(),
            message.bytes_used,
            lane,
            int(doubt),
            message.unknown,
            probability,
            cost,
        )

    def _weigh(self, key: ItemKey, answer: Answer, claim: Claim) -> None:
        """Take an edge answer that can be the answer to what was sent."""
        if claim is Claim.PLAUSIBLE:
            self._take(key, answer)
        elif claim is Claim.UNDECIDED:
            self.health.count(claim.value)
        else:
            self.warn(
                claim.value,
                f'item {key.item_id}: an edge answer by {answer.bytes_used} bytes is not that to '
                'what was sent, and is not believed; who else publishes on edge_classification?',
            )

    def _take(self, key: ItemKey, answer: Answer) -> None:
        source = answer.source
        verdict = self.ledger.answer(key, answer, self.schedule_clock.now_ns())
        if verdict is Verdict.ACCEPTED:
            self._memory.answered(key, answer)
        if verdict in (Verdict.BAD, Verdict.STALE):
            self.warn(verdict.value, f'item {key.item_id} from {source.name.lower()}')
        else:
            self.health.count(f'{source.name.lower()}.{verdict.value}')

    def _on_decision(self, message: OffloadDecision) -> None:
        key = item_key(message)
        self._reasons.put(key, message.reason)
        budget = message.byte_budget if message.offload else 0
        for answer, claim in self._claims.decided(key, budget, message.edge_model_id):
            self._weigh(key, answer, claim)

    def _on_truth(self, message: ItemTruth) -> None:
        """Learn from an item that was verified: from an audit, or in the simulation."""
        if message.event != ItemTruth.EVENT_RESTED:
            return
        lane = self._entered.pop(to_ns(message.header.stamp), None)
        if lane is None or self.decider is None:
            return
        self.decider.verified(lane, message.lane != lane)
        self.health.count(f'verified.{"wrong" if message.lane != lane else "right"}')
        adaptive = self.decider.adaptive.get(lane)
        if adaptive is None:
            return
        self.health.set_value(f'threshold.{lane}', f'{adaptive.value:.4f}')
        name = f'purity_missed.{lane}'
        if adaptive.exhausted:
            self.set_condition(
                name,
                Level.WARN,
                f'lane {lane}: {adaptive.wrong_items} of {adaptive.verified_items} verified items '
                'were wrong, more than its purity target allows, and its threshold is as high as '
                'it goes; look at the camera, and make the calibration again',
            )
        elif not adaptive.shift:
            self.clear_condition(name, f'lane {lane} keeps its purity target again')

    def clock_jumped(self, jump_ns: int) -> None:
        """Act on what is open if its deadlines lie in a time that will come twice.

        In real time they are kept by a clock that nobody sets.
        """
        if jump_ns >= 0 or not self.schedule_clock.simulated:
            return
        self.warn('clock_set_back', 'ROS time jumped back; open items are acted on now')
        self._publish(
            self.ledger.decide_all(self.schedule_clock.now_ns()), SortOutcome.REASON_CLOCK_SET_BACK
        )

    def _on_guard(self, _: object, info: Any) -> None:
        now_ns = clock_ns(self.steady_clock)
        self._guard_ns = arrived_ns(info, now_ns, round(WATCH_S * 1e9))
        self._guard_silence.timer_period_ns = self._guard_ns + GUARD_SILENT_NS - now_ns + 1_000_000
        self._guard_silence.reset()

    def _watch_guard(self) -> None:
        """Say that nobody watches any more; who says everything else is not there to say it."""
        self._safety.look()
        now_ns = clock_ns(self.steady_clock)
        if self._guard_ns is None:
            return
        silent_ns = now_ns - self._guard_ns
        if silent_ns > GUARD_SILENT_NS:
            self._guard_silence.cancel()
        if GUARD_SILENT_NS < silent_ns <= GUARD_GONE_NS:
            self.set_condition(
                'guard_silent',
                Level.WARN,
                f'guard_silent: nothing came on safe_to_run for {GUARD_SILENT_NS / 1e9:g} s: '
                f'cell_guard counts as gone after {GUARD_GONE_NS / 1e9:g} s',
            )
        else:
            self.clear_condition('guard_silent', 'cell_guard speaks, or counts as gone')
        if silent_ns > GUARD_GONE_NS:
            self.set_condition(
                'guard_gone',
                Level.ERROR,
                'guard_gone: nothing comes on safe_to_run: cell_guard is dead, frozen or cut off, '
                'and nobody watches over the cell; take it that the line must stand, until it is '
                'back',
            )
        else:
            self.clear_condition('guard_gone', 'cell_guard is there')

    def _act(self) -> None:
        self._timer.cancel()
        undecided_ns = self._sole.undecided_ns()
        if undecided_ns:  # whether it is for this node to act
            self._timer.after(undecided_ns)
            return
        self._publish(
            self.ledger.decide_due(self.schedule_clock.now_ns()), SortOutcome.REASON_NONE
        )
        due_ns = self.ledger.next_due_ns()
        if due_ns is not None:
            self._timer.after(due_ns - self.schedule_clock.now_ns())

    def _publish(self, decisions: tuple[ItemOutcome, ...], why: int) -> None:
        for decision in decisions:
            self.guarded(self._command)(decision, why)  # one that fails takes no other with it

    def _make_output(self) -> ActuatorOutput:
        settings = self.settings
        output = OUTPUTS[settings.output]
        useful_way = self.cell.diverter.paddle_width / 2
        to_edge = useful_way / self.cell.belt.speed
        self._plan = StrokePlan(
            BeltHistory(
                counter_length=self.cell.belt.counter_length, usual_speed=self.cell.belt.speed
            ),
            useful_way=useful_way,
            max_late_ns=round(to_edge * 1e9),
            is_reported=settings.belt_source == 'belt_state',
        )
        self._known_ns = self.schedule_clock.now_ns()
        self._belt_states = self.listen_outside('belt_state', self._on_belt_state, required=False)
        self.watch(self._watch_belt)
        if isinstance(output, DriverOutput):
            return ReportedStrokes(
                self,
                settings.confirm_timeout,
                lambda reported: output.listen(settings, self, reported),
                self._plan,
            )
        assert isinstance(output, DirectOutput)
        schedule: StrokeSchedule[Push] = StrokeSchedule(
            hold_ns=round(settings.stroke_time * 1e9),
            confirm_ns=round(settings.confirm_timeout * 1e9),
            max_late_ns=round(to_edge * 1e9),
        )
        lanes = tuple(lane.name for lane in self.cell.lanes)
        self._note_work()
        self.every(WORK_PERIOD, self._note_work)
        return StrokeOutput(
            self,
            schedule,
            lambda events: output.open(
                settings,
                Site(
                    lanes,
                    events,
                    settings.confirm_timeout,
                    to_edge,
                    self,
                    alive=lambda: self._worked_at,
                ),
            ),
            self._plan,
            self._belt_states.take_waiting,
            self._memory.closed,
        )

    def _note_work(self) -> None:
        self._worked_at = time.monotonic()

    def _on_belt_state(self, message: BeltState, stamp_ns: int) -> None:
        belt = self._plan.belt
        restarts, stretch = belt.restarts, belt.stretch
        known = message.state != BeltState.STATE_UNKNOWN
        taken = belt.add(
            self.schedule_clock.from_ros_ns(stamp_ns),
            message.position,
            message.speed if known else None,
            origin=message.origin,
        )
        self.health.count('belt_reports' if taken else 'belt_reports_refused')
        self.health.count('belt_counter_restarts', belt.restarts - restarts)
        if belt.stretch != stretch:
            self.error(
                'belt_lost',
                'the belt moved while nothing came on belt_state, and its counter started again; '
                'where the items on it are is not known',
            )
        self._output.belt_moved()
        self._hasten()

    def _hasten(self) -> None:
        """Decide in time what a belt that has become faster brings earlier."""
        now_ns = self.schedule_clock.now_ns()
        lead_ns = round(self.cell.diverter.lead_time * 1e9)
        for key, capture in self._captures.items():
            planned_ns = self.ledger.due_ns(key)
            if planned_ns is not None:
                lane = self.ledger.next_lane(key)
                diverter_x = (
                    self.cell.first_diverter_x if lane is None else self.cell.lane(lane).diverter_x
                )
                way = diverter_x - self.cell.camera.x
                passage = Passage(capture.stamp_ns, way, lead_ns, planned_ns)
                self.ledger.hasten(
                    key, self._plan.decide_by_ns(passage, planned_ns, self.cell.guard_ns, now_ns)
                )
        self._act()

    def _watch_belt(self) -> None:
        now_ns = self.schedule_clock.now_ns()
        if self._belt_states.is_published:
            self._plan.is_reported = True
        hold = self._plan.hold(now_ns)
        follows = self._plan.follows
        self.health.set_value(
            'belt', 'by time' if not follows else 'runs' if hold is None else hold.value
        )
        if hold is not Hold.UNKNOWN:
            self._known_ns = now_ns
            self.clear_condition('belt', 'belt_state comes again')
        elif now_ns - self._known_ns > UNKNOWN_NS:
            latest_ns = self._plan.belt.latest_ns
            self.set_condition(
                'belt',
                Level.ERROR,
                'belt_unknown: '
                + (
                    'nothing has come on belt_state yet'
                    if latest_ns is None
                    else 'nothing new comes on belt_state'
                )
                + '; no diverter moves until the position of the belt is known. Check the camera '
                'node that has the belt encoder, or what reads the PLC, and its clock',
            )

    def _command(self, decision: ItemOutcome, why: int) -> None:
        capture = self._captures.pop(decision.key)
        assert capture is not None  # kept for as long as the ledger keeps the item
        if not self._sole.may_publish():
            self.health.count('left_to_another_actuator')
            self._memory.closed(decision.key)
            return
        outcome = self._outcome(decision, capture, why)
        self._memory.note_surroundings(self._plan.follows, self._outcomes.get_subscription_count())
        self._outcomes.publish(outcome)
        self._acted.put(decision.key, True)
        if outcome.lane != self.cell.reject_lane and self.decider and self.decider.adaptive:
            self._entered[decision.key.stamp_ns] = outcome.lane
            if len(self._entered) > VERIFIABLE:
                self._entered.popitem(last=False)
        self._push(outcome, decision, capture)
        self.tick('outcomes')
        self.health.sample('slack', outcome.slack)
        if outcome.missed:
            self.warn('missed_deadline', f'item {outcome.item_id}: {-outcome.slack:.3f} s')

    def _push(self, outcome: SortOutcome, decision: ItemOutcome, capture: _Capture) -> None:
        key = decision.key
        if outcome.lane == self.cell.reject_lane:
            self._memory.closed(key)
            return
        budget_ns = to_ns(capture.deadline) - decision.key.stamp_ns
        if decision.absurd and not 0 <= budget_ns <= longest_decision_ns(self.cell):
            self.warn(
                'no_stroke',
                f'item {outcome.item_id}: its deadline does not tell when it reaches a diverter',
            )
            self._memory.closed(key)
            return
        stroke_ns = stroke_time_ns(key.stamp_ns, key.stamp_ns + budget_ns, self.cell, outcome.lane)
        if isinstance(OUTPUTS[self.settings.output], DirectOutput):
            self._memory.decided(key, outcome.lane, stroke_ns)
        else:
            self._memory.closed(key)
        self._output.push(
            self._push_of(key, capture.header, outcome.lane, stroke_ns, capture.stamp_ns)
        )

    def _push_of(
        self, key: ItemKey, header: Header, lane: str, stroke_ns: int, capture_ns: int
    ) -> Push:
        """Return a push that is due at a ROS time; `capture_ns` is on the schedule's clock."""
        return Push(
            key,
            header,
            lane,
            capture_ns + stroke_ns - key.stamp_ns,
            capture_ns,
            self.cell.lane(lane).diverter_x - self.cell.camera.x,
            round(self.cell.diverter.lead_time * 1e9),
        )

    def _outcome(self, decision: ItemOutcome, capture: _Capture, why: int) -> SortOutcome:
        answer = decision.answer
        slack_ns = decision.slack_ns
        reasons = self._reasons_of(decision, why)

        def delay(given: Answer | None) -> float:
            return -1.0 if given is None else (given.received_ns - capture.stamp_ns) / 1e9

        return SortOutcome(
            header=capture.header,
            item_id=decision.key.item_id,
            deadline=capture.deadline,
            stamp=to_stamp(to_ns(capture.deadline) + decision.later_ns - slack_ns),
            lane=self.cell.reject_lane
            if answer is None or decision.passed
            else self._lane_of(answer),
            class_id='' if answer is None else answer.class_id,
            score=0.0 if answer is None else answer.score,
            source=SortOutcome.SOURCE_NONE if answer is None else int(answer.source),
            slack=slack_ns / 1e9,
            missed=slack_ns < 0,
            reason=reasons[0],
            detail='; '.join(filter(None, (REASONS.get(reason, '') for reason in reasons))),
            local_delay=delay(decision.local),
            edge_delay=delay(decision.edge),
            edge_bytes=0 if decision.edge is None else decision.edge.bytes_used,
            unknown=0.0 if answer is None else answer.unknown,
            lane_probability=0.0 if answer is None else answer.lane_probability,
            expected_cost=0.0 if answer is None else answer.cost,
        )

    def _reasons_of(self, decision: ItemOutcome, why: int) -> list[int]:
        """Return what kept the best answer away; the first is the one that matters most."""
        doubts = self._doubts_of(decision)
        if decision.edge is not None:
            return doubts or [why]
        if decision.absurd:
            why = SortOutcome.REASON_ABSURD_DEADLINE
        elif decision.slack_ns < 0 and not why:
            why = SortOutcome.REASON_PAST_DEADLINE
        reasons = [why] if why else []
        reasons += doubts
        if decision.local is None:
            reasons.append(SortOutcome.REASON_NO_LOCAL_ANSWER)
        # Up to REASON_BAD_INPUT, and of REASON_NO_LOCAL_ANSWER and REASON_EDGE_FULL, both messages
        # have the same numbers.
        by_policy = self._reasons.get(decision.key) or SortOutcome.REASON_NO_DECISION
        if by_policy in (
            OffloadDecision.REASON_WORTH_IT,
            SortOutcome.REASON_NO_LOCAL_ANSWER,  # offloaded without one
        ):
            by_policy = SortOutcome.REASON_NO_EDGE_ANSWER
        elif by_policy not in REASONS:
            by_policy = SortOutcome.REASON_NO_DECISION
        return [*reasons, by_policy]

    def _lane_of(self, answer: Answer) -> str:
        """Return an answer's lane; a process before this one may have kept it without."""
        return answer.lane or self.cell.lane_of(answer.class_id)

    @staticmethod
    def _doubts_of(decision: ItemOutcome) -> list[int]:
        """Return why an item with an answer goes to the reject lane, if it does."""
        if decision.answer is None:
            return []
        if decision.passed:
            return [SortOutcome.REASON_LANE_PASSED]
        reason = DOUBTS.get(decision.answer.doubt)
        return [] if reason is None else [reason]


def main(arguments: list[str] | None = None) -> int:
    """Run the node as a process."""
    return run_node(Actuator, arguments)


if __name__ == '__main__':
    sys.exit(main())
