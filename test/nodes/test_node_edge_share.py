# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A flood of tiny packets in one cell takes the shared edge from no other."""

from __future__ import annotations

import array
import threading
import time

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CELL, CellHarness, qos  # noqa: E402

from stl_conveyor.codec import Encoder  # noqa: E402
from stl_conveyor.codec.wire import Packet, pack  # noqa: E402
from stl_conveyor.models.model_folder import ModelFolder  # noqa: E402
from stl_conveyor.msg import Classification, ProgressiveFeature  # noqa: E402
from stl_conveyor.nodes.base.clock import to_stamp  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeSpec  # noqa: E402
from stl_conveyor.nodes.edge.edge_classifier import EdgeClassifier  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros

HONEST, HOSTILE = 'line_1', 'line_2'
PER_SECOND = 300
DECODING_S = 0.03  # of a processor; an item has its whole cost, however small the packet
ITEMS = 20
IN_TIME_NS = 4_000_000_000  # without shares each waits behind nine seconds of the flood


class Slow:
    """A decoder's session that takes its time, as the whole of a large item does."""

    def __init__(self, session):
        self._session = session

    def __getattr__(self, name):
        return getattr(self._session, name)

    def add(self, packet):
        end = time.thread_time() + DECODING_S
        while time.thread_time() < end:
            pass
        self._session.add(packet)


class Flood:
    """Sends the same six bytes, each for an item of its own, until it is told to end."""

    def __init__(self, cell, publisher, codec_id, packet):
        self._cell, self._publisher = cell, publisher
        self._codec_id, self._packet = codec_id, array.array('B', packet)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0

    def __enter__(self):
        self._thread.start()
        return self

    def _run(self):
        while not self._end.wait(1 / PER_SECOND):
            self.sent += 1
            now_ns = self._cell.now_ns()
            message = ProgressiveFeature(item_id=self.sent, codec_id=self._codec_id)
            message.header.stamp = to_stamp(now_ns)
            message.deadline = to_stamp(now_ns + 8 * 10**9)
            message.data = self._packet
            self._publisher.publish(message)

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()


def test_items_of_the_other_cell_are_answered_in_time(tiny_models):
    encoder = Encoder(ModelFolder(tiny_models))
    packet = encoder.encode(tiny_images(1, len(CELL.classes))[0][0], None).packets[0]
    spec = NodeSpec(
        EdgeClassifier,
        {
            'models_dir': str(tiny_models),
            'cells': (HONEST, HOSTILE),
            'workers': 2,
            'diagnostics_period': 0.2,
        },
        group='edge',
    )
    with CellHarness([spec], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        edge = cell.runner.node('edge_classifier')
        start = edge.decoder.start
        edge.decoder.start = lambda: Slow(start())
        answered = {}

        def on_answer(message):
            answered.setdefault(message.item_id, cell.now_ns())

        cell.probe.create_subscription(
            Classification,
            f'{HONEST}/edge_classification_tx',
            on_answer,
            qos('edge_classification'),
        )
        honest = cell.publisher(f'{HONEST}/features_rx', ProgressiveFeature)
        hostile = cell.publisher(f'{HOSTILE}/features_rx', ProgressiveFeature)
        cell.connect(f'{HONEST}/edge_classification_tx')
        everything = pack(Packet(False, 0, encoder.spec.groups, b''), encoder.identity)
        assert len(everything) <= 6
        with Flood(cell, hostile, encoder.identity, everything) as flood:
            cell.wait(lambda: flood.sent > PER_SECOND, 20, 'a second of the flood')
            late = []
            for item_id in range(1, ITEMS + 1):
                now_ns = cell.now_ns()
                message = ProgressiveFeature(item_id=item_id, codec_id=encoder.identity, last=True)
                message.header.stamp = to_stamp(now_ns)
                message.deadline = to_stamp(now_ns + IN_TIME_NS)
                message.data = array.array('B', packet)
                honest.publish(message)
                cell.wait(
                    lambda n=item_id, by=now_ns + IN_TIME_NS: n in answered or cell.now_ns() > by,
                    20,
                )
                if item_id not in answered:
                    late.append(item_id)
            assert not late, f'{len(late)} of {ITEMS} items were not answered in time'
            cell.wait(lambda: edge.health.counted('put_off') > 0, 10, 'packets that are put off')
