# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What edges and nodes say of themselves is compared with the fleet file."""

from __future__ import annotations

import pytest
import yaml

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CellHarness, NodeSpec  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue  # noqa: E402

from stl_conveyor.cli.main import main  # noqa: E402
from stl_conveyor.deploy.fleet import Fleet  # noqa: E402
from stl_conveyor.deploy.fleet_status import fleet_status  # noqa: E402
from stl_conveyor.nodes.edge.edge_classifier import EdgeClassifier  # noqa: E402
from stl_conveyor.nodes.edge.fleet_watch import watch_fleet  # noqa: E402

pytestmark = pytest.mark.ros


@pytest.fixture
def fleet_file(tiny_models, tmp_path):
    path = tmp_path / 'fleet.yaml'
    path.write_text(
        yaml.safe_dump(
            {
                'models': {'parts': str(tiny_models)},
                'edges': {'hall_a': {'capacity': 100}, 'hall_b': {'capacity': 5}},
                'cells': {'line_1': {'edges': ['hall_a']}, 'line_2': {'edges': ['hall_a']}},
            }
        )
    )
    return path


def test_a_fleet_is_compared_with_its_file(tiny_models, fleet_file):
    spec = NodeSpec(
        EdgeClassifier,
        {'models_dir': str(tiny_models), 'cells': ['/line_1', '/line_2']},
        namespace='hall_a',
    )
    with CellHarness([spec], watched=()) as cell:
        cell.wait_active()
        codec = cell.runner.node('edge_classifier').decoder.identity
        publisher = cell.publisher('/diagnostics', DiagnosticArray, readers=0)
        said = DiagnosticArray(
            status=[
                DiagnosticStatus(
                    name='line_1/encoder',
                    hardware_id='stl_conveyor',
                    values=[KeyValue(key='codec', value=f'{codec:016x}')],
                ),
                DiagnosticStatus(
                    name='line_1/camera: frames',
                    level=b'\2',
                    hardware_id='stl_conveyor',
                    message='no frame',
                ),
                DiagnosticStatus(name='somebody else', level=b'\2', hardware_id='arm'),
            ]
        )
        cell.probe.create_timer(0.1, lambda: publisher.publish(said))
        edges, statuses = watch_fleet(
            30.0,
            domain_id=cell.domain_id,
            enough=lambda watch: (
                'line_1/encoder' in watch.statuses
                and any(len(edge.serves) == 2 for edge in watch.edges.values())
            ),
        )
    status = fleet_status(Fleet.load(fleet_file), edges, statuses)
    (first, _) = status.edges
    assert first[0] == 'hall_a' and first[2] == '2'
    assert [row[2] for row in status.cells] == ['hall_a', 'hall_a']
    assert set(status.alarms) == {
        'edge hall_b: gives no sign of life',
        'cell line_2: its device is not heard of',
        'line_1/camera: frames: no frame',
    }


def test_a_check_prints_what_there_is_and_ends_with_1_on_errors(fleet_file, capsys):
    assert main(['fleet', 'check', str(fleet_file)]) == 0
    said = capsys.readouterr().out
    assert 'hall_a' in said and 'note: edge hall_b: answers no cell' in said
    assert '2 cells, 2 edges, no errors' in said
    text = fleet_file.read_text().replace('capacity: 100', 'capacity: 1')
    fleet_file.write_text(text)
    assert main(['fleet', 'check', str(fleet_file)]) == 1
    assert 'error: edge hall_a: its cells ask for 6 answers/s' in capsys.readouterr().out
    assert main(['fleet', 'check', str(fleet_file.parent / 'none.yaml')]) == 2
