# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""An edge that misses its beat is named before it counts as gone."""

from __future__ import annotations

import signal

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CellHarness, node_process, qos  # noqa: E402
from lone_policy import let_edge_live, lone_policy  # noqa: E402
from rclpy.node import Node  # noqa: E402

from stl_conveyor.msg import FeatureFeedback, ProgressiveFeature  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeSpec  # noqa: E402
from stl_conveyor.nodes.edge.edge_classifier import EdgeClassifier  # noqa: E402

pytestmark = pytest.mark.ros
FAULT = 'offload_policy: edge_silent'


def test_an_edge_that_was_stopped_is_named_and_one_that_speaks_again_is_not(tiny_models):
    with (
        lone_policy(tiny_models) as (cell, node),
        node_process(
            'edge_classifier',
            domain_id=cell.domain_id,
            parameters={'models_dir': str(tiny_models)},
            remappings={'feedback_tx': 'feedback_rx'},
        ) as edge,
    ):
        cell.wait(lambda: node.edge_alive, 60, 'a sign of life')
        edge.send_signal(signal.SIGSTOP)
        cell.wait_diagnostic(FAULT, 'no sign of life from the edge for 0.85 s', level=1)
        assert node.edge_alive  # its time-out is a minute
        edge.send_signal(signal.SIGCONT)
        cell.wait(lambda: cell.statuses(FAULT)[-1].level == b'\0', 20, 'the end of it')


def test_an_edge_that_is_gone_is_not_called_silent(tiny_models):
    with lone_policy(tiny_models, cell_file='') as (cell, node):
        let_edge_live(cell, node)
        cell.wait_diagnostic(FAULT, 'no sign of life', level=1)
        cell.wait_diagnostic('offload_policy: edge_gone', 'no sign of life', level=1)
        cell.wait(lambda: cell.statuses(FAULT)[-1].level == b'\0', 20, 'the end of it')


def test_behind_an_emulated_link_it_is_named_and_no_report_is_waited_for(tiny_models):
    with lone_policy(tiny_models, diagnostics_period=60.0) as (cell, node):
        link = Node('link_emulator', context=cell.runner.context, use_global_arguments=False)
        try:
            publisher = link.create_publisher(FeatureFeedback, 'feedback_rx', qos('feedback_rx'))
            cell.wait(publisher.get_subscription_count, 20, 'the policy')
            publisher.publish(
                FeatureFeedback(codec_id=node.codec_id, status=FeatureFeedback.STATUS_ALIVE)
            )
            cell.wait_diagnostic(FAULT, 'no sign of life', level=1)
            assert node.edge_alive  # its time-out is a minute
        finally:
            link.destroy_node()


def test_behind_a_gateway_it_is_named_as_soon(tiny_models):
    with lone_policy(tiny_models) as (cell, node):
        gateway = Node('device_gateway', context=cell.runner.context, use_global_arguments=False)
        try:
            publisher = gateway.create_publisher(
                FeatureFeedback, 'feedback_rx', qos('feedback_rx')
            )
            cell.wait(
                lambda: (
                    'device_gateway'
                    in {end.node_name for end in node.get_publishers_info_by_topic('/feedback_rx')}
                ),
                20,
                'the gateway',
            )
            publisher.publish(
                FeatureFeedback(codec_id=node.codec_id, status=FeatureFeedback.STATUS_ALIVE)
            )
            cell.wait_diagnostic(FAULT, 'no sign of life from the edge for 0.75 s', level=1)
            assert node.edge_alive  # its time-out is a minute
        finally:
            gateway.destroy_node()


def test_an_edge_shows_more_signs_of_life_to_a_gateway(tiny_models):
    parameters = {'models_dir': str(tiny_models), 'heartbeat_period': 10.0}
    spec = NodeSpec(EdgeClassifier, parameters, remappings={'feedback_tx': 'feedback_rx'})
    with CellHarness([spec], watched=('feedback_rx',)) as cell:
        cell.wait_active()
        cell.connect('feedback_rx')
        edge = cell.runner.node('edge_classifier')

        signs = cell.heard.messages['feedback_rx']

        def wait_for_what_was_said():
            marked = len(cell.heard.of('feedback_rx', item_id=1))
            edge._reply(0, ProgressiveFeature(item_id=1), FeatureFeedback.STATUS_TOO_LATE)
            cell.wait(lambda: len(cell.heard.of('feedback_rx', item_id=1)) > marked, 10)

        def signs_of_two_halves():
            wait_for_what_was_said()
            before = len(signs)
            for _ in range(2):
                edge._half_beat()
            wait_for_what_was_said()
            return len(signs) - before - 1

        # It greets a last time when it knows that it is the only one.
        cell.wait(lambda: edge._pool._is_alone, 20, 'an edge that knows that it is alone')
        assert signs_of_two_halves() == 1
        gateway = Node('edge_gateway', context=cell.runner.context, use_global_arguments=False)
        try:
            gateway.create_subscription(
                FeatureFeedback, 'feedback_rx', lambda _: None, qos('feedback_rx')
            )
            cell.wait(lambda: edge._gateways == {0: True}, 20, 'the gateway')
            assert signs_of_two_halves() == 2
        finally:
            gateway.destroy_node()
