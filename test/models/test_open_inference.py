# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The edge's network on servers of the open inference protocol gives the answers it gives here."""

from __future__ import annotations

import json
import os
import sys
import time
from queue import Queue

import numpy as np
import pytest

from stl_conveyor.cli.main import main
from stl_conveyor.codec import Decoder, Encoder
from stl_conveyor.codec.decoder import EDGE_INPUTS, edge_engine
from stl_conveyor.errors import ConfigError, MissingDependency
from stl_conveyor.models.engines import EngineGone, ServerGroup
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.models.open_inference import OpenInferenceServer, served_name, server_address
from stl_conveyor_lab.train.tiny import make_tiny_model_folder, tiny_images

LABELS = ('red', 'green', 'blue')


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    return make_tiny_model_folder(tmp_path_factory.mktemp('served') / 'tiny', LABELS, 96)


@pytest.fixture
def server(models):
    pytest.importorskip('tritonclient.grpc', reason='make test-inference brings tritonclient')
    from inference_server import InferenceServer

    folder = ModelFolder(models)
    server = InferenceServer(
        served_name(folder.model_id('edge')), edge_engine(folder), EDGE_INPUTS
    )
    yield server
    server.stop()


def sessions(models, decoder):
    """Return what has arrived of three items: all, a packet, and nothing."""
    images, _ = tiny_images(3, len(LABELS), 96)
    encoder = Encoder(ModelFolder(models))
    found = []
    for image, count in zip(images, (None, 1, 0)):
        session = decoder.start()
        side = np.full(len(LABELS), 1 / len(LABELS), np.float32)
        for packet in encoder.encode(image, side, packet_bytes=60).packets[:count]:
            session.add(packet)
        found.append(session)
    return found


@pytest.mark.parametrize('url', ['', 'http://edge:8001', 'edge', 'edge:', 'a b:1', 'edge:8001/x'])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ConfigError, match='write host:port'):
        server_address(url)


def test_addresses_with_and_without_a_scheme():
    assert server_address('grpc://[::1]:8001') == '[::1]:8001'
    assert server_address('edge-2.plant:8001') == 'edge-2.plant:8001'


def test_a_missing_client_is_named_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tritonclient', None)
    with pytest.raises(MissingDependency, match=r"pip install 'tritonclient\[grpc\]'"):
        OpenInferenceServer('edge:8001', 'x')


@pytest.mark.parametrize('axes, sent', [(None, (3, 1)), (2, (3, 1)), (1, (3,))])
def test_the_answers_are_those_of_this_process(models, server, axes, sent):
    """Triton tells of an axis beside that of the batch, others what the file has."""
    folder = ModelFolder(models)
    if axes is not None:
        server.metadata = {**EDGE_INPUTS, 'bytes_received': axes, 'has_side': axes}
    name = served_name(folder.model_id('edge'))
    group = ServerGroup([OpenInferenceServer(server.url, name)], None)
    try:
        remote, local = Decoder(folder, engine=group), Decoder(folder)
        expected = local.classify(sessions(models, local))
        assert np.array_equal(remote.classify(sessions(models, remote)), expected)
        assert server.inferences >= 2
        assert server.shapes['bytes_received'] == sent == server.shapes['has_side']
    finally:
        group.close()


def test_another_version_of_the_network_is_not_taken_for_it(models, server):
    group = ServerGroup([OpenInferenceServer(server.url, served_name(7))], None)
    try:
        with pytest.raises(EngineGone):
            Decoder(ModelFolder(models), engine=group)
        assert group.well == ()
        assert not OpenInferenceServer(server.url, served_name(7)).is_ready(10.0)
    finally:
        group.close()


@pytest.mark.parametrize('kind', ['triton', 'mlserver'])
def test_a_repository_has_the_network_under_the_name_by_which_it_is_asked_for(
    models, tmp_path, kind, capsys
):
    out = tmp_path / 'repository'
    assert main(['export', str(models), '--for', kind, '--out', str(out), '--workers', '3']) == 0
    name = served_name(ModelFolder(models).model_id('edge'))
    assert name in capsys.readouterr().out
    if kind == 'triton':
        config = (out / name / 'config.pbtxt').read_text()
        assert f'name: "{name}"' in config and 'instance_group [ { count: 3 } ]' in config
        assert '"bytes_received" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] }' in config
        assert f'"probabilities" data_type: TYPE_FP32 dims: [ {len(LABELS)} ]' in config
        model = out / name / '1' / 'model.onnx'
    else:
        settings = json.loads((out / name / 'model-settings.json').read_text())
        assert settings['name'] == name
        assert settings['parameters']['extra'] == {'threads': 1, 'workers': 3}
        compile((out / name / 'onnx_runtime.py').read_text(), 'onnx_runtime.py', 'exec')
        model = out / name / 'model.onnx'
    assert model.read_bytes().startswith((models / 'edge.onnx').read_bytes())
    assert main(['export', str(models), '--for', kind, '--out', str(out)]) == 2
    assert 'exists already' in capsys.readouterr().err


@pytest.mark.skipif(
    not os.environ.get('MLSERVER'), reason='make test-inference names an MLServer to start'
)
def test_a_real_mlserver_serves_what_was_exported(models, tmp_path):
    pytest.importorskip('tritonclient.grpc')
    from inference_server import MlServer

    folder = ModelFolder(models)
    served = MlServer(models, tmp_path / 'served')
    process = served.process
    said: Queue = Queue()
    server = OpenInferenceServer(served.url, served.model)
    group = ServerGroup(
        [server],
        edge_engine(folder),
        again=0.2,
        changed=lambda name, is_well, why: said.put(is_well),
    )
    try:
        decoder, local = Decoder(folder, engine=group), Decoder(folder)
        while not said.get(timeout=120):  # it is not there yet, and then it is
            assert process.poll() is None, served.log.read_text()
        before = group.used_local
        expected = local.classify(sessions(models, local))
        assert np.allclose(decoder.classify(sessions(models, decoder)), expected, atol=1e-6)
        assert group.used_local == before
        process.kill()
        process.wait()
        began = time.monotonic()
        answers, _ = decoder.look_inside(sessions(models, decoder), within=30.0)
        assert np.array_equal(answers, expected) and group.used_local == before + 1
        assert time.monotonic() - began < 30.0
    finally:
        served.kill()
        group.close()
