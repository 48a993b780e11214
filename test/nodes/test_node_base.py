# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The base of the nodes: life cycle, guards, diagnostics, watchdogs, QoS, the runner."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CellHarness, NodeSpec  # noqa: E402
from rclpy.event_handler import UnsupportedEventTypeError  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from stl_conveyor.errors import BadMessage, ConfigError, ModelFileError  # noqa: E402
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode  # noqa: E402
from stl_conveyor.nodes.base.health import KEPT_ENDED, Level, NodeHealth, fault_of_status  # noqa: E402
from stl_conveyor.nodes.base.polled_topic import PolledTopic  # noqa: E402
from stl_conveyor.nodes.base.qos import Watchdogs, make_profile  # noqa: E402
from stl_conveyor.nodes.base.settings import NodeSettings, parameter  # noqa: E402
from stl_conveyor.nodes.base.topics import Profile, Topic  # noqa: E402

pytestmark = pytest.mark.ros

SECOND = 10**9


@dataclass(frozen=True)
class EchoSettings(NodeSettings):
    greeting: str = parameter('', 'What the node says.', tunable=True)


class Echo(ConveyorNode):
    """Echoes what it hears, and fails on request."""

    NAME = 'echo'
    SETTINGS = EchoSettings
    topics = (
        Topic('said', 'std_msgs/String', Profile.RESULT, ('echo',), ()),
        Topic('heard', 'std_msgs/String', Profile.RESULT, (), ('echo',)),
    )
    missing = False

    def configure(self):
        if self.missing:
            raise ModelFileError('weak.onnx: is missing; restore it')

    def activate(self):
        self.heard = []
        self.publisher = self.publish_on('said')
        self.listen('heard', self.on_message)

    def deactivate(self):
        self.publisher.publish(String(data='bye'))

    def on_message(self, message):
        self.heard.append(message.data)
        if message.data == 'bug':
            raise ZeroDivisionError('1 / 0')
        if message.data == 'bad':
            raise BadMessage('a bad message')
        self.publisher.publish(message)


def echo(**parameters):
    return NodeSpec(Echo, {'retry_period': 0.2, 'diagnostics_period': 0.2, **parameters})


def talk(cell, readers=1):
    publisher = cell.publisher('heard', String, readers=readers)
    return lambda text: publisher.publish(String(data=text))


def test_exceptions_become_diagnostics_and_the_node_goes_on():
    with CellHarness([echo()], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        node, say = cell.runner.nodes[0], talk(cell)
        for text in ('bug', 'bad', 'fine'):
            say(text)
        cell.wait(lambda: node.heard == ['bug', 'bad', 'fine'])
        status = cell.wait_diagnostic('echo', 'ZeroDivisionError in on_message', level=2)
        assert any(value.key == 'state' and value.value == 'active' for value in status.values)
        cell.wait_diagnostic('echo', 'BadMessage: a bad message')
        assert (node.health.counted('exception'), node.health.counted('BadMessage')) == (1, 1)
        assert cell.runner.is_running


def test_a_node_that_cannot_configure_says_why_and_tries_again():
    Echo.missing = True
    try:
        with CellHarness([echo()], watched=('/diagnostics',)) as cell:
            cell.wait_diagnostic('echo', 'cannot configure: weak.onnx: is missing', level=2)
            assert not cell.runner.nodes[0].is_active
            Echo.missing = False
            cell.wait_active()
            cell.wait_diagnostic('echo', 'OK', level=0)
    finally:
        Echo.missing = False


def test_life_cycle_makes_and_destroys_what_is_published_and_heard():
    with CellHarness([echo(autostart=False)], watched=('/diagnostics',)) as cell:
        node = cell.runner.nodes[0]
        said = []
        cell.probe.create_subscription(String, 'said', lambda m: said.append(m.data), 10)

        def change(transition):
            done = []
            node.executor.create_task(lambda: done.append(transition()))
            cell.wait(lambda: done)

        cell.wait(lambda: cell.statuses('echo'))
        assert cell.probe.count_subscribers('heard') == 0
        for _ in range(2):
            change(node.trigger_configure)
            assert not node.is_active
            change(node.trigger_activate)
            assert node.is_active
            cell.connect('said')
            talk(cell)('hello')
            cell.wait(lambda: said == ['hello'])
            change(node.trigger_deactivate)
            cell.wait(lambda: said == ['hello', 'bye'], what='last words')
            cell.wait(lambda: cell.probe.count_subscribers('heard') == 0)
            said.clear()
            change(node.trigger_cleanup)
        change(node.trigger_shutdown)


@pytest.mark.parametrize('kind', ['auto', 'wait_set'])
def test_a_timer_hands_over_nothing_even_if_something_could_be_taken(kind):
    with CellHarness([echo(executor=kind)]) as cell:
        cell.wait_active()
        node, given = cell.runner.nodes[0], []
        node.executor.create_task(lambda: node.every(0.01, lambda time=None: given.append(time)))
        cell.wait(lambda: given)
        assert set(given) == {None}


@pytest.mark.parametrize('kind', ['auto', 'wait_set'])
def test_what_is_to_happen_once_happens_once_for_each_time_that_it_is_set(kind):
    with CellHarness([echo(executor=kind)], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        node, calls, after = cell.runner.nodes[0], [], []

        def call():
            calls.append(True)
            if len(calls) == 1:
                shot.after(-1)  # that is overdue
            elif len(calls) == 3:
                raise ZeroDivisionError

        def later(*steps):
            """Take steps, and return when another timer has fired twenty times since."""
            taken = []
            all_steps = (*steps, after.clear, lambda: taken.append(True))
            node.executor.create_task(lambda: [step() for step in all_steps])
            cell.wait(lambda: taken and len(after) >= 20)

        shot = node.once(call)
        node.executor.create_task(lambda: node.every(0.005, lambda: after.append(None)))
        later()
        assert not calls
        later(lambda: shot.after(1_000_000))
        assert len(calls) == 2
        later(lambda: shot.after(1_000_000), shot.cancel)
        assert len(calls) == 2
        later(lambda: shot.after(1_000_000))
        assert len(calls) == 3
        cell.wait_diagnostic('echo', 'ZeroDivisionError in call', level=2)


class Watcher(Echo):
    """Looks at two things, of which one cannot be looked at."""

    NAME = 'echo'

    def activate(self):
        super().activate()
        self.looks = []
        self.watch(self.fail)
        self.watch(lambda: self.looks.append('second'))

    def fail(self):
        self.looks.append('first')
        raise ZeroDivisionError('1 / 0')


@pytest.mark.parametrize('kind', ['auto', 'wait_set'])
def test_who_comes_to_listen_is_reported_at_once(kind):
    spec = echo(diagnostics_period=60.0, executor=kind)
    with CellHarness([spec], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        node = cell.runner.nodes[0]
        cell.wait(lambda: node._diagnostics.get_subscription_count() == 1)
        cell.probe.create_subscription(String, 'said', lambda _: None, 10)

        def listeners():
            return [
                value.value
                for status in cell.statuses('echo')
                for value in status.values
                if value.key == '/said.subscribers'
            ]

        cell.wait(lambda: '1' in listeners())


def test_parameters_that_are_not_the_nodes_own_are_not_checked_with_them(monkeypatch):
    checked = []
    monkeypatch.setattr(Echo, 'check_settings', lambda self, settings: checked.append(settings))
    with CellHarness([echo()]) as cell:
        cell.wait_active()  # with the QoS of both ends, which are parameters, too
        before = len(checked)
        node = cell.runner.nodes[0]
        assert node.set_parameters([Parameter('greeting', value='hello')])[0].successful
        assert len(checked) == before + 1 and before == 1
        assert node.settings.greeting == 'hello'


def test_all_that_is_looked_at_shares_one_timer():
    spec = NodeSpec(Watcher, {'diagnostics_period': 0.2, 'autostart': False})
    with CellHarness([spec], watched=('/diagnostics',)) as cell:
        node = cell.runner.nodes[0]

        def change(transition):
            done = []
            node.executor.create_task(lambda: done.append(transition()))
            cell.wait(lambda: done)

        change(node.trigger_configure)
        without = len(list(node.timers))
        for _ in range(2):
            change(node.trigger_activate)
            assert len(list(node.timers)) == without + 1
            cell.wait(lambda: node.looks[:4] == ['first', 'second'] * 2)
            change(node.trigger_deactivate)
            assert len(list(node.timers)) == without


def test_silence_is_reported_by_the_middleware_or_by_a_timer(monkeypatch):
    for supported in (True, False):
        if not supported:
            create = Echo.create_subscription

            def without_events(self, *args, event_callbacks=None, **kwargs):
                if event_callbacks is not None and event_callbacks.deadline is not None:
                    raise UnsupportedEventTypeError('deadline')
                return create(self, *args, event_callbacks=event_callbacks, **kwargs)

            monkeypatch.setattr(Echo, 'create_subscription', without_events)
        with CellHarness([echo(topic_deadline=0.3)], watched=('/diagnostics',)) as cell:
            cell.wait_active()
            node = cell.runner.nodes[0]
            from rclpy.duration import Duration

            publisher = cell.probe.create_publisher(
                String, 'heard', QoSProfile(depth=1, deadline=Duration(nanoseconds=3 * 10**8))
            )
            cell.wait(lambda: publisher.get_subscription_count() == 1)
            publisher.publish(String(data='fine'))
            cell.wait(lambda: node.heard == ['fine'])
            cell.wait_diagnostic('echo', 'nothing came on heard in time')


def test_incompatible_publisher_is_reported():
    with CellHarness([echo()], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        cell.probe.create_publisher(
            String, 'heard', QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        )
        cell.wait_diagnostic('echo', 'heard: the other side has another QoS', level=2)


def test_qos_can_be_overridden():
    with CellHarness(
        [
            NodeSpec(
                Echo,
                {
                    'qos_overrides./heard.subscription.depth': 7,
                    'qos_overrides./heard.subscription.reliability': 'best_effort',
                },
            )
        ],
        watched=('/diagnostics',),
    ) as cell:
        cell.wait_active()
        (info,) = cell.wait(lambda: cell.probe.get_subscriptions_info_by_topic('heard'))
        assert info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT


class Glance(ConveyorNode):
    """Looks at what it hears twenty times a second."""

    NAME = 'glance'
    SETTINGS = NodeSettings
    topics = (Topic('heard', 'std_msgs/String', Profile.POSES, (), ('glance',)),)

    def activate(self):
        self.heard, self.named, self.waiting = [], [], []
        self.unlooked = self.look('heard', lambda *_: None, alike=self.waiting.append, period=None)
        self.looks = self.look('heard', self.on_message, alike=self.alike, period=0.05)

    def alike(self, data):
        self.named.append(data)
        return next((name for name in (b'left', b'right') if name in data), None)

    def on_message(self, message, info):
        self.heard.append(message.data)


@pytest.mark.parametrize('executor', ['auto', 'wait_set'])
def test_a_topic_is_looked_at_and_the_latest_of_what_is_alike_is_taken(executor):
    specs = [NodeSpec(Glance, {'diagnostics_period': 0.2, 'executor': executor})]
    with CellHarness(specs) as cell:
        cell.wait_active()
        node = cell.runner.nodes[0]
        publisher = cell.publisher('heard', String, readers=2)
        texts = ['left 1', 'right 1', *('nobody',) * 50, 'left 2', 'nobody']
        for text in texts:
            publisher.publish(String(data=text))
        cell.wait(lambda: len(node.named) >= len(texts))
        cell.wait(lambda: {'right 1', 'left 2'} <= set(node.heard))
        assert node.heard[-2:] == ['right 1', 'left 2'] and 'nobody' not in node.heard
        node.looks.every(0.01)
        publisher.publish(String(data='right 2'))
        cell.wait(lambda: node.heard[-1] == 'right 2')
        assert not node.waiting, 'what nobody looks at waits'
        node.executor.create_task(node.unlooked.look)
        cell.wait(lambda: len(node.waiting) == len(texts) + 1)
    assert not node.is_active


def test_of_what_came_between_two_looks_only_the_latest_is_taken_apart():
    waiting = [serialize_message(String(data=f'{k % 2} {k}')) for k in range(100)]
    heard = []

    class Handle:
        def take_message(self, kind, raw):
            assert raw
            return (waiting.pop(0), None) if waiting else None

        def __enter__(self):
            pass

        def __exit__(self, *_):
            pass

    subscription = SimpleNamespace(handle=Handle(), msg_type=String)
    polled = PolledTopic(
        subscription,
        None,
        lambda m, info: heard.append(m.data),
        lambda data: b'0 ' in data,
        lambda data, info: deserialize_message(data, String),
    )
    polled.look()
    assert heard == ['0 98', '1 99'] and not waiting
    polled.look()
    assert heard == ['0 98', '1 99']
    waiting.append(serialize_message(String(data='1 100')))
    polled.look()
    assert heard[2:] == ['1 100']
    taken_apart = []

    def take_apart(data, info):
        taken_apart.append(deserialize_message(data, String).data)
        return taken_apart[-1]

    polled = PolledTopic(
        subscription, None, lambda m, info: heard.append(m), bytes, take_apart, remembers=True
    )
    for text in ('left', 'right', 'left', 'left'):
        waiting.append(serialize_message(String(data=text)))
        polled.look()
    assert heard[3:] == ['left', 'right', 'left', 'left'] and taken_apart == ['left', 'right']


def test_profiles():
    sensor, feature = make_profile(Profile.SENSOR), make_profile(Profile.FEATURE)
    assert sensor.reliability == feature.reliability == ReliabilityPolicy.BEST_EFFORT
    assert make_profile(Profile.STATE).durability == DurabilityPolicy.TRANSIENT_LOCAL
    # A burst of a stranger's captures must not push out the one that is owed an outcome.
    assert make_profile(Profile.CAPTURE).depth >= 32
    assert make_profile(Profile.EVERY_CAPTURE).depth >= 256
    watched = make_profile(Profile.RESULT, Watchdogs(deadline=1.5, lifespan=2.0, lease=3.0))
    assert watched.deadline.nanoseconds == 1.5 * SECOND
    assert watched.lifespan.nanoseconds == 2 * SECOND
    # A driver's publisher has no deadline, and would not be heard by who asks for one.
    plain = make_profile(Profile.SENSOR, Watchdogs(deadline=1.5))
    assert plain.deadline == make_profile(Profile.SENSOR).deadline


def test_runner_refuses_a_wrong_parameter_and_cleans_up():
    with pytest.raises(ConfigError, match="'greting'"):
        CellHarness([echo(greting='x')])


def test_stop_is_quick():
    cell = CellHarness([echo()], watched=('/diagnostics',))
    with cell:
        cell.wait_active()
        began = time.monotonic()
    assert time.monotonic() - began < 2.0


def test_health_reports_the_worst_first_and_forgets():
    health = NodeHealth(event_ns=5 * SECOND)
    assert health.report(0).level is Level.OK and health.report(0).message == 'OK'
    assert health.event('late', Level.WARN, 'item 3', 1 * SECOND)
    assert not health.event('late', Level.WARN, 'item 4', 2 * SECOND)
    assert health.set_condition('gone', Level.ERROR, 'edge is gone')
    assert not health.set_condition('gone', Level.ERROR, 'edge is gone')
    report = health.report(3 * SECOND)
    assert report.level is Level.ERROR
    assert report.message == 'edge is gone; late: item 4'
    assert ('late', '2') in report.values
    assert health.clear_condition('gone') and not health.clear_condition('gone')
    assert health.report(6 * SECOND).level is Level.WARN
    assert health.report(8 * SECOND).level is Level.OK


def test_an_event_that_goes_on_is_said_again():
    health = NodeHealth(event_ns=5 * SECOND, again_ns=10 * SECOND)
    said = [
        second
        for second in range(31)
        if health.event('behind', Level.WARN, f'{second} s behind', second * SECOND)
    ]
    assert said == [0, 10, 20, 30]
    assert health.event('behind', Level.WARN, 'after a while', 36 * SECOND)


def test_health_rates_and_values_are_bounded():
    health = NodeHealth(capacity=16)
    for i in range(1000):
        health.tick('items', i * SECOND // 2)
        health.sample('slack', i / 1000)
    values = dict(health.report(500 * SECOND, 4 * SECOND).values)
    assert values['items'] == '1000' and values['items.rate'] == '2.00 Hz'
    assert values['slack.max'] == '0.999' and values['slack.min'] == '0.984'


def test_health_takes_one_thread_at_a_time():
    # A report that another thread changed halfway ended with "deque mutated during iteration".
    health = NodeHealth()
    health.sample('slack', 1.0)
    looking, may_go_on = threading.Event(), threading.Event()

    class Samples(deque):
        def __iter__(self):
            looking.set()
            assert may_go_on.wait(30)
            return super().__iter__()

    health._samples['slack'] = Samples(health._samples['slack'])
    with ThreadPoolExecutor(2) as threads:
        report = threads.submit(health.report, SECOND)
        assert looking.wait(30)
        sample = threads.submit(health.sample, 'slack', 2.0)
        _, waiting = wait([sample], 0.2)
        may_go_on.set()
        assert waiting
        assert dict(report.result(30).values)['slack.max'] == '1'
        sample.result(30)
    assert dict(health.report(SECOND).values)['slack.max'] == '2'


@pytest.mark.parametrize('kind', ['auto', 'events', 'wait_set'])
def test_the_executor_is_chosen_by_a_parameter(kind):
    from rclpy.executors import SingleThreadedExecutor

    if kind == 'events':
        pytest.importorskip('rclpy.experimental.events_executor')
    has_events = importlib.util.find_spec('rclpy.experimental') is not None
    # Nodes of one group with another executor have a thread of their own.
    with CellHarness([echo(executor=kind), NodeSpec(Echo, {}, name='other')]) as cell:
        cell.wait_active()
        first, other = cell.runner.nodes
        assert isinstance(first.executor, SingleThreadedExecutor) == (
            kind == 'wait_set' or not has_events
        )
        assert (first.executor is other.executor) == (kind == 'auto')
        say = talk(cell, readers=2)
        say('fine')
        cell.wait(lambda: first.heard == other.heard == ['fine'])


def test_an_executor_that_there_is_not_is_refused(monkeypatch):
    with pytest.raises(ConfigError, match="executor: 'fast' is not one of auto, events, wait_set"):
        CellHarness([echo(executor='fast')])
    monkeypatch.setitem(sys.modules, 'rclpy.experimental.events_executor', None)
    with pytest.raises(ConfigError, match='executor: events is not to be had from this rclpy'):
        CellHarness([echo(executor='events')])
    with CellHarness([echo()]) as cell:
        cell.wait_active()


def test_a_priority_that_is_not_permitted_is_said(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, 'Operation not permitted')

    monkeypatch.setattr(os, 'setpriority', refuse)
    monkeypatch.setattr(os, 'sched_setscheduler', refuse)
    with CellHarness([echo(niceness=-7, realtime_priority=12)], watched=('/diagnostics',)) as cell:
        status = cell.wait_diagnostic('echo', 'realtime_priority: 12 is not permitted', level=1)
        assert {value.key: value.value for value in status.values}['niceness'] == (
            '-7 is not permitted'
        )


def _threads():
    return len(os.listdir('/proc/self/task'))


@pytest.mark.skipif(not os.path.isdir('/proc/self/task'), reason='threads are counted in /proc')
def test_a_stopped_runner_leaves_no_participant():
    def run_once():
        with CellHarness([NodeSpec(Echo)]) as cell:
            cell.wait_active()
            return _threads()

    run_once()  # what is loaded once stays
    before = _threads()
    counts = [run_once() for _ in range(3)]
    assert min(counts) > before
    end = time.monotonic() + 20  # a busy machine may take a moment to end threads
    while _threads() > before and time.monotonic() < end:
        time.sleep(0.02)
    assert _threads() <= before


def test_every_fault_is_reported_by_itself_until_it_is_over():
    health = NodeHealth(event_ns=5 * SECOND)
    health.set_condition('gone', Level.ERROR, 'edge is gone', 1 * SECOND)
    health.event('late', Level.WARN, 'item 3', 1 * SECOND)
    health.event('late', Level.WARN, 'item 4', 4 * SECOND)

    def faults(now):
        return {f.name: (f.level, f.seconds, f.count) for f in health.report(now).faults}

    assert faults(5 * SECOND) == {
        'gone': (Level.ERROR, 4.0, 1),
        'late': (Level.WARN, 4.0, 2),  # since the first of them
    }
    health.clear_condition('gone')
    assert faults(10 * SECOND) == {'gone': (Level.OK, 0.0, 1), 'late': (Level.OK, 0.0, 2)}
    # It comes again: a fault of its own, the second one.
    health.set_condition('gone', Level.WARN, 'edge is gone', 11 * SECOND)
    assert faults(12 * SECOND)['gone'] == (Level.WARN, 1.0, 2)


def test_faults_that_are_over_do_not_pile_up():
    health = NodeHealth()
    for number in range(1000):
        health.set_condition(f'diverter.{number}', Level.WARN, 'x', 0)
        health.clear_condition(f'diverter.{number}')
    assert len(health.report(0).faults) == KEPT_ENDED


def test_a_fault_has_a_status_of_its_own_on_diagnostics():
    with CellHarness([echo(diagnostics_period=0.1)], watched=('/diagnostics',)) as cell:
        cell.wait_active()
        (node,) = cell.runner.nodes
        node.set_condition('gone', Level.ERROR, 'edge is gone')

        def told(level):
            return lambda: [
                status
                for status in cell.statuses('echo: gone')
                if status.level == bytes([level]) and {v.key for v in status.values} >= {'count'}
            ]

        (status, *_) = cell.wait(told(Level.ERROR), what='the fault')
        assert status.message == 'edge is gone'
        assert fault_of_status(status.name) == ('echo', 'gone')
        node.clear_condition('gone', 'it is back')
        cell.wait(told(Level.OK), what='its end')
