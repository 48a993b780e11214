# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Parameter files and declared parameters agree, and what is wrong is refused by name."""

from __future__ import annotations

import dataclasses
import importlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

import rclpy  # noqa: E402
from rcl_interfaces.msg import ParameterType  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from stl_conveyor.calibration.parameter_file import set_cell_values  # noqa: E402
from stl_conveyor.errors import ConfigError  # noqa: E402
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode  # noqa: E402
from stl_conveyor.nodes.base.topics import DEVICE, node_module  # noqa: E402
from stl_conveyor.nodes.panel.cell_control import CELL_FILE, FAR, MODELS, READERS  # noqa: E402
from stl_conveyor.parameter_files import names_for  # noqa: E402

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    'device': [
        'camera',
        'local_classifier',
        'offload_policy',
        'encoder',
        'actuator',
        'cell_guard',
        'device_gateway',
    ],
    'edge': ['edge_classifier', 'edge_gateway'],
    'sim': [
        'cell_simulator',
        'camera',
        'local_classifier',
        'offload_policy',
        'encoder',
        'link_emulator',
        'edge_classifier',
        'actuator',
        'cell_guard',
        'cell_monitor',
    ],
    'gazebo': ['feeder', 'gazebo_io'],
    'panel': ['operator_panel', 'plant_gateway', 'cell_view', 'recorder'],
}
NODES = [(file, node) for file, nodes in FILES.items() for node in nodes]


def node_class(name):
    module = importlib.import_module(node_module(name))
    return next(
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, ConveyorNode)
        and value.__module__ == module.__name__
    )


@pytest.fixture(scope='module')
def context():
    context = Context()
    rclpy.init(context=context)
    yield context
    rclpy.try_shutdown(context=context)


def make_node(context, name, *, meant_parameters=None, **parameters):
    return node_class(name)(
        context=context,
        use_global_arguments=False,
        meant_parameters=meant_parameters,
        parameter_overrides=[
            Parameter(key, value=value)
            for key, value in {'autostart': False, **parameters}.items()
        ],
    )


def declared(node):
    framework = ('use_sim_time', 'start_type_description_service')
    return {
        name: parameter.value
        for name, parameter in node._parameters.items()
        if name not in framework and not name.startswith('qos_overrides.')
    }


# What a file says else than the default, and why it must.
DIFFERS = {('sim', 'actuator'): {'confirm_timeout': 2.0}}  # a busy machine holds the simulation


@pytest.mark.parametrize('file, name', NODES)
def test_parameter_file_is_complete_and_holds_the_defaults(context, file, name):
    content = yaml.safe_load((ROOT / 'config' / f'{file}.yaml').read_text())
    assert set(content) == {f'/**/{node}' for node in FILES[file]}
    written = content[f'/**/{name}']['ros__parameters']
    node = make_node(context, name)
    try:
        expected = {**declared(node), 'autostart': True, **DIFFERS.get((file, name), {})}
        assert set(written) == set(expected)
        for key, value in written.items():
            assert value == (list(expected[key]) if isinstance(value, list) else expected[key])
            assert type(value) is type(expected[key]) or isinstance(value, list), key
        for key in expected:
            descriptor = node.describe_parameter(key)
            assert descriptor.description, f'{key} has no description'
            if descriptor.type in (
                ParameterType.PARAMETER_DOUBLE,
                ParameterType.PARAMETER_INTEGER,
            ):
                assert descriptor.floating_point_range or descriptor.integer_range, key
    finally:
        node.destroy_node()


@pytest.mark.parametrize('name', [*DEVICE, *FAR])
def test_whatever_reads_cell_or_models_gets_new_ones(name):
    declared = {field.name for field in dataclasses.fields(node_class(name).SETTINGS)}
    assert READERS.get(name, ()) == tuple(f for f in (CELL_FILE, MODELS) if f in declared)


@pytest.mark.parametrize('name', FILES['sim'])
def test_unknown_parameter_is_refused_by_name(context, name):
    with pytest.raises(ConfigError, match="'gaurd'"):
        make_node(context, name, gaurd=1.0)


@pytest.mark.parametrize(
    'name, parameters, named',
    [
        ('actuator', {'guard': -1.0}, 'guard'),
        ('actuator', {'guard': 0.9}, 'guard: 0.9'),
        ('actuator', {'guard': 'soon'}, 'guard'),
        ('actuator', {'guard': float('nan')}, 'guard'),
        ('actuator', {'output': 'hope'}, 'output'),
        ('actuator', {'output': 'gpio', 'gpio_pins': [17, 27]}, 'gpio_pins'),
        ('actuator', {'output': 'gpio', 'gpio_pins': [17, 27, 40]}, 'gpio_pins: 40'),
        (
            'actuator',
            {'output': 'gpio', 'gpio_feedback_pins': [17, -1, -1]},
            'GPIO 17 is used twice',
        ),
        ('actuator', {'output': 'modbus', 'modbus_addresses': [0, 0, 1]}, 'modbus_addresses'),
        (
            'actuator',
            {'output': 'modbus', 'modbus_kind': 'register', 'modbus_feedback': [0, 1, -1]},
            'modbus_feedback: -1',
        ),
        ('actuator', {'output': 'ros2_control', 'joints': ['a', 'a', 'b']}, 'joints'),
        ('actuator', {'cell_file': '/nowhere.yaml'}, 'nowhere.yaml'),
        ('camera', {'trigger': 'hope'}, 'trigger'),
        ('camera', {'source': 'folder', 'trigger': 'beam'}, 'trigger'),
        ('camera', {'encoder_pins': [20]}, 'encoder_pins'),
        (
            'camera',
            {'trigger': 'gpio', 'belt_speed_source': 'encoder', 'beam_pin': 20},
            'beam_pin',
        ),
        ('camera', {'first_item_id': 0}, 'first_item_id'),
        ('offload_policy', {'policy': 'magic'}, 'policy'),
        ('offload_policy', {'rate': -0.5}, 'rate'),
        ('offload_policy', {'intervals': [-1.0]}, 'inter'),
        ('edge_classifier', {'cells': ['a', 'a']}, 'cells'),
        ('edge_classifier', {'inference': 'triton'}, 'inference'),
        ('edge_classifier', {'inference': 'open_inference'}, 'inference_urls: is empty'),
        ('edge_classifier', {'inference_urls': ['edge']}, 'write host:port'),
        ('edge_classifier', {'inference_urls': ['a:1', 'grpc://a:1']}, 'different addresses'),
        ('encoder', {'window_bytes': 0}, 'window_bytes'),
        ('local_classifier', {'threads': 1.5}, 'threads'),
    ],
)
def test_wrong_value_is_refused_by_name(context, name, parameters, named):
    with pytest.raises(ConfigError, match=named):
        make_node(context, name, **parameters)


def test_whole_number_stands_for_a_float(context):
    node = make_node(context, 'camera', rate=2)
    assert node.settings.rate == 2.0
    node.destroy_node()


def changes(node, **values):
    """Return, for each value, whether the node takes it."""
    return [
        node.set_parameters([Parameter(name, value=value)])[0].successful
        for name, value in values.items()
    ]


def test_tunable_parameter_changes_and_others_do_not_while_the_node_is_configured(context):
    node = make_node(context, 'edge_classifier')
    assert changes(node, satisfied_score=0.5, threads=2, autostart=True) == [True, True, False]
    assert changes(node, satisfied_score=3.0, threads=0) == [False, False]
    node.trigger_configure()
    assert changes(node, satisfied_score=0.6, threads=3) == [True, False]
    (refused,) = node.set_parameters([Parameter('threads', value=3)])
    assert refused.reason.startswith('threads: ') and 'cleanup' in refused.reason
    node.trigger_cleanup()
    assert changes(node, threads=3) == [True]
    assert (node.settings.satisfied_score, node.settings.threads) == (0.6, 3)
    node.close()


def test_policy_and_bucket_change_in_an_unconfigured_node_that_earns_nothing_by_it(context):
    node = make_node(context, 'offload_policy', rate=0.0, depth=4.0)
    node.trigger_configure()
    node.bucket.advance(0)
    node.bucket.settle(node.bucket.reserve(512), 512)
    assert node.bucket.state.tokens == 3.0
    assert changes(node, depth=2.0) == [False]
    node.trigger_cleanup()
    assert changes(node, policy='threshold', rate=0.5, depth=8.0) == [True, True, True]
    node.trigger_configure()
    assert node.policy.name == 'threshold'
    assert (node.bucket.rate, node.bucket.depth, node.bucket.state.tokens) == (0.5, 8, 3.0)
    assert node.bucket.spent == node.bucket.denominator
    node.close()


def test_process_names_the_wrong_parameter_and_waits_for_its_correction(tmp_path):
    file = tmp_path / 'mine.yaml'
    file.write_text('actuator:\n  ros__parameters:\n    gaurd: 1.0\n')
    process = subprocess.Popen(
        [sys.executable, '-m', 'stl_conveyor.nodes.device.actuator', '--ros-args']
        + ['--params-file', str(file)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = iter(process.stderr.readline, '')
        assert any("unknown parameter 'gaurd'" in line for line in lines)
        file.write_text('actuator:\n  ros__parameters:\n    stroke_time: 0.3\n')
        assert any(': active' in line for line in lines)
        process.send_signal(signal.SIGINT)
        assert 'Traceback' not in process.stderr.read()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_process_that_was_never_started_does_not_end_as_if_it_had_been():
    process = subprocess.Popen(
        [sys.executable, '-m', 'stl_conveyor.nodes.device.actuator', '--ros-args']
        + ['-p', 'gaurd:=1.0'],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = iter(process.stderr.readline, '')
        assert any('tries again' in line for line in lines)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 2
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_refused_process_says_so_on_diagnostics(context):
    from diagnostic_msgs.msg import DiagnosticArray

    heard = []
    node = rclpy.create_node('listener', context=context, use_global_arguments=False)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def on_report(message):
        heard.extend(status for status in message.status if status.name == 'line_1/camera')

    node.create_subscription(DiagnosticArray, '/diagnostics', on_report, 16)
    process = subprocess.Popen(
        [sys.executable, '-m', 'stl_conveyor.nodes.device.camera', '--ros-args']
        + ['-p', 'trigger:=foo', '-r', '__ns:=/line_1'],
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 60
        while not heard and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.5)
        assert heard[0].message.startswith("cannot configure: trigger: 'foo' is not one of frame")
        assert heard[0].level == b'\x02'
    finally:
        process.kill()
        process.wait()
        executor.shutdown(timeout_sec=0)
        node.destroy_node()


@pytest.mark.parametrize(
    'name, parameter, value, key',
    [
        (node, parameter, value, key)
        for parameter, value, key, nodes in (
            ('guard', 0.04, 'guard', ('actuator', 'offload_policy', 'encoder')),
            ('belt_speed_tolerance', 0.25, 'belt.speed_tolerance', ('actuator', 'camera')),
            ('edge_timeout', 1.6, 'edge.timeout', ('offload_policy', 'encoder')),
            ('overhead_bytes', 150, 'edge.overhead_bytes', ('encoder', 'link_emulator')),
        )
        for node in nodes
    ],
)
def test_parameter_that_moved_to_the_cell_must_agree_with_it(
    context, name, parameter, value, key, tmp_path, capfd
):
    node = make_node(context, name, **{parameter: value})
    try:
        assert parameter not in declared(node)
    finally:
        node.destroy_node()
    told = capfd.readouterr().err
    assert f'{parameter} stands in the cell description' in told and f'as {key};' in told
    with pytest.raises(ConfigError, match=f'{parameter}: .*: write it there as {key}'):
        make_node(context, name, **{parameter: value + 0.5})
    cell = tmp_path / 'cell.yaml'
    set_cell_values(cell, {key: 2 * value})
    make_node(context, name, cell_file=str(cell), **{parameter: 2 * value}).destroy_node()
    with pytest.raises(ConfigError, match=f'{parameter}: .*{cell}'):
        make_node(context, name, cell_file=str(cell), **{parameter: value})


def test_parameter_moves_for_the_nodes_only_that_had_it(context):
    with pytest.raises(ConfigError, match="unknown parameter 'guard'"):
        make_node(context, 'local_classifier', guard=0.04)


@pytest.mark.parametrize('name', FILES['device'])
def test_key_for_every_node_that_another_one_has_stops_nobody(context, name, capfd):
    shared = {'frame_id': 'cam', 'guard': 0.04, 'cell_file': '', 'robot_name': 'line_1'}
    node = make_node(context, name, meant_parameters=(), **shared)
    try:
        assert 'robot_name' not in declared(node)
    finally:
        node.destroy_node()
    told = capfd.readouterr().err
    assert 'parameter robot_name, which is set for every node, is none of this one' in told
    assert 'parameter frame_id' not in told  # one of ours, of another node


@pytest.mark.parametrize(
    'name, given, nearest',
    [
        ('camera', 'thresold', 'threshold'),
        ('camera', 'frameId', 'frame_id'),
        ('actuator', 'gaurd', 'guard'),
        ('encoder', 'windowbytes', 'window_bytes'),
    ],
)
@pytest.mark.parametrize('meant', [(), None])
def test_near_miss_is_refused_with_the_name_that_was_meant(context, name, given, nearest, meant):
    with pytest.raises(ConfigError, match=f'{given}.*did you mean {nearest}?'):
        make_node(context, name, meant_parameters=meant, **{given: 1})


def test_unknown_parameter_of_the_node_itself_is_refused_among_others(context):
    with pytest.raises(ConfigError, match="'robot_name'; known are"):
        make_node(context, 'camera', meant_parameters=('robot_name',), robot_name='x', other=1)


@pytest.mark.parametrize(
    'name, parameters, expected',
    [
        ('camera', {'device': 0}, '0'),
        ('camera', {'threshold': 24}, 24.0),
        ('offload_policy', {'intervals': [1, 2]}, (1.0, 2.0)),
        ('actuator', {'joints': [1, 2, 3]}, ('1', '2', '3')),
        ('actuator', {'gpio_pins': []}, ()),
        ('actuator', {'joints': []}, ()),
        ('cell_simulator', {'wait_for': []}, ()),
    ],
)
def test_value_that_is_meant_is_taken(context, name, parameters, expected):
    node = make_node(context, name, **parameters)
    try:
        (key,) = parameters
        assert getattr(node.settings, key) == expected
        assert type(getattr(node.settings, key)) is type(expected)
    finally:
        node.destroy_node()


@pytest.mark.parametrize(
    'name, parameters, named',
    [
        ('camera', {'encoder_pins': ['20', '21']}, 'a list of whole numbers; .*without quotes'),
        ('camera', {'encoder_pins': []}, r'encoder_pins: \[\] must be two'),
        ('camera', {'encoder_pins': [20.5, 21.0]}, r'\[20.5, 21.0\]; it takes a list of whole'),
        ('camera', {'threshold': '24'}, "'24'; it takes a number .*without quotes"),
        ('camera', {'repeat': 'yes'}, "'yes'; it takes true or false; .*without quotes"),
        ('camera', {'min_area': True}, 'True; it takes a whole number'),
        ('camera', {'trigger': False}, 'False; it takes a text; write it in quotes'),
        ('camera', {'device': 0.5}, '0.5; it takes a text'),
        ('actuator', {'gpio_pins': 17}, r'17; it takes a list of whole numbers; .*\[17\]'),
        ('actuator', {'gpio_pins': [], 'output': 'gpio'}, 'gpio_pins'),
        ('actuator', {'modbus_addresses': [], 'output': 'modbus'}, 'modbus_addresses'),
        ('actuator', {'joints': [], 'output': 'ros2_control'}, 'joints'),
        ('offload_policy', {'intervals': 1.0}, r'1.0; it takes a list of numbers; .*\[1.0\]'),
        ('offload_policy', {'intervals': []}, 'at least one'),
        ('offload_policy', {'costs': []}, 'at least one'),
        ('offload_policy', {'costs': [float('nan')]}, 'costs: nan is not a finite number'),
        ('edge_classifier', {'cells': []}, 'cells: an empty list'),
        ('edge_classifier', {'cells': 'a'}, r'a list of texts; .*\[a\]'),
        ('camera', {'device_format': 'MJPEG'}, "device_format: 'MJPEG' is no fourcc"),
        ('camera', {'sample_bits': 11}, 'sample_bits: 11'),
        ('camera', {'image_transport': 'theora'}, 'one of raw, compressed'),
    ],
)
def test_value_that_is_not_taken_gets_a_clear_word(context, name, parameters, named):
    with pytest.raises(ConfigError, match=named):
        make_node(context, name, **parameters)


@pytest.mark.parametrize(
    'text, said',
    [
        ('/**: {ros__parameters: {robot_name: x, frame_id: cam, use_sim_time: false}}', None),
        ('/**/local_classifier: {ros__parameters: {robot_name: x}}', "unknown .*'robot_name'"),
        ('/**: {ros__parameters: {thread: 2}}', "'thread'; did you mean threads"),
        ('/**/local_classifier: {ros__parameters: {threads: []}}', 'threads is an empty list'),
    ],
)
def test_file_for_a_process(tmp_path, monkeypatch, text, said):
    """What rclpy makes of a file, which is not what Python would make of it."""
    (tmp_path / 'p.yaml').write_text(text)
    words = ['--ros-args', '--params-file', str(tmp_path / 'p.yaml'), '-p', 'autostart:=false']
    context = Context()
    rclpy.init(args=words, context=context)
    try:
        meant = names_for(words, 'local_classifier')
        kind = node_class('local_classifier')
        if said is None:
            kind(context=context, meant_parameters=meant).destroy_node()
        else:
            with pytest.raises(ConfigError, match=said):
                kind(context=context, meant_parameters=meant)
    finally:
        rclpy.try_shutdown(context=context)


@pytest.mark.parametrize(
    'name, key, expected', [('actuator', 'gpio_pins', ()), ('cell_simulator', 'wait_for', ())]
)
def test_empty_list_in_a_file(tmp_path, name, key, expected):
    (tmp_path / 'p.yaml').write_text(f'/**/{name}: {{ros__parameters: {{{key}: []}}}}')
    context = Context()
    rclpy.init(
        args=['--ros-args', '--params-file', str(tmp_path / 'p.yaml'), '-p', 'autostart:=false'],
        context=context,
    )
    try:
        node = node_class(name)(context=context)
        assert getattr(node.settings, key) == expected
        node.destroy_node()
    finally:
        rclpy.try_shutdown(context=context)
