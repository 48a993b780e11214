# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The plant's interface over DDS: what it tells and may change, and what it says of a fault."""

from __future__ import annotations

import json
import socket
import urllib.request

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')
pytest.importorskip('prometheus_client', reason='make setup brings it')

from cell_harness import CellHarness, make_capture  # noqa: E402
from plant_cells import listener  # noqa: E402

from stl_conveyor.errors import ConfigError, Level  # noqa: E402
from stl_conveyor.msg import SortOutcome  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeRunner, NodeSpec  # noqa: E402
from stl_conveyor.nodes.device.camera import Camera  # noqa: E402
from stl_conveyor.nodes.device.offload_policy import OffloadPolicy  # noqa: E402
from stl_conveyor.nodes.panel import cell_control  # noqa: E402
from stl_conveyor.nodes.panel.plant_gateway import PlantGateway  # noqa: E402
from stl_conveyor.panel.accounts import Role, User  # noqa: E402
from stl_conveyor.run.console import free_port  # noqa: E402
from stl_conveyor_lab.measure.mosquitto import MISSING, PROGRAM, Mosquitto  # noqa: E402

pytestmark = pytest.mark.ros


def gateway(tmp_path, **parameters):
    return NodeSpec(
        PlantGateway,
        {
            'prometheus_port': 0,
            'diagnostics_period': 0.2,
            'change_log': str(tmp_path / 'plant.jsonl'),
            **parameters,
        },
        group='plant_gateway',
    )


def scraped(node):
    url = f'http://127.0.0.1:{node.outputs["prometheus"].port}/metrics'
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode().splitlines()


def test_a_scrape_tells_each_cell_its_own_and_a_lost_broker_is_a_fault(tmp_path):
    port = free_port(0)
    spec = gateway(
        tmp_path, outputs=['prometheus', 'mqtt'], cells=['', 'line_2'], mqtt_port=port, period=0.1
    )
    with CellHarness([spec], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        node = cell.runner.node('plant_gateway')
        capture = make_capture(5, cell.now_ns(), np.full((160, 160, 3), 9, np.uint8))
        cell.publisher('capture', timeout=30).publish(capture)
        cell.publisher('sort_outcome').publish(
            SortOutcome(header=capture.header, item_id=5, lane='B', slack=0.03)
        )
        cell.wait(
            lambda: 'stl_conveyor_sorted_by_lane_total{cell="",lane="B"} 1.0' in scraped(node),
            30,
            'the outcome is told',
        )
        assert 'stl_conveyor_outcomes_total{cell="line_2"} 0.0' in scraped(node)
        status = cell.wait_diagnostic('plant_gateway: plant.mqtt', str(port), Level.ERROR, 30)
        assert 'broker' in status.message
        assert node.is_active and 'prometheus' in node.outputs


@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
def test_a_port_that_is_taken_silences_nobody_else_and_is_tried_again(tmp_path):
    pytest.importorskip('paho.mqtt.client')
    with Mosquitto(tmp_path) as broker, socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        spec = gateway(
            tmp_path,
            outputs=['prometheus', 'mqtt'],
            prometheus_port=port,
            mqtt_port=broker.port,
            period=0.1,
            retry_period=0.2,
        )
        with CellHarness([spec], watched=('/diagnostics',)) as cell:
            cell.wait_active()
            node = cell.runner.node('plant_gateway')
            cell.wait_diagnostic('plant_gateway: plant.prometheus', f'{port}', Level.ERROR, 30)
            with listener(broker, 'stl_conveyor/values') as (heard, _):
                heard.wait(lambda said: said, 'the values')
            taken.close()
            cell.wait(lambda: 'prometheus' in node.outputs, 30, 'the port is had')
            assert 'stl_conveyor_outcomes_total{cell=""} 0.0' in scraped(node)
            cell.wait_diagnostic('plant_gateway: plant.prometheus', '', Level.OK, 30)
            # A server that has ended is opened anew.
            ended = node.outputs['prometheus']
            ended._server.shutdown()
            cell.wait(lambda: node.outputs.get('prometheus', ended) is not ended, 30, 'another')
            assert 'stl_conveyor_outcomes_total{cell=""} 0.0' in scraped(node)
            text = 'its server has ended'
            cell.wait_diagnostic('plant_gateway: plant.prometheus', text, Level.ERROR)


@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
def test_the_plant_pauses_the_line_where_it_may_and_the_change_is_logged(tmp_path):
    pytest.importorskip('paho.mqtt.client')
    with Mosquitto(tmp_path) as broker:
        specs = [
            gateway(tmp_path, outputs=['mqtt'], mqtt_port=broker.port, allow=['running']),
            NodeSpec(Camera, {}, group='camera'),
            NodeSpec(OffloadPolicy, {'policy': 'threshold'}, group='offload_policy'),
        ]
        with CellHarness(specs, watched=('/diagnostics',)) as cell:
            cell.wait_active()
            camera = cell.runner.node('camera')
            with listener(broker, 'stl_conveyor/#') as (heard, publish):
                heard.wait(lambda said: [t for t, _ in said if t.endswith('values')], 'values')
                publish('stl_conveyor/command', '{"running": false}')
                (answer,) = heard.wait(
                    lambda said: [p for t, p in said if t.endswith('result')], 'an answer'
                )
            assert json.loads(answer) == {'command': 'running', 'done': True, 'trouble': ''}
            assert not camera.is_active
    (line,) = (tmp_path / 'plant.jsonl').read_text().splitlines()
    logged = json.loads(line)
    assert (logged['who'], logged['before']) == ('plant (mqtt)', {'running': True})


def test_each_cell_comes_back_with_its_own_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(cell_control, 'ANSWER_S', 0.3)  # nobody is there to answer
    spec = gateway(tmp_path, outputs=[''], cells=['line_1', 'line_2'], allow=['running'])
    with CellHarness([spec], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        for live, running in zip(cell.runner.node('plant_gateway').live, (False, True)):
            live.change(User('plant', Role.ENGINEER), {'running': running})
    with CellHarness([spec], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        told = [live.changes.changes() for live in cell.runner.node('plant_gateway').live]
    assert [[change.after for change in changes] for changes in told] == [
        [{'running': False}],
        [{'running': True}],
    ]
    assert not (tmp_path / 'plant.jsonl').exists()


@pytest.mark.parametrize(
    'parameters, named',
    [
        ({'outputs': ['modbus']}, 'outputs'),
        ({'allow': ['policy']}, 'allow'),
        ({'allow': ['recipe']}, 'recipes_file'),
        ({'cells': ['a', 'a']}, 'cells'),
        ({'opcua_certificate': 'x.pem'}, 'opcua_key'),
        ({'opcua_trusted': 'folder'}, 'opcua_certificate'),
    ],
)
def test_wrong_values_are_refused_by_name(tmp_path, parameters, named):
    with pytest.raises(ConfigError, match=named):
        NodeRunner([gateway(tmp_path, **parameters)])
