# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The launch files start nodes that exist, with parameters that these nodes have."""
import ast
from pathlib import Path
import py_compile
import re

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAUNCH_FILES = sorted((ROOT / 'launch').glob('*.launch.py'))
DEVICE = {'camera', 'local_classifier', 'offload_policy', 'encoder', 'actuator'}
EDGE = {'edge_classifier'}
SIMULATION = {'cell_simulator', 'link_emulator', 'cell_monitor'}


def constant(path, name):
    """Return the value of a module's constant without importing the module."""
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise LookupError(f'{path.name} has no constant {name}')


@pytest.fixture
def described():
    """Return the function that expands a launch file into its node actions."""
    launch = pytest.importorskip('launch', reason='launch comes with an installed ROS 2')
    pytest.importorskip('launch_ros', reason='launch_ros comes with an installed ROS 2')
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    from launch_ros.actions import LifecycleNode

    def expand(name, **arguments):
        context = launch.LaunchContext()
        start = IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(ROOT / 'launch' / name)),
            launch_arguments=arguments.items())
        found, waiting = [], [start]
        while waiting:
            entity = waiting.pop(0)
            if isinstance(entity, LifecycleNode):
                entity._perform_substitutions(context)
                found.append(entity)
            else:
                waiting = list(entity.visit(context) or []) + waiting
        return found

    return expand


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_files_compile(path, tmp_path):
    py_compile.compile(str(path), cfile=str(tmp_path / 'compiled'), doraise=True)


def test_every_side_has_its_launch_file():
    assert {path.name for path in LAUNCH_FILES} >= {
        'cell.launch.py', 'sim.launch.py', 'device.launch.py', 'edge.launch.py'}
    assert set(constant(ROOT / 'launch/device.launch.py', 'NODES')) == DEVICE
    assert set(constant(ROOT / 'launch/edge.launch.py', 'NODES')) == EDGE
    assert set(constant(ROOT / 'launch/sim.launch.py', 'NODES')) == DEVICE | EDGE | SIMULATION


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_every_node_that_is_launched_has_an_executable(path):
    cmake = (ROOT / 'CMakeLists.txt').read_text(encoding='utf-8')
    built = set(re.search(r'set\(node_names(.*?)\)', cmake, re.DOTALL).group(1).split())
    assert set(constant(path, 'NODES')) <= built


def test_every_argument_is_described():
    text = (ROOT / 'launch/cell.launch.py').read_text(encoding='utf-8')
    calls = [node for node in ast.walk(ast.parse(text))
             if isinstance(node, ast.Call) and getattr(node.func, 'id', '') ==
             'DeclareLaunchArgument']
    names = {call.args[0].value for call in calls}
    assert names >= {'namespace', 'use_sim_time', 'params_file', 'autostart', 'use_respawn',
                     'headless', 'world', 'log_level', 'models_dir'}
    for call in calls:
        described = {word.arg: word.value for word in call.keywords}
        assert described['description'].value.endswith('.'), call.args[0].value


@pytest.mark.ros
def test_parameters_given_by_launch_are_those_of_the_nodes():
    from dataclasses import fields
    from importlib import import_module

    given = constant(ROOT / 'launch/cell.launch.py', 'PARAMETERS')
    for name in constant(ROOT / 'launch/cell.launch.py', 'NODES'):
        module = import_module(f'stl_conveyor.nodes.{name}')
        kind = next(value for value in vars(module).values()
                    if isinstance(value, type) and getattr(value, 'NAME', '') == name)
        declared = {item.name for item in fields(kind.SETTINGS)}
        assert 'autostart' in declared
        for parameter, takers in given.items():
            assert (parameter in declared) == (name in takers), f'{name}: {parameter}'


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
@pytest.mark.ros
def test_launch_files_expand_to_their_nodes(path, described):
    nodes = described(path.name, namespace='cell_7')
    assert {node.node_name for node in nodes} == {
        f'/cell_7/{name}' for name in constant(path, 'NODES')}


@pytest.mark.ros
def test_without_emulator_both_sides_meet_on_the_names_of_the_edge(described):
    remapped = dict(described('device.launch.py')[0].expanded_remapping_rules)
    assert remapped == {'features_tx': 'features_rx', 'feedback_rx': 'feedback_tx',
                        'edge_classification': 'edge_classification_tx'}
    assert not described('sim.launch.py')[0].expanded_remapping_rules


@pytest.mark.ros
def test_an_unknown_node_is_refused_by_name(described):
    with pytest.raises(RuntimeError, match='no toaster'):
        described('cell.launch.py', nodes='camera toaster')
