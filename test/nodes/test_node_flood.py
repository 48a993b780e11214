# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Who floods a topic is named, and puts neither its messages nor its noise among ours."""

from __future__ import annotations

import array
import os
import subprocess
import sys

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CellHarness, NodeSpec, Stranger, make_capture, to_stamp  # noqa: E402
from rclpy.duration import Duration  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

from stl_conveyor.msg import ItemCapture  # noqa: E402
from stl_conveyor.nodes.base.clock import to_ns  # noqa: E402
from stl_conveyor.nodes.base.qos import make_profile  # noqa: E402
from stl_conveyor.nodes.base.topics import Profile  # noqa: E402
from stl_conveyor.nodes.device.actuator import Actuator  # noqa: E402
from stl_conveyor.nodes.device.camera import Camera  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros

TOPIC = 'camera/image_raw'


def odd_bytes(kind):
    """Return bytes of which none are a message of a kind."""
    whole = serialize_message(picture(0, (2, 2)) if kind is Image else kind())
    found = [b'', b'\0', b'\0\1\0\0' + b'\xff' * 60, b'\xff\xff' + whole[2:], whole[:-9]]
    if kind is Image:  # of which the data come last
        found.append(whole[:-16] + b'\xff\xff\xff\x7f' + whole[-12:])
    return found


def picture(stamp_ns, size=(240, 320)):
    height, width = size
    message = Image(height=height, width=width, step=3 * width, encoding='rgb8')
    message.data = array.array('B', bytes(3 * height * width))
    message.header.stamp = to_stamp(stamp_ns)
    return message


def values_of(cell, node):
    statuses = cell.statuses(node)
    return {value.key: value.value for value in statuses[-1].values} if statuses else {}


def test_pictures_of_somebody_who_comes_later_are_no_items_and_its_name_is_said():
    spec = NodeSpec(Camera, {'diagnostics_period': 0.1}, group='camera')
    with CellHarness([spec], watched=('/diagnostics', 'capture')) as cell:
        cell.wait_active()
        honest = cell.publisher(TOPIC, Image)
        cell.connect('capture')
        stamps = [cell.now_ns()]
        honest.publish(picture(stamps[-1]))
        cell.wait(lambda: len(cell.heard.of('capture')) == 1, what='the first item')
        with Stranger(cell) as stranger:
            flood = stranger.publisher(Image, TOPIC)
            for size in ((1, 1), (240, 320)):
                for _ in range(10):
                    flood.publish(picture(cell.now_ns(), size))
            stamps.append(cell.now_ns())
            honest.publish(picture(stamps[-1]))

            def refused():
                # All of a flood may be lost before the camera has found who sends it.
                flood.publish(picture(cell.now_ns()))
                return int(values_of(cell, 'camera').get(f'refused.{TOPIC}', 0)) > 10

            cell.wait(refused, 20, 'refused pictures')
            said = cell.wait_diagnostic('camera', '/flooder publishes it, too, beside /probe')
            assert said.level == b'\2' and 'picture is' not in said.message
        cell.wait(
            lambda: 'flooder' not in cell.statuses('camera')[-1].message, 20, 'the end of it'
        )
        assert [to_ns(m.header.stamp) for m in cell.heard.of('capture')] == stamps


def test_one_that_was_there_first_and_left_makes_room():
    spec = NodeSpec(Camera, {'diagnostics_period': 0.1}, group='camera')
    with CellHarness([spec], watched=('/diagnostics', 'capture')) as cell:
        cell.wait_active()
        cell.connect('capture')
        with Stranger(cell, 'driver') as first:
            first.publisher(Image, TOPIC).publish(picture(cell.now_ns()))
            cell.wait(lambda: len(cell.heard.of('capture')) == 1, what='the first item')
        second = cell.publisher(TOPIC, Image)
        cell.wait(lambda: cell.probe.count_publishers(TOPIC) == 1, what='the first one leaves')

        def taken():
            second.publish(picture(cell.now_ns()))
            return len(cell.heard.of('capture')) > 1

        cell.wait(taken, 20, 'items of its successor')


def test_an_item_is_there_still_when_a_burst_of_captures_came_before_it_was_taken():
    with CellHarness([], watched=()) as cell, Stranger(cell) as stranger:
        heard = []
        busy = Node('busy', context=cell.runner.context, use_global_arguments=False)
        try:
            busy.create_subscription(
                ItemCapture, 'capture', heard.append, make_profile(Profile.EVERY_CAPTURE)
            )
            honest, flood = cell.publisher('capture'), stranger.publisher(ItemCapture, 'capture')
            honest.publish(make_capture(1, cell.now_ns(), tiny_images(1, 2)[0][0]))
            assert honest.wait_for_all_acked(Duration(seconds=20))
            for number in range(200):
                flood.publish(ItemCapture(item_id=1000 + number))
            assert flood.wait_for_all_acked(Duration(seconds=20))
            # Only now is it looked at.
            executor = SingleThreadedExecutor(context=cell.runner.context)
            executor.add_node(busy)
            cell.wait(lambda: executor.spin_once(timeout_sec=0) or heard, what='the first capture')
            assert heard[0].item_id == 1
        finally:
            busy.destroy_node()


DRIVER = """
import rclpy, sys
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node('driver')
publisher = node.create_publisher(Image, 'camera/image_raw', QoSProfile(depth=10))
picture = Image(height=240, width=320, step=960, encoding='rgb8', data=bytes(240 * 960))
def show():
    picture.header.stamp = node.get_clock().now().to_msg()
    publisher.publish(picture)
node.create_timer(0.1, show)
rclpy.spin(node)
"""


def test_a_driver_that_was_killed_and_started_again_is_heard_soon():
    spec = NodeSpec(Camera, {'diagnostics_period': 0.1}, group='camera')
    with CellHarness([spec], watched=('/diagnostics', 'capture')) as cell:
        cell.wait_active()
        cell.connect('capture')
        for number in range(1, 4):
            before = len(cell.heard.of('capture'))
            driver = subprocess.Popen(
                [sys.executable, '-c', DRIVER],
                env={**os.environ, 'ROS_DOMAIN_ID': str(cell.domain_id)},
            )
            try:
                # The middleware forgets the one that was killed after twenty seconds.
                cell.wait(
                    lambda before=before: len(cell.heard.of('capture')) > before,
                    10,
                    f'a picture of driver {number}',
                )
            finally:
                driver.kill()
                driver.wait()


@pytest.mark.parametrize('topic, kind', [('capture', ItemCapture), (TOPIC, Image)])
def test_bytes_that_are_no_message_are_counted_and_named_and_write_nothing(topic, kind, capfd):
    node = Actuator if topic == 'capture' else Camera
    spec = NodeSpec(node, {'diagnostics_period': 0.1}, group='node')
    with CellHarness([spec], watched=('/diagnostics', 'sort_outcome')) as cell:
        cell.wait_active()
        with Stranger(cell) as stranger:
            publisher, odd = stranger.publisher(kind, topic), odd_bytes(kind)
            for number in range(200):
                publisher.publish(odd[number % len(odd)])
                if number == 0:
                    said = cell.wait_diagnostic(
                        node.NAME, f'/{topic}: /flooder publishes what is no {kind.__name__}'
                    )
                    assert said.level == b'\1'
                    capfd.readouterr()
                # So that the queue has room for all.
                at_least = number + 1 - 8
                cell.wait(lambda: refused(cell, node.NAME, topic) >= at_least)
            cell.wait(lambda: refused(cell, node.NAME, topic) == 200)
            assert capfd.readouterr().err == ''
            assert 'messages_lost' not in cell.complaints()
            # One that is whole is taken all the same.
            if node is Actuator:
                good = make_capture(7, cell.now_ns(), tiny_images(1, 2)[0][0])
                publisher.publish(serialize_message(good))
                cell.wait(lambda: cell.outcomes(), what='the outcome of the one that is whole')


def refused(cell, node, topic):
    return int(values_of(cell, node).get(f'undecodable.{topic}', 0))
