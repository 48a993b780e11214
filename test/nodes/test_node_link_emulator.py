# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The link emulator over real DDS: rates, faults at run time, and what it says about itself."""

from __future__ import annotations

import csv
import os
import threading
import time

import pytest

pytest.importorskip('rclpy')

from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from ros_domains import give_back, own_domain_id  # noqa: E402

from stl_conveyor.errors import ConfigError, Level  # noqa: E402
from stl_conveyor.msg import Classification, FeatureFeedback, ProgressiveFeature  # noqa: E402
from stl_conveyor.nodes.base.qos import make_profile  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeRunner, NodeSpec  # noqa: E402
from stl_conveyor.nodes.base.topics import Profile  # noqa: E402
from stl_conveyor.nodes.link.link_emulator import LinkEmulator, capture_stamp_ns  # noqa: E402

pytestmark = pytest.mark.ros


class Ends:
    """Both ends of the link: send, and wait for what arrives."""

    def __init__(self, parameters):
        self.domain_id = own_domain_id()
        self.runner = NodeRunner(
            [NodeSpec(LinkEmulator, {'seed': 3, **parameters}, group='link')],
            domain_id=self.domain_id,
        )
        self.emulator = self.runner.nodes[0]
        self.node = Node('ends', context=self.runner.context, use_global_arguments=False)
        self.arrived = threading.Condition()
        self.received = []  # (topic, message, time)
        feature, result = make_profile(Profile.FEATURE), make_profile(Profile.RESULT)
        self.senders = {
            'features': self.node.create_publisher(ProgressiveFeature, 'features_tx', feature),
            'feedback': self.node.create_publisher(FeatureFeedback, 'feedback_tx', feature),
            'edge': self.node.create_publisher(Classification, 'edge_classification_tx', result),
        }
        for name, kind, topic, qos in (
            ('features', ProgressiveFeature, 'features_rx', feature),
            ('feedback', FeatureFeedback, 'feedback_rx', feature),
            ('edge', Classification, 'edge_classification', result),
        ):
            self.node.create_subscription(kind, topic, self._take(name), qos)
        self.runner.nodes[0].executor.add_node(self.node)
        self.subscriptions = list(self.node.subscriptions)

    def _take(self, name):
        def take(message):
            with self.arrived:
                self.received.append((name, message, time.monotonic()))
                self.arrived.notify_all()

        return take

    def __enter__(self):
        self.runner.start()
        self.wait(
            lambda: (
                all(sender.get_subscription_count() for sender in self.senders.values())
                and self.node.count_publishers('features_rx')
                and self.node.count_publishers('edge_classification')
                and all(
                    self.emulator.count_publishers(sender.topic_name)
                    for sender in self.senders.values()
                )
                and all(
                    publisher.get_subscription_count()
                    for publisher in self.emulator.open_publishers
                )
            )
        )
        return self

    def __exit__(self, *_):
        self.node.destroy_node()
        self.runner.stop()
        give_back(self.domain_id)

    def wait(self, condition, seconds=15.0):
        end = time.monotonic() + seconds
        with self.arrived:
            while not condition():
                assert time.monotonic() < end, f'{len(self.received)} came'
                self.arrived.wait(0.05)

    def set(self, **parameters):
        return self.emulator.set_parameters(
            [Parameter(name, value=value) for name, value in parameters.items()]
        )

    def send(self, count, size=250):
        for sequence in range(count):
            message = ProgressiveFeature(item_id=7, sequence=sequence)
            message.header.stamp.sec, message.header.stamp.nanosec = 1234, 56
            message.data.frombytes(bytes(size))
            self.senders['features'].publish(message)

    def counters(self):
        return self.emulator._up.counters


def sequences(ends):
    return [message.sequence for name, message, _ in ends.received if name == 'features']


def test_both_directions_pass_and_the_rate_holds(tmp_path):
    log = tmp_path / 'link.csv'
    with Ends({'link': 'light', 'log_path': str(log)}) as ends:
        began = time.monotonic()
        ends.send(6)
        ends.senders['feedback'].publish(FeatureFeedback(item_id=8))
        ends.senders['edge'].publish(Classification(item_id=9, class_id='nut'))
        ends.wait(lambda: len(ends.received) == 8)
        assert sequences(ends) == list(range(6))
        assert {(n, m.item_id) for n, m, _ in ends.received} == {
            ('features', 7),
            ('feedback', 8),
            ('edge', 9),
        }
        wire_bits = 8 * ends.counters().wire_bytes
        last = max(t for n, _, t in ends.received if n == 'features')
        assert last - began >= wire_bits / 52_000 + 0.0025 - 0.001
        assert min(ends.emulator.health._samples['features.release_lag_ms']) >= 0
    with open(log) as file:
        rows = list(csv.DictReader(file))
    assert sorted(row['channel'] for row in rows) == (
        ['edge_classification'] + ['features'] * 6 + ['feedback']
    )
    assert {row['stamp_ns'] for row in rows if row['channel'] == 'features'} == {
        str(1234 * 10**9 + 56)
    }
    # When each is released is settled when it is sent; a busy machine may send them far apart.
    free_ns = 0
    for row in rows:
        if row['channel'] == 'features':
            free_ns = max(free_ns, int(row['sent_ns'])) + int(row['wire_bytes']) * 8e9 / 52_000
            assert int(row['delivered_ns']) == pytest.approx(free_ns + 2.5e6, abs=0.5e6)


def test_faults_are_switched_at_run_time():
    with Ends({'link': 'unlimited'}) as ends:
        assert ends.set(outage=True)[0].successful
        ends.send(3)
        ends.wait(lambda: ends.counters().outage_lost == 3)
        assert ends.set(outage=False, duplicate=1.0)[0].successful
        ends.send(2)
        ends.wait(lambda: len(ends.received) == 4)
        assert sorted(sequences(ends)) == [0, 0, 1, 1]
        assert ends.set(duplicate=0.0, loss=1.0)[0].successful
        ends.send(2)
        ends.wait(lambda: ends.counters().lost == 2)
        assert len(ends.received) == 4


def test_damaged_messages_are_other_messages_or_none():
    with Ends({'link': 'unlimited', 'corrupt': 1.0, 'queue_bytes': 10**6}) as ends:
        for burst in range(1, 6):  # one by one, so that none overruns a best effort reader
            ends.send(20)
            ends.wait(lambda: ends.counters().corrupted == 20 * burst)
        ends.wait(
            lambda: (
                ends.counters().corrupted == 100
                and len(ends.received) + ends.emulator.health.counted('undecodable') == 100
            )
        )
        assert any(any(m.data) or m.item_id != 7 for _, m, _ in ends.received)


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no /dev/full on this system')
def test_a_full_disk_is_named_with_its_file_and_stops_no_message():
    with Ends({'link': 'unlimited', 'log_path': '/dev/full'}) as ends:
        ends.send(3)
        ends.wait(lambda: len(ends.received) == 3)
        ends.emulator.report()
        report = ends.emulator.health.report(0)
        assert report.level is Level.ERROR
        assert report.message.startswith('/dev/full: No space left on device')
        ends.send(3)
        ends.wait(lambda: len(ends.received) == 6)


def test_wrong_values_are_refused_by_name_and_change_nothing():
    with Ends({}) as ends:
        for name, value in (
            ('loss', 1.5),
            ('link', 'medium'),
            ('queue_bytes', -1),
            ('trace_file', '/nowhere.csv'),
            ('seed', 5),
        ):
            (result,) = ends.set(**{name: value})
            assert not result.successful and name.split('_')[0] in result.reason.replace(
                'read-only', name
            )
        assert ends.emulator.settings.loss == 0.0 and ends.emulator.settings.link == 'light'
    with pytest.raises(ConfigError, match='loss'):
        NodeRunner([NodeSpec(LinkEmulator, {'loss': 2.0})], domain_id=1)


def test_health_names_rate_queue_and_losses():
    with Ends({'link': 'trace'}) as ends:
        ends.send(2)
        ends.wait(lambda: len(ends.received) == 2)
        ends.emulator.refresh_health()
        values = dict(ends.emulator.health.report(0).values)
        assert values['up.delivered'] == '2' and values['up.rate'].endswith('kbit/s')
        assert values['down.queue'] == '0 B'


def test_stamp_is_read_from_the_serialised_message():
    from rclpy.serialization import serialize_message

    message = FeatureFeedback()
    message.header.stamp.sec, message.header.stamp.nanosec = 1_700_000_000, 999_999_999
    assert capture_stamp_ns(serialize_message(message)) == 1_700_000_000_999_999_999
