# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The launch files: what they start, and that it starts, works and ends, with the real launch."""

from __future__ import annotations

import ast
import os
import py_compile
import re
import subprocess
import time
from collections import Counter
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
from launched import launch_command, launched, needs_launch

from stl_conveyor.deploy import fastdds_profiles
from stl_conveyor.nodes.base.topics import (
    DEVICE,
    EDGE,
    EVERY_NODE,
    GAZEBO,
    ROOMS,
    SIMULATION,
    TOPICS,
    node_module,
)
from stl_conveyor_lab.bench.network import shaped_link

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILES = sorted((ROOT / 'launch').glob('*.launch.py'))
STARTED = {
    'cell.launch.py': EVERY_NODE,
    'sim.launch.py': EVERY_NODE,
    'gazebo.launch.py': GAZEBO + DEVICE + EDGE + ('link_emulator', 'cell_monitor'),
    'device.launch.py': DEVICE,
    'edge.launch.py': EDGE,
}
NAV2 = {
    'namespace',
    'use_sim_time',
    'params_file',
    'autostart',
    'use_respawn',
    'headless',
    'world',
    'log_level',
}


def constant(path, name):
    """Return the value of a module's constant without importing the module."""
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise LookupError(f'{path.name} has no constant {name}')


# Without launch ---------------------------------------------------------------------------------


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_files_compile(path, tmp_path):
    py_compile.compile(str(path), cfile=str(tmp_path / 'compiled'), doraise=True)


def test_every_side_has_its_launch_file():
    assert {path.name for path in LAUNCH_FILES} == set(STARTED)
    assert set(EVERY_NODE) == set(DEVICE + EDGE + SIMULATION)


def test_every_node_that_is_launched_has_an_executable():
    cmake = (ROOT / 'CMakeLists.txt').read_text(encoding='utf-8')
    built = set(re.search(r'set\(nodes(.*?)\)', cmake, re.DOTALL).group(1).split())
    assert {f'{ROOMS[name]}/{name}' for name in EVERY_NODE + GAZEBO} <= built


def test_every_argument_is_described():
    declared = {}
    for path in LAUNCH_FILES:
        for call in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            kind = getattr(getattr(call, 'func', None), 'id', '')
            if kind == 'DeclareLaunchArgument':
                words = {word.arg: word.value for word in call.keywords}
                declared[call.args[0].value] = words['description'].value
            elif kind == 'flag':
                declared[call.args[0].value] = call.args[2].value
    assert set(declared) >= NAV2 | {
        'models_dir',
        'nodes',
        'emulate_link',
        'cells',
        'items',
        'gateway_peer',
    }
    assert all(text.endswith('.') for text in declared.values())


@pytest.mark.ros
def test_parameters_given_by_launch_are_those_of_the_nodes():
    given = constant(ROOT / 'launch/cell.launch.py', 'PARAMETERS')
    for name in EVERY_NODE + GAZEBO:
        module = import_module(node_module(name))
        kind = next(
            value
            for value in vars(module).values()
            if isinstance(value, type) and getattr(value, 'NAME', '') == name
        )
        declared = {item.name for item in fields(kind.SETTINGS)}
        assert 'autostart' in declared
        for parameter, takers in given.items():
            if parameter == 'seed':  # the policy's seed is of its own kind
                assert parameter in declared or name not in takers
            else:
                assert (parameter in declared) == (name in takers), f'{name}: {parameter}'


def test_rviz_shows_topics_that_the_bridge_brings():
    yaml = pytest.importorskip('yaml')
    shown = yaml.safe_load((ROOT / 'rviz/cell.rviz').read_text(encoding='utf-8'))
    topics = {
        display['Topic']['Value']
        for display in shown['Visualization Manager']['Displays']
        if 'Topic' in display
    }
    bridged = {
        row['ros_topic_name']
        for name in ('gazebo_bridge', 'gazebo_camera_bridge')
        for row in yaml.safe_load((ROOT / 'config' / f'{name}.yaml').read_text())
    }
    assert topics and topics <= bridged | {topic.name for topic in TOPICS if topic.publishers}
    assert shown['Visualization Manager']['Global Options']['Fixed Frame'] == 'cell'


# Construct and describe -------------------------------------------------------------------------


def expand(name, **arguments):
    """Return the processes of a launch file, those of included files too, without running any.

    What other packages would add is left out where they are not installed.
    """
    from ament_index_python.packages import PackageNotFoundError
    from launch.actions import ExecuteProcess, IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    import launch

    context = launch.LaunchContext()
    waiting = [
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(ROOT / 'launch' / name)),
            launch_arguments=arguments.items(),
        )
    ]
    found = []
    while waiting:
        entity = waiting.pop(0)
        if isinstance(entity, ExecuteProcess):
            if entity.condition is None or entity.condition.evaluate(context):
                if hasattr(entity, '_perform_substitutions'):
                    entity._perform_substitutions(context)
                found.append(entity)
        else:
            try:
                waiting = list(entity.visit(context) or []) + waiting
            except PackageNotFoundError as error:
                assert 'stl_conveyor' not in str(error).split('searching')[0]
    return found


def ours(actions):
    from launch_ros.actions import LifecycleNode

    return [action for action in actions if isinstance(action, LifecycleNode)]


@pytest.mark.ros
@needs_launch
@pytest.mark.parametrize('name', STARTED)
def test_launch_files_expand_to_their_nodes(name):
    nodes = ours(expand(name, namespace='cell_7'))
    assert {node.node_name for node in nodes} == {f'/cell_7/{node}' for node in STARTED[name]}
    for node in nodes:
        assert node._ExecuteLocal__respawn


@pytest.mark.ros
@needs_launch
def test_without_emulator_both_sides_meet_on_the_names_of_the_edge():
    remapped = dict(ours(expand('device.launch.py'))[0].expanded_remapping_rules)
    assert remapped == {
        'features_tx': 'features_rx',
        'feedback_rx': 'feedback_tx',
        'edge_classification': 'edge_classification_tx',
    }
    assert not ours(expand('sim.launch.py'))[0].expanded_remapping_rules


def environment_of(node):
    """Return the variables that a launch action gives its process beside its own."""
    from launch.utilities import perform_substitutions

    from launch import LaunchContext

    return {
        perform_substitutions(LaunchContext(), name): perform_substitutions(LaunchContext(), value)
        for name, value in node.additional_env
    }


@pytest.fixture
def profile_variables(monkeypatch):
    """Return the variables by which a process takes a profile, and put them back afterwards."""
    names = tuple(fastdds_profiles.environment(Path('x')))
    for name in names:
        monkeypatch.setenv(name, '')
    return names


@pytest.mark.ros
@needs_launch
@pytest.mark.parametrize(
    'name, arguments, gateways',
    [
        (
            'device.launch.py',
            {'gateway_peer': '192.0.2.7', 'namespace': 'b', 'gateway_number': '1'},
            {'/b/device_gateway': ('uplink', '192.0.2.7', 1)},
        ),
        (
            'edge.launch.py',
            {'gateway_peer': '192.0.2.8'},
            {'/edge_gateway': ('downlink', '192.0.2.8', 0)},
        ),
        (
            'edge.launch.py',
            {'gateway_peer': '192.0.2.8 192.0.2.9', 'cells': 'a b'},
            {
                '/a/edge_gateway': ('downlink', '192.0.2.8', 0),
                '/b/edge_gateway': ('downlink', '192.0.2.9', 1),
            },
        ),
    ],
)
def test_with_a_peer_a_gateway_stands_between(
    name, arguments, gateways, profile_variables, monkeypatch
):
    monkeypatch.setenv('ROS_DOMAIN_ID', '7')
    nodes = {node.node_name: node for node in ours(expand(name, **arguments))}
    assert set(gateways) == {path for path in nodes if path.endswith('gateway')}
    assert len(nodes) == len(STARTED[name]) + len(gateways)
    file = profile_variables[-1]
    for path, node in nodes.items():
        assert not node.expanded_remapping_rules
        if path in gateways:
            role, peer, number = gateways[path]
            profile = Path(environment_of(node)[file]).read_text(encoding='utf-8')
            assert profile == fastdds_profiles.profile_xml(
                role, domain=7, peer=peer, number=number
            )
        else:
            assert file not in environment_of(node)
    # That of the others, and of launch's own node.
    assert Path(os.environ[file]).read_text(encoding='utf-8') == (
        fastdds_profiles.profile_xml('local', domain=7)
    )


@pytest.mark.ros
@needs_launch
@pytest.mark.parametrize(
    'name, arguments, says',
    [
        ('device.launch.py', {'gateway_peer': 'edge.local'}, 'IPv4'),
        ('device.launch.py', {'gateway_peer': '192.0.2.7', 'gateway_number': '20'}, 'gateway 20'),
        (
            'edge.launch.py',
            {'gateway_peer': '192.0.2.7', 'cells': 'a b'},
            '1 addresses for 2 cells',
        ),
        ('sim.launch.py', {'gateway_peer': '192.0.2.7'}, 'two machines'),
    ],
)
def test_a_gateway_that_cannot_be_is_refused(name, arguments, says):
    with pytest.raises(RuntimeError, match=f'gateway_peer: .*{says}'):
        expand(name, **arguments)


@pytest.mark.ros
@needs_launch
def test_an_unknown_node_is_refused_by_name():
    with pytest.raises(RuntimeError, match='no toaster'):
        expand('cell.launch.py', nodes='camera toaster')


@pytest.mark.ros
@needs_launch
@pytest.mark.parametrize('name', STARTED)
def test_show_args_describes_every_argument(name):
    done = subprocess.run(
        launch_command(name, '--show-args'), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    shown = dict(re.findall(r"^    '(\w+)':\n        (.+)$", done.stdout, re.MULTILINE))
    assert NAV2 <= set(shown)
    assert all('.' in text and not text.startswith('no description') for text in shown.values())


@pytest.mark.ros
@needs_launch
def test_gazebo_gets_its_world_two_bridges_and_the_cells_frames(tmp_path):
    from launch_ros.actions import Node

    text = (ROOT / 'config/cell.yaml').read_text(encoding='utf-8')
    (tmp_path / 'mine.yaml').write_text(text.replace('name: C', 'name: rings'), encoding='utf-8')
    mine = str(tmp_path / 'mine.yaml')
    nodes = [
        action
        for action in expand('gazebo.launch.py', world=mine, namespace='k')
        if isinstance(action, Node)
    ]
    count = Counter(node.node_package for node in nodes)
    assert (count['ros_gz_bridge'], count['tf2_ros'], count['rviz2']) == (2, 3, 0)
    # The bridge's rows are those of the cell that was asked for.
    bridge = next(node for node in nodes if node.node_package == 'ros_gz_bridge')
    (file,) = [
        parameter for parameter, is_file in bridge._Node__expanded_parameter_arguments if is_file
    ]
    config = Path(re.search(r'config_file: (\S+)', Path(file).read_text()).group(1))
    assert 'pusher_rings/cmd_pos' in config.read_text(encoding='utf-8')
    assert 'pusher_rings' in (config.parent / 'cell.sdf').read_text(encoding='utf-8')
    assert (
        Counter(
            node.node_package
            for node in expand('gazebo.launch.py', use_rviz='true')
            if isinstance(node, Node)
        )['rviz2']
        == 1
    )


# Run --------------------------------------------------------------------------------------------


@pytest.fixture
def probe():
    """Return the function that makes a node in the domain of a launch."""
    import rclpy
    from rclpy.context import Context

    made = []

    def make(domain_id):
        context = Context()
        rclpy.init(context=context, domain_id=domain_id)
        node = rclpy.create_node('probe', context=context, use_global_arguments=False)
        made.append((context, node))
        return node

    yield make
    for context, node in made:
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def assert_stops_clean(running):
    code, left = running.interrupt()
    assert not left
    assert code in (0, -2, 130), running.output
    assert 'process has died' not in running.output
    assert 'Traceback' not in running.output


@pytest.mark.ros
@needs_launch
def test_device_and_edge_start_meet_and_stop_clean(tmp_path, probe):
    from graph_checks import incompatible_topics, wait_until_settled

    for folder in ('device', 'edge'):
        (tmp_path / folder).mkdir()
    with (
        launched('device.launch.py', tmp_path / 'device', 'namespace:=line_1') as device,
        launched(
            'edge.launch.py',
            tmp_path / 'edge',
            'cells:=line_1',
            environment={'ROS_DOMAIN_ID': str(device.domain_id)},
        ) as edge,
    ):
        for running, count in ((device, len(DEVICE)), (edge, 1)):
            running.wait(
                lambda running=running, count=count: running.output.count(': active') == count,
                60,
                'activation',
            )
        device.wait(
            lambda: 'the edge is there' in device.output or 'no sign of life' not in device.output,
            20,
            'the edge',
        )
        graph = probe(device.domain_id)
        wait_until_settled(graph, [f'/line_1/{name}' for name in DEVICE] + ['/edge_classifier'])
        assert incompatible_topics(graph) == []
        for topic in ('features_rx', 'feedback_tx', 'edge_classification_tx'):
            assert graph.count_publishers(f'/line_1/{topic}') == 1
            assert graph.count_subscribers(f'/line_1/{topic}') >= 1
        assert_stops_clean(edge)
        assert_stops_clean(device)


@pytest.mark.ros
@needs_launch
@pytest.mark.skipif(bool(shaped_link.why_no_link()), reason=shaped_link.why_no_link() or 'none')
def test_device_and_edge_meet_over_a_slow_link(tmp_path):
    device_side, edge_side = shaped_link.DEVICE, shaped_link.EDGE
    for folder in (device_side, edge_side):
        (tmp_path / folder).mkdir()
    with (
        shaped_link.ShapedLink(67.5) as link,
        launched(
            'device.launch.py',
            tmp_path / device_side,
            'namespace:=line_1',
            f'gateway_peer:={shaped_link.ADDRESSES[edge_side]}',
            prefix=link.prefix(device_side),
        ) as device,
    ):
        device.wait(lambda: 'no sign of life from the edge' in device.output, 60, 'complaint')
        with launched(
            'edge.launch.py',
            tmp_path / edge_side,
            'cells:=line_1',
            f'gateway_peer:={shaped_link.ADDRESSES[device_side]}',
            prefix=link.prefix(edge_side),
            environment={'ROS_DOMAIN_ID': str(device.domain_id)},
        ) as edge:
            device.wait(lambda: 'the edge is there' in device.output, 60, 'sign of life')
            assert_stops_clean(edge)
        traffic = link.traffic()
        assert_stops_clean(device)
    # Without gateways the two sides need some 456 kB in each direction to find each other.
    assert 0 < traffic.sent_bytes < 30_000 and 0 < traffic.received_bytes < 30_000


@pytest.mark.ros
@needs_launch
def test_simulated_cell_waits_sorts_and_stops_clean(tmp_path, probe):
    pytest.importorskip('mujoco', reason='the simulated cell needs mujoco')
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray

    reports = {}

    def on_report(message):
        for status in message.status:
            reports[status.name] = {value.key: value.value for value in status.values}

    with launched('sim.launch.py', tmp_path, 'items:=4', 'seed:=5') as running:
        node = probe(running.domain_id)
        node.create_subscription(DiagnosticArray, '/diagnostics', on_report, 16)
        executor = rclpy.executors.SingleThreadedExecutor(context=node.context)
        executor.add_node(node)
        end = time.monotonic() + 90
        while (
            reports.get('cell_simulator', {}).get('finished') != 'True'
            or int(reports.get('cell_monitor', {}).get('outcomes', 0)) < 4
        ):
            assert time.monotonic() < end, running.output
            executor.spin_once(timeout_sec=0.5)
        executor.shutdown(timeout_sec=0)
        # Nothing passed while models were loading: every item was shown, seen and acted on.
        assert (reports['cell_monitor']['items'], reports['cell_monitor']['unacted']) == ('4', '0')
        assert_stops_clean(running)


@pytest.mark.ros
@needs_launch
def test_a_node_that_dies_is_started_again(tmp_path):
    with launched('edge.launch.py', tmp_path) as running:
        running.wait(lambda: running.output.count(': active') == 1, 60, 'activation')
        pid = int(
            re.search(
                r'edge_classifier-1\]: process started with pid \[(\d+)\]', running.output
            ).group(1)
        )
        os.kill(pid, 9)
        running.wait(lambda: running.output.count(': active') == 2, 60, 'a second life')
        code, left = running.interrupt()
        assert not left


@pytest.mark.ros
@needs_launch
def test_a_wrong_parameter_file_is_refused_by_name(tmp_path):
    wrong = tmp_path / 'wrong.yaml'
    wrong.write_text('/**/edge_classifier:\n  ros__parameters:\n    threds: 2\n')
    with launched(
        'edge.launch.py', tmp_path, f'params_file:={wrong}', 'use_respawn:=false'
    ) as running:
        running.wait_ended(60)
        assert "unknown parameter 'threds'" in running.output
