# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Gateways pass on what must cross a slow link, and tell little of themselves."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CellHarness, NodeSpec  # noqa: E402
from graph_checks import incompatible_topics, node_interface, wait_until_settled  # noqa: E402

from stl_conveyor.deploy.security import WIRINGS, permissions, resolve  # noqa: E402
from stl_conveyor.msg import Classification, FeatureFeedback, ProgressiveFeature  # noqa: E402
from stl_conveyor.nodes.link.device_gateway import DeviceGateway  # noqa: E402
from stl_conveyor.nodes.link.edge_gateway import EdgeGateway  # noqa: E402

pytestmark = pytest.mark.ros


@pytest.fixture(scope='module')
def cell():
    specs = [
        NodeSpec(kind, {'diagnostics_period': 0.2}, group=kind.NAME)
        for kind in (DeviceGateway, EdgeGateway)
    ]
    watched = ('features_rx', 'feedback_rx', 'edge_classification', '/diagnostics')
    with CellHarness(specs, watched=watched) as harness:
        harness.wait_active()
        wait_until_settled(harness.probe, ['/device_gateway', '/edge_gateway'])
        yield harness


@pytest.mark.parametrize(
    'kind, source, target',
    [
        (ProgressiveFeature, 'features_tx', 'features_rx'),
        (FeatureFeedback, 'feedback_tx', 'feedback_rx'),
        (Classification, 'edge_classification_tx', 'edge_classification'),
    ],
)
def test_what_goes_in_on_one_side_comes_out_on_the_other(cell, kind, source, target):
    publisher = cell.publisher(source, kind)
    for name in ('link/features', 'link/feedback', 'link/edge_classification'):
        cell.connect(name)
    sent = [kind(item_id=number) for number in range(1, 6)]
    for message in sent:
        publisher.publish(message)
    cell.wait(lambda: len(cell.heard.messages[target]) == len(sent))
    assert cell.heard.messages[target] == sent


def test_a_gateway_has_no_services_and_few_topics(cell):
    assert incompatible_topics(cell.probe) == []
    for name in ('device_gateway', 'edge_gateway'):
        seen = node_interface(cell.probe, name)
        assert not seen.services and not seen.clients
        # three in, three out, and what every node of ours has: no more than the policy allows
        relays = DeviceGateway.RELAYS if name == 'device_gateway' else EdgeGateway.RELAYS
        assert set(seen.publishers) == {
            *(f'/{topic}' for topic in relays.values()),
            '/diagnostics',
            '/parameter_events',
            f'/{name}/transition_event',
        }
        rules = permissions(name, WIRINGS['gateways'])
        assert {resolve(topic, name, '') for topic in rules.publish} == set(seen.publishers)
        assert {resolve(topic, name, '') for topic in rules.subscribe} == set(seen.subscriptions)


def test_a_gateway_reports_what_passed(cell):
    # after the tests above five messages of each kind have passed
    status = cell.wait(
        lambda: next(
            (
                s
                for s in reversed(cell.statuses('device_gateway'))
                if any(v.key == 'features_tx' and v.value == '5' for v in s.values)
            ),
            None,
        )
    )
    values = {value.key: value.value for value in status.values}
    assert int(values['features_tx.bytes']) > 0
    assert values['/link/features.subscribers'] == '1'
