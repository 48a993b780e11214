# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Many cells in one process, each of which sends recorded streams as an encoder does."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import rclpy
from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Header

from stl_conveyor.msg import EdgeState, FeatureFeedback, ProgressiveFeature
from stl_conveyor.nodes.base.clock import to_stamp
from stl_conveyor.nodes.base.middleware import join
from stl_conveyor.nodes.base.runner import make_executor
from stl_conveyor_lab.bench.edge.streams import Recorded

DEADLINE_S = 0.74  # from a capture to the latest command of the cell that ships
RESEND_S = 0.25  # after which an unanswered packet is followed by the next
LONGEST_WAIT_S = 0.2  # until what has become of the items is looked at again
QOS = QoSProfile(depth=64, reliability=ReliabilityPolicy.BEST_EFFORT)


@dataclass
class SentItem:
    """What became of an item.

    Attributes:
        due_ns: Until when (monotonic) an answer is in time.
        sent_ns: When each packet was sent.
        answers: Delays (s) from sending a packet to the answer that takes it in.
        answered_ns: When each answer came.
        acknowledged: How many acknowledgements each packet had; more than one: of several edges.
        torn: Acknowledgements of an edge that had not got all packets before.
        most_packets: That an answer rests on.
        done: Whether no more of it is sent: all was answered, or the edge was sure enough.
    """

    cell: int
    stream: Recorded
    due_ns: int
    header: Header
    deadline: Time
    sent_ns: list[int] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    answered_ns: list[int] = field(default_factory=list)
    acknowledged: dict[int, int] = field(default_factory=dict)
    torn: int = 0
    most_packets: int = 0
    withheld: bool = False
    done: bool = False

    @property
    def is_late(self) -> bool:
        """Return whether it was sent and no answer came in time."""
        return not self.withheld and not self.answers

    @property
    def decided_ns(self) -> int:
        """Return when its first answer came, or when it was too late for one."""
        return min([self.due_ns, *self.answered_ns])


class ReplayedCells:
    """Cells that bring items at their rate and send them a packet at a time, as they are asked."""

    def __init__(
        self,
        count: int,
        streams: Sequence[Recorded],
        codec_id: int,
        *,
        rate: float,
        heed: bool,
        deadline: float = DEADLINE_S,
    ) -> None:
        """Join the graph.

        Args:
            count: How many cells, `/line_0` and so on.
            rate: Items per second of each.
            heed: Whether an item that gains less than the edge's price stays away.
            deadline: Seconds from a capture until its answer is too late.
        """
        self._streams, self._codec_id = streams, codec_id
        self._period_ns = round(1e9 / rate)
        self._heed = heed
        self._deadline_ns = round(deadline * 1e9)
        self._context = join()
        self._node = Node('replayed_cells', context=self._context, use_global_arguments=False)
        self._lock = threading.Lock()
        self.items: dict[tuple[int, int], SentItem] = {}
        self.prices = [0.0] * count
        self.greeted_ns = [0] * count
        self._served: dict[str, tuple[str, ...]] = {}  # edge → cells for which it says it answers
        self._brought = [0] * count
        self._until_ns = 0.0  # when the last item is brought
        self._publishers = []
        self._wake, self._news = threading.Event(), threading.Event()
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
        self._node.create_subscription(EdgeState, '/edges', self._on_state, QOS)
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
            self._news.wait(LONGEST_WAIT_S)
            self._news.clear()
        return False

    def wait_for(self, served: Mapping[str, Sequence[str]], patience: float) -> bool:
        """Wait until edges say that they answer for these cells each; say whether they do."""
        wanted = {edge: sorted(cells) for edge, cells in served.items()}
        end = time.monotonic() + patience
        while time.monotonic() < end:
            with self._lock:
                if all(sorted(self._served.get(edge, ())) == own for edge, own in wanted.items()):
                    return True
            self._news.wait(LONGEST_WAIT_S)
            self._news.clear()
        return False

    def forget(self, edge: str) -> None:
        """Forget what an edge has said of itself."""
        with self._lock:
            self._served.pop(edge, None)

    def play(self, seconds: float) -> None:
        """Bring items for a while, and wait for what becomes of them."""
        with self.playing(seconds):
            pass

    @contextmanager
    def playing(self, seconds: float = math.inf) -> Iterator[None]:
        """Bring items, for a while or until the end; then wait for what becomes of them."""
        began = time.monotonic_ns()
        self._until_ns = began + seconds * 1e9
        cells = len(self._publishers)
        with self._lock:
            for cell in range(cells):
                self._bring(began + cell * self._period_ns // cells, cell)
        thread = threading.Thread(target=self._play, name='cells', daemon=True)
        thread.start()
        try:
            yield
        finally:
            if seconds == math.inf:
                self._until_ns = time.monotonic_ns()
                self._wake.set()
            thread.join()

    def _play(self) -> None:
        """Do what is due, until the last item has been brought and nothing more comes of it."""
        while True:
            now = time.monotonic_ns()
            with self._lock:
                while self._events and self._events[0][0] <= now:
                    due, _, cell, number, sequence = heapq.heappop(self._events)
                    if sequence:
                        self._due(cell, number, sequence)
                    elif due < self._until_ns:
                        self._bring(due + self._period_ns, cell)
                        self._due(cell, number, 0)
                if now >= self._until_ns and all(
                    item.done or now >= item.due_ns for item in self.items.values()
                ):
                    self._events.clear()
                    return
                next_ns = self._events[0][0] if self._events else math.inf
            left_ns = next_ns - time.monotonic_ns()
            self._wake.wait(max(0.0, min(left_ns / 1e9, LONGEST_WAIT_S)))
            self._wake.clear()

    def _bring(self, due_ns: int, cell: int) -> None:
        self._brought[cell] += 1
        self._push(due_ns, cell, self._brought[cell], 0)

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
                time.monotonic_ns() + self._deadline_ns,
                Header(stamp=to_stamp(now_ns)),
                to_stamp(now_ns + self._deadline_ns),
            )
            item.withheld = item.done = self._heed and stream.gain < self.prices[cell]
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

    def _on_state(self, message: EdgeState) -> None:
        with self._lock:
            self._served[message.edge] = tuple(message.serves)
        self._news.set()

    def _on_feedback(self, cell: int, message: FeatureFeedback) -> None:
        now_ns = time.monotonic_ns()
        if message.status == FeatureFeedback.STATUS_ALIVE:
            self.prices[cell], self.greeted_ns[cell] = message.price, now_ns
            self._news.set()
            return
        with self._lock:
            item = self.items.get((cell, message.item_id))
            if item is None or message.status != FeatureFeedback.STATUS_OK:
                return
            if not message.answered:
                count = item.acknowledged.get(message.sequence, 0)
                item.acknowledged[message.sequence] = count + 1
                item.torn += message.packets <= message.sequence
                return
            if message.sequence < len(item.sent_ns) and now_ns <= item.due_ns:
                item.answers.append((now_ns - item.sent_ns[message.sequence]) / 1e9)
                item.answered_ns.append(now_ns)
                item.most_packets = max(item.most_packets, message.packets)
            last = message.sequence + 1 == len(item.stream.packets)
            item.done = item.done or message.satisfied or last
            self._send(message.item_id, item)
