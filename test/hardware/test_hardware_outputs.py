# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The registry of outputs, and those of them that work through a graph, without ROS."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import fields, is_dataclass
from types import SimpleNamespace

import pytest

from stl_conveyor.errors import ConfigError, HardwareError
from stl_conveyor.hardware.diverter import DiverterEvents, StrokeResult
from stl_conveyor.hardware.output import DirectOutput, DriverOutput, Site
from stl_conveyor.hardware.outputs import OUTPUTS, REGISTRY, ros2_control

LANES = ('A', 'B', 'C')


class FakeGraph:
    """Keeps what is published, and what listens, by topic."""

    def __init__(self):
        self.listeners, self.published, self.readers = {}, {}, 1

    def publish_on(self, topic):
        sent = self.published.setdefault(topic, [])
        return SimpleNamespace(
            msg_type=SimpleNamespace,
            publish=sent.append,
            get_subscription_count=lambda: self.readers,
        )

    def listen(self, topic, callback):
        self.listeners[topic] = callback

    def listen_outside(self, topic, callback, *, concerns, unstamped, remedy, alike, period):
        assert remedy and unstamped
        self.listeners[topic] = lambda message: concerns(message) and callback(message, 1)
        self.alike, self.periods = alike, [period]
        return SimpleNamespace(every=self.periods.append)


@pytest.fixture
def confirmed():
    return []


def open_joints(graph, confirmed, **settings):
    events = DiverterEvents(lambda *a: confirmed.append(a), lambda *a: None, lambda a: None)
    output = OUTPUTS['ros2_control']
    return output.open(output.read(settings), Site(LANES, events, 0.5, 0.1, graph))


def test_every_output_is_complete_and_no_parameter_has_two_owners():
    assert tuple(OUTPUTS) == REGISTRY
    names = Counter()
    for output in OUTPUTS.values():
        assert isinstance(output, (DirectOutput, DriverOutput))
        assert is_dataclass(output.settings) and output.settings.__dataclass_params__.frozen
        own = [item.name for item in fields(output.settings)]
        assert set(output.per_lane) <= set(own)
        assert all(item.metadata['rule'].description for item in fields(output.settings))
        names.update(own)
    assert max(names.values()) == 1


@pytest.mark.parametrize('name', REGISTRY)
def test_defaults_are_right_for_a_cell_of_three_lanes_and_wrong_for_one_of_two(name):
    output = OUTPUTS[name]
    settings = output.read({})
    output.verify(settings, LANES)
    if output.per_lane:
        with pytest.raises(ConfigError, match=f'{output.per_lane[0]}: .* of the 2 lanes A, B'):
            output.verify(settings, LANES[:2])


def test_settings_are_read_by_name_from_what_a_parameter_file_holds():
    settings = OUTPUTS['gpio'].read({'gpio_pins': [1, 2, 3], 'modbus_port': 5, 'guard': 1.0})
    assert settings.gpio_pins == (1, 2, 3) and settings.gpio_feedback_pins == (5, 6, 13)


def test_joints_go_where_they_are_sent_and_confirm_by_their_state(confirmed):
    graph = FakeGraph()
    joints = open_joints(graph, confirmed, joint_extended=0.2)
    sent = graph.published['diverter_controller/commands']
    assert joints.is_out('B') is None
    joints.extend('B', 7)
    assert sent[-1].data == [0.0, 0.2, 0.0] and confirmed == []
    state = graph.listeners['joint_states']
    state(SimpleNamespace(name=['arm', 'diverter_b'], position=[0.2, 0.195]))
    assert confirmed == [('B', None)] and joints.is_out('B')
    state(SimpleNamespace(name=['arm'], position=[0.0]))
    state(SimpleNamespace(name=['diverter_b'], position=[0.2]))
    assert confirmed == [('B', None)]  # once
    joints.extend('B', 8)
    assert confirmed == [('B', None), ('B', 8)]  # held, so no state will change
    joints.retract('B')
    assert sent[-1].data == [0.0, 0.0, 0.0]
    graph.readers = 0
    with pytest.raises(HardwareError, match='no controller listens.*diverter_a'):
        joints.extend('A', 9)
    joints.close()
    assert sent[-1].data == [0.0, 0.0, 0.0]


def states(**positions):
    return SimpleNamespace(name=list(positions), position=list(positions.values()))


def test_joints_of_others_are_left_alone_and_ours_found_in_any_order(confirmed):
    graph = FakeGraph()
    joints = open_joints(graph, confirmed, joint_extended=0.15)
    state = graph.listeners['joint_states']
    joints.extend('A', 1)
    state(states(arm_1=0.15, arm_2=0.15))
    state(states(diverter_c=0.0, diverter_b=0.0))  # a part of ours
    assert confirmed == [] and joints.is_out('A') is None and joints.is_out('C') is False
    state(SimpleNamespace(name=['diverter_a'], position=[]))  # speed and effort alone
    assert confirmed == [] and joints.is_out('A') is None
    state(states(diverter_c=0.0, arm_1=0.15, diverter_a=0.15))
    assert confirmed == [('A', None)]


def test_position_that_is_no_number_is_not_known(confirmed):
    graph = FakeGraph()
    joints = open_joints(graph, confirmed)
    state = graph.listeners['joint_states']
    state(states(diverter_a=float('nan'), diverter_b=0.15))
    assert joints.is_out('A') is None and joints.is_out('B') and confirmed == []
    joints.extend('A', 1)
    state(states(diverter_a=float('nan')))
    assert confirmed == []
    state(states(diverter_a=0.15))
    assert confirmed == [('A', None)]
    state(states(diverter_a=float('inf')))
    assert joints.is_out('A') is None


def test_joint_that_was_out_before_it_was_commanded_confirms_nothing(confirmed):
    graph = FakeGraph()
    joints = open_joints(graph, confirmed)
    state = graph.listeners['joint_states']
    state(states(diverter_a=0.15))
    joints.extend('A', 1)
    state(states(diverter_a=0.15))
    assert confirmed == []
    state(states(diverter_a=0.0))
    state(states(diverter_a=0.15))
    assert confirmed == [('A', None)]


def test_serialised_states_are_alike_when_they_name_the_same_joints_of_ours(confirmed):
    graph = FakeGraph()
    open_joints(graph, confirmed, joints=['slide', 'slide_2', 'slide_3'])
    assert graph.alike(b'..arm_1\0..arm_2\0..') is None
    assert graph.alike(b'..slide_1\0..slides\0..') is None
    assert graph.alike(b'..slide\0..') == {'A'}
    assert graph.alike(b'..arm_1\0..slide_2\0..slide\0..') == {'A', 'B'}
    assert graph.alike(b'..slide\0..arm_1\0..slide_2\0..') == {'A', 'B'}


def test_joints_are_looked_at_more_often_until_they_are_where_they_belong(confirmed):
    graph = FakeGraph()
    joints = open_joints(graph, confirmed)
    state = graph.listeners['joint_states']
    (idle,) = graph.periods
    state(states(diverter_a=0.0, diverter_b=0.0, diverter_c=0.0))
    assert graph.periods[-1] == idle
    joints.extend('A', 1)
    moving = graph.periods[-1]
    assert moving < idle
    state(states(diverter_a=0.1))
    assert graph.periods[-1] == moving
    state(states(diverter_a=0.15))
    assert graph.periods[-1] == idle
    joints.retract('A')
    assert graph.periods[-1] == moving
    state(states(diverter_a=0.0))
    assert graph.periods[-1] == idle


def test_joint_that_never_arrives_is_not_hurried_after_for_ever(confirmed, monkeypatch):
    graph, now = FakeGraph(), [100.0]
    monkeypatch.setattr(ros2_control.time, 'monotonic', lambda: now[0])
    joints = open_joints(graph, confirmed)
    (idle,) = graph.periods
    joints.extend('A', 1)
    now[0] += ros2_control.HURRY + 0.1
    graph.listeners['joint_states'](states(diverter_a=0.0))
    assert graph.periods[-1] == idle and confirmed == []


def test_output_that_needs_a_graph_says_so():
    output = OUTPUTS['ros2_control']
    events = DiverterEvents(print, print, print)
    with pytest.raises(ConfigError, match='needs a running node'):
        output.open(output.read({}), Site(LANES, events, 0.5, 0.1))


@pytest.mark.parametrize(
    'status, result',
    [(1, StrokeResult.CONFIRMED), (2, StrokeResult.SILENT), (3, StrokeResult.FAILED)],
)
def test_driver_on_the_topic_is_understood(status, result):
    graph, reports = FakeGraph(), []
    output = OUTPUTS['topic']
    output.listen(output.read({}), graph, reports.append)
    graph.listeners['actuation'](
        SimpleNamespace(
            STATUS_CONFIRMED=1,
            STATUS_SILENT=2,
            header='header',
            item_id=4,
            lane='A',
            status=status,
            lateness=0.002,
            delay=-1.0,
            detail='',
        )
    )
    (report,) = reports
    assert (report.item_id, report.lane, report.result) == (4, 'A', result)
    assert (report.lateness_ns, report.delay_ns) == (2_000_000, None)
    assert report.detail == 'the driver gave no reason'


def test_hardware_loads_without_ros_and_without_its_libraries():
    code = (
        'import sys, stl_conveyor.hardware.outputs\n'
        'loaded = {name.split(".")[0] for name in sys.modules}\n'
        'sys.exit(repr(loaded & {"rclpy", "std_msgs", "gpiozero", "pymodbus"}))\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == 'set()'
