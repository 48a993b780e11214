# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""An edge whose network runs on servers elsewhere answers on when these die, and says so."""

from __future__ import annotations

import array

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')
pytest.importorskip('tritonclient.grpc', reason='make test-inference brings tritonclient')

from cell_harness import CELL, CellHarness, NodeSpec, make_capture  # noqa: E402
from inference_server import InferenceServer  # noqa: E402

from stl_conveyor.codec import Encoder  # noqa: E402
from stl_conveyor.codec.decoder import EDGE_INPUTS, edge_engine  # noqa: E402
from stl_conveyor.models.model_folder import ModelFolder  # noqa: E402
from stl_conveyor.models.open_inference import served_name  # noqa: E402
from stl_conveyor.msg import Classification, ProgressiveFeature  # noqa: E402
from stl_conveyor.nodes.edge.edge_classifier import EdgeClassifier  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros


def test_servers_that_die_cost_no_answer_and_are_named(tiny_models):
    folder = ModelFolder(tiny_models)
    name = served_name(folder.model_id('edge'))
    servers = [InferenceServer(name, edge_engine(folder), EDGE_INPUTS) for _ in range(2)]
    spec = NodeSpec(
        EdgeClassifier,
        {
            'models_dir': str(tiny_models),
            'inference': 'open_inference',
            'inference_urls': [server.url for server in servers],
            'diagnostics_period': 0.3,
        },
        remappings={'edge_classification_tx': 'edge_classification'},
    )
    encoder, image = Encoder(folder), tiny_images(1, len(CELL.classes))[0][0]
    (data,) = encoder.encode(image, None, packet_bytes=400).packets[:1]
    with CellHarness([spec], watched=('edge_classification', '/diagnostics')) as cell:
        cell.wait_active()
        node = cell.runner.node('edge_classifier')
        packets = cell.publisher('features_rx', ProgressiveFeature)
        cell.connect('edge_classification')

        def answered(item_id):
            now_ns = cell.now_ns()
            capture = make_capture(item_id, now_ns, image, now_ns + 60 * 10**9)
            packets.publish(
                ProgressiveFeature(
                    header=capture.header,
                    item_id=item_id,
                    codec_id=encoder.identity,
                    deadline=capture.deadline,
                    data=array.array('B', data),
                )
            )
            heard = cell.wait(
                lambda: cell.heard.of('edge_classification', item_id=item_id), 30, 'an answer'
            )
            assert heard[0].source == Classification.SOURCE_EDGE
            return list(heard[0].probabilities)

        try:
            first = answered(1)
            asked = sum(server.inferences for server in servers)
            assert asked > 0 and node._servers.used_local == 0
            servers[0].stop()
            # Whichever is asked first, the other one has the answer.
            assert answered(2) == first == answered(3)
            assert node._servers.used_local == 0
            servers[1].stop()
            assert answered(4) == first
            for server in servers:
                cell.wait_diagnostic(
                    f'edge_classifier: inference_server.{server.url}', 'does not answer'
                )
            assert node._servers.used_local > 0
            servers[1].start()
            cell.wait(lambda: node._servers.well == (servers[1].url,), 30, 'it is back')
            before = servers[1].inferences
            assert answered(5) == first and servers[1].inferences > before
        finally:
            for server in servers:
                server.stop()


def test_an_edge_without_servers_and_without_a_fallback_waits_for_them(tiny_models):
    folder = ModelFolder(tiny_models)
    server = InferenceServer(
        served_name(folder.model_id('edge')), edge_engine(folder), EDGE_INPUTS
    )
    server.stop()
    spec = NodeSpec(
        EdgeClassifier,
        {
            'models_dir': str(tiny_models),
            'inference': 'open_inference',
            'inference_urls': [server.url],
            'inference_fallback': False,
            'retry_period': 0.2,
            'diagnostics_period': 0.3,
        },
    )
    with CellHarness([spec], watched=('/diagnostics',)) as cell:
        cell.wait_diagnostic(
            'edge_classifier', f'no inference server has answered in time: {server.url}'
        )
        server.start()
        cell.wait_active()
        server.stop()
