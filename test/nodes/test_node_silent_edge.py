# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""An edge that misses its beat is named before it counts as gone."""

from __future__ import annotations

import signal

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import node_process, qos  # noqa: E402
from lone_policy import let_edge_live, lone_policy  # noqa: E402
from rclpy.node import Node  # noqa: E402

from stl_conveyor.msg import FeatureFeedback  # noqa: E402

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
        assert node._state_machine.current_state[1] == 'active'
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


def test_behind_a_gateway_the_link_may_take_its_time(tiny_models):
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
            cell.wait(lambda: node.edge_alive, 10, 'a sign of life')
            cell.wait(lambda: node._edge.is_silent(node.steady_clock.now().nanoseconds), 10)
            node._on_missed_beat()
            assert not node.health.report(node.steady_clock.now().nanoseconds).faults
        finally:
            gateway.destroy_node()
