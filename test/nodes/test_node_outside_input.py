# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Inputs from outside: wrong clocks, silence, other types and other QoS, on the real nodes."""

from __future__ import annotations

import array
import threading
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CELL, CellHarness, NodeSpec, to_stamp  # noqa: E402
from rclpy.duration import Duration  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image, JointState  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from stl_conveyor.msg import BeltState  # noqa: E402
from stl_conveyor.nodes.base import outside_input  # noqa: E402
from stl_conveyor.nodes.base.clock import to_ns  # noqa: E402
from stl_conveyor.nodes.base.topics import TOPICS, Profile, Topic  # noqa: E402
from stl_conveyor.nodes.device.actuator import Actuator  # noqa: E402
from stl_conveyor.nodes.device.camera import Camera  # noqa: E402

pytestmark = pytest.mark.ros

SECOND = 10**9
LONG = 30  # s, for what takes a moment unless the machine is very busy
WATCHED = ('capture', 'sort_outcome', '/diagnostics')
RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
ARRIVAL = {'stamp': 'arrival', 'latency': 0.05, 'beam_latency': 0.01}


@pytest.fixture
def no_time_to_start(monkeypatch):
    """Let it be a fault soon that nobody has published something yet."""
    monkeypatch.setattr(outside_input, 'START_S', outside_input.PATIENCE_S)


def picture(stamp_ns, size=(240, 320), part=None):
    """Return a frame of a dark belt; a bright square of `part` pixels lies in its middle."""
    height, width = size
    image = np.full((height, width, 3), 60, np.uint8)
    if part:
        rows, columns = (slice((side - part) // 2, (side + part) // 2) for side in size)
        image[rows, columns] = 200
    return Image(
        header=Header(stamp=to_stamp(stamp_ns)),
        height=height,
        width=width,
        step=3 * width,
        encoding='rgb8',
        data=array.array('B', image.tobytes()),
    )


def camera_cell(**parameters):
    return CellHarness(
        [NodeSpec(Camera, {'diagnostics_period': 0.2, **parameters})], watched=WATCHED
    )


def publisher(cell, kind, topic, reliability=RELIABLE, depth=32):
    """Return a publisher with a QoS of its own, once a subscription takes messages from it."""
    made = cell.probe.create_publisher(
        kind, topic, QoSProfile(depth=depth, reliability=reliability)
    )
    cell.wait(made.get_subscription_count, LONG, f'a reader of {topic}')
    return made


def stamps_of(cell):
    return [to_ns(capture.header.stamp) for capture in cell.heard.of('capture')]


def wait_said(cell, node, *words, level=2):
    return cell.wait(
        lambda: next(
            (
                s
                for s in cell.statuses(node)
                if s.level == bytes([level]) and all(word in s.message for word in words)
            ),
            None,
        ),
        LONG,
        f'{words} from {node}',
    )


@pytest.mark.parametrize(
    ('offset_ns', 'name'),
    [
        (50_000_000, 'stamp_ahead'),
        (37 * SECOND, 'stamp_tai'),
        (3600 * SECOND, 'stamp_time_zone'),
        (-10 * SECOND, 'stamp_old'),
        ('zero', 'stamp_zero'),
        ('boot', 'stamp_since_boot'),
        ('simulated', 'stamp_simulated'),
    ],
)
@pytest.mark.parametrize('topic', ['camera/image_raw', 'break_beam'])
def test_wrong_clocks_of_drivers_are_refused_by_name_and_block_nothing(topic, offset_ns, name):
    with camera_cell(trigger='beam', longest_delay=5.0) as cell:
        cell.wait_active()
        camera = cell.runner.node('camera')
        frames = publisher(cell, Image, 'camera/image_raw')
        beam = publisher(cell, Header, 'break_beam')
        cell.connect('capture')

        def show(stamp_ns):
            if topic == 'break_beam':
                beam.publish(Header(stamp=to_stamp(stamp_ns)))
            else:
                frames.publish(picture(stamp_ns))

        # The frame comes later: then the stamp, which is made now, is off by a little less.
        named = {'zero': 0, 'boot': time.monotonic_ns(), 'simulated': 12 * SECOND}
        wrong_ns = named[offset_ns] if offset_ns in named else cell.now_ns() + offset_ns
        if name == 'stamp_ahead':
            wrong_ns += SECOND  # on a busy machine this one is no more ahead else
        show(wrong_ns)
        wait_said(cell, 'camera', name, topic, 'stamp: arrival')
        assert camera.health.counted(name) == 1
        crossed_ns = cell.now_ns() - 400_000_000
        centred_ns = crossed_ns + round(-CELL.break_beam.x / CELL.belt.speed * SECOND)
        beam.publish(Header(stamp=to_stamp(crossed_ns)))
        cell.wait(lambda: camera._expected, LONG)
        frames.publish(picture(centred_ns))
        cell.wait(lambda: stamps_of(cell) == [centred_ns], LONG, 'the item after it')


def test_stamp_by_arrival_needs_no_clock_of_the_driver():
    with camera_cell(trigger='beam', **ARRIVAL) as cell:
        cell.wait_active()
        camera = cell.runner.node('camera')
        frames = publisher(cell, Image, 'camera/image_raw')
        beam = publisher(cell, Header, 'break_beam')
        cell.connect('capture')
        before_ns = cell.now_ns()
        beam.publish(Header())
        cell.wait(lambda: camera._expected, LONG)
        after_ns = cell.now_ns()
        crossed_ns = camera._belt.time_at(camera._expected[0], 0) - round(
            -CELL.break_beam.x / CELL.belt.speed * SECOND
        )
        assert before_ns - 10_000_000 - 1000 <= crossed_ns <= after_ns - 10_000_000 + 1000
        before_ns, seen = cell.now_ns(), []
        inner = camera._source._callback
        camera._source._callback = lambda *frame: (seen.append(frame[1]), inner(*frame))
        frames.publish(picture(0))
        cell.wait(lambda: seen, LONG, 'the frame')
        assert before_ns - 50_000_000 <= seen[0] <= cell.now_ns() - 50_000_000
        assert not any(name.startswith('stamp') for name in camera.health._counts)


def test_time_of_arrival_is_that_of_the_middleware_and_not_of_the_callback():
    with camera_cell(stamp='arrival', latency=0.0) as cell:
        cell.wait_active()
        frames = publisher(cell, Image, 'camera/image_raw')
        cell.connect('capture')
        camera = cell.runner.node('camera')
        inner, sent, ended = camera._source._callback, [], []

        def busy(*frame):
            inner(*frame)
            if not ended:  # while this one is worked on, the next ones arrive
                while len(sent) < 4:
                    sent.append(cell.now_ns())
                    frames.publish(picture(0))
                threading.Event().wait(1.0)
                ended.append(cell.now_ns())

        camera._source._callback = busy
        sent.append(cell.now_ns())
        frames.publish(picture(0))
        stamps = cell.wait(lambda: len(stamps_of(cell)) == 4 and stamps_of(cell), LONG)
        assert all(at <= stamp_ns < ended[0] for at, stamp_ns in zip(sent, stamps))


@pytest.mark.parametrize('trigger', ['beam', 'frame'])
def test_recording_in_a_loop_gives_its_items_in_every_round(trigger):
    specs = [NodeSpec(Camera, {'trigger': trigger, 'use_sim_time': True, 'longest_delay': 5.0})]
    with CellHarness(specs, watched=WATCHED) as cell:
        cell.wait_active()
        camera = cell.runner.node('camera')
        frames = publisher(cell, Image, 'camera/image_raw')
        beam = publisher(cell, Header, 'break_beam') if trigger == 'beam' else None
        clock = publisher(cell, Clock, '/clock')
        cell.connect('capture')

        def tick(now_ns):
            clock.publish(Clock(clock=to_stamp(now_ns)))
            cell.wait(lambda: camera.get_clock().now().nanoseconds == now_ns, LONG, 'the time')

        to_camera = round(-CELL.break_beam.x / CELL.belt.speed * SECOND)
        expected = []
        for round_ in range(3):
            for item in range(3):
                crossed_ns = 100 * SECOND + item * SECOND // 2
                tick(crossed_ns)
                if beam is not None:
                    beam.publish(Header(stamp=to_stamp(crossed_ns)))
                    cell.wait(lambda: camera._expected, LONG, 'the crossing')
                tick(crossed_ns + to_camera)
                frames.publish(picture(crossed_ns + to_camera))
                expected.append(crossed_ns + to_camera)
                cell.wait(lambda: stamps_of(cell) == expected, LONG, f'{round_}, {item}')
            if beam is not None:  # the recording ends with an item between beam and camera
                last_ns = crossed_ns + to_camera + SECOND // 10
                tick(last_ns)
                beam.publish(Header(stamp=to_stamp(last_ns)))
                cell.wait(lambda: camera._expected, LONG, 'the last crossing')
        assert camera.health.counted('clock_jumped') == 2
        said = '1 items between' if beam is not None else 'no item was on its way'
        wait_said(cell, 'camera', 'clock_jumped', said, level=2 if beam is not None else 1)


def test_step_of_the_system_clock_empties_what_waits_in_the_camera():
    with camera_cell(trigger='beam', longest_delay=60.0) as cell:
        cell.wait_active()
        camera = cell.runner.node('camera')
        publisher(cell, Image, 'camera/image_raw')
        beam = publisher(cell, Header, 'break_beam')
        beam.publish(Header(stamp=cell.probe.get_clock().now().to_msg()))
        cell.wait(lambda: camera._expected, LONG)
        clock = camera._clock_watch._clock

        class Stepped:
            """The node's clock after NTP has set it."""

            def now(self):
                now = clock.now()
                return type(now)(nanoseconds=now.nanoseconds + 3 * SECOND)

        camera._clock_watch._clock = Stepped()
        wait_said(cell, 'camera', 'clock_jumped', '1 items between')
        assert not camera._expected


def test_a_driver_that_takes_its_time_to_start_is_no_fault_and_one_that_goes_is(monkeypatch):
    monkeypatch.setattr(outside_input, 'START_S', 1000.0)
    with camera_cell() as cell:
        cell.wait_active()
        (opened,) = cell.runner.node('camera')._outside
        cell.wait(lambda: opened._waiting_said, LONG, 'that it waits')
        frames = publisher(cell, Image, 'camera/image_raw')
        cell.wait(lambda: opened.is_published, LONG, 'the driver')
        said = [s.message for s in cell.statuses('camera')]
        assert not [text for text in said if 'nobody publishes' in text]
        cell.probe.destroy_publisher(frames)
        wait_said(cell, 'camera', '/camera/image_raw: nobody publishes it')


def test_camera_without_a_driver_says_so_with_the_remedy_until_it_comes(no_time_to_start):
    with camera_cell(trigger='beam') as cell:
        cell.wait_active()
        wait_said(cell, 'camera', '/camera/image_raw: nobody publishes it')
        wait_said(cell, 'camera', '/break_beam: nobody publishes it', '`trigger`')
        cell.probe.create_publisher(Image, 'image_raw', 1)
        wait_said(cell, 'camera', 'camera/image_raw:=/image_raw')
        publisher(cell, Header, 'break_beam')
        frames = publisher(cell, Image, 'camera/image_raw')

        def well():
            frames.publish(picture(cell.now_ns()))
            return cell.statuses('camera')[-1].level == b'\x00'

        cell.wait(well, LONG, 'all being well')


def test_only_the_compressed_sibling_is_named_with_the_remedy():
    with camera_cell() as cell:
        cell.probe.create_publisher(CompressedImage, 'camera/image_raw/compressed', 1)
        cell.wait_active()
        wait_said(cell, 'camera', 'only /camera/image_raw/compressed', 'image_transport')


def test_a_compressed_input_of_which_only_the_raw_one_is_published_says_so():
    topic = 'camera/image_raw/compressed'

    class CompressedCamera(Camera):
        topics = (
            *TOPICS,
            Topic(topic, 'sensor_msgs/CompressedImage', Profile.FRAMES, (), (Camera.NAME,)),
        )

        def activate(self):
            super().activate()
            self.listen_outside(topic, lambda *_: None)

    with CellHarness([NodeSpec(CompressedCamera)], watched=WATCHED) as cell:
        cell.probe.create_publisher(Image, 'camera/image_raw', 1)
        cell.wait_active()
        wait_said(cell, 'camera', f'/{topic}: nobody publishes it, only /camera/image_raw', 'raw`')


def test_another_type_on_the_name_is_said_with_its_publisher():
    # rclpy has no second type for one topic in one participant.
    with camera_cell() as cell:
        import rclpy
        from rclpy.context import Context

        cell.wait_active()
        context = Context()
        rclpy.init(context=context, domain_id=cell.domain_id)
        driver = rclpy.create_node('driver', context=context, use_global_arguments=False)
        try:
            driver.create_publisher(CompressedImage, 'camera/image_raw', 1)
            wait_said(cell, 'camera', 'driver publishes sensor_msgs/msg/CompressedImage')
        finally:
            driver.destroy_node()
            rclpy.shutdown(context=context)


@pytest.mark.parametrize('reliability', [RELIABLE, BEST_EFFORT])
def test_bursts_of_a_triggered_camera_are_all_captured(reliability):
    with camera_cell() as cell:
        cell.wait_active()
        frames = publisher(cell, Image, 'camera/image_raw', reliability)
        cell.connect('capture')
        sent = []
        for _ in range(4):
            message = picture(0, (480, 640))
            for _ in range(5):
                sent.append(cell.now_ns())
                message.header.stamp = to_stamp(sent[-1])
                frames.publish(message)
            if reliability is RELIABLE:
                cell.wait(lambda: stamps_of(cell) == sent, LONG, 'all of a burst')
        # Nobody answers for what a best-effort publisher has lost; what comes is captured.
        cell.wait(lambda: stamps_of(cell) and stamps_of(cell)[-1] >= sent[-5], LONG)
        assert set(stamps_of(cell)) <= set(sent)


def test_frames_that_the_queue_had_no_room_for_are_said():
    with camera_cell() as cell:
        cell.wait_active()
        camera = cell.runner.node('camera')
        frames = publisher(cell, Image, 'camera/image_raw', depth=100)
        inner, begun, go = camera._source._callback, threading.Event(), threading.Event()

        def busy(*frame):
            begun.set()
            assert go.wait(LONG)
            inner(*frame)

        camera._source._callback = busy
        frames.publish(picture(cell.now_ns()))
        assert begun.wait(LONG)
        for _ in range(40):
            frames.publish(picture(cell.now_ns()))
        assert frames.wait_for_all_acked(Duration(seconds=LONG))
        go.set()
        wait_said(cell, 'camera', 'messages_lost', '24 messages on /camera/image_raw', 'depth')
        cell.wait(lambda: camera.health.counted('items') == 17, LONG, 'those that fit')
        assert camera.health.counted('messages_lost.camera/image_raw') == 24


def test_simulated_time_without_a_clock_is_said():
    with camera_cell(use_sim_time=True) as cell:
        cell.wait_active()
        wait_said(cell, 'camera', '/clock: nobody publishes it', 'use_sim_time: false')
        frames = publisher(cell, Image, 'camera/image_raw')
        frames.publish(picture(cell.now_ns()))
        wait_said(cell, 'camera', 'no_clock')
        clock = publisher(cell, Clock, '/clock')

        def well():
            clock.publish(Clock(clock=to_stamp(100 * SECOND)))
            return '/clock: nobody' not in cell.statuses('camera')[-1].message

        cell.wait(well, LONG, 'the end of that')


def test_a_reliable_driver_after_a_best_effort_one_is_met_reliably():
    with camera_cell() as cell:
        cell.wait_active()
        camera = cell.runner.node('camera')
        frames = publisher(cell, Image, 'camera/image_raw', BEST_EFFORT)
        (outside,) = camera._outside
        cell.wait(
            lambda: outside._subscription.qos_profile.reliability is BEST_EFFORT,
            LONG,
            'a subscription for best effort',
        )
        cell.probe.destroy_publisher(frames)
        frames = cell.probe.create_publisher(Image, 'camera/image_raw', 5)
        cell.wait(
            lambda: outside._subscription.qos_profile.reliability is RELIABLE, LONG, 'the change'
        )
        cell.connect('capture')

        def seen():  # the publisher may still count the subscription that has gone
            frames.publish(picture(cell.now_ns()))
            return stamps_of(cell)

        cell.wait(seen, LONG, 'a frame')
        assert outside._subscription.qos_profile.depth >= 10


def test_reliability_that_a_parameter_file_sets_is_kept():
    key = 'qos_overrides./camera/image_raw.subscription.reliability'
    with camera_cell(**{key: 'reliable'}) as cell:
        cell.wait_active()
        cell.probe.create_publisher(
            Image, 'camera/image_raw', QoSProfile(depth=1, reliability=BEST_EFFORT)
        )
        wait_said(cell, 'camera', 'incompatible_qos', 'qos_overrides')


@pytest.mark.parametrize('size', [(480, 640), (720, 1280), (120, 160)])
def test_picture_of_another_size_is_scaled_and_said(size):
    with camera_cell() as cell:
        cell.wait_active()
        frames = publisher(cell, Image, 'camera/image_raw')
        cell.connect('capture')
        frames.publish(picture(cell.now_ns(), size, size[0] // 4))
        (capture,) = cell.wait(lambda: cell.heard.of('capture'), LONG)
        wait_said(cell, 'camera', f'{size[1]} x {size[0]}', '320 x 240', level=1)
        crop = np.frombuffer(capture.crop.data, np.uint8).reshape(160, 160, 3)[:, :, 0]
        rows, columns = np.nonzero(crop > 130)
        for places in (rows, columns):
            assert places.max() - places.min() + 1 == pytest.approx(60, abs=2)
            assert (places.max() + places.min()) / 2 == pytest.approx(79.5, abs=1)


def test_camera_that_runs_free_on_defaults_is_said():
    with camera_cell(longest_delay=60.0) as cell:
        cell.wait_active()
        frames = publisher(cell, Image, 'camera/image_raw')
        cell.connect('capture')
        begin_ns = cell.now_ns() - 3 * SECOND
        for number in range(60):
            frames.publish(picture(begin_ns + number * SECOND // 30))
            if number % 10 == 9:  # as many as the queue holds
                cell.wait(lambda number=number: len(stamps_of(cell)) == number + 1, LONG)
        wait_said(cell, 'camera', 'more than the belt can bring', '`trigger`')


def test_beam_that_bounces_is_one_item():
    with camera_cell(trigger='beam', longest_delay=60.0) as cell:
        cell.wait_active()
        camera = cell.runner.node('camera')
        beam = publisher(cell, Header, 'break_beam')
        begin_ns = cell.now_ns() - 10 * SECOND
        for item in range(3):
            for bounce_ms in (0, 1, 3):
                beam.publish(Header(stamp=to_stamp(begin_ns + item * SECOND + bounce_ms * 10**6)))
        cell.wait(lambda: camera.health.counted('beam_bounces') == 6, LONG)
        cell.wait(lambda: len(camera._expected) == 3, LONG)


def test_belt_and_joints_with_a_wrong_clock_are_refused_and_confirm_nothing(no_time_to_start):
    joints = {'output': 'ros2_control', 'joints': ['a', 'b', 'c']}
    with CellHarness([NodeSpec(Actuator, joints)], watched=WATCHED) as cell:
        cell.wait_active()
        actuator = cell.runner.node('actuator')
        wait_said(
            cell, 'actuator', '/joint_states: nobody publishes it', 'joint_state_broadcaster'
        )
        states = publisher(cell, JointState, 'joint_states', BEST_EFFORT)
        belt = publisher(cell, BeltState, 'belt_state')
        diverters = actuator._output._diverters

        def say(stamp_ns, name='a', position=0.15):
            states.publish(
                JointState(
                    header=Header(stamp=to_stamp(stamp_ns)), name=[name], position=[position]
                )
            )

        say(cell.now_ns() - 60 * SECOND)
        wait_said(cell, 'actuator', 'joint_states', 'stamp_old')
        assert diverters.is_out('A') is None
        # Of an arm that shares the topic, whose stamps are its own.
        say(cell.now_ns() + 60 * SECOND, name='arm_joint_1')

        def out():
            say(cell.now_ns())
            return diverters.is_out('A')

        cell.wait(out, LONG, 'the joint')
        assert actuator.health.counted('stamp_ahead') == 0
        say(0, position=0.0)
        cell.wait(lambda: not diverters.is_out('A'), LONG, 'a joint state without a stamp')
        belt.publish(BeltState(header=Header(stamp=to_stamp(cell.now_ns() + 3600 * SECOND))))
        wait_said(cell, 'actuator', 'belt_state', 'stamp_time_zone')
        assert actuator._plan.belt.latest_ns is None


def test_the_messages_are_handed_over_by_the_other_executor_too():
    with camera_cell(executor='wait_set') as cell:
        cell.wait_active()
        frames = publisher(cell, Image, 'camera/image_raw', BEST_EFFORT)
        cell.connect('capture')
        frames.publish(picture(stamp_ns := cell.now_ns()))
        cell.wait(lambda: stamps_of(cell) == [stamp_ns], LONG)
        frames.publish(picture(0))
        wait_said(cell, 'camera', 'stamp_zero')


def said(cell, node, words):
    """Return whether the newest report of a node has the words."""
    statuses = cell.statuses(node)
    return bool(statuses) and words in statuses[-1].message


@pytest.mark.parametrize('topic', ['belt_state', 'break_beam', 'camera/image_raw'])
def test_two_that_publish_what_one_can_know_are_named(topic):
    kind = {'belt_state': BeltState, 'break_beam': Header}.get(topic, Image)
    specs = [
        NodeSpec(Actuator, {'diagnostics_period': 0.2}),
        NodeSpec(Camera, {'trigger': 'beam', 'diagnostics_period': 0.2}),
    ]
    node = 'actuator' if topic == 'belt_state' else 'camera'
    with CellHarness(specs, watched=WATCHED) as cell:
        cell.wait_active()
        publisher(cell, kind, topic)
        other = Node('plc_bridge', context=cell.runner.context, use_global_arguments=False)
        try:
            second = other.create_publisher(kind, topic, 10)
            cell.wait(lambda: said(cell, node, '/plc_bridge and /probe publish it'), LONG, 'both')
            other.destroy_publisher(second)
            cell.wait(lambda: not said(cell, node, 'publish it'), LONG, 'one again')
        finally:
            other.destroy_node()
