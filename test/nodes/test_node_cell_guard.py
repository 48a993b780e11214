# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The guard says which node is gone and which item was lost, over real DDS and processes."""

from __future__ import annotations

import array
import os
import signal
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CELL, CellHarness, make_capture, make_classification, node_process  # noqa: E402
from rclpy.duration import Duration  # noqa: E402
from rclpy.event_handler import SubscriptionEventCallbacks  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Bool, Header  # noqa: E402

from stl_conveyor.msg import Heartbeat, ItemCapture, SortOutcome  # noqa: E402
from stl_conveyor.nodes.base.clock import to_stamp  # noqa: E402
from stl_conveyor.nodes.base.qos import make_profile  # noqa: E402
from stl_conveyor.nodes.base.runner import NodeSpec  # noqa: E402
from stl_conveyor.nodes.base.topics import Profile  # noqa: E402
from stl_conveyor.nodes.device import actuator as actuator_module  # noqa: E402
from stl_conveyor.nodes.device.actuator import Actuator  # noqa: E402
from stl_conveyor.nodes.device.cell_guard import CellGuard  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros
IMAGE = tiny_images(1, 2)[0][0]


def guard(**changes):
    return NodeSpec(
        CellGuard,
        {
            'expected_nodes': ('actuator',),
            'essential_nodes': ('actuator',),
            'unsafe_for': 0.0,
            'diagnostics_period': 0.3,
            **changes,
        },
        group='guard',
    )


def faults(node):
    return node.health.report(node.steady_clock.now().nanoseconds).faults


class Safety:
    """What safe_to_run said, with the times at which it came."""

    def __init__(self, cell):
        self.said = []
        self.cell = cell
        cell.probe.create_subscription(Bool, 'safe_to_run', self._on, make_profile(Profile.STATE))

    def _on(self, message):
        self.said.append((time.monotonic(), message.data))

    def wait(self, safe, timeout=30.0):
        self.cell.wait(
            lambda: self.said and self.said[-1][1] is safe, timeout, f'safe_to_run {safe}'
        )
        return self.said[-1][0]


class Claims:
    """Which of the processes of a node acts, as their signs of life say.

    It is the first one, unless the machine stood still for a second meanwhile.
    """

    def __init__(self, cell):
        self.cell, self.instances, self.latest = cell, [], {}
        profile = make_profile(Profile.HEARTBEAT)
        cell.probe.create_subscription(Heartbeat, 'heartbeat', self._on, profile)

    def _on(self, message):
        if message.sole_topic:
            if message.instance not in self.latest:
                self.instances.append(message.instance)
            self.latest[message.instance] = message.sole_for

    def wait(self, number, acts):
        """Wait until the process that came as the so-manyth acts, or leaves it to another."""
        self.cell.wait(
            lambda: (
                len(self.instances) > number and (self.latest[self.instances[number]] > 0) is acts
            ),
            60,
            f'process {number} {"acts" if acts else "stands by"}',
        )


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP])
def test_a_node_that_is_gone_is_named_within_a_second(number):
    with CellHarness([guard()], watched=('/diagnostics',)) as cell, ExitStack() as stack:
        cell.wait_active()
        safety = Safety(cell)
        actuator = stack.enter_context(node_process('actuator', domain_id=cell.domain_id))
        safety.wait(True)
        ended = time.monotonic()
        os.kill(actuator.pid, number)
        fell = safety.wait(False)
        cell.wait_diagnostic('cell_guard', 'actuator is gone', level=2)
        # .6 s of silence and .2 s between two looks; the rest is the machine's.
        assert fell - ended < 5, f'{fell - ended:.2f} s'
        if number == signal.SIGSTOP:
            os.kill(actuator.pid, signal.SIGCONT)
        else:
            stack.enter_context(node_process('actuator', domain_id=cell.domain_id))
        safety.wait(True)


def test_the_link_is_missed_when_it_is_killed_and_not_when_it_ends_and_no_report_is_waited_for():
    specs = [guard(expected_nodes=(), essential_nodes=(), diagnostics_period=60.0)]
    with CellHarness(specs, watched=('/diagnostics',)) as cell, ExitStack() as stack:

        def is_missed_if_gone():
            return node._beside.has_been_active('link_emulator')

        def link():
            process = stack.enter_context(node_process('link_emulator', domain_id=cell.domain_id))
            cell.wait(is_missed_if_gone, 60, 'a sign of life')
            return process

        cell.wait_active()
        node, safety = cell.runner.node('cell_guard'), Safety(cell)
        link().terminate()
        cell.wait(lambda: not is_missed_if_gone(), 30, 'that it leaves')
        process = link()
        assert not [fault for fault in faults(node) if fault.level]
        process.kill()
        cell.wait_diagnostic('cell_guard: node_gone.link_emulator', 'link_emulator is gone', 1)
        assert safety.said[-1][1]  # a cell without one sorts
        link()
        cell.wait_diagnostic('cell_guard: node_gone.link_emulator', '', 0, timeout=30)


def test_a_guard_that_is_killed_is_said_to_be_silent_before_it_counts_as_gone(monkeypatch):
    monkeypatch.setattr(actuator_module, 'GUARD_GONE_NS', 60 * 10**9)
    specs = [NodeSpec(Actuator, {'diagnostics_period': 60.0}, group='act')]
    with CellHarness(specs, watched=('/diagnostics',)) as cell:
        cell.wait_active()
        node = cell.runner.node('actuator')
        with node_process('cell_guard', domain_id=cell.domain_id) as process:
            cell.wait(lambda: node._guard_ns is not None, 60, 'the guard')
            process.kill()
            cell.wait_diagnostic('actuator: guard_silent', 'nothing came on safe_to_run', 1)
        with node_process('cell_guard', domain_id=cell.domain_id):
            cell.wait_diagnostic('actuator: guard_silent', '', 0, timeout=60)


def test_an_executor_that_stands_still_is_told_from_a_dead_node():
    specs = [guard(), NodeSpec(Actuator, group='act')]
    with CellHarness(specs, watched=('/diagnostics',)) as cell:
        safety, go_on = Safety(cell), threading.Event()
        safety.wait(True)
        actuator = cell.runner.node('actuator')
        actuator.executor.create_task(actuator.guarded(lambda: go_on.wait(60)))
        try:
            safety.wait(False)
            cell.wait_diagnostic('cell_guard', 'node_stuck: actuator is stuck', level=2)
        finally:
            go_on.set()
        safety.wait(True)


def test_a_start_is_no_fault_and_a_line_that_should_stand_afterwards_is():
    """Until all are there safe_to_run is down, as it must be; nobody need see an alarm of it."""
    specs = [guard(patience=600.0), NodeSpec(Actuator, {'autostart': False}, group='act')]
    with CellHarness(specs, watched=('/diagnostics',)) as cell:
        safety, actuator = Safety(cell), cell.runner.node('actuator')
        safety.wait(False)
        cell.wait(lambda: len(cell.statuses('cell_guard')) > 2, 30, 'reports of the guard')
        assert not [s for s in cell.statuses('cell_guard') if s.level != b'\x00']
        assert faults(cell.runner.node('cell_guard')) == ()
        actuator.trigger_configure()
        actuator.trigger_activate()
        safety.wait(True)
        actuator.trigger_deactivate()
        safety.wait(False)
        cell.wait_diagnostic('cell_guard: not_safe_to_run', 'the line should stand', 1)
        cell.wait_diagnostic('cell_guard: node_not_active.actuator', 'is not active', 1)


def test_a_node_that_never_comes_is_named_and_one_that_is_idle_too():
    specs = [
        guard(expected_nodes=('actuator', 'camera'), patience=1.0),
        NodeSpec(Actuator, {'autostart': False}, group='act'),
    ]
    with CellHarness(specs, watched=('/diagnostics',)) as cell:
        safety = Safety(cell)
        cell.wait_diagnostic('cell_guard', 'camera is missing', level=2)
        cell.wait_diagnostic('cell_guard', 'actuator is not active', level=2)
        cell.wait_diagnostic('cell_guard: not_safe_to_run', 'the line should stand', level=1)
        safety.wait(False)


def test_of_two_actuators_one_acts_and_the_other_takes_over_when_it_is_gone():
    with (
        CellHarness([guard()], watched=('sort_outcome', '/diagnostics')) as cell,
        ExitStack() as stack,
    ):

        def actuator():
            return stack.enter_context(
                node_process(
                    'actuator',
                    domain_id=cell.domain_id,
                    parameters={'diagnostics_period': 0.3, 'journal': 'none'},
                )
            )

        def sort(number):
            captures.publish(make_capture(number, cell.now_ns(), IMAGE))
            cell.wait(lambda: cell.heard.of('sort_outcome', item_id=number), 30, f'item {number}')

        safety, claims, first = Safety(cell), Claims(cell), actuator()
        safety.wait(True)
        claims.wait(0, acts=True)
        second = actuator()
        cell.wait_diagnostic('actuator: stands_by.sort_outcome', 'publishes', 2, timeout=60)
        cell.wait_diagnostic('cell_guard', 'actuator is there twice: one of them stands by', 2)
        cell.wait_diagnostic('cell_guard', '2 publish on sort_outcome', level=2)
        safety.wait(True)
        captures = cell.publisher('capture', ItemCapture, readers=3)
        for number in (1, 2, 3):
            sort(number)
        first.send_signal(signal.SIGSTOP)
        claims.wait(1, acts=True)
        safety.wait(True)
        sort(4)
        first.send_signal(signal.SIGCONT)  # and finds that it was replaced
        claims.wait(0, acts=False)
        sort(5)
        second.kill()
        claims.wait(0, acts=True)
        sort(6)
        numbers = [outcome.item_id for outcome in cell.outcomes()]
        assert sorted(numbers) == [1, 2, 3, 4, 5, 6]


def test_an_actuator_that_cannot_command_its_diverters_and_a_guard_that_is_gone_are_said():
    with CellHarness([NodeSpec(Actuator, {'diagnostics_period': 0.3}, group='act')]) as cell:
        cell.wait_active()
        safety, silences = Safety(cell), []
        asked = make_profile(Profile.STATE)
        asked.deadline = Duration(seconds=1)
        cell.probe.create_subscription(
            Bool,
            'safe_to_run',
            lambda _: silences.clear(),
            asked,
            event_callbacks=SubscriptionEventCallbacks(deadline=silences.append),
        )
        parameters = {
            'expected_nodes': ['actuator'],
            'essential_nodes': ['actuator'],
            'diagnostics_period': 0.3,
        }
        actuator = cell.runner.node('actuator')
        with node_process(
            'cell_guard', domain_id=cell.domain_id, parameters=parameters
        ) as process:
            safety.wait(True, 60.0)
            actuator.cannot_work('diverters')  # as its output says of a PLC
            safety.wait(False)
            cell.wait_diagnostic('cell_guard', 'node_unable: actuator is unable', level=2)
            actuator.can_work('diverters')
            safety.wait(True)
            process.kill()
            cell.wait(lambda: silences, 30, 'word of the middleware that nothing comes')
            cell.wait_diagnostic('actuator', 'guard_gone', level=2)
            with node_process('cell_guard', domain_id=cell.domain_id, parameters=parameters):
                cell.wait_diagnostic('actuator: guard_gone', '', level=0, timeout=60)


def test_a_system_clock_that_is_set_loses_no_item():
    specs = [guard(expected_nodes=(), essential_nodes=(), unsafe_for=60.0)]
    with CellHarness(specs, watched=('/diagnostics',)) as cell:
        cell.wait_active()
        node = cell.runner.node('cell_guard')
        captures = cell.publisher('capture', ItemCapture)
        outcomes = cell.publisher('sort_outcome', SortOutcome)
        answers = cell.publisher('classification')
        clock, offset_ns = node._clock_watch._clock, [0]
        ros_now_ns = node.schedule_clock.ros_now_ns

        class Stepped:
            """The node's clock, which is set."""

            def now(self):
                now = clock.now()
                return type(now)(nanoseconds=now.nanoseconds + offset_ns[0])

        node._clock_watch._clock = Stepped()
        node.schedule_clock.ros_now_ns = lambda: ros_now_ns() + offset_ns[0]
        number = 0
        for step_s in (0, -5, 12, -3):
            before_ns = cell.now_ns() + offset_ns[0]
            offset_ns[0] += step_s * 10**9
            # One that was stamped before the step is heard after it; the others came later.
            for stamp_ns in (before_ns, *(cell.now_ns() + offset_ns[0] + n for n in range(4))):
                number += 1
                header = Header(stamp=to_stamp(stamp_ns))
                captures.publish(make_capture(number, stamp_ns, IMAGE))
                answers.publish(make_classification(number, stamp_ns, CELL.classes[0]))
                cell.wait(lambda: node._account.open_items, 30, 'the capture')
                outcomes.publish(SortOutcome(header=header, item_id=number, lane='A'))
            cell.wait(
                lambda last=number: node._account.totals['items'] == last, 60, 'all are closed'
            )
        losses = ('captures_lost', 'unacted', 'unclassified', 'acted_late', 'never_captured')
        assert [node._account.totals[name] for name in losses] == [0] * len(losses)


def test_lost_items_are_named_by_number():
    """No actuator: the test is the camera, the classifier and, for one item, the actuator."""
    with CellHarness(
        [guard(expected_nodes=(), essential_nodes=(), unsafe_for=60.0)], watched=('/diagnostics',)
    ) as cell:
        cell.wait_active()
        safety = Safety(cell)
        safety.wait(True)
        captures = cell.publisher('capture', ItemCapture)
        answers = cell.publisher('classification')
        outcomes = cell.publisher('sort_outcome', SortOutcome)
        now_ns = cell.now_ns()
        for number in (1, 2, 5):
            captures.publish(make_capture(number, now_ns + number, IMAGE))
            answers.publish(make_classification(number, now_ns + number, CELL.classes[0]))
        cell.wait_diagnostic('cell_guard', 'items 3, 4 were captured, by their numbers')
        for number, stamp_ns in ((1, now_ns + 1), (77, now_ns)):
            header = Header()
            header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns, 10**9)
            outcomes.publish(SortOutcome(header=header, item_id=number, lane='A'))
        cell.wait_diagnostic('cell_guard', 'items 2, 5 had no outcome by their deadline', level=2)
        safety.wait(False)
        node = cell.runner.node('cell_guard')
        assert node._account.totals['items'] == 3
        assert node._account.totals['unclassified'] == 0


def picture(stamp_ns):
    header = Header(stamp=to_stamp(stamp_ns), frame_id='camera_optical_frame')
    pixels = np.full((CELL.camera.image_height, CELL.camera.image_width, 3), 60, np.uint8)
    return Image(
        header=header,
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding='rgb8',
        step=3 * pixels.shape[1],
        data=array.array('B', pixels.tobytes()),
    )


def test_a_frozen_camera_is_named_and_every_frame_is_captured_or_said_to_be_lost():
    specs = [guard(expected_nodes=('camera',), essential_nodes=('camera',))]
    with (
        CellHarness(specs, watched=('capture', '/diagnostics')) as cell,
        node_process(
            'camera', domain_id=cell.domain_id, parameters={'diagnostics_period': 0.3}
        ) as camera,
    ):
        safety = Safety(cell)
        frames = cell.publisher('camera/image_raw', Image, timeout=60)
        safety.wait(True)
        cell.connect('capture', readers=2)

        def counted(prefix):
            latest = cell.statuses('camera')[-1:]
            return sum(int(v.value) for s in latest for v in s.values if v.key.startswith(prefix))

        def accounted():
            told = counted('stamp_old') + counted('messages_lost.')
            return len(cell.heard.messages['capture']) + told

        frames.publish(picture(cell.now_ns()))
        cell.wait(lambda: accounted() == 1, 30, 'the first capture')
        camera.send_signal(signal.SIGSTOP)
        try:
            safety.wait(False)
            cell.wait_diagnostic('cell_guard', 'node_gone: camera is gone', level=2)
            for _ in range(6):
                frames.publish(picture(cell.now_ns()))
        finally:
            camera.send_signal(signal.SIGCONT)
        safety.wait(True)
        cell.wait(lambda: accounted() == 7, 30, 'an account of all seven')


def test_of_two_cameras_one_makes_the_items_and_the_other_takes_over():
    with (
        CellHarness(
            [guard(expected_nodes=('camera',), essential_nodes=('camera',))],
            watched=('capture', '/diagnostics'),
        ) as cell,
        ExitStack() as stack,
    ):

        def camera():
            return stack.enter_context(
                node_process(
                    'camera', domain_id=cell.domain_id, parameters={'diagnostics_period': 0.3}
                )
            )

        def show(readers):
            frames = cell.publisher('camera/image_raw', Image, readers=readers, timeout=60)
            stamp_ns = cell.now_ns()
            frames.publish(picture(stamp_ns))
            return to_stamp(stamp_ns)

        def stamps():
            return [capture.header.stamp for capture in cell.heard.messages['capture']]

        safety, claims, first = Safety(cell), Claims(cell), camera()
        safety.wait(True)
        claims.wait(0, acts=True)
        camera()
        cell.wait_diagnostic('camera: stands_by.capture', '/camera publishes /capture', 2, 60)
        cell.wait_diagnostic('cell_guard', 'node_twice: camera is there twice', level=2)
        cell.wait_diagnostic(
            'cell_guard', 'surplus_publisher: 2 publish on capture, /camera, /camera', level=2
        )
        safety.wait(True)
        shown = []
        for _ in range(3):
            shown.append(show(2))
            cell.wait(lambda: shown[-1] in stamps(), 30, 'the capture')
        first.kill()
        claims.wait(1, acts=True)
        shown.append(show(1))
        cell.wait(lambda: shown[-1] in stamps(), 30, 'the capture of the other')
        assert stamps() == shown


def test_an_end_that_an_active_node_lacks_is_named():
    specs = [guard(), NodeSpec(Actuator, group='act', remappings={'capture': 'elsewhere'})]
    with CellHarness(specs, watched=('/diagnostics',)) as cell:
        cell.wait_diagnostic(
            'cell_guard',
            'missing_subscriber: actuator is active, and nothing of it listens on capture',
            level=2,
            timeout=30,
        )
