# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Many cells in one process, each of which sends recorded streams as an encoder does."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import rclpy
from builtin_interfaces.msg import Time
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Header

from stl_conveyor.msg import FeatureFeedback, ProgressiveFeature
from stl_conveyor.nodes.base.clock import to_stamp
from stl_conveyor.nodes.base.runner import make_executor
from stl_conveyor_lab.bench.edge.streams import Recorded

DEADLINE_S = 0.74  # from a capture to the latest command of the cell that ships
RESEND_S = 0.25  # after which an unanswered packet is followed by the next
SETTLE_S = 1.5  # after the last item
QOS = QoSProfile(depth=64, reliability=ReliabilityPolicy.BEST_EFFORT)


@dataclass
class SentItem:
    """What became of an item.

    Attributes:
        sent_ns: When each packet was sent (monotonic).
        answers: Delays (s) from sending a packet to the answer that takes it in.
        answered_ns: When the last answer came.
        edges: How many acknowledgements each packet had; more than one are of several edges.
    """

    cell: int
    stream: Recorded
    due_ns: int
    header: Header
    deadline: Time
    sent_ns: list[int] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    answered_ns: int = 0
    acknowledged: dict[int, int] = field(default_factory=dict)
    withheld: bool = False
    done: bool = False

    @property
    def is_late(self) -> bool:
        """Return whether it was sent and no answer came in time."""
        return not self.withheld and not self.answers


class ReplayedCells:
    """Cells that bring items at their rate and send them a packet at a time, as they are asked."""

    def __init__(
        self, count: int, streams: Sequence[Recorded], codec_id: int, *, rate: float, heed: bool
    ) -> None:
        """Join the graph.

        Args:
            count: How many cells, `/line_0` and so on.
            rate: Items per second of each.
            heed: Whether an item that gains less than the edge's price stays away.
        """
        self._streams, self._codec_id = streams, codec_id
        self._period_ns = round(1e9 / rate)
        self._heed = heed
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = Node('replayed_cells', context=self._context, use_global_arguments=False)
        self._lock = threading.Lock()
        self.items: dict[tuple[int, int], SentItem] = {}
        self.prices = [0.0] * count
        self.greeted_ns = [0] * count
        self._publishers = []
        self._wake = threading.Event()
        self._events: list[tuple[int, int, int, int, int]] = []
        self._order = itertools.count()
        for cell in range(count):
            self._publishers.append(
                self._node.create_publisher(ProgressiveFeature, f'/line_{cell}/features_rx', QOS)
            )
            self._node.create_subscription(
                FeatureFeedback,
                f'/line_{cell}/feedback_tx',
                lambda message, cell=cell: self._on_feedback(cell, message),
                QOS,
            )
        self._executor = make_executor('auto', self._context)
        self._executor.add_node(self._node)
        self._ended = False
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave the graph."""
        self._ended = True
        self._executor.wake()
        self._thread.join(5.0)
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _spin(self) -> None:
        while not self._ended:
            self._executor.spin_once(timeout_sec=0.2)

    def wait_for_edges(self, edges: int, patience: float) -> bool:
        """Wait until every cell has heard of an edge and reaches all of them; say whether so."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            there = all(p.get_subscription_count() >= edges for p in self._publishers)
            if there and all(self.greeted_ns):
                return True
            self._wake.wait(0.2)
            self._wake.clear()
        return False

    def play(self, seconds: float) -> None:
        """Bring items for a while, and wait for what becomes of them."""
        began = time.monotonic_ns()
        first = len(self.items)
        cells = len(self._publishers)
        with self._lock:
            for cell in range(cells):
                due = began + cell * self._period_ns // cells
                number = 0
                while due < began + seconds * 1e9:
                    self._push(due, cell, first + number + 1, 0)
                    due += self._period_ns
                    number += 1
        end = began + round((seconds + SETTLE_S) * 1e9)
        while (now := time.monotonic_ns()) < end:
            with self._lock:
                while self._events and self._events[0][0] <= now:
                    _, _, cell, number, sequence = heapq.heappop(self._events)
                    self._due(cell, number, sequence)
                next_ns = self._events[0][0] if self._events else end
            self._wake.wait(max(0.0, min(next_ns, end) - time.monotonic_ns()) / 1e9)
            self._wake.clear()

    def _push(self, due_ns: int, cell: int, number: int, sequence: int) -> None:
        heapq.heappush(self._events, (due_ns, next(self._order), cell, number, sequence))

    def _due(self, cell: int, number: int, sequence: int) -> None:
        item = self.items.get((cell, number))
        if item is None:
            # Every cell goes through the streams from another place on.
            stream = self._streams[(7 * cell + number) % len(self._streams)]
            now_ns = time.time_ns()
            item = self.items[cell, number] = SentItem(
                cell,
                stream,
                time.monotonic_ns() + round(DEADLINE_S * 1e9),
                Header(stamp=to_stamp(now_ns)),
                to_stamp(now_ns + round(DEADLINE_S * 1e9)),
                withheld=self._heed and stream.gain < self.prices[cell],
            )
        if not item.withheld and len(item.sent_ns) == sequence:
            self._send(number, item)

    def _send(self, number: int, item: SentItem) -> None:
        sequence = len(item.sent_ns)
        if item.done or sequence >= len(item.stream.packets):
            return
        now_ns = time.monotonic_ns()
        if now_ns >= item.due_ns:
            return
        item.sent_ns.append(now_ns)
        self._publishers[item.cell].publish(
            ProgressiveFeature(
                header=item.header,
                item_id=number,
                codec_id=self._codec_id,
                deadline=item.deadline,
                sequence=sequence,
                last=sequence + 1 == len(item.stream.packets),
                data=item.stream.packets[sequence],
            )
        )
        self._push(now_ns + round(RESEND_S * 1e9), item.cell, number, sequence + 1)

    def _on_feedback(self, cell: int, message: FeatureFeedback) -> None:
        now_ns = time.monotonic_ns()
        if message.status == FeatureFeedback.STATUS_ALIVE:
            self.prices[cell], self.greeted_ns[cell] = message.price, now_ns
            self._wake.set()
            return
        with self._lock:
            item = self.items.get((cell, message.item_id))
            if item is None or message.status != FeatureFeedback.STATUS_OK:
                return
            if not message.answered:
                count = item.acknowledged.get(message.sequence, 0)
                item.acknowledged[message.sequence] = count + 1
                return
            if message.sequence < len(item.sent_ns) and now_ns <= item.due_ns:
                item.answers.append((now_ns - item.sent_ns[message.sequence]) / 1e9)
                item.answered_ns = now_ns
            item.done = item.done or message.satisfied
            self._send(message.item_id, item)
