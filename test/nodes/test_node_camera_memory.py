# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What passed while a killed camera was gone is said with its number; no other start says any."""

from __future__ import annotations

import array
import contextlib
import json
import os
import re
import signal

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CELL, CellHarness, NodeSpec, node_process, to_stamp  # noqa: E402
from rclpy.node import Node  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

from stl_conveyor.cell.heard_numbers import HeardNumbers  # noqa: E402
from stl_conveyor.msg import ItemCapture  # noqa: E402
from stl_conveyor.nodes.base.clock import to_ns  # noqa: E402
from stl_conveyor.nodes.device import camera as camera_module  # noqa: E402
from stl_conveyor.nodes.device import camera_memory  # noqa: E402
from stl_conveyor.nodes.device.camera import Camera  # noqa: E402

pytestmark = pytest.mark.ros

HEIGHT, WIDTH = CELL.camera.image_height, CELL.camera.image_width
LONG = 60.0
FAULT = 'camera: missed_while_gone'
QUICK = {'diagnostics_period': 0.2}


class Driver:
    """Publishes pictures, so many as it is told, whoever listens."""

    def __init__(self, cell):
        self._cell = cell
        self._publisher = cell.probe.create_publisher(Image, 'camera/image_raw', 100)  # reliable
        self._frame = Image(height=HEIGHT, width=WIDTH, step=3 * WIDTH, encoding='rgb8')
        self._frame.data = array.array('B', bytes(3 * HEIGHT * WIDTH))
        self.stamps = []  # of all that were sent

    def send(self, count=1):
        for _ in range(count):
            self.stamps.append(self._cell.now_ns())
            self._frame.header.stamp = to_stamp(self.stamps[-1])
            self._publisher.publish(self._frame)

    def send_until(self, predicate, what):
        """Send one picture after the other until something is true."""

        def one_more():
            if predicate():
                return True
            self.send()
            return False

        self._cell.wait(one_more, LONG, what)


def captured(cell):
    return {to_ns(message.header.stamp) for message in cell.heard.of('capture')}


def said(cell):
    """Return all that cameras have said of what they missed."""
    return [status for status in cell.statuses(FAULT) if status.level != b'\0']


def heard_by(journal):
    """Return up to which number a camera has worked on what the driver sent."""
    try:
        _, numbers = json.loads(journal.read_text())
    except (OSError, ValueError):
        return 0
    return max(numbers.values(), default=0)


def a_cell(*specs):
    return CellHarness(list(specs), watched=('capture', '/diagnostics'))


def camera_process(cell, journal):
    # The test counts what is captured: a busy machine shall not make it refuse what it heard.
    parameters = {**QUICK, 'journal': str(journal), 'longest_delay': LONG}
    return node_process('camera', domain_id=cell.domain_id, parameters=parameters)


def work(cell, driver, journal):
    """Have a camera capture something; return when it has worked on all that was sent."""
    before = captured(cell)
    driver.send_until(lambda: captured(cell) - before, 'a capture')
    cell.wait(lambda: heard_by(journal) == len(driver.stamps), LONG, 'the last picture')


def test_pictures_that_came_while_a_killed_camera_was_gone_are_said_with_their_number(tmp_path):
    journal = tmp_path / 'journal'
    with a_cell() as cell:
        driver = Driver(cell)
        driver.send(200)  # to nobody: it has run for long when the camera starts
        with camera_process(cell, journal) as camera:
            work(cell, driver, journal)
            cell.wait_diagnostic('camera', 'OK', 0, LONG)
            assert not said(cell)
            camera.kill()
        for _ in range(2):  # the second time, too
            before, number = captured(cell), len(driver.stamps)
            driver.send(7)
            with camera_process(cell, journal) as camera:
                driver.send_until(lambda before=before: captured(cell) - before, 'a capture')
                first = min(captured(cell) - before)
                gone = driver.stamps.index(first) - number
                text = f'missed {gone} messages on /camera/image_raw'
                status = cell.wait_diagnostic(FAULT, text, 2, LONG)
                assert gone >= 7 and 'after a crash' in status.message
                work(cell, driver, journal)
                assert text in said(cell)[-1].message, 'it is counted once'
                camera.kill()


def test_what_passes_after_an_orderly_end_is_not_said(tmp_path):
    journal = tmp_path / 'journal'
    with a_cell() as cell:
        driver = Driver(cell)
        with camera_process(cell, journal) as camera:
            work(cell, driver, journal)
            os.kill(camera.pid, signal.SIGTERM)
            assert camera.wait(LONG) == 0
        assert not journal.exists()
        driver.send(7)
        with camera_process(cell, journal):
            reports = len(cell.statuses('camera'))
            work(cell, driver, journal)
            cell.wait(lambda: len(cell.statuses('camera')) > reports + 1, LONG, 'reports')
        assert not said(cell)


def test_after_a_crash_it_is_said_until_the_first_picture_that_none_is_heard(crashed):
    with a_cell(NodeSpec(Camera, {**QUICK, 'journal': str(crashed)})) as cell:
        cell.wait_active()
        fault = 'camera: driver_not_heard'
        cell.wait_diagnostic(fault, 'heard nothing on /camera/image_raw', 1, LONG)
        camera = cell.runner.node('camera')
        camera.cannot_work(
            'driver', LONG
        )  # so that the time, which is tested elsewhere, is no end
        assert camera._is_unable()
        Driver(cell).send_until(lambda: captured(cell), 'a capture')
        cell.wait_diagnostic(fault, 'ended', 0, LONG)
        assert not camera._is_unable()


@pytest.fixture
def crashed(tmp_path):
    """Return the journal of a camera that was killed while two listened to it."""
    numbers = HeardNumbers()
    numbers.listeners = 2
    path = tmp_path / 'journal'
    path.write_text(numbers.line())
    return path


@contextlib.contextmanager
def listening(cell, name):
    """Have a node of a name listen to captures."""
    node = Node(name, context=cell.runner.context, use_global_arguments=False)
    try:
        node.create_subscription(ItemCapture, 'capture', lambda _: None, 10)
        yield
    finally:
        node.destroy_node()


def items_missed(cell):
    """Return how many items a camera says that it, or those who listen, missed."""
    numbers = [re.search(r'missed (\d+) items', status.message) for status in said(cell)]
    return int(numbers[-1].group(1)) if numbers else 0


@pytest.mark.parametrize('after_a_crash', [True, False])
def test_items_that_come_before_the_others_are_there_are_lost_after_a_crash(
    crashed, after_a_crash
):
    if not after_a_crash:
        crashed.unlink()
    awaited = {'wait_for': ['classification']}  # of which there is no publisher
    with a_cell(NodeSpec(Camera, {**QUICK, 'journal': str(crashed), **awaited})) as cell:
        cell.wait_active()
        camera = cell.runner.node('camera')
        driver = Driver(cell)

        def dropped():
            return camera.health.counted('items_before_the_cell_was_there')

        driver.send_until(lambda: dropped() >= 3, 'pictures that are no items')
        if after_a_crash:
            cell.wait(lambda: items_missed(cell) == dropped(), LONG, 'a word of each')
        else:
            reports = len(cell.statuses('camera'))
            cell.wait(lambda: len(cell.statuses('camera')) > reports + 1, LONG, 'reports')
            assert not said(cell)


def test_items_wait_after_a_crash_for_those_who_heard_of_items_before(crashed, monkeypatch):
    monkeypatch.setattr(camera_memory, 'SETTLES_NS', 10**12)
    monkeypatch.setattr(camera_module, 'LEAST_LEFT_NS', -(10**12))
    with a_cell(NodeSpec(Camera, {**QUICK, 'journal': str(crashed)})) as cell:
        cell.wait_active()
        cell.connect('capture')
        camera = cell.runner.node('camera')
        driver = Driver(cell)
        driver.send_until(lambda: camera.health.counted('held_items') >= 3, 'items that wait')
        assert not captured(cell) and not said(cell)
        with listening(cell, 'actuator'):
            before = camera.health.counted('held_items')
            driver.send_until(lambda: camera.health.counted('held_items') > before, 'another one')
            assert not captured(cell)  # one of two
            with listening(cell, 'encoder'):
                held = camera.health.counted('held_items')
                cell.wait(lambda: len(captured(cell)) >= held, LONG, 'those that waited')
                driver.send_until(lambda: len(captured(cell)) > held, 'one that did not wait')
        stamps = [to_ns(message.header.stamp) for message in cell.heard.of('capture')]
        assert stamps == sorted(stamps) and camera.health.counted('held_items') == held
        assert not camera.health.counted('total.missed_while_gone')


def test_one_that_died_is_not_waited_for_because_its_end_is_known_for_a_while(tmp_path):
    """Listeners of one name count once; one that was killed is among them until its lease."""
    journal = tmp_path / 'journal'
    with a_cell(NodeSpec(Camera, {**QUICK, 'journal': str(journal)})) as cell:
        cell.wait_active()
        camera = cell.runner.node('camera')
        with listening(cell, 'actuator'), listening(cell, 'actuator'):
            # With the probe, which is none of the device's nodes, and may end at any time.
            cell.wait(lambda: camera._captures.get_subscription_count() == 3, LONG, 'listeners')

            def one():
                return HeardNumbers(journal.read_text()).listeners == 1

            Driver(cell).send_until(lambda: captured(cell) and one(), 'a capture for one name')


def test_items_of_which_not_all_can_hear_after_a_crash_are_said(crashed, monkeypatch):
    monkeypatch.setattr(camera_memory, 'SETTLES_NS', 10**12)
    with a_cell(NodeSpec(Camera, {**QUICK, 'journal': str(crashed)})) as cell:
        cell.wait_active()
        cell.connect('capture')
        driver = Driver(cell)
        driver.send_until(lambda: captured(cell), 'a capture')
        cell.wait(lambda: items_missed(cell), LONG, 'a word')
        camera = cell.runner.node('camera')
        with listening(cell, 'actuator'), listening(cell, 'encoder'):
            # They are back: nothing more is missed.
            cell.wait(
                lambda: not camera._memory.lacks(camera._captures), LONG, 'those who listened'
            )
            items = camera.health.counted('items')
            driver.send_until(lambda: camera.health.counted('items') > items + 2, 'more items')
            missed = camera.health.counted('total.missed_while_gone')
            driver.send_until(lambda: camera.health.counted('items') > items + 6, 'more items')
            assert camera.health.counted('total.missed_while_gone') == missed


def test_a_camera_without_its_journal_works_and_says_so(tmp_path):
    (tmp_path / 'aim').write_text('of another')
    (tmp_path / 'journal').symlink_to(tmp_path / 'aim')
    parameters = {**QUICK, 'journal': str(tmp_path / 'journal')}
    with a_cell(NodeSpec(Camera, parameters)) as cell:
        cell.wait_active()
        cell.wait_diagnostic('camera: journal', 'will not be counted', 1, LONG)
        driver = Driver(cell)
        driver.send_until(lambda: captured(cell), 'a capture')
        assert (tmp_path / 'aim').read_text() == 'of another'


def test_nothing_is_said_where_another_camera_has_taken_the_place(crashed):
    with a_cell(NodeSpec(Camera, {'autostart': False, 'journal': str(crashed)})) as cell:
        node = cell.runner.node('camera')
        for alone, counted in ((False, 0), (True, 1)):
            memory = camera_memory.CameraMemory(node)
            memory.ask(lambda call, alone=alone: call(alone))
            memory.dropped_item()
            assert node.health.counted('total.missed_while_gone') == counted
            os.close(memory._file._file)
