# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Decide which items are worth the network, and keep the token bucket."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from stl_conveyor.cell.deadline import DelayEstimator, Trials, latest_send_ns, wait_for_answer_ns
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.cell.edge_watch import LINK_SILENCE_NS, SILENCE_NS, EdgeWatch
from stl_conveyor.cell.ledger import ItemKey
from stl_conveyor.codec.identity import codec_identity
from stl_conveyor.decision.lane_time import useful_until_ns
from stl_conveyor.decision.of_folder import decider_of
from stl_conveyor.errors import BadProbabilities, ConfigError
from stl_conveyor.models.classifier import check_probabilities
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.msg import (
    Classification,
    FeatureFeedback,
    ItemCapture,
    OffloadDecision,
    SortOutcome,
    TokenBucketState,
)
from stl_conveyor.nodes.base.clock import clock_ns, to_ns, to_stamp
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.health import Level
from stl_conveyor.nodes.base.items import RecentItems, configured_path, float_array, item_key
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.settings import NodeSettings, parameter
from stl_conveyor.nodes.base.topics import GATEWAYS, publisher_of
from stl_conveyor.nodes.base.worker import Worker
from stl_conveyor.policy import (
    BUDGET_POLICIES,
    POLICIES,
    Distribution,
    PolicyInput,
    PolicySettings,
    Reservation,
    TokenBucket,
    exact_fraction,
)
from stl_conveyor.policy.for_cell import load_worth, make_cell_policy

FIRST_SIGN_NS = 10_000_000_000  # in which an edge that starts together with the device is there
LONGEST_TRANSFER_NS = 10_000_000_000
# Who hands on what the edge says, over a network that may take its time.
LINKS = tuple(
    name for name in publisher_of('feedback_rx', 'device_gateway').publishers if name in GATEWAYS
)


@dataclass(frozen=True)
class OffloadPolicySettings(NodeSettings):
    """Parameters of the offload policy."""

    cell_file: str = parameter(
        '', 'Cell description (YAML). Empty: the one that the package ships.'
    )
    models_dir: str = parameter('', 'Model folder. Empty: the one that the package ships.')
    policy: str = parameter('adaptive', 'Which policy decides.', choices=tuple(POLICIES))
    policy_model: str = parameter(
        '',
        'Network of the learned policies (.onnx). Empty: the one that the package ships, for all '
        'buckets (adaptive) or for this one (dqn).',
    )
    rate: float = parameter(
        0.25,
        'Tokens per time unit (r). Read as the decimal that is written.',
        minimum=0.0,
        maximum=1000.0,
    )
    depth: float = parameter(4.0, 'Most tokens that are kept (b).', minimum=1.0, maximum=100_000.0)
    time_unit: float = parameter(
        0.5, 'Seconds of the time unit: the shortest item period.', minimum=0.001, maximum=3600.0
    )
    nominal_bytes: int = parameter(
        512,
        'Payload bytes that one token buys, and the largest byte budget of an offload.',
        minimum=1,
        maximum=1_000_000,
    )
    byte_budgets: bool = parameter(
        True,
        'Choose how many bytes each item gets (policies mdp and adaptive, with a model '
        'folder that has a budget.json); else every offload gets a whole token.',
    )
    threshold: float = parameter(
        -1.0,
        'Expected reward asked for by the policy with a constant threshold; -1 derives it '
        'from rate, intervals and costs.',
        minimum=-1.0,
        maximum=1.0,
    )
    intervals: tuple[float, ...] = parameter(
        (1.0,), 'Equally likely times between items, in time units, for the policies that plan.'
    )
    costs: tuple[float, ...] = parameter(
        (1.0,),
        'Equally likely costs of an offload after its refund, in tokens (0..1), for the '
        'policies that plan.',
    )
    seed: int = parameter(0, 'Seed of the random policy.', minimum=0, maximum=2**31 - 1)
    answer_time: float = parameter(
        0.1,
        'Seconds from a decision to the first possible answer of the edge, until it has been '
        'measured.',
        minimum=0.0,
        maximum=10.0,
    )
    settle_grace: float = parameter(
        0.5,
        'Seconds after the deadline by which the encoder must have reported what it spent; '
        'then the whole budget counts as spent.',
        minimum=0.0,
        maximum=60.0,
    )

    @property
    def bucket_terms(self) -> tuple[float, ...]:
        """Return what makes the bucket: rate, depth, time unit and bytes of a token."""
        return (self.rate, self.depth, self.time_unit, self.nominal_bytes)


@dataclass(frozen=True)
class _Promise:
    reservation: Reservation
    due_ns: int


@dataclass(frozen=True)
class _Unclassified:
    """An item without a local answer so far, and until when (ns) one is awaited."""

    header: Header
    deadline: Time
    until_ns: int


@dataclass(frozen=True)
class _Account:
    """What was paid for a stream, and what it might have cost at most (bytes)."""

    bytes_used: int
    budget: int


class OffloadPolicy(ConveyorNode):
    """See the module."""

    NAME = 'offload_policy'
    SETTINGS = OffloadPolicySettings

    def __init__(self, **arguments: object) -> None:
        """Fill the bucket, once: a node that is reactivated has not earned tokens by it."""
        super().__init__(**arguments)
        self.bucket = self._make_bucket(self.settings)
        self._terms = self.settings.bucket_terms

    def check_settings(self, settings: OffloadPolicySettings) -> None:
        """Refuse distributions and buckets that cannot be."""
        for name in ('intervals', 'costs'):
            if not getattr(settings, name):
                raise ConfigError(f'{name}: an empty list; give at least one number')
        self._make_bucket(settings)
        self._planning(settings)

    @staticmethod
    def _make_bucket(settings: OffloadPolicySettings) -> TokenBucket:
        return TokenBucket(
            exact_fraction(settings.rate),
            exact_fraction(settings.depth),
            round(settings.time_unit * 1e9),
            settings.nominal_bytes,
        )

    @staticmethod
    def _planning(settings: OffloadPolicySettings) -> PolicySettings:
        return PolicySettings(
            rate=exact_fraction(settings.rate),
            depth=exact_fraction(settings.depth),
            intervals=Distribution.of(settings.intervals),
            costs=Distribution.of(settings.costs),
            threshold=None if settings.threshold <= -1.0 else settings.threshold,
            seed=settings.seed,
        )

    def configure(self) -> None:
        """Load the reward estimate and solve the policy."""
        settings = self.settings
        if settings.bucket_terms != self._terms:
            self.bucket = self.bucket.poured_into(self._make_bucket(settings))
            self._terms = settings.bucket_terms
        self.cell = CellDescription.load(configured_path(settings.cell_file, 'config/cell.yaml'))
        folder = ModelFolder(configured_path(settings.models_dir, 'models/items'))
        self.labels = folder.labels
        self.codec_id = codec_identity(folder)
        self.edge_model_id = folder.model_id('edge')
        self.worth = load_worth(
            folder,
            self.cell,
            decider_of(folder, self.cell),
            settings.policy if settings.byte_budgets else '',
            settings.nominal_bytes,
        )
        chooses_bytes = settings.byte_budgets and settings.policy in BUDGET_POLICIES
        budgets = self.worth.budgets if chooses_bytes else None
        self.policy = make_cell_policy(
            settings.policy, self._planning(settings), self.worth, budgets, settings.policy_model
        )
        self.answer_time = DelayEstimator(
            initial_ns=round(settings.answer_time * 1e9),
            maximum_ns=LONGEST_TRANSFER_NS,
            quantile=0.5,
        )
        self._trials = Trials(self.answer_time)
        self._promises: dict[ItemKey, _Promise] = {}
        self._settled: RecentItems[_Account] = RecentItems(256)
        self._acknowledged: RecentItems[int] = RecentItems(256)
        self._decided: RecentItems[bool] = RecentItems(1024)  # whether by a local answer
        self._unclassified: RecentItems[_Unclassified] = RecentItems(16)
        # When items were offloaded of which no answer was heard yet (ns). An answer that comes
        # after the account still tells how slow the link is.
        self._unanswered: RecentItems[int] = RecentItems(64)
        self._previous_stamp_ns: int | None = None
        self._edge = EdgeWatch(self.codec_id, round(self.cell.edge.timeout * 1e9))
        self._edge_met = self._edge_missed = False
        self.health.set_value('policy', settings.policy)
        self.health.set_value('worth_in', self.worth.unit)
        self.health.set_value(
            'byte_budgets',
            'one token'
            if budgets is None
            else ' '.join(f'{share * settings.nominal_bytes:.0f}' for share in budgets.shares),
        )

    def activate(self) -> None:
        """Listen for classifications and for the edge."""
        self.watch_clock()
        self._decisions = self.publish_on('offload_decision')
        self._states = self.publish_on('token_bucket')
        self.policy.plan_with(Worker(self))
        # Begins anew whenever the edge speaks.
        self._silence = self.every(LINK_SILENCE_NS / 1e9, self._on_missed_beat)
        self._behind_link = False  # as was seen when it last missed its beat
        self._patience = self.once(self._on_no_answer, clock=self.schedule_clock.timer_clock)
        self.listen('capture', self._on_capture, sole=True)
        self.listen('classification', self._on_classification, sole=True)
        self.listen('feedback_rx', self._on_feedback, sole=True)
        self.listen('transfer', self._on_transfer, sole=True)
        self.watch(self._watch)
        self._active_since_ns = clock_ns(self.steady_clock)
        self.bucket.advance(self.schedule_clock.now_ns())
        self._publish_state()

    def deactivate(self) -> None:
        """Settle what is open as if all of it had been spent."""
        for key in list(self._promises):
            self._settle(key, None)
        self._unclassified.pop_all()

    def cleanup(self) -> None:
        """Drop the models; the bucket stays."""
        self.forget('policy', 'worth')

    @property
    def edge_alive(self) -> bool:
        """Return whether an edge that has our codec gave a sign of life lately."""
        return self._edge.is_alive(clock_ns(self.steady_clock))

    @property
    def edge_price(self) -> float:
        """Return what the edge asks an answer to be worth beyond the policy's threshold."""
        return self._edge.price(clock_ns(self.steady_clock))

    def refresh_health(self) -> None:
        """Report the level of the bucket."""
        if self.is_active:
            state = self.bucket.state
            self.health.set_value('tokens', f'{state.tokens:.3f}')
            self.health.set_value('reserved', f'{state.reserved / state.denominator:.3f}')
            self.health.set_value('edge_alive', self.edge_alive)
            self.health.set_value('edge_price', f'{self.edge_price:.2f}')
            answer_ns = self.answer_time.estimate_ns(self.schedule_clock.now_ns())
            self.health.set_value('expected_answer_time', f'{answer_ns / 1e9:.3f} s')

    def _on_classification(self, message: Classification) -> None:
        key = item_key(message)
        if message.source != Classification.SOURCE_LOCAL:
            self.warn('wrong_source', f'item {key.item_id}: not a local classification')
            return
        by_answer = self._decided.get(key)
        if by_answer:
            self.warn('duplicate_classification', f'item {key.item_id} is decided already')
            return
        self._unclassified.pop(key)
        if by_answer is not None:
            self._decided.put(key, True)
            self.health.count('answers_after_decision')
            return
        now_ns, ros_ns = self.schedule_clock.now_ns(), self.schedule_clock.ros_now_ns()
        decision = self._undecided(key, message.header, message.deadline, now_ns)
        try:
            probabilities = check_probabilities(message.probabilities, len(self.labels))
            posterior = None
            if len(message.posterior):
                posterior = check_probabilities(message.posterior, len(self.labels))
            decision.probabilities = float_array(probabilities)
            if not 0.0 <= message.unknown <= 1.0:
                raise BadProbabilities(f'unknown is {message.unknown}')
            decision.expected_reward = self.worth.of(probabilities, posterior, message.unknown)
            self._decide(key, decision, now_ns, ros_ns)
            self._decided.put(key, True)
        except BadProbabilities as error:
            self.warn('bad_probabilities', f'item {key.item_id}: {error}')
        self._decisions.publish(decision)
        self._publish_state()
        self.tick('items')

    def _undecided(
        self, key: ItemKey, header: Header, deadline: Time, now_ns: int
    ) -> OffloadDecision:
        self.bucket.advance(now_ns)
        return OffloadDecision(
            header=header,
            item_id=key.item_id,
            deadline=deadline,
            policy=self.policy.name,
            edge_model_id=self.edge_model_id,
            reason=OffloadDecision.REASON_BAD_INPUT,
            tokens=self.bucket.state.tokens,
        )

    def _on_capture(self, message: ItemCapture) -> None:
        """Await the local answer for as long as the edge could still be asked without it."""
        key = item_key(message)
        if self._decided.get(key) is not None:
            return
        now_ns = self.schedule_clock.now_ns()
        # The deadline of the first lane, and not the last: any lane may be the item's.
        left_ns = to_ns(message.deadline) - self.schedule_clock.ros_now_ns()
        reserve_ns = self.answer_time.estimate_ns(now_ns)
        if latest_send_ns(left_ns, self.cell.guard_ns, reserve_ns) <= 0:
            reserve_ns = self.answer_time.initial_ns  # it may become a trial
        wait_ns = wait_for_answer_ns(latest_send_ns(left_ns, self.cell.guard_ns, reserve_ns))
        if 0 < wait_ns <= LONGEST_TRANSFER_NS:
            self._unclassified.put(
                key, _Unclassified(message.header, message.deadline, now_ns + wait_ns)
            )
            self._await_answers(now_ns)

    def _await_answers(self, now_ns: int) -> None:
        awaited = self._unclassified.items()
        if awaited:
            until_ns = min(item.until_ns for _, item in awaited)
            self._patience.after(until_ns - now_ns)
        else:
            self._patience.cancel()

    def _on_no_answer(self) -> None:
        """Decide about items to which the local classifier has said nothing."""
        now_ns, ros_ns = self.schedule_clock.now_ns(), self.schedule_clock.ros_now_ns()
        try:
            for key, item in self._unclassified.items():
                if item.until_ns > now_ns:
                    continue
                self._unclassified.pop(key)
                decision = self._undecided(key, item.header, item.deadline, now_ns)
                decision.expected_reward = self.worth.of_unclassified
                self._decide(key, decision, now_ns, ros_ns)
                if decision.offload:
                    # Both messages have the same numbers here.
                    decision.reason = SortOutcome.REASON_NO_LOCAL_ANSWER
                self._decided.put(key, False)
                self._decisions.publish(decision)
                self._publish_state()
                self.health.count('unclassified')
        finally:
            self._await_answers(now_ns)

    def _decide(self, key: ItemKey, decision: OffloadDecision, now_ns: int, ros_ns: int) -> None:
        unit_ns = self.settings.time_unit * 1e9
        previous_ns, self._previous_stamp_ns = self._previous_stamp_ns, key.stamp_ns
        choice = self.policy.decide(
            PolicyInput(
                expected_reward=decision.expected_reward,
                level=self.bucket.available,
                denominator=self.bucket.denominator,
                time=now_ns / unit_ns,
                interarrival=math.nan
                if previous_ns is None or key.stamp_ns <= previous_ns
                else (key.stamp_ns - previous_ns) / unit_ns,
            )
        )
        decision.threshold = float(choice.threshold)
        decision.reason = int(choice.reason)
        if not choice.offload:
            return
        useful_ns = useful_until_ns(
            key.stamp_ns,
            to_ns(decision.deadline),
            self.cell,
            self.labels,
            np.asarray(decision.probabilities) if len(decision.probabilities) else None,
        )
        left_ns = useful_ns - ros_ns
        if not self.edge_alive:
            decision.reason = OffloadDecision.REASON_EDGE_GONE
            return
        if price := self.edge_price:
            decision.threshold = max(0.0, decision.threshold) + price
            if decision.expected_reward < decision.threshold:
                decision.reason = OffloadDecision.REASON_EDGE_FULL
                self.health.count('edge_full')
                return
        if not self._is_in_time(left_ns, now_ns):
            decision.reason = OffloadDecision.REASON_TOO_LATE
            return
        reservation = self.bucket.reserve(round(choice.share * self.settings.nominal_bytes))
        if reservation is None:
            decision.reason = OffloadDecision.REASON_NO_TOKENS
            return
        decision.offload = True
        decision.byte_budget = reservation.bytes
        self._unanswered.put(key, now_ns)
        self._promises[key] = _Promise(
            reservation, now_ns + left_ns + round(self.settings.settle_grace * 1e9)
        )

    def _is_in_time(self, left_ns: int, now_ns: int) -> bool:
        """Return whether an answer can come in time, or whether one is waited for as a trial."""

        def send_ns(reserve_ns: int) -> int:
            return latest_send_ns(left_ns, self.cell.guard_ns, reserve_ns)

        if self._trials.is_trial(now_ns, lambda reserve_ns: send_ns(reserve_ns) >= 0):
            self.health.count('trials')
            return True
        return 0 <= send_ns(self._trials.reserve_ns(now_ns)) <= LONGEST_TRANSFER_NS

    def _on_feedback(self, message: FeatureFeedback) -> None:
        if message.status in (FeatureFeedback.STATUS_ALIVE, FeatureFeedback.STATUS_CODEC_MISMATCH):
            self._edge.heard(message.codec_id, clock_ns(self.steady_clock), message.price)
            if message.codec_id == self.codec_id:
                self._wait_for_edge()
            self._watch_edge()
            return
        if message.status != FeatureFeedback.STATUS_OK or message.codec_id != self.codec_id:
            return
        self._edge.spoke(clock_ns(self.steady_clock))
        self._wait_for_edge()
        key = item_key(message)
        if key in self._promises:
            before = self._acknowledged.get(key) or 0
            self._acknowledged.put(key, max(before, message.bytes))
        self._correct(key, message.bytes, 'the edge has received')
        decided_ns = self._unanswered.pop(key) if message.answered else None
        if decided_ns is not None and not self.spans_jump(decided_ns):
            now_ns = self.schedule_clock.now_ns()
            self.answer_time.add(now_ns - decided_ns, now_ns)

    def _on_transfer(self, message: FeatureFeedback) -> None:
        key = item_key(message)
        if message.status != FeatureFeedback.STATUS_TRANSFER_DONE or (
            key not in self._promises and self._settled.get(key) is None
        ):
            self.warn('unexpected_transfer', f'item {key.item_id}: no tokens are reserved for it')
            return
        if message.bytes == 0 and message.stop_reason == FeatureFeedback.STOP_SATISFIED:
            self.warn(
                'implausible_account',
                f'item {key.item_id}: it says that the edge was satisfied by nothing; the '
                'tokens stay reserved. Who else publishes on transfer?',
            )
        elif key in self._promises:
            self._settle(key, message.bytes)
        else:
            self._correct(key, message.bytes, 'another account names')

    def _correct(self, key: ItemKey, bytes_used: int, who: str) -> None:
        """Charge what an account that came before left out: the highest one counts."""
        account = self._settled.get(key)
        if account is None:
            return
        bytes_used = min(bytes_used, account.budget)
        if bytes_used <= account.bytes_used:
            return
        self.warn(
            'account_contradicted',
            f'item {key.item_id}: {who} {bytes_used} bytes, {account.bytes_used} were paid for; '
            'the rest is charged now. Who else publishes on transfer?',
        )
        self.bucket.advance(self.schedule_clock.now_ns())
        self.bucket.correct(bytes_used - account.bytes_used)
        self._settled.put(key, _Account(bytes_used, account.budget))
        self._publish_state()

    def _settle(self, key: ItemKey, bytes_used: int | None) -> None:
        reservation = self._promises.pop(key).reservation
        self.bucket.advance(self.schedule_clock.now_ns())
        if bytes_used is None:
            bytes_used = reservation.bytes
        elif bytes_used > reservation.bytes:
            self.warn(
                'budget_exceeded',
                f'item {key.item_id}: {bytes_used} bytes sent of {reservation.bytes}',
            )
        bytes_used = min(bytes_used, reservation.bytes)
        self.bucket.settle(reservation, bytes_used)
        self._settled.put(key, _Account(bytes_used, reservation.bytes))
        self._correct(key, self._acknowledged.get(key) or 0, 'the edge has received')
        self.policy.settled(bytes_used / self.settings.nominal_bytes)
        self._publish_state()

    def _watch(self) -> None:
        self._watch_edge()
        now_ns = self.schedule_clock.now_ns()
        for key, promise in list(self._promises.items()):
            if now_ns > promise.due_ns:
                self.warn(
                    'no_account',
                    f'item {key.item_id}: the encoder did not report; its '
                    'whole budget counts as spent',
                )
                self._settle(key, None)

    def _wait_for_edge(self, wait_ns: int = LINK_SILENCE_NS) -> None:
        if self._silence.timer_period_ns != wait_ns:
            self._silence.timer_period_ns = wait_ns
        self._silence.reset()

    def _on_missed_beat(self) -> None:
        """Say that the edge is silent, before it counts as gone."""
        now_ns = clock_ns(self.steady_clock)
        if not self._edge.is_alive(now_ns):
            return
        ends = self.get_publishers_info_by_topic(self.resolve_topic_name('feedback_rx'))
        self._behind_link = any(end.node_name in LINKS for end in ends)
        left_ns = self._silent_in_ns(now_ns)
        if left_ns:
            self._wait_for_edge(left_ns)
            return
        least_ns = LINK_SILENCE_NS if self._behind_link else SILENCE_NS
        self.set_condition(
            'edge_silent',
            Level.WARN,
            f'no sign of life from the edge for {least_ns / 1e9:g} s: items are sent to it until '
            f'it counts as gone, after {self.cell.edge.timeout:g} s',
        )

    def _silent_in_ns(self, now_ns: int) -> int | None:
        return self._edge.silent_in_ns(now_ns, behind_link=self._behind_link)

    def _watch_edge(self) -> None:
        now_ns = clock_ns(self.steady_clock)
        alive, stranger = self._edge.is_alive(now_ns), self._edge.stranger(now_ns)
        if not alive:
            self.clear_condition('edge_silent', 'the edge counts as gone')
        elif self._silent_in_ns(now_ns):
            self.clear_condition('edge_silent', 'the edge speaks again')
        if alive or stranger is not None:
            if not self._edge_met and not self._edge_missed:
                self.get_logger().info('the edge is there')
            self._edge_met = True
            self.clear_condition('edge_gone', 'the edge is there')
        elif self._edge_met or now_ns - self._active_since_ns > FIRST_SIGN_NS:
            self._edge_missed = True
            self.set_condition(
                'edge_gone', Level.WARN, 'no sign of life from the edge: nothing is offloaded'
            )
        if stranger is None:
            self.clear_condition('codec_mismatch', 'device and edge have the same codec')
            self.clear_condition('second_edge', 'no edge with another codec speaks any more')
        elif alive:
            self.clear_condition('codec_mismatch', 'an edge with the codec of the device is there')
            self.set_condition(
                'second_edge',
                Level.WARN,
                f'an edge with codec {stranger:016x} speaks beside the one that has ours: it is '
                'not believed; find who publishes on feedback_rx',
            )
        else:
            self.clear_condition('second_edge', 'the edge with the codec of the device is gone')
            self.set_condition(
                'codec_mismatch',
                Level.ERROR,
                f'the edge has codec {stranger:016x}, the device {self.codec_id:016x}: '
                'nothing is offloaded; give both the same model folder',
            )

    def _publish_state(self) -> None:
        state, settings = self.bucket.state, self.settings
        message = TokenBucketState(
            level_numerator=state.level,
            denominator=state.denominator,
            reserved_numerator=state.reserved,
            tokens=state.tokens,
            rate=settings.rate,
            depth=settings.depth,
            time_unit=settings.time_unit,
            spent_numerator=state.spent,
            refunded_numerator=state.refunded,
            edge_alive=self.edge_alive,
        )
        message.header.stamp = to_stamp(clock_ns(self.get_clock()))
        self._states.publish(message)


def main(arguments: list[str] | None = None) -> int:
    """Run the node as a process."""
    return run_node(OffloadPolicy, arguments)


if __name__ == '__main__':
    sys.exit(main())
