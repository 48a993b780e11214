# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""An edge whose network runs on servers elsewhere answers on when these die, and says so."""

from __future__ import annotations

import array
import os

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')
pytest.importorskip('tritonclient.grpc', reason='make test-inference brings tritonclient')

from cell_harness import CELL, CellHarness, NodeSpec, make_capture  # noqa: E402
from inference_server import ASKED, GO_ON, HANG, InferenceServer, MlServer, ServerProcess  # noqa: E402

from stl_conveyor.codec import Encoder  # noqa: E402
from stl_conveyor.codec.decoder import EDGE_INPUTS, edge_engine  # noqa: E402
from stl_conveyor.models.model_folder import ModelFolder  # noqa: E402
from stl_conveyor.models.open_inference import served_name  # noqa: E402
from stl_conveyor.msg import Classification, ProgressiveFeature  # noqa: E402
from stl_conveyor.nodes.edge.edge_classifier import EdgeClassifier  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros


class Line:
    """A cell that sends items of one packet to an edge, which servers compute for."""

    def __init__(self, cell, models):
        self._cell = cell
        self.node = cell.runner.node('edge_classifier')
        self._encoder = Encoder(ModelFolder(models))
        self._image = tiny_images(1, len(CELL.classes))[0][0]
        (self._data,) = self._encoder.encode(self._image, None, packet_bytes=400).packets[:1]
        self._packets = cell.publisher('features_rx', ProgressiveFeature)
        cell.connect('edge_classification')

    def send(self, item_id, seconds=60):
        now_ns = self._cell.now_ns()
        capture = make_capture(item_id, now_ns, self._image, now_ns + seconds * 10**9)
        self._packets.publish(
            ProgressiveFeature(
                header=capture.header,
                item_id=item_id,
                codec_id=self._encoder.identity,
                deadline=capture.deadline,
                data=array.array('B', self._data),
            )
        )

    def answer(self, item_id):
        heard = self._cell.wait(
            lambda: self._cell.heard.of('edge_classification', item_id=item_id), 30, 'an answer'
        )
        assert heard[0].source == Classification.SOURCE_EDGE
        return list(heard[0].probabilities)

    def answered(self, item_id):
        self.send(item_id)
        return self.answer(item_id)


def served_edge(models, servers, **parameters):
    return NodeSpec(
        EdgeClassifier,
        {
            'models_dir': str(models),
            'inference': 'open_inference',
            'inference_urls': [server.url for server in servers],
            'diagnostics_period': 0.3,
            **parameters,
        },
        remappings={'edge_classification_tx': 'edge_classification'},
    )


def test_servers_that_die_cost_no_answer_and_are_named(tiny_models):
    folder = ModelFolder(tiny_models)
    name = served_name(folder.model_id('edge'))
    servers = [InferenceServer(name, edge_engine(folder), EDGE_INPUTS) for _ in range(2)]
    spec = served_edge(tiny_models, servers)
    with CellHarness([spec], watched=('edge_classification', '/diagnostics')) as cell:
        cell.wait_active()
        line = Line(cell, tiny_models)
        node, answered = line.node, line.answered
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


def test_a_server_that_is_killed_with_an_item_in_its_hands_costs_no_answer(tiny_models):
    servers = [ServerProcess(tiny_models) for _ in range(2)]
    # No second server is asked because the first one is slow.
    spec = served_edge(tiny_models, servers, hedge_after=10.0)
    try:
        with CellHarness([spec], watched=('edge_classification', '/diagnostics')) as cell:
            cell.wait_active()
            line = Line(cell, tiny_models)
            group = line.node._servers
            first = line.answered(1)
            assert group.used_local == 0
            for server in servers:
                server.tell(HANG)
            line.send(2, seconds=600)
            asked = cell.wait(
                lambda: [s for s in servers if not s.said.empty()], 30, 'a server is asked'
            )
            (dies,), (other,) = asked, [s for s in servers if s not in asked]
            assert dies.said.get() == ASKED
            other.tell(GO_ON)
            dies.kill()
            assert line.answer(2) == first
            assert (group.used_local, group.hedged) == (0, 0)
            cell.wait_diagnostic(
                f'edge_classifier: inference_server.{dies.url}', 'does not answer'
            )
            other.tell(HANG)
            line.send(3, seconds=600)
            assert other.said.get(timeout=30) == ASKED
            other.kill()
            assert line.answer(3) == first
            assert group.used_local == 1
            dies.start()
            cell.wait(lambda: group.well == (dies.url,), 30, 'it is back')
            assert line.answered(4) == first and group.used_local == 1
    finally:
        for server in servers:
            server.kill()


@pytest.mark.skipif(
    not os.environ.get('MLSERVER'), reason='make test-inference names an MLServer to start'
)
def test_no_answer_is_lost_when_one_mlserver_is_killed_and_then_the_other(tiny_models, tmp_path):
    servers = [MlServer(tiny_models, tmp_path / f'{number}', number) for number in range(2)]
    spec = served_edge(tiny_models, servers, retry_period=0.5)
    try:
        with CellHarness([spec], watched=('edge_classification', '/diagnostics')) as cell:
            cell.wait_active()
            line = Line(cell, tiny_models)
            group = line.node._servers
            cell.wait(lambda: len(group.well) == 2, 120, 'both serve')
            first, before = line.answered(1), group.used_local
            for item_id in range(2, 42):
                line.send(item_id)
                if item_id == 10:
                    servers[0].kill()
            for item_id in range(2, 42):
                assert np.allclose(line.answer(item_id), first, atol=1e-6)
            assert group.used_local == before and group.well == (servers[1].url,)
            for item_id in range(42, 82):
                line.send(item_id)
                if item_id == 50:
                    servers[1].kill()
            for item_id in range(42, 82):
                assert np.allclose(line.answer(item_id), first, atol=1e-6)
            assert group.used_local > before and not group.well
    finally:
        for server in servers:
            server.kill()


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
