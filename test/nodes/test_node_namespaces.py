# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Two cells, told apart by their namespaces alone, served by one edge over real DDS."""

from __future__ import annotations

import array
import threading
import time

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CELL, CellHarness, device_specs, make_capture, qos  # noqa: E402
from graph_checks import incompatible_topics  # noqa: E402

from stl_conveyor.codec import Encoder  # noqa: E402
from stl_conveyor.models.model_folder import ModelFolder  # noqa: E402
from stl_conveyor.msg import (  # noqa: E402
    Classification,
    FeatureFeedback,
    ItemCapture,
    ProgressiveFeature,
    SortOutcome,
)
from stl_conveyor.nodes.base.clock import to_ns, to_stamp  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeSpec  # noqa: E402
from stl_conveyor.nodes.base.topics import DEVICE_REMAPPINGS  # noqa: E402
from stl_conveyor.nodes.edge.edge_classifier import EdgeClassifier  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros

CELLS = ('line_1', 'hall_2/line_1')
MOST = 24  # items until both cells have used an answer of the edge


def two_cells(models):
    """Return the device's nodes of both cells, and the edge that serves them."""
    specs = [
        NodeSpec(
            spec.node_class,
            spec.parameters,
            namespace=cell,
            group=f'{cell} {spec.group}',
            remappings=DEVICE_REMAPPINGS,
        )
        for cell in CELLS
        for spec in device_specs(models, edge=False)
    ]
    return [
        *specs,
        NodeSpec(
            EdgeClassifier,
            {
                'models_dir': str(models),
                'cells': CELLS,
                'satisfied_score': 1.0,
                'workers': 1,  # the second of which would not wait for the first
                'retry_period': 0.3,
                'diagnostics_period': 0.3,
            },
            group='edge',
        ),
    ]


class Listener:
    """What is said in both cells; and both cameras."""

    def __init__(self, harness):
        self.harness, self.heard, self.changed = harness, [], threading.Condition()
        probe, self.cameras = harness.probe, {}
        for cell in CELLS:
            for kind, topic in (
                (SortOutcome, 'sort_outcome'),
                (Classification, 'edge_classification_tx'),
                (FeatureFeedback, 'feedback_tx'),
            ):
                probe.create_subscription(
                    kind,
                    f'{cell}/{topic}',
                    lambda message, key=(cell, topic): self._hear(key, message),
                    qos(topic),
                )
            self.cameras[cell] = probe.create_publisher(
                ItemCapture, f'{cell}/capture', qos('capture')
            )

    def _hear(self, key, message):
        with self.changed:
            self.heard.append((key, message))
            self.changed.notify_all()

    def of(self, cell, topic):
        with self.changed:
            return [message for key, message in self.heard if key == (cell, topic)]

    def by_edge(self, cell):
        return [
            outcome
            for outcome in self.of(cell, 'sort_outcome')
            if outcome.source == SortOutcome.SOURCE_EDGE
        ]

    def wait(self, predicate, what):
        end = time.monotonic() + 30
        with self.changed:
            while not predicate():
                left = end - time.monotonic()
                assert left > 0, f'no {what}; {self.harness.complaints()}'
                # Some of what is waited for, no message tells.
                self.changed.wait(min(left, 0.25))

    def feed(self, item_ids):
        """Show an item to both cells at the same instant; return its stamp."""
        image = tiny_images(16, len(CELL.classes), seed=1)[0][max(item_ids.values()) % 16]
        stamp_ns = self.harness.now_ns()
        for cell, item_id in item_ids.items():
            self.cameras[cell].publish(make_capture(item_id, stamp_ns, image))
        return stamp_ns


def test_two_cells_are_answered_by_one_edge_each_in_its_namespace(tiny_models):
    with CellHarness(two_cells(tiny_models), watched=('/diagnostics',)) as harness:
        listener = Listener(harness)
        harness.wait_active()
        listener.wait(
            lambda: all(
                listener.cameras[cell].get_subscription_count() >= 3
                and listener.of(cell, 'feedback_tx')
                for cell in CELLS
            ),
            'wiring of both cells',
        )
        listener.wait(
            lambda: all(
                node.edge_alive
                for node in harness.runner.nodes
                if node.get_name() == 'offload_policy'
            ),
            'sign of life in both cells',
        )
        # Both cells count from where they like, and here towards each other: one number is two
        # items with the same stamp, which only the namespace tells apart.
        ids = {CELLS[0]: range(1, MOST), CELLS[1]: range(MOST - 1, 0, -1)}
        stamps = []
        for number, pair in enumerate(zip(*ids.values()), start=1):
            stamps.append(listener.feed(dict(zip(CELLS, pair))))
            listener.wait(
                lambda: all(len(listener.of(cell, 'sort_outcome')) == number for cell in CELLS),
                f'outcome of item {number} in both cells',
            )
            if number >= 4 and all(listener.by_edge(cell) for cell in CELLS):
                break
        assert all(listener.by_edge(cell) for cell in CELLS), harness.complaints()
        for cell in CELLS:
            fed = list(zip(ids[cell], stamps))
            assert [
                (o.item_id, to_ns(o.header.stamp)) for o in listener.of(cell, 'sort_outcome')
            ] == fed
            assert {
                (a.item_id, to_ns(a.header.stamp))
                for a in listener.of(cell, 'edge_classification_tx')
            } <= set(fed)
        assert incompatible_topics(harness.probe) == []


def test_items_of_two_cells_are_classified_in_one_batch(tiny_models):
    folder = ModelFolder(tiny_models)
    images = tiny_images(3, len(CELL.classes), seed=1)[0]
    encoder = Encoder(folder)
    packets = [encoder.encode(image, None).packets[0] for image in images]
    with CellHarness(two_cells(tiny_models)[-1:], watched=('/diagnostics',)) as harness:
        edge = harness.runner.node('edge_classifier')
        listener = Listener(harness)
        harness.wait_active()
        links = {
            cell: harness.probe.create_publisher(
                ProgressiveFeature, f'{cell}/features_rx', qos('features_rx')
            )
            for cell in CELLS
        }
        listener.wait(
            lambda: (
                all(link.get_subscription_count() for link in links.values())
                and all(listener.of(cell, 'feedback_tx') for cell in CELLS)
            ),
            'wiring',
        )
        batches, look_inside = [], edge.decoder.look_inside
        began, finish = threading.Event(), threading.Event()

        def held(sessions, *left):
            batches.append(len(sessions))
            began.set()
            assert finish.wait(20)
            return look_inside(sessions, *left)

        edge.decoder.look_inside = held

        def send(cell, item_id, packet):
            now_ns = harness.now_ns()
            message = ProgressiveFeature(
                item_id=item_id,
                codec_id=encoder.identity,
                last=True,
                deadline=to_stamp(now_ns + 30 * 10**9),
                data=array.array('B', packet),
            )
            message.header.stamp = to_stamp(now_ns)
            links[cell].publish(message)

        def acknowledged(cell):
            return [
                m
                for m in listener.of(cell, 'feedback_tx')
                if m.status == FeatureFeedback.STATUS_OK
            ]

        send(CELLS[0], 1, packets[0])
        assert began.wait(20)
        send(CELLS[0], 2, packets[1])
        send(CELLS[1], 7, packets[2])
        listener.wait(
            lambda: len(acknowledged(CELLS[0])) == 2 and acknowledged(CELLS[1]),
            'acknowledgement while the model is busy',
        )
        finish.set()
        listener.wait(
            lambda: (
                len(listener.of(CELLS[0], 'edge_classification_tx')) == 2
                and listener.of(CELLS[1], 'edge_classification_tx')
            ),
            'answers',
        )
        assert batches == [1, 2]
        for cell, ids in ((CELLS[0], [1, 2]), (CELLS[1], [7])):
            answers = listener.of(cell, 'edge_classification_tx')
            assert [answer.item_id for answer in answers] == ids
