# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Encode the items that are worth it, and send them to the edge at the pace of the network."""

from __future__ import annotations

import array
import math
import sys
import time
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from stl_conveyor.cell.clock_offset import ClockOffsetEstimator
from stl_conveyor.cell.deadline import DelayEstimator, Trials, latest_send_ns
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.cell.edge_watch import EdgeWatch
from stl_conveyor.cell.ledger import ItemKey
from stl_conveyor.cell.number_gaps import NumberGaps
from stl_conveyor.cell.sender import (
    PacingSettings,
    SendPacket,
    StopReason,
    StreamSender,
    WaitUntil,
)
from stl_conveyor.codec import Encoder
from stl_conveyor.decision.lane_time import useful_until_ns
from stl_conveyor.decision.of_folder import decider_of
from stl_conveyor.errors import BadProbabilities
from stl_conveyor.models.classifier import check_probabilities
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.msg import (
    Classification,
    FeatureFeedback,
    ItemCapture,
    OffloadDecision,
    ProgressiveFeature,
)
from stl_conveyor.nodes.base.clock import clock_ns, to_ns, to_stamp
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.health import Level
from stl_conveyor.nodes.base.items import RecentItems, configured_path, item_key, model_image
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.settings import NodeSettings, parameter
from stl_conveyor.policy.byte_budget import STOP_SCORE

LARGEST_STREAM = 1_000_000
LONGEST_TRANSFER_NS = 10_000_000_000
ASSUMED_ROUND_TRIP_NS = 250_000_000


@dataclass(frozen=True)
class EncoderSettings(NodeSettings):
    """Parameters of the encoder."""

    cell_file: str = parameter(
        '', 'Cell description (YAML). Empty: the one that the package ships.'
    )
    models_dir: str = parameter('', 'Model folder. Empty: the one that the package ships.')
    threads: int = parameter(1, 'Threads of the encoder.', minimum=1, maximum=64)
    packet_bytes: int = parameter(
        256,
        'Largest payload of one message; it must stay below one MTU with 150 bytes of overhead.',
        minimum=32,
        maximum=60_000,
    )
    window_bytes: int = parameter(
        1200,
        'Bytes on the way that the edge has not acknowledged, overhead included.',
        minimum=1,
        maximum=10_000_000,
    )
    answer_time: float = parameter(
        0.1,
        'Seconds from sending a packet to having the answer, until it has been measured.',
        minimum=0.0,
        maximum=10.0,
    )
    loss_timeout: float = parameter(
        0.25,
        'Seconds after which an unacknowledged packet counts as lost.',
        minimum=0.01,
        maximum=10.0,
    )
    max_resends: int = parameter(
        1, 'How often a lost packet is sent again.', minimum=0, maximum=10
    )
    patient: bool = parameter(
        True,
        'Wait for the answer of the edge to what it has before sending more, as long as '
        'time allows: it may be satisfied, and tokens come back.',
    )
    clock_tolerance: float = parameter(
        0.1,
        'Seconds by which the clock of the edge may differ before that is reported.',
        minimum=0.001,
        maximum=3600.0,
    )


@dataclass(frozen=True)
class _Transfer:
    key: ItemKey
    header: Header
    deadline: Time
    packets: tuple[bytes, ...]
    sender: StreamSender
    compute_time: float
    is_trial: bool


class EncoderNode(ConveyorNode):
    """See the module."""

    NAME = 'encoder'
    SETTINGS = EncoderSettings

    def configure(self) -> None:
        """Load and check the codec."""
        settings = self.settings
        self.cell = CellDescription.load(configured_path(settings.cell_file, 'config/cell.yaml'))
        folder = ModelFolder(configured_path(settings.models_dir, 'models/items'))
        self.encoder = Encoder(folder, settings.threads)
        self.labels, self.image_size = folder.labels, folder.image_size
        self.decider = decider_of(folder, self.cell)
        self.pacing = PacingSettings(
            window_bytes=settings.window_bytes,
            overhead_bytes=self.cell.edge.overhead_bytes,
            guard_ns=self.cell.guard_ns,
            loss_timeout_ns=round(settings.loss_timeout * 1e9),
            max_resends=settings.max_resends,
            patient=settings.patient,
        )
        self.round_trip = DelayEstimator(
            initial_ns=round(settings.answer_time * 1e9), maximum_ns=LONGEST_TRANSFER_NS
        )
        self.edge_time = DelayEstimator(initial_ns=0, maximum_ns=LONGEST_TRANSFER_NS)
        self._trials = Trials(self.round_trip, self.edge_time)
        self.edge_clock = ClockOffsetEstimator()
        self._captures: RecentItems[ItemCapture] = RecentItems(8)
        self._waiting: RecentItems[OffloadDecision] = RecentItems(8)
        self._begun: RecentItems[bool] = RecentItems(1024)
        # Also of transfers that have ended: feedback that comes later tells how slow the link is.
        self._senders: RecentItems[StreamSender] = RecentItems(16)
        self._transfer: _Transfer | None = None
        self._edge = EdgeWatch(self.encoder.identity, round(self.cell.edge.timeout * 1e9))
        self.health.set_value('codec', f'{self.encoder.identity:016x}')

    def activate(self) -> None:
        """Listen for items and for the edge."""
        self.watch_clock()
        self._features = self.publish_on('features_tx')
        self._accounts = self.publish_on('transfer')
        self._timer = self.once(self._pump, clock=self.schedule_clock.timer_clock)
        self._gaps = NumberGaps()
        self.listen('capture', self._on_capture, sole=True)
        self.listen('offload_decision', self._on_decision, sole=True)
        self.listen('feedback_rx', self._on_feedback, sole=True)
        if self.decider is not None:
            self.listen('edge_classification', self._on_edge_answer, sole=True)

    def deactivate(self) -> None:
        """End the transfer that is under way, and account for it."""
        self._stop(StopReason.ERROR)

    def refresh_health(self) -> None:
        """Report what time is taken for that from a packet to its answer."""
        if self.is_active:
            reserve_ns = self._trials.reserve_ns(self.schedule_clock.now_ns())
            self.health.set_value('expected_answer_time', f'{reserve_ns / 1e9:.3f} s')

    def cleanup(self) -> None:
        """Drop the codec."""
        self.forget('encoder')

    def _on_capture(self, message: ItemCapture) -> None:
        key = item_key(message)
        if missed := len(self._gaps.heard(key)):
            self.health.count('captures_missed', missed)
        self._captures.put(key, message)
        decision = self._waiting.pop(key)
        if decision is not None:
            self._begin(key, decision, message)

    def _on_decision(self, message: OffloadDecision) -> None:
        key = item_key(message)
        if not message.offload:
            return
        if self._begun.get(key):
            self.warn('duplicate_decision', f'item {key.item_id} was sent already')
            return
        capture = self._captures.pop(key)
        if capture is None:
            self._waiting.put(key, message)  # it overtook its capture
        else:
            self._begin(key, message, capture)

    def _begin(self, key: ItemKey, decision: OffloadDecision, capture: ItemCapture) -> None:
        self._begun.put(key, True)
        current = self._transfer
        if current is not None and current.key.stamp_ns > key.stamp_ns:
            self._account(decision.header, key, StopReason.NEXT_ITEM)
            return
        self._stop(StopReason.NEXT_ITEM)
        try:
            self._transfer = self._encode(key, decision, capture)
            self._senders.put(key, self._transfer.sender)
        except Exception:
            self._account(decision.header, key, StopReason.ERROR)
            raise
        self._pump()

    def _encode(self, key: ItemKey, decision: OffloadDecision, capture: ItemCapture) -> _Transfer:
        started = time.perf_counter()
        probabilities = None
        if len(decision.probabilities):
            try:
                probabilities = check_probabilities(decision.probabilities, len(self.labels))
            except BadProbabilities as error:
                self.warn('bad_probabilities', f'item {key.item_id}: {error}')
        budget = min(decision.byte_budget, LARGEST_STREAM)
        packets = self.encoder.encode(
            model_image(capture.crop, self.image_size),
            probabilities,
            packet_bytes=self.settings.packet_bytes,
            max_bytes=budget,
        ).packets
        compute_time = time.perf_counter() - started
        self.health.sample('compute_time', compute_time)
        now_ns = self.schedule_clock.now_ns()
        useful_ns = useful_until_ns(
            key.stamp_ns, to_ns(decision.deadline), self.cell, self.labels, probabilities
        )
        deadline_ns = min(self.schedule_clock.from_ros_ns(useful_ns), now_ns + LONGEST_TRANSFER_NS)
        return _Transfer(
            key,
            Header(stamp=decision.header.stamp),
            to_stamp(useful_ns),
            packets,
            StreamSender(
                [len(packet) for packet in packets],
                byte_budget=budget,
                deadline_ns=deadline_ns,
                settings=self.pacing,
            ),
            compute_time,
            self._is_trial(deadline_ns, now_ns),
        )

    def _is_trial(self, deadline_ns: int, now_ns: int) -> bool:
        """Return whether a stream is sent as if nothing had been measured, to measure anew."""

        def in_time(reserve_ns: int) -> bool:
            return now_ns <= latest_send_ns(deadline_ns, self.cell.guard_ns, reserve_ns)

        if not self._trials.is_trial(now_ns, in_time):
            return False
        self.health.count('trials')
        return True

    def _pump(self) -> None:
        self._timer.cancel()
        transfer = self._transfer
        while transfer is not None:
            now_ns = self.schedule_clock.now_ns()
            if self._edge_silent():
                transfer.sender.stop(StopReason.EDGE_GONE)
            reserve_ns = (
                self._trials.unmeasured_ns
                if transfer.is_trial
                else self._trials.reserve_ns(now_ns)
            )
            action = transfer.sender.step(now_ns, reserve_ns)
            if isinstance(action, SendPacket):
                self._send(transfer, action)
            elif isinstance(action, WaitUntil):
                self._timer.after(action.at_ns - now_ns)
                return
            else:
                self._transfer = None
                self.health.count(f'stop.{action.stop.name.lower()}')
                self._account(
                    transfer.header,
                    transfer.key,
                    action.stop,
                    action.packets,
                    action.bytes,
                    transfer.compute_time,
                )
                return

    def _send(self, transfer: _Transfer, action: SendPacket) -> None:
        data = transfer.packets[action.sequence]
        self._features.publish(
            ProgressiveFeature(
                header=transfer.header,
                item_id=transfer.key.item_id,
                codec_id=self.encoder.identity,
                deadline=self._deadline_at_edge(transfer.deadline),
                sequence=action.sequence,
                last=action.last,
                data=array.array('B', data),
            )
        )
        self.tick('packets')
        self.health.count('payload_bytes', len(data))

    def _deadline_at_edge(self, deadline: Time) -> Time:
        """Return a deadline as the clock of the edge will show it: that may be another time."""
        offset_ns = self.edge_clock.at_least_ns(clock_ns(self.steady_clock))
        return deadline if offset_ns is None else to_stamp(to_ns(deadline) + offset_ns)

    def _watch_edge_clock(self, message: FeatureFeedback) -> None:
        if self.schedule_clock.simulated:
            return  # one clock for all; a stamp from before it jumped tells of no other
        steady_ns = clock_ns(self.steady_clock)
        self.edge_clock.add(
            to_ns(message.header.stamp), self.schedule_clock.ros_now_ns(), steady_ns
        )
        apart = (
            self.edge_clock.disagreement_ns(steady_ns, assumed_round_trip_ns=ASSUMED_ROUND_TRIP_NS)
            / 1e9
        )
        self.health.set_value('edge_clock_apart', f'{apart:.3f} s')
        if abs(apart) > self.settings.clock_tolerance:
            self.set_condition(
                'edge_clock',
                Level.WARN,
                'the clock of the edge is '
                f"{'ahead of' if apart > 0 else 'behind'} this machine's: deadlines are "
                'translated for it; synchronise both with chrony (docs/two_machines.md), see '
                'edge_clock_apart',
            )
        else:
            self.clear_condition('edge_clock', "the clock of the edge agrees with this machine's")

    def _stop(self, reason: StopReason) -> None:
        if self._transfer is not None:
            self._transfer.sender.stop(reason)
            self._pump()

    def _account(
        self,
        header: Header,
        key: ItemKey,
        stop: StopReason,
        packets: int = 0,
        size: int = 0,
        compute_time: float = 0.0,
    ) -> None:
        self._accounts.publish(
            FeatureFeedback(
                header=header,
                item_id=key.item_id,
                codec_id=self.encoder.identity,
                status=FeatureFeedback.STATUS_TRANSFER_DONE,
                stop_reason=int(stop),
                satisfied=stop is StopReason.SATISFIED,
                packets=min(packets, 65535),
                bytes=size,
                compute_time=compute_time,
            )
        )

    def _edge_silent(self) -> bool:
        return self._edge.was_heard and not self._edge.is_alive(clock_ns(self.steady_clock))

    def _on_edge_answer(self, message: Classification) -> None:
        """End a stream whose answer is sure of its lane: what is open within it costs nothing."""
        key = item_key(message)
        sender = self._senders.get(key)
        if sender is None or self.decider is None or not 0.0 <= message.unknown <= 1.0:
            return
        # Nobody has an answer to more than was sent.
        received = min(message.bytes_used, sender.bytes_spent)
        if not received:
            return
        try:
            given = check_probabilities(message.probabilities, len(self.labels))
        except BadProbabilities as error:
            self.warn('bad_probabilities', f'item {key.item_id}: {error}')
            return
        unknown = np.array([message.unknown])
        if self.decider.suffices(given[None], unknown, received, STOP_SCORE)[0]:
            sender.stop(StopReason.SATISFIED)
            self._pump()

    def _on_feedback(self, message: FeatureFeedback) -> None:
        now_ns = clock_ns(self.steady_clock)
        self._edge.heard(message.codec_id, now_ns)
        greeting = message.status in (
            FeatureFeedback.STATUS_ALIVE,
            FeatureFeedback.STATUS_CODEC_MISMATCH,
        )
        if message.codec_id != self.encoder.identity:
            if self._edge.is_alive(now_ns):
                self.health.count('feedback_of_another_codec')
                return
            self.set_condition(
                'codec_mismatch',
                Level.ERROR,
                f'the edge has codec {message.codec_id:016x}, the encoder '
                f'{self.encoder.identity:016x}; give both the same model folder',
            )
            self._stop(StopReason.ERROR)
            return
        if greeting:
            self._watch_edge_clock(message)
            self.clear_condition('codec_mismatch', 'encoder and edge have the same codec')
            return
        key = item_key(message)
        sender = self._senders.get(key)
        if sender is None:
            self.health.count('feedback_for_another_item')
            return
        if message.status == FeatureFeedback.STATUS_TOO_LATE:
            sender.stop(StopReason.DEADLINE)
            self._learn(message, sender.arrived(message.sequence))
        elif message.status == FeatureFeedback.STATUS_BAD_PACKET:
            self.warn(
                'packet_refused', f'item {key.item_id}: packet {message.sequence} arrived damaged'
            )
            sender.arrived(message.sequence)
        elif message.status == FeatureFeedback.STATUS_OK:
            self._learn(
                message,
                sender.arrived(
                    message.sequence, satisfied=message.satisfied, answered=message.answered
                ),
            )
        self._pump()

    def _learn(self, message: FeatureFeedback, sent_ns: int | None) -> None:
        now_ns = self.schedule_clock.now_ns()
        if sent_ns is not None and not self.spans_jump(sent_ns):
            self.round_trip.add(now_ns - sent_ns, now_ns)
            self.edge_clock.add_round_trip(now_ns - sent_ns, clock_ns(self.steady_clock))
            self.health.sample('round_trip', (now_ns - sent_ns) / 1e9)
        # Feedback on a packet names the time of the answer before, however often: one in whose
        # midst the edge was stopped would count many times.
        if message.answered and math.isfinite(message.compute_time) and 0 < message.compute_time:
            self.edge_time.add(round(message.compute_time * 1e9), now_ns)


def main(arguments: list[str] | None = None) -> int:
    """Run the node as a process."""
    return run_node(EncoderNode, arguments)


if __name__ == '__main__':
    sys.exit(main())
