# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The product's nodes together, over real DDS: every item gets its outcome, whatever happens."""

from __future__ import annotations

import array
import itertools
import random
import shutil
import signal

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CELL, GUARD, CellHarness, device_specs, make_capture, node_process  # noqa: E402

from stl_conveyor.msg import FeatureFeedback, OffloadDecision, ProgressiveFeature, SortOutcome  # noqa: E402
from stl_conveyor.nodes.device.offload_policy import OffloadPolicySettings  # noqa: E402
from stl_conveyor_lab.train.tiny import make_tiny_model_folder, tiny_images  # noqa: E402

pytestmark = pytest.mark.ros

NOMINAL_BYTES = OffloadPolicySettings().nominal_bytes
EDGE = {'feedback_tx': 'feedback_rx', 'edge_classification_tx': 'edge_classification'}


class Feeder:
    """Publishes captures of tiny items, and knows what they are."""

    def __init__(self, cell):
        self.cell = cell
        self.publisher = cell.publisher('capture', readers=5)
        self.images, self.classes = tiny_images(16, len(CELL.classes), seed=1)
        self.truth = {}
        self.captures = {}

    def feed(self):
        """Publish one capture, wait for its outcome and return it."""
        item_id = len(self.truth) + 1
        index = item_id % len(self.images)
        self.truth[item_id] = CELL.classes[self.classes[index]]
        self.captures[item_id] = make_capture(item_id, self.cell.now_ns(), self.images[index])
        self.publisher.publish(self.captures[item_id])
        return self.cell.wait(
            lambda: next(iter(self.cell.heard.of('sort_outcome', item_id=item_id)), None),
            5,
            f'the outcome of item {item_id}',
        )

    def feed_until(self, predicate, most=25):
        """Feed items until the predicate is true of an outcome; return that outcome."""
        for _ in range(most):
            outcome = self.feed()
            if predicate(outcome):
                return outcome
        raise AssertionError(f'never so in {most} items; {self.cell.complaints()}')

    def assert_each_acted_once_in_time(self):
        outcomes = self.cell.outcomes()
        assert sorted(o.item_id for o in outcomes) == sorted(self.truth)
        assert not [o.slack for o in outcomes if o.missed]
        assert all(o.header.stamp == self.captures[o.item_id].header.stamp for o in outcomes)


def by_edge(outcome):
    return outcome.source == SortOutcome.SOURCE_EDGE


def by_local(outcome):
    return outcome.source == SortOutcome.SOURCE_LOCAL


def wait_for_wiring(cell, edge=True):
    for topic, publishers, readers in (
        ('features_rx', 1, 1 + edge),
        ('feedback_rx', edge, 3),
        ('offload_decision', 1, 3),
        ('transfer', 1, 2),
        ('edge_classification', edge, 2),
        ('classification', 1, 3),
        ('sort_outcome', 1, 1),
    ):
        cell.connect(topic, publishers, readers)


def start(cell):
    cell.wait_active()
    wait_for_wiring(cell)
    cell.wait(lambda: cell.runner.node('offload_policy').edge_alive, 10, 'a sign of life')
    return Feeder(cell)


def test_items_are_sorted_with_the_answer_of_the_edge(tiny_models):
    with CellHarness(device_specs(tiny_models)) as cell:
        feeder = start(cell)
        outcome = feeder.feed_until(by_edge)
        assert outcome.edge_delay > outcome.local_delay > 0
        assert 0 < outcome.edge_bytes <= NOMINAL_BYTES
        assert (outcome.reason, outcome.detail) == (SortOutcome.REASON_NONE, '')
        assert outcome.lane == CELL.lane_of(outcome.class_id)
        feeder.assert_each_acted_once_in_time()
        for outcome in cell.outcomes():
            assert 0 <= outcome.slack <= GUARD + 0.001
            assert outcome.header.frame_id == 'camera_optical_frame'
        offloaded = cell.heard.of('offload_decision', offload=True)
        cell.wait(lambda: len(cell.heard.messages['transfer']) >= len(offloaded), 5, 'accounts')
        sent = sum(t.bytes for t in cell.heard.messages['transfer'])
        cell.wait(
            lambda: any(
                s.reserved_numerator == 0
                and s.spent_numerator * NOMINAL_BYTES == sent * s.denominator
                for s in cell.heard.messages['token_bucket']
            ),
            5,
            'that what was sent was spent',
        )


def test_edge_is_killed_and_restarted(tiny_models):
    with CellHarness(device_specs(tiny_models, edge=False)) as cell:
        cell.wait_active()
        arguments = {
            'domain_id': cell.domain_id,
            'remappings': EDGE,
            'parameters': {'models_dir': str(tiny_models), 'heartbeat_period': 0.1},
        }
        with node_process('edge_classifier', **arguments) as process:
            wait_for_wiring(cell)
            cell.wait(lambda: cell.runner.node('offload_policy').edge_alive, 30, 'the edge')
            feeder = Feeder(cell)
            feeder.feed_until(by_edge)
            process.send_signal(signal.SIGKILL)
            process.wait()
            gone = feeder.feed_until(
                lambda outcome: outcome.reason == SortOutcome.REASON_EDGE_GONE
            )
            assert gone.source == SortOutcome.SOURCE_LOCAL
            cell.wait_diagnostic('offload_policy', 'no sign of life from the edge')
            spent = cell.heard.messages['token_bucket'][-1].spent_numerator
            feeder.feed()
            assert cell.heard.messages['token_bucket'][-1].spent_numerator == spent
        with node_process('edge_classifier', **arguments):
            cell.wait(lambda: cell.runner.node('offload_policy').edge_alive, 30, 'the new edge')
            feeder.feed_until(by_edge)
            feeder.assert_each_acted_once_in_time()


def test_model_that_does_not_match_its_hash(tiny_models, tmp_path):
    models = tmp_path / 'models'
    shutil.copytree(tiny_models, models)
    weak = next(models.glob('weak*'))
    good = weak.read_bytes()
    weak.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    specs = device_specs(models, edge=False)
    with CellHarness(specs) as cell:
        cell.wait_diagnostic('local_classifier', 'the manifest says', level=2)
        cell.wait(lambda: sum(n.is_active for n in cell.runner.nodes) == 3, 30, 'activation')
        publisher = cell.publisher('capture', readers=4)
        images, _ = tiny_images(2, len(CELL.classes))
        publisher.publish(make_capture(1, cell.now_ns(), images[0]))
        (outcome,) = cell.wait(cell.outcomes, 5, 'the outcome')
        assert (outcome.source, outcome.lane, outcome.missed) == (0, CELL.reject_lane, False)
        assert outcome.reason == SortOutcome.REASON_NO_LOCAL_ANSWER
        assert outcome.detail == 'no local answer in time; edge gone'
        weak.write_bytes(good)
        cell.wait_active()
        cell.connect('capture', 1, 5)
        cell.connect('classification', 1, 3)
        for item_id in itertools.count(2):
            assert item_id < 20
            publisher.publish(make_capture(item_id, cell.now_ns(), images[1]))
            if cell.wait(lambda: cell.heard.of('sort_outcome', item_id=item_id))[0].source:
                break


def test_device_and_edge_with_different_codecs(tiny_models, tmp_path):
    make_tiny_model_folder(tmp_path, CELL.classes, seed=5)
    with CellHarness(
        device_specs(tiny_models, edge_classifier={'models_dir': str(tmp_path)})
    ) as cell:
        cell.wait_active()
        wait_for_wiring(cell)
        cell.wait_diagnostic('offload_policy', 'give both the same model folder', level=2)
        cell.wait_diagnostic('encoder', 'give both the same model folder', level=2)
        feeder = Feeder(cell)
        outcome = feeder.feed_until(by_local)
        assert outcome.reason == SortOutcome.REASON_EDGE_GONE and outcome.detail == 'edge gone'
        # A decision by force: the edge refuses the stream and says so.
        publisher = cell.publisher('features_rx', readers=2)
        publisher.publish(
            ProgressiveFeature(
                header=outcome.header,
                item_id=1,
                codec_id=7,
                deadline=outcome.deadline,
                data=array.array('B', b'1234567'),
            )
        )
        cell.wait_diagnostic('edge_classifier', 'codec_mismatch', level=2)
        cell.wait(
            lambda: cell.heard.of('feedback_rx', status=FeatureFeedback.STATUS_CODEC_MISMATCH),
            5,
            'the refusal',
        )
        feeder.assert_each_acted_once_in_time()
        assert not cell.heard.of('offload_decision', offload=True)


class LossyLink:
    """Relays between encoder and edge: loses, repeats, reorders and corrupts by seed."""

    def __init__(self, cell, seed, loss=0.0, duplicate=0.0, reorder=0.0, corrupt=0.0):
        self.random = random.Random(seed)
        self.rates = (loss, duplicate, reorder, corrupt)
        self.cell = cell
        self.lost = self.corrupted = 0
        self.held = {}
        for source, target, kind in (
            ('features_tx', 'features_rx', ProgressiveFeature),
            ('feedback_tx', 'feedback_rx', FeatureFeedback),
        ):
            publisher = cell.probe.create_publisher(kind, target, cell_qos(target))
            cell.probe.create_subscription(
                kind,
                source,
                lambda message, publisher=publisher, source=source: self.relay(
                    source, publisher, message
                ),
                cell_qos(source),
            )

    def relay(self, source, publisher, message):
        loss, duplicate, reorder, corrupt = self.rates
        if self.random.random() < loss:
            self.lost += 1
            return
        if self.random.random() < corrupt and source == 'features_tx':
            self.corrupted += 1
            data = bytearray(message.data)
            data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
            message.data = array.array('B', data)
        messages = [message] * (2 if self.random.random() < duplicate else 1)
        before = self.held.pop(source, None)
        if before is None and self.random.random() < reorder:
            self.held[source] = messages
            return
        for one in messages + (before or []):
            publisher.publish(one)


def cell_qos(topic):
    from cell_harness import qos

    return qos(topic)


@pytest.mark.parametrize(
    'faults, says',
    [
        ({'loss': 0.3}, None),
        ({'duplicate': 0.5, 'reorder': 0.3}, None),
        ({'corrupt': 0.5}, ('edge_classifier', 'bad_packet')),
    ],
)
def test_bad_links(tiny_models, faults, says):
    specs = device_specs(
        tiny_models,
        encoder={'packet_bytes': 150, 'loss_timeout': 0.08},
        edge_classifier={'heartbeat_period': 0.1, 'satisfied_score': 1.0},
    )
    specs = [
        type(s)(
            s.node_class,
            s.parameters,
            group=s.group,
            remappings={
                old: new for old, new in s.remappings.items() if old == 'edge_classification_tx'
            },
        )
        for s in specs
    ]
    with CellHarness(specs) as cell:
        link = LossyLink(cell, 3, **faults)
        cell.wait_active()
        cell.connect('features_tx', 1, 1)
        cell.connect('features_rx', 1, 2)
        cell.connect('feedback_tx', 1, 1)
        cell.connect('edge_classification', 1, 2)
        cell.connect('classification', 1, 3)
        cell.wait(lambda: cell.runner.node('offload_policy').edge_alive, 10, 'a sign of life')
        feeder = Feeder(cell)
        feeder.feed_until(by_edge)
        feeder.feed_until(lambda _: not any(faults.values()) or not says or link.corrupted >= 3)
        if 'loss' in faults:
            assert link.lost > 0
        if says:
            cell.wait_diagnostic(*says)
        feeder.assert_each_acted_once_in_time()
        offloads = cell.heard.of('offload_decision', offload=True)
        cell.wait(lambda: len(cell.heard.messages['transfer']) >= len(offloads), 5, 'accounts')
        assert {t.item_id for t in cell.heard.messages['transfer']} == {
            d.item_id for d in offloads
        }
        assert all(t.bytes <= NOMINAL_BYTES for t in cell.heard.messages['transfer'])


def test_two_cells_share_an_edge(tiny_models):
    from cell_harness import NodeSpec

    from stl_conveyor.codec import Encoder
    from stl_conveyor.models.model_folder import ModelFolder
    from stl_conveyor.nodes.edge.edge_classifier import EdgeClassifier

    encoder = Encoder(ModelFolder(tiny_models))
    images, _ = tiny_images(2, len(CELL.classes), seed=2)
    with CellHarness(
        [NodeSpec(EdgeClassifier, {'models_dir': str(tiny_models), 'cells': ['left', '/right']})]
    ) as cell:
        answers = {'left': [], 'right': []}
        from stl_conveyor.msg import Classification

        for name, heard in answers.items():
            cell.probe.create_subscription(
                Classification, f'/{name}/edge_classification_tx', heard.append, 10
            )
        cell.wait_active()
        stamp_ns = cell.now_ns()
        for index, name in enumerate(answers):
            publisher = cell.publisher(f'/{name}/features_rx', ProgressiveFeature)
            cell.connect(f'/{name}/edge_classification_tx')
            capture = make_capture(1, stamp_ns, images[index], stamp_ns + 60 * 10**9)
            data = encoder.encode(images[index], None, packet_bytes=400).packets[0]
            publisher.publish(
                ProgressiveFeature(
                    header=capture.header,
                    item_id=1,
                    codec_id=encoder.identity,
                    deadline=capture.deadline,
                    data=array.array('B', data),
                )
            )
        cell.wait(lambda: all(answers.values()), 10, 'an answer in each cell')
        assert len(answers['left']) == len(answers['right']) == 1
        assert answers['left'][0].probabilities != answers['right'][0].probabilities


def test_a_satisfied_edge_stops_the_stream_and_tokens_come_back(tiny_models):
    # So small a window that each packet waits for the feedback about the one before.
    with CellHarness(
        device_specs(
            tiny_models,
            encoder={'packet_bytes': 60, 'window_bytes': 1, 'answer_time': 0.02},
            edge_classifier={'satisfied_score': 0.0},
        )
    ) as cell:
        feeder = start(cell)
        feeder.feed_until(by_edge)
        stop = cell.wait(
            lambda: cell.heard.of('transfer', stop_reason=FeatureFeedback.STOP_SATISFIED),
            5,
            'an early stop',
        )[0]
        assert stop.satisfied and 0 < stop.bytes < 400
        answers = cell.heard.of('edge_classification', item_id=stop.item_id)
        assert answers[-1].final
        state = cell.heard.messages['token_bucket'][-1]
        cell.wait(
            lambda: (
                cell.heard.messages['token_bucket'][-1].refunded_numerator
                >= (NOMINAL_BYTES - stop.bytes) * state.denominator // NOMINAL_BYTES
            ),
            5,
            'the refund',
        )


def test_decisions_give_their_reason(tiny_models):
    with CellHarness(
        device_specs(tiny_models, offload_policy={'rate': 0.0, 'depth': 1.0})
    ) as cell:
        feeder = start(cell)
        feeder.feed_until(
            lambda _: cell.heard.of('offload_decision', reason=OffloadDecision.REASON_WORTH_IT)
        )
        outcome = feeder.feed_until(lambda outcome: outcome.reason == SortOutcome.REASON_NO_TOKENS)
        assert outcome.source == SortOutcome.SOURCE_LOCAL
        feeder.assert_each_acted_once_in_time()


def test_captures_that_a_node_never_had_are_counted(tiny_models):
    crop = tiny_images(1, len(CELL.classes))[0][0]
    with CellHarness(device_specs(tiny_models, edge=False)) as cell:
        cell.wait_active()
        captures = cell.publisher('capture', readers=5)
        for number in (1, 4, 5, 9):
            captures.publish(make_capture(number, cell.now_ns(), crop))
            cell.wait(lambda n=number: cell.heard.of('offload_decision', item_id=n), 20)
        for name in ('local_classifier', 'encoder'):
            cell.wait(
                lambda of=name: any(
                    (value.key, value.value) == ('captures_missed', '5')
                    for status in cell.statuses(of)[-1:]
                    for value in status.values
                ),
                20,
                f'the count of {name}',
            )
