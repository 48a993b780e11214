# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The fleet file is taken at its word, what cannot be is named, and the fleet compared with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from stl_conveyor.cell.edge_pool import preference
from stl_conveyor.cell.fleet_signs import SeenEdge, SeenStatus
from stl_conveyor.codec.identity import codec_identity
from stl_conveyor.deploy.fleet import ANSWERS_PER_ITEM, Fleet
from stl_conveyor.deploy.fleet_launch import FLEET_ARGUMENTS, take_fleet
from stl_conveyor.deploy.fleet_status import fleet_status
from stl_conveyor.deploy.launching import checked, with_defaults
from stl_conveyor.errors import ConfigError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor_lab.train.tiny import make_tiny_model_folder

LABELS = ('a', 'b', 'c')


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp('models')
    make_tiny_model_folder(folder / 'first', LABELS)
    make_tiny_model_folder(folder / 'second', LABELS, seed=3)
    return folder


def write(folder, **changes):
    """Write a fleet of two edges and three cells, with changes, beside the models."""
    content = {
        'models': {'parts': 'first'},
        'edges': {'hall_a': {'host': 'one', 'capacity': 20}, 'hall_b': {'capacity': 10.0}},
        'cells': {'line_1': None, 'line_2': {'rate': 4}, 'plant/line_3': {'edges': ['hall_b']}},
        **changes,
    }
    path = folder / 'fleet.yaml'
    path.write_text(yaml.safe_dump(content), encoding='utf-8')
    return path


def test_what_stands_once_is_taken_for_all(models):
    fleet = Fleet.load(write(models))
    assert fleet.models == {'parts': models / 'first'}
    assert fleet.edges['hall_a'].models == 'parts'
    assert fleet.cells['line_1'].edges == ('hall_a', 'hall_b')
    assert [cell.name for cell in fleet.cells_of('hall_a')] == ['line_1', 'line_2']
    # As the edges themselves find it, by the names of their nodes.
    nodes = ['hall_a/edge_classifier', 'hall_b/edge_classifier']
    assert [fleet.edges[name].node for name in fleet.order('line_1')] == preference(
        'line_1', nodes
    )
    assert sum(fleet.loads().values()) == pytest.approx(8 * ANSWERS_PER_ITEM)
    assert fleet.loads(['hall_b']) == {'hall_a': pytest.approx(6 * ANSWERS_PER_ITEM)}
    assert fleet.here('one') == 'hall_a'


def test_a_check_tells_what_works_with_one_edge_gone(models):
    fleet = Fleet.load(write(models))
    texts = [finding.text for finding in fleet.check() if not finding.is_error]
    assert any('plant/line_3: has one edge and no standby' in text for text in texts)
    assert any('while hall_a is gone, it gives 10' in text for text in texts)
    cells = {f'line_{number}': None for number in range(30)}
    fleet = Fleet.load(write(models, cells=cells))
    assert any('ask for' in f.text for f in fleet.check() if f.is_error)


def test_a_cell_and_its_edge_have_the_same_models_whatever_their_names(models):
    both = {'parts': 'first', 'the_same': 'first', 'new': 'second'}
    edges = {'hall_a': {'models': 'the_same'}}
    cells = {'line_1': {'models': 'parts', 'edges': ['hall_a']}}

    def faults():
        fleet = Fleet.load(write(models, models=both, edges=edges, cells=cells))
        return [finding for finding in fleet.check() if finding.is_error]

    assert not faults()
    cells['line_1']['models'] = 'new'
    (fault,) = faults()
    assert 'line_1' in fault.text and 'hall_a' in fault.text
    gone = Fleet.load(write(models, models={'parts': 'nowhere'}))
    assert any(f.is_error and 'nowhere' in f.text for f in gone.check())


@pytest.mark.parametrize(
    'changes, says',
    [
        ({'edgs': {}}, "unknown key 'edgs'; is edges meant"),
        ({'edges': {}}, 'edges: must map names'),
        ({'edges': {'a b': None}}, "'a b' is no name"),
        ({'edges': {'hall_a': {'modles': 'parts'}}}, 'edges.hall_a: unknown key'),
        ({'edges': {'hall_a': {'models': ['x']}}}, 'is none of the models: parts'),
        ({'edges': {'hall_a': {'capacity': '20'}}}, 'edges.hall_a.capacity'),
        ({'edges': {'hall_a': {'capacity': True}}}, 'edges.hall_a.capacity'),
        ({'edges': {'hall_a': {'host': 5}}}, 'edges.hall_a.host: 5 is no text'),
        ({'cells': {'line_1': {'edges': ['hall_c']}}}, 'none of the edges: hall_a, hall_b'),
        ({'cells': {'line_1': {'edges': ['hall_a', 'hall_a']}}}, 'names an edge twice'),
        ({'cells': {'line_1': {'edges': []}}}, 'names no edge'),
        ({'cells': {'line_1': {'rate': -1}}}, 'cells.line_1.rate'),
        ({'cells': {'line_1': {'link': 'wifi'}}}, 'none of the links: lan'),
        ({'links': {'wifi': {'gateway': 'yes'}}}, 'links.wifi.gateway'),
        ({'models': {'parts': 7}}, 'models.parts: 7 is no text'),
        (
            {'links': {'radio': {'gateway': True}}, 'cells': {'line_1': {'link': 'radio'}}},
            "needs the device's",
        ),
        (
            {
                'links': {'radio': {'gateway': True}},
                'cells': {'line_1': {'link': 'radio', 'address': '10.0.0.5'}},
            },
            'behind a gateway a cell has one edge',
        ),
        (
            {
                'links': {'radio': {'gateway': True}},
                'cells': {
                    'line_1': {'link': 'radio', 'address': '10.0.0.5', 'edges': ['hall_a']},
                    'line_2': {'edges': ['hall_a']},
                },
            },
            'cells.line_2.link',
        ),
    ],
)
def test_what_cannot_be_is_named_with_its_place(models, changes, says):
    with pytest.raises(ConfigError, match=says.replace('.', r'\.')) as caught:
        Fleet.load(write(models, **changes))
    assert 'fleet.yaml' in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r'none\.yaml'):
        Fleet.load(tmp_path / 'none.yaml')
    (tmp_path / 'odd.yaml').write_text('- 1\n')
    with pytest.raises(ConfigError, match='is no mapping'):
        Fleet.load(tmp_path / 'odd.yaml')


# At the launch file ----------------------------------------------------------------------------


def asked(**changes):
    values = {argument.name: argument.default for argument in FLEET_ARGUMENTS}
    for name in ('namespace', 'cells', 'models_dir', 'gateway_peer'):
        values[name] = ''
    return {**values, 'params_file': '/edge.yaml', **changes}


def test_an_edge_is_started_as_the_file_says(models):
    values = asked(fleet=str(write(models)))
    take_fleet(values, 'one')
    assert values['namespace'] == 'hall_a'
    assert values['cells'] == '/line_1 /line_2'
    assert Path(values['models_dir']) == models / 'first'
    assert (values['gateway_peer'], values['params_file']) == ('', '/edge.yaml')
    values = asked(
        fleet=str(
            write(
                models,
                links={'radio': {'gateway': True}},
                edges={'hall_a': {'workers': 4}},
                cells={'line_1': {'link': 'radio', 'address': '10.0.0.5'}},
            )
        )
    )
    take_fleet(values, 'elsewhere')  # it is the only one
    assert values['gateway_peer'] == '10.0.0.5'
    own = yaml.safe_load(Path(values['params_file'].split(os.pathsep)[1]).read_text())
    assert own == {'/**/edge_classifier': {'ros__parameters': {'workers': 4}}}


def test_the_node_gets_what_stands_in_the_file(models):
    arguments = with_defaults(nodes='edge_classifier', emulate_link=False)
    values = {argument.name: argument.default for argument in arguments}
    values |= {'fleet': str(write(models)), 'edge': 'hall_b'}
    take_fleet(values, 'one')
    request = checked(values, arguments)
    assert (request.namespace, request.gateways) == ('hall_b', ())
    given = request.parameters('edge_classifier')
    assert given['cells'] == ['/line_1', '/line_2', '/plant/line_3']
    assert Path(given['models_dir']) == models / 'first'


def test_without_a_fleet_nothing_changes():
    values = asked(cells='line_1')
    take_fleet(values, 'one')
    assert values == asked(cells='line_1')


@pytest.mark.parametrize(
    'changes, says',
    [
        ({'edge': 'hall_c'}, 'argument edge: .*hall_a, hall_b'),
        ({'edge': ''}, 'argument edge: the fleet file has 0 edges with the host three'),
        ({'edge': 'hall_a', 'cells': 'line_9'}, 'argument cells: the fleet file says it'),
        ({'edge': 'hall_a', 'fleet': ''}, 'give fleet:=FILE'),
    ],
)
def test_an_edge_that_cannot_be_told_is_refused(models, changes, says):
    with pytest.raises(ConfigError, match=says):
        take_fleet(asked(**{'fleet': str(write(models)), **changes}), 'three')


# At work ---------------------------------------------------------------------------------------


def seen(name, codec_id, *serves, **changes):
    values = {
        'node': f'{name}/edge_classifier',
        'codec_id': codec_id,
        'model_id': 1,
        'model': 'tiny',
        'serves': serves,
        'load': 0.25,
        'answers': 5.0,
        'capacity': 90.0,
        'price': 0.0,
    }
    return SeenEdge(**{**values, **changes})


def device(cell, codec_id):
    return SeenStatus(f'{cell}/encoder', 0, 'OK', {'codec': f'{codec_id:016x}'})


def test_the_status_of_a_fleet_in_order(models):
    fleet = Fleet.load(write(models))
    codec = codec_identity(ModelFolder(models / 'first'))
    cells = list(fleet.cells)
    status = fleet_status(
        fleet,
        [seen('hall_a', codec, 'line_1'), seen('hall_b', codec, 'line_2', 'plant/line_3')],
        [device(cell, codec) for cell in cells],
    )
    assert status.is_in_order, status.alarms
    first, second = status.edges
    assert first[0] == 'hall_a' and first[2:] == ('1', '25 %', '5.0/s', '15/s', '0.00')
    assert second[2] == '2'
    assert [row[0] for row in status.cells] == cells
    assert [row[2] for row in status.cells] == ['hall_a', 'hall_b', 'hall_b']
    assert all(f'{codec:016x}'[:8] in row[1] for row in status.cells + (first, second))


def test_what_is_not_as_the_file_says_is_an_alarm(models):
    fleet = Fleet.load(write(models))
    codec = codec_identity(ModelFolder(models / 'first'))
    other = codec_identity(ModelFolder(models / 'second'))
    status = fleet_status(
        fleet,
        [seen('hall_a', other, 'line_1'), seen('hall_x', codec)],
        [
            device('line_1', codec),
            device('line_2', other),
            SeenStatus('line_1/camera', 2, 'frames'),
            SeenStatus('line_1/camera: frames', 2, 'no frame for 3 s'),
            SeenStatus('plant/line_3/encoder', 0, 'OK', {'codec': 'zzz'}),
        ],
    )
    text = '\n'.join(status.alarms)
    for says in (
        'edge hall_a: runs tiny',
        'edge hall_b: gives no sign of life',
        'edge hall_x/edge_classifier: is not in the file',
        'cell line_2: runs codec',
        'cell line_2: no edge answers it',
        'cell plant/line_3: its device is not heard of',
        'line_1/camera: frames: no frame for 3 s',
    ):
        assert says in text
    assert text.count('line_1/camera') == 1  # the fault, and not the node that has it, too
    assert not status.is_in_order
