# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the arguments of the launch files mean; without launch."""

from __future__ import annotations

import os
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip('rclpy')

from stl_conveyor.cell.description import CellDescription  # noqa: E402
from stl_conveyor.deploy import launching  # noqa: E402
from stl_conveyor.deploy.launching import ARGUMENTS, PARAMETERS  # noqa: E402
from stl_conveyor.errors import ConfigError  # noqa: E402
from stl_conveyor.nodes.base.topics import DEVICE, EDGE, EVERY_NODE, GAZEBO, node_module  # noqa: E402
from stl_conveyor.resources import share_path  # noqa: E402
from stl_conveyor.run.cell_reporter import CellReporter  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SIDES = {
    'device': {'nodes': ' '.join(DEVICE), 'params_file': str(ROOT / 'config/device.yaml')},
    'edge': {'nodes': ' '.join(EDGE), 'params_file': str(ROOT / 'config/edge.yaml')},
}


def request(side='', **typed):
    """Return what a launch file makes of arguments; `side` has its own defaults."""
    defaults = {**SIDES[side], 'emulate_link': False} if side else {}
    arguments = launching.with_defaults(**defaults)
    values = {argument.name: argument.default for argument in arguments}
    return launching.checked({**values, **typed}, arguments)


def settings_of(name):
    if name == 'cell_monitor':  # launched as the one that writes the results
        return CellReporter.SETTINGS
    module = import_module(node_module(name))
    (kind,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and getattr(value, 'NAME', '') == name
    ]
    return kind.SETTINGS


def test_every_argument_is_described_in_a_sentence():
    for argument in ARGUMENTS:
        assert argument.description.endswith('.'), argument.name
        assert not argument.choices or argument.default in argument.choices


def test_docs_list_every_argument():
    page = (ROOT / 'docs/launch.md').read_text(encoding='utf-8')
    for argument in ARGUMENTS:
        assert f'`{argument.name}`' in page, argument.name


def test_each_argument_goes_to_the_nodes_that_have_its_parameter():
    for name in EVERY_NODE + GAZEBO:
        declared = {item.name for item in fields(settings_of(name))}
        assert 'autostart' in declared
        for argument, (parameter, takers) in PARAMETERS.items():
            if argument in ('seed', 'rate'):  # others have parameters of this name, too
                assert parameter in declared or name not in takers
            else:
                assert (parameter in declared) == (name in takers), f'{name}: {parameter}'


def test_the_defaults_make_the_whole_cell_on_its_parameter_file():
    whole = request()
    assert set(whole.nodes) == set(EVERY_NODE)
    assert whole.params_files == (str(share_path('config/sim.yaml')),)
    assert not whole.direct and whole.autostart and not whole.given and not whole.gateways


def test_the_simulation_waits_for_the_device_and_the_camera_for_its_classifier():
    assert request().parameters('cell_simulator')['wait_for'] == list(launching.AWAITED)
    assert 'wait_for' not in request(nodes='cell_simulator camera').parameters('cell_simulator')
    camera = request('device').parameters('camera')
    assert camera['wait_for'] == ['classification', 'sort_outcome']
    assert 'wait_for' not in request('device', nodes='camera').parameters('camera')


def test_values_reach_their_nodes_with_their_types():
    cell = request(
        items='7', seed='3', policy='dqn', rate='1', depth='2', link='heavy', trigger='beam'
    )
    assert cell.parameters('cell_simulator')['items'] == 7
    assert cell.parameters('link_emulator') == {'autostart': True, 'seed': 3, 'link': 'heavy'}
    policy = cell.parameters('offload_policy')
    assert (policy['policy'], policy['rate'], policy['depth']) == ('dqn', 1.0, 2.0)
    assert type(policy['rate']) is float
    assert cell.parameters('camera')['trigger'] == 'beam'
    assert 'seed' not in policy


def test_guard_is_that_of_every_node(tmp_path):
    cell = request(guard='0.07')
    files = {cell.parameters(name)['cell_file'] for name in PARAMETERS['world'][1]}
    (file,) = files
    assert CellDescription.load(file).guard == 0.07
    assert CellDescription.load(share_path('config/cell.yaml')).guard == 0.04


def test_without_the_emulator_the_two_sides_are_joined_directly():
    cell = request(emulate_link='false')
    assert cell.direct and 'link_emulator' not in cell.nodes
    assert request('device').direct
    assert not request('device', emulate_link='true').direct
    with pytest.raises(ConfigError, match='emulate_link: it is false, and link_emulator is among'):
        request(emulate_link='false', nodes='camera link_emulator')
    with pytest.raises(ConfigError, match='emulate_link: both sides are started'):
        request(nodes='encoder edge_classifier')


@pytest.mark.parametrize(
    'side, typed, says',
    [
        ('', {'items': '0'}, "items: '0' is not a whole number from 1"),
        ('', {'items': '2.5'}, "items: '2.5'"),
        ('', {'seed': '99999999999999999999'}, 'seed'),
        ('', {'rate': '-1'}, 'rate'),
        ('', {'rate': '0,25'}, "rate: '0,25'"),
        ('', {'depth': 'inf'}, 'depth'),
        ('', {'guard': 'soon'}, "guard: 'soon' is not a number"),
        ('', {'guard': '-1'}, 'guard: -1 cannot be'),
        ('', {'nodes': ''}, 'nodes: it is empty'),
        ('', {'nodes': 'camera camera'}, 'nodes: camera stands there twice'),
        ('', {'params_file': ''}, 'params_file: it is empty'),
        ('', {'gateway_peer': '192.0.2.7'}, 'gateway_peer: it joins two machines'),
        ('', {'out': '/dev/null'}, 'out: /dev/null cannot be a folder'),
        ('', {'record': '/dev/null/run.mcap'}, 'record: /dev/null/run.mcap cannot be a file'),
        ('', {'plant': 'perhaps'}, "plant: 'perhaps' is not one of"),
        ('device', {'items': '5'}, 'items: it is for cell_simulator and feeder'),
        ('device', {'end_when_done': 'true'}, 'end_when_done: it is for cell_monitor'),
        ('edge', {'policy': 'mdp'}, 'policy: it is for offload_policy'),
        ('device', {'cells': 'a'}, 'cells: it is for edge_classifier'),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(side, typed, says):
    with pytest.raises(ConfigError, match=f'argument {says}'):
        request(side, **typed)


@pytest.mark.parametrize(
    'content, says',
    [
        ('a: [', 'cannot be used'),
        ('camera:\n  trigger: beam\n', 'has no ros__parameters'),
        ('', 'has no ros__parameters'),
        ('camrea:\n  ros__parameters: {trigger: beam}\n', 'is camera meant'),
        ('talker:\n  ros__parameters: {rate: 1}\n', 'no parameters for any node'),
        ('/line_2/camera:\n  ros__parameters: {rate: 1}\n', 'no parameters for any node'),
    ],
)
def test_a_parameter_file_that_says_nothing_to_the_nodes_is_refused(content, says, tmp_path):
    path = tmp_path / 'mine.yaml'
    path.write_text(content)
    with pytest.raises(ConfigError, match=f'params_file: {path}.*{says}'):
        request('device', params_file=str(path), namespace='line_1')


@pytest.mark.parametrize(
    'pattern', ['/**', 'line_1:\n  camera', '/line_1/camera', '/*/camera', '/**/camera']
)
def test_a_parameter_file_may_name_the_node_as_ros_allows(pattern, tmp_path):
    path = tmp_path / 'mine.yaml'
    head = pattern.replace(':\n  ', ':\n  ')
    indent = '    ' if '\n' in pattern else '  '
    path.write_text(f'{head}:\n{indent}ros__parameters:\n{indent}  trigger: beam\n')
    shipped = SIDES['device']['params_file']
    both = os.pathsep.join([shipped, str(path)])
    assert request('device', params_file=both, namespace='line_1').params_files == (
        shipped,
        str(path),
    )
    request('device', params_file=str(path), namespace='line_1', nodes='camera')


@given(st.lists(st.sampled_from(['a', 'camera', 'x1']), min_size=1, max_size=4))
def test_two_stars_stand_for_any_namespace_and_none(parts):
    name = '/' + '/'.join(parts)
    assert launching.applies('/**', name)
    assert launching.applies('/**/' + parts[-1], name)
    assert launching.applies(name, name)
    assert not launching.applies(name + 'x', name)


def test_a_mistyped_argument_is_refused_where_launch_would_drop_it():
    known = [argument.name for argument in ARGUMENTS]
    launching.refuse_unknown(['items:=5', 'launch-prefix:=gdb', 'no argument'], known)
    with pytest.raises(ConfigError, match='argument param_file: .* is params_file meant'):
        launching.refuse_unknown(['items:=5', 'param_file:=x'], known)
    with pytest.raises(ConfigError, match='there are autostart'):
        launching.refuse_unknown(['zzz:=1'], known)


def test_what_is_missing_of_gazebo_is_named_once():
    needed = {'ros_gz_sim': 'ros-gz', 'ros_gz_bridge': 'ros-gz', 'tf2_ros': 'tf2-ros'}
    assert launching.missing_packages(needed, needed, 'jazzy') == ''
    assert launching.missing_packages(needed, ['tf2_ros'], 'jazzy') == (
        'ros_gz_sim, ros_gz_bridge are not installed: apt install ros-jazzy-ros-gz'
    )


# Who looks on -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'argument, value, node',
    [
        ('hmi', 'true', 'operator_panel'),
        ('use_rviz', 'true', 'cell_view'),
        ('plant', 'true', 'plant_gateway'),
        ('record', 'run.mcap', 'recorder'),
    ],
)
@pytest.mark.parametrize('side', SIDES)
def test_who_looks_on_is_started_where_it_is_asked_for_and_nowhere_else(
    side, argument, value, node
):
    asked = request(side, **{argument: value})
    assert node in asked.nodes and node not in request(side).nodes
    assert node not in asked.composed  # a process of its own, which may die
    if argument == 'record':
        assert Path(asked.parameters(node)['file']) == Path.cwd() / value
