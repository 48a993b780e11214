# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Pace one item's packets to the network, and stop as soon as more would be a waste."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from stl_conveyor.cell.deadline import latest_send_ns
from stl_conveyor.cell.description import OVERHEAD_BYTES


class StopReason(enum.IntEnum):
    """Why nothing more is sent for an item. Equals FeatureFeedback's STOP_*."""

    NONE = 0
    COMPLETE = 1
    SATISFIED = 2
    DEADLINE = 3
    NEXT_ITEM = 4
    EDGE_GONE = 5
    ERROR = 6


@dataclass(frozen=True)
class PacingSettings:
    """How a stream is paced.

    Attributes:
        window_bytes: Unacknowledged bytes on the way, overhead included; a packet that is larger
            than the window may travel alone.
        overhead_bytes: What a packet costs on the wire beside its payload.
        guard_ns: How long before the deadline the actuator acts.
        loss_timeout_ns: Packets unacknowledged for longer count as lost.
        max_resends: How often a lost packet is sent again, if time and budget allow.
        patient: Wait for the edge's answer to what it has before sending more, while the time
            suffices to send and answer all that is left one by one; it may be satisfied.
    """

    window_bytes: int = 1200
    overhead_bytes: int = OVERHEAD_BYTES
    guard_ns: int = 20_000_000
    loss_timeout_ns: int = 250_000_000
    max_resends: int = 1
    patient: bool = True


@dataclass(frozen=True)
class SendPacket:
    """Send the packet `sequence` now; with `last` nothing new follows it."""

    sequence: int
    last: bool


@dataclass(frozen=True)
class WaitUntil:
    """Nothing may be sent before feedback arrives, or `at_ns` at the latest."""

    at_ns: int


@dataclass(frozen=True)
class TransferDone:
    """Nothing more will be sent; `packets` and `bytes` (payload) were, resends included."""

    stop: StopReason
    packets: int
    bytes: int


class StreamSender:
    """Send one item's packets, the most important first.

    Feedback names one packet that arrived. Packets sent before it and not acknowledged are taken
    for lost, as are those that stay unacknowledged for too long; the most important lost packet
    goes before anything less important, unless the budget cannot pay for it. All times are ns of
    one clock.
    """

    def __init__(
        self,
        packet_sizes: Sequence[int],
        *,
        byte_budget: int,
        deadline_ns: int,
        settings: PacingSettings,
    ) -> None:
        """Prepare to send packets of these payload sizes.

        Args:
            byte_budget: Payload bytes that may be spent, resends included.
        """
        self._sizes = tuple(packet_sizes)
        self._budget = byte_budget
        self._deadline_ns = deadline_ns
        self._settings = settings
        self._flying: dict[int, int] = {}  # sequence -> time of sending
        self._sent_once: dict[int, int] = {}  # likewise, until feedback about it arrives
        self._order: list[int] = []  # sequences in the order of sending
        self._waiting = list(range(len(self._sizes) - 1, -1, -1))  # most important last
        self._resends: dict[int, int] = {}
        self._arrived: set[int] = set()
        self._unanswered: tuple[int, int] | None = None  # the last sent: sequence, time
        self._spent = 0
        self._sent = 0
        self._stop = StopReason.NONE

    @property
    def bytes_spent(self) -> int:
        """Return the payload bytes sent so far."""
        return self._spent

    @property
    def stop_reason(self) -> StopReason:
        """Return why the transfer ended, NONE while it is under way."""
        return self._stop

    def stop(self, reason: StopReason) -> None:
        """End the transfer for a reason that lies outside it; the first reason stays."""
        if self._stop is StopReason.NONE:
            self._stop = reason

    def arrived(
        self, sequence: int, *, satisfied: bool = False, answered: bool = False
    ) -> int | None:
        """Take in the feedback about one packet.

        It may come after the end of the transfer, and still tells how long it took.

        Args:
            answered: The edge has classified with everything that arrived up to this packet.

        Returns:
            When the packet was sent (ns), for measuring the delay; None if there was feedback
            about it before, or if it was sent twice and may be either copy (Karn and Partridge,
            "Improving Round-Trip Time Estimates in Reliable Transport Protocols", 1987).
        """
        sent_ns = self._sent_once.pop(sequence, None)
        if sequence in self._flying:
            del self._flying[sequence]
            place = self._order.index(sequence)
            overtaken, self._order = self._order[:place], self._order[place + 1 :]
            for lost in overtaken:
                self._lose(lost)
        if 0 <= sequence < len(self._sizes):
            self._arrived.add(sequence)
            if sequence in self._waiting and sequence in self._resends:
                self._waiting.remove(sequence)  # late, not lost
        if answered and self._unanswered is not None and sequence >= self._unanswered[0]:
            self._unanswered = None
        if satisfied:
            self.stop(StopReason.SATISFIED)
        return sent_ns

    def step(self, now_ns: int, reserve_ns: int) -> SendPacket | WaitUntil | TransferDone:
        """Return what to do now.

        Args:
            reserve_ns: From sending a packet to having the answer that it contributes to.
        """
        self._expire(now_ns)
        self._drop_unaffordable()
        if self._stop is StopReason.NONE:
            latest_ns = latest_send_ns(self._deadline_ns, self._settings.guard_ns, reserve_ns)
            if now_ns > latest_ns:
                self.stop(StopReason.DEADLINE)
            elif not self._waiting:
                if not self._flying or not self._could_resend():
                    self.stop(StopReason.COMPLETE)
                else:
                    return WaitUntil(min(self._next_expiry_ns(), latest_ns + 1))
            elif self._window_full(self._waiting[-1]):
                return WaitUntil(min(self._next_expiry_ns(), latest_ns + 1))
            elif now_ns < (patience_ns := self._patience_ns(latest_ns, reserve_ns)):
                return WaitUntil(patience_ns)
            else:
                return self._send(now_ns)
        return TransferDone(self._stop, self._sent, self._spent)

    def _patience_ns(self, latest_ns: int, reserve_ns: int) -> int:
        """Return until when an answer is worth waiting for."""
        if not self._settings.patient or self._unanswered is None:
            return 0
        one_by_one_ns = latest_ns - (len(self._waiting) - 1) * reserve_ns
        return min(self._unanswered[1] + 2 * reserve_ns, one_by_one_ns)

    def _send(self, now_ns: int) -> SendPacket:
        sequence = self._waiting.pop()
        self._unanswered = sequence, now_ns
        self._flying[sequence] = now_ns
        if sequence in self._resends:
            self._sent_once.pop(sequence, None)
        else:
            self._sent_once[sequence] = now_ns
        self._order.append(sequence)
        self._spent += self._sizes[sequence]
        self._sent += 1
        self._drop_unaffordable()
        return SendPacket(sequence, last=not self._waiting)

    def _drop_unaffordable(self) -> None:
        """Give up what the budget cannot pay for any more; smaller packets go on."""
        self._waiting = [s for s in self._waiting if not self._over_budget(s)]

    def _over_budget(self, sequence: int) -> bool:
        return self._spent + self._sizes[sequence] > self._budget

    def _window_full(self, sequence: int) -> bool:
        overhead = self._settings.overhead_bytes
        flying = sum(self._sizes[other] + overhead for other in self._flying)
        return bool(flying) and (
            flying + self._sizes[sequence] + overhead > self._settings.window_bytes
        )

    def _could_resend(self) -> bool:
        return any(
            self._resends.get(sequence, 0) < self._settings.max_resends
            and not self._over_budget(sequence)
            for sequence in self._flying
        )

    def _next_expiry_ns(self) -> int:
        return min(self._flying.values()) + self._settings.loss_timeout_ns

    def _expire(self, now_ns: int) -> None:
        for sequence in [
            s for s in self._order if now_ns - self._flying[s] >= self._settings.loss_timeout_ns
        ]:
            self._order.remove(sequence)
            self._lose(sequence)

    def _lose(self, sequence: int) -> None:
        self._flying.pop(sequence, None)
        resends = self._resends.get(sequence, 0)
        if sequence in self._arrived or resends >= self._settings.max_resends:
            return
        self._resends[sequence] = resends + 1
        place = len(self._waiting)
        while place and self._waiting[place - 1] < sequence:
            place -= 1
        self._waiting.insert(place, sequence)
