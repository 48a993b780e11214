# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The launch files: what they start, and that it starts, works and ends, with the real launch."""

from __future__ import annotations

import itertools
import json
import os
import py_compile
import re
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from launched import launch_command, launched, needs_launch

from stl_conveyor.deploy import fastdds_profiles
from stl_conveyor.nodes.base.topics import (
    COMPOSED,
    DEVICE,
    DEVICE_REMAPPINGS,
    EDGE,
    EVERY_NODE,
    GAZEBO,
    ROOMS,
    SIMULATION,
    TOPICS,
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
    """Return the processes of a launch file, those of included files too, without running any."""
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
            waiting = list(entity.visit(context) or []) + waiting
    return found


@pytest.fixture
def gazebo(tmp_path, monkeypatch):
    """Have the packages of Gazebo in the index, and a launch file of its that starts nothing."""
    prefix = tmp_path / 'gazebo'
    index = prefix / 'share/ament_index/resource_index/packages'
    index.mkdir(parents=True)
    for package in ('ros_gz_sim', 'ros_gz_bridge', 'tf2_ros', 'rviz2'):
        (index / package).touch()
        for program in ('parameter_bridge', 'static_transform_publisher', 'rviz2'):
            path = prefix / 'lib' / package / program
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o755)
    path = prefix / 'share/ros_gz_sim/launch/gz_sim.launch.py'
    path.parent.mkdir(parents=True)
    path.write_text(
        'from launch import LaunchDescription\n'
        'def generate_launch_description():\n'
        '    return LaunchDescription([])\n'
    )
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{prefix}:{os.environ["AMENT_PREFIX_PATH"]}')


def ours(actions):
    from launch_ros.actions import LifecycleNode

    return [action for action in actions if isinstance(action, LifecycleNode)]


@pytest.mark.ros
@needs_launch
@pytest.mark.parametrize('name', STARTED)
def test_launch_files_expand_to_their_nodes(name, gazebo):
    nodes = ours(expand(name, namespace='cell_7', composed='false'))
    assert {node.node_name for node in nodes} == {f'/cell_7/{node}' for node in STARTED[name]}
    for node in nodes:
        assert node._ExecuteLocal__respawn


@pytest.mark.ros
@needs_launch
def test_the_nodes_of_the_device_are_one_process_unless_asked_otherwise(gazebo):
    from launch.substitutions import LocalSubstitution
    from launch.utilities import perform_substitutions

    from launch import LaunchContext

    def words(action):
        """Return the program and its own arguments, without those of ROS."""
        own = itertools.takewhile(
            lambda word: not any(isinstance(part, LocalSubstitution) for part in word), action.cmd
        )
        return [perform_substitutions(LaunchContext(), word) for word in own]

    for name in ('device.launch.py', 'sim.launch.py', 'gazebo.launch.py'):
        actions = expand(name, namespace='cell_7')
        alone = {node.node_name.lstrip('/') for node in ours(actions)}
        assert alone == {f'cell_7/{node}' for node in set(STARTED[name]) - set(COMPOSED)}
        (device,) = [each for each in actions if words(each)[0].endswith('/device')]
        assert words(device)[1 : 2 + len(COMPOSED)] == ['--nodes', *COMPOSED]
        assert device._Node__expanded_node_namespace == '/cell_7' and device._ExecuteLocal__respawn
        if name != 'device.launch.py':
            assert not device.expanded_remapping_rules
            continue
        assert dict(device.expanded_remapping_rules) == dict(DEVICE_REMAPPINGS)
        files = [Path(str(path)) for path, _ in device._Node__expanded_parameter_arguments]
        (own,) = (
            yaml.safe_load(file.read_text())
            for file in files
            if file.parent.name.startswith('stl_conveyor_parameters')
        )
        assert set(own) == {f'/**/{node}' for node in COMPOSED}
        assert own['/**/camera']['ros__parameters'] == {
            'autostart': True,
            'wait_for': ['classification', 'sort_outcome'],
        }
    # One that is alone has a process of its name.
    (camera,) = ours(expand('device.launch.py', nodes='camera'))
    assert camera.node_name == '/camera'
    (device,) = expand('device.launch.py', nodes='actuator camera', use_respawn='false')
    assert words(device)[1:5] == ['--nodes', 'camera', 'actuator', '--no-respawn']
    assert not device._ExecuteLocal__respawn


@pytest.mark.ros
@needs_launch
def test_without_emulator_both_sides_meet_on_the_names_of_the_edge():
    remapped = dict(ours(expand('device.launch.py', composed='false'))[0].expanded_remapping_rules)
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
    nodes = {node.node_name: node for node in ours(expand(name, composed='false', **arguments))}
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
def test_what_is_asked_for_is_started():
    def started(name, **arguments):
        actions = expand(name, composed='false', **arguments)
        return {node.node_name.lstrip('/') for node in ours(actions)}

    assert started('device.launch.py', nodes='camera actuator') == {'camera', 'actuator'}
    assert started('sim.launch.py', emulate_link='false') == set(EVERY_NODE) - {'link_emulator'}
    emulated = ours(expand('device.launch.py', emulate_link='true', composed='false'))
    assert not emulated[0].expanded_remapping_rules


@pytest.mark.ros
@needs_launch
def test_gazebo_that_is_not_installed_is_named_with_its_install_line(monkeypatch):
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    with pytest.raises(RuntimeError, match='ros_gz_sim.*apt install ros-jazzy-ros-gz'):
        expand('gazebo.launch.py')


# Every argument with a value that cannot be, and what is said of it.
BAD = {
    'namespace': ('1 line', "argument namespace: '1 line'"),
    'use_sim_time': ('perhaps', 'use_sim_time'),
    'params_file': ('/nowhere/device.yaml', 'argument params_file: /nowhere/device.yaml'),
    'autostart': ('perhaps', 'autostart'),
    'use_respawn': ('perhaps', 'use_respawn'),
    'composed': ('perhaps', 'composed'),
    'headless': ('perhaps', 'headless'),
    'world': ('/nowhere/cell.yaml', 'argument world: /nowhere/cell.yaml'),
    'log_level': ('loud', 'log_level'),
    'models_dir': ('/nowhere', 'argument models_dir: /nowhere'),
    'nodes': ('camera toaster', 'argument nodes: there is no toaster'),
    'emulate_link': ('perhaps', 'emulate_link'),
    'cells': ('line_1 2', "argument cells: '2'"),
    'items': ('abc', "argument items: 'abc' is not a whole number"),
    'seed': ('-1', "argument seed: '-1'"),
    'trigger': ('foo', "argument trigger: 'foo' is not one of frame"),
    'policy': ('foo', "argument policy: 'foo' is not one of"),
    'rate': ('nan', "argument rate: 'nan' is not a number"),
    'depth': ('0', "argument depth: '0' is not a number from 1"),
    'link': ('foo', "argument link: 'foo' is not one of"),
    'guard': ('5', 'argument guard: 5 cannot be'),
    'out': ('/proc/nowhere', 'argument out: /proc/nowhere'),
    'end_when_done': ('perhaps', 'end_when_done'),
    'hmi': ('perhaps', 'hmi'),
    'use_rviz': ('perhaps', 'use_rviz'),
    'plant': ('perhaps', 'plant'),
    'record': ('/proc/nowhere/run.mcap', 'argument record: /proc/nowhere'),
    'gateway_peer': ('edge.local', 'argument gateway_peer'),
    'gateway_number': ('first', "argument gateway_number: 'first'"),
}


@pytest.mark.ros
@needs_launch
@pytest.mark.parametrize('argument', BAD)
def test_a_bad_value_of_any_argument_stops_the_launch_and_is_named(argument):
    value, says = BAD[argument]
    with pytest.raises(RuntimeError, match=re.escape(says)):
        expand('sim.launch.py', **{argument: value})


def test_every_argument_has_a_bad_value_above():
    from stl_conveyor.deploy.launching import ARGUMENTS

    assert set(BAD) == {argument.name for argument in ARGUMENTS}


@pytest.mark.ros
@needs_launch
@pytest.mark.parametrize(
    'words, says',
    [
        (['item:=5'], 'argument item: there is none of this name; is items meant?'),
        (['params_file:=/nowhere.yaml'], 'argument params_file: /nowhere.yaml cannot be used'),
    ],
)
def test_ros2_launch_ends_with_an_error_and_starts_nothing(words, says):
    done = subprocess.run(
        launch_command('device.launch.py', *words), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert says in done.stdout + done.stderr
    assert 'process started' not in done.stdout + done.stderr


@pytest.mark.ros
@needs_launch
def test_an_edge_is_started_as_a_fleet_file_says(tmp_path):
    fleet = tmp_path / 'fleet.yaml'
    fleet.write_text(
        yaml.safe_dump(
            {
                'models': {'parts': str(ROOT / 'models' / 'items')},
                'edges': {'hall_a': None, 'hall_b': None},
                'cells': {'line_1': None, 'line_2': {'edges': ['hall_b']}},
            }
        )
    )
    for name in ('hall_a', 'hall_b'):
        (edge,) = ours(expand('edge.launch.py', fleet=str(fleet), edge=name))
        assert edge.node_name == f'/{name}/edge_classifier'
    with pytest.raises(RuntimeError, match='argument edge: .*hall_a, hall_b'):
        expand('edge.launch.py', fleet=str(fleet), edge='hall_c')


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
    # The defaults that are shown are those that are used.
    defaults = dict(
        re.findall(r"^    '(\w+)':\n.+\n        \(default: '(.*)'\)$", done.stdout, re.M)
    )
    assert set(defaults['nodes'].split()) == set(STARTED[name])
    assert defaults['emulate_link'] == str('link_emulator' in STARTED[name]).lower()


@pytest.mark.ros
@needs_launch
@pytest.mark.parametrize('name', ['device.launch.py', 'sim.launch.py'])
def test_rviz_comes_with_what_draws_the_cell_and_its_frames(name, gazebo):
    from launch_ros.actions import Node

    nodes = [each for each in expand(name, use_rviz='true') if isinstance(each, Node)]
    count = Counter(node.node_package for node in nodes)
    assert (count['tf2_ros'], count['rviz2']) == (3, 1)
    assert 'cell_view' in {node.node_executable for node in nodes}


@pytest.mark.ros
@needs_launch
def test_gazebo_gets_its_world_two_bridges_and_the_cells_frames(tmp_path, gazebo):
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
    # Python's asyncio now and then loses the exit code of a child that ends while another one
    # does, says so, and makes it 255: this tells nothing of the child.
    lost = re.findall(r'Unknown child process pid (\d+)', running.output)
    died = re.findall(r'process has died \[pid (\d+), exit code (-?\d+)', running.output)
    assert not [(pid, code) for pid, code in died if (pid, code) not in {(p, '255') for p in lost}]
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
            traffic = link.traffic()  # to find each other, and not to part
            assert_stops_clean(edge)
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
def test_a_node_with_a_wrong_parameter_says_so_waits_and_comes_once_it_is_corrected(tmp_path):
    wrong = tmp_path / 'edge.yaml'
    wrong.write_text('/**/edge_classifier:\n  ros__parameters:\n    threds: 2\n')
    with launched('edge.launch.py', tmp_path, f'params_file:={wrong}') as running:
        running.wait(lambda: "unknown parameter 'threds'" in running.output, 60, 'refusal')
        wrong.write_text('/**/edge_classifier:\n  ros__parameters:\n    threads: 2\n')
        running.wait(lambda: ': active' in running.output, 60, 'activation')
        assert running.output.count('process started') == 1
        assert_stops_clean(running)


@pytest.mark.ros
@needs_launch
def test_simulated_cell_prints_its_results_writes_them_and_ends(tmp_path):
    pytest.importorskip('mujoco', reason='the simulated cell needs mujoco')
    out = tmp_path / 'out'
    with launched(
        'sim.launch.py', tmp_path, 'items:=3', 'seed:=5', f'out:={out}', 'end_when_done:=true'
    ) as running:
        assert running.wait_ended(180) == 0, running.output
        assert not running.processes()
    summary = json.loads((out / 'summary.json').read_text())
    assert (summary['items'], summary['planned'], summary['seed']) == (3, 3, 5)
    assert summary['complete']
    assert (out / 'report.html').is_file()
    assert 'items at rest where they belong' in running.output
    # An ordinary start is no cause for concern.
    assert not re.search(r'WARN.*(waiting for|no sign of life)', running.output)
