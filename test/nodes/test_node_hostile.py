# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""No message, however malformed, kills a node; each is refused by name, and work goes on."""

from __future__ import annotations

import array
import math

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from builtin_interfaces.msg import Time  # noqa: E402
from cell_harness import (  # noqa: E402
    CELL,
    CellHarness,
    NodeSpec,
    described,
    device_specs,
    make_capture,
    make_classification,
    to_stamp,
)
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from stl_conveyor.msg import (  # noqa: E402
    Classification,
    FeatureFeedback,
    ItemCapture,
    OffloadDecision,
    ProgressiveFeature,
    SortOutcome,
)
from stl_conveyor.nodes.base.clock import to_ns  # noqa: E402
from stl_conveyor.nodes.base.items import item_key  # noqa: E402
from stl_conveyor.nodes.device.actuator import Actuator  # noqa: E402
from stl_conveyor.nodes.device.camera import Camera  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images  # noqa: E402

pytestmark = pytest.mark.ros

SECOND = 10**9
YEAR = 31_536_000 * SECOND
LABELS = len(CELL.classes)
EXTREME = Time(sec=2**31 - 1, nanosec=2**32 - 1)
ANCIENT = Time(sec=-(2**31), nanosec=0)


def floats(*values):
    return array.array('f', values)


def hostile_captures(now_ns, image):
    good = make_capture(900, now_ns, image)
    for item_id, changes in enumerate(
        [
            {'encoding': 'bayer_rggb8'},
            {'encoding': ''},
            {'encoding': 'rgb8' * 1000},
            {'height': 0},
            {'width': 2**32 - 1},
            {'step': 1},
            {'step': 2**32 - 1},
            {'data': array.array('B')},
            {'data': array.array('B', bytes(3_000_000))},
        ],
        901,
    ):
        message = make_capture(item_id, now_ns, image)
        for name, value in changes.items():
            setattr(message.crop, name, value)
        yield message
    yield make_capture(0, now_ns, image)
    yield make_capture(920, now_ns + YEAR, image)
    yield make_capture(921, now_ns - YEAR, image)
    yield make_capture(922, now_ns, image, deadline_ns=now_ns + YEAR)
    for item_id, stamp in ((923, EXTREME), (924, ANCIENT)):
        message = make_capture(item_id, now_ns, image)
        message.header.stamp = message.deadline = stamp
        yield message
    yield make_capture(2**64 - 1, now_ns, image)
    yield good
    # For a hostile decision about it. Too late for the classifier, so that the policy has none.
    yield make_capture(702, now_ns, image, deadline_ns=now_ns - SECOND)


def hostile_classifications(now_ns, source):
    name = CELL.classes[0]
    for item_id, changes in enumerate(
        [
            {'probabilities': floats()},
            {'probabilities': floats(1.0)},
            {'probabilities': floats(*[math.nan] * LABELS)},
            {'probabilities': floats(*[math.inf] * LABELS)},
            {'probabilities': floats(*[-1.0] * LABELS)},
            {'probabilities': array.array('f', bytes(4 * 300_000))},
            {'score': math.nan},
            {'score': 1e30},
            {'score': -1.0},
            {'class_id': ''},
            {'class_id': 'teapot' * 1000},
            {'source': 0},
            {'source': 255},
            {'item_id': 0},
            {'deadline': EXTREME},
            {'deadline': ANCIENT},
        ],
        800,
    ):
        message = make_classification(item_id, now_ns, name, source)
        for field, value in changes.items():
            setattr(message, field, value)
        yield message


def hostile_decisions(now_ns):
    for item_id, changes in enumerate(
        [
            {'item_id': 0},
            {'byte_budget': 2**32 - 1},
            {'probabilities': floats(math.nan)},
            {'reason': 255},
            {'deadline': EXTREME},
            {'deadline': ANCIENT},
        ],
        700,
    ):
        message = OffloadDecision(
            header=Header(stamp=to_stamp(now_ns)),
            item_id=item_id,
            offload=True,
            byte_budget=2000,
            deadline=to_stamp(now_ns + SECOND),
        )
        for field, value in changes.items():
            setattr(message, field, value)
        yield message


def hostile_features(now_ns, codec_id):
    for item_id, changes in enumerate(
        [
            {'item_id': 0},
            {'codec_id': 1},
            {'deadline': EXTREME},
            {'deadline': ANCIENT},
            {'sequence': 65535, 'last': True},
            {'data': array.array('B')},
            {'data': array.array('B', bytes(60_000))},
        ],
        600,
    ):
        message = ProgressiveFeature(
            header=Header(stamp=to_stamp(now_ns)),
            item_id=item_id,
            codec_id=codec_id,
            deadline=to_stamp(now_ns + SECOND),
            data=array.array('B', b'\xff' * 40),
        )
        for field, value in changes.items():
            setattr(message, field, value)
        yield message


def hostile_feedback(now_ns, codec_id):
    for changes in [
        {'item_id': 0},
        {'codec_id': 9},
        {'status': 255},
        {'stop_reason': 255},
        {'sequence': 65535, 'packets': 65535, 'bytes': 2**32 - 1},
        {'score': math.nan, 'compute_time': math.nan},
        {'compute_time': math.inf},
        {'compute_time': -1e30},
        {'satisfied': True},
    ]:
        for status in range(6):
            message = FeatureFeedback(
                header=Header(stamp=to_stamp(now_ns)),
                item_id=500,
                codec_id=codec_id,
                status=status,
            )
            for field, value in changes.items():
                setattr(message, field, value)
            yield message


def test_cell_survives_hostile_messages(tiny_models):
    image = tiny_images(1, LABELS)[0][0]
    with CellHarness(device_specs(tiny_models)) as cell:
        cell.wait_active()
        encoder = cell.runner.node('encoder')
        codec_id = encoder.encoder.identity
        now_ns = cell.now_ns()
        captures = cell.publisher('capture', readers=5)
        floods = [
            (captures, hostile_captures(now_ns, image)),
            (
                cell.publisher('classification', readers=3),
                hostile_classifications(now_ns, Classification.SOURCE_LOCAL),
            ),
            (
                cell.publisher('edge_classification', readers=2),
                hostile_classifications(now_ns, Classification.SOURCE_EDGE),
            ),
            (cell.publisher('offload_decision', readers=3), hostile_decisions(now_ns)),
            (cell.publisher('features_rx', readers=2), hostile_features(now_ns, codec_id)),
            (cell.publisher('feedback_rx', readers=3), hostile_feedback(now_ns, codec_id)),
            (cell.publisher('transfer', readers=2), hostile_feedback(now_ns, codec_id)),
        ]
        local = cell.runner.node('local_classifier').health
        shown = 0

        def taken_in():
            return sum(
                map(local.counted, ('items', 'too_late', 'BadMessage', 'BadImage', 'exception'))
            )

        def reached_encoder(key):
            return encoder._waiting.get(key) or encoder._begun.get(key)

        accepted = set()
        for publisher, messages in floods:
            for message in messages:
                if isinstance(message, ItemCapture) and message.item_id:
                    accepted.add(message.item_id)
                publisher.publish(message)
                if isinstance(message, ItemCapture):
                    # Each is taken in before the next: depth 2 would drop some of a burst.
                    shown += 1
                    cell.wait(lambda: taken_in() >= shown, 5, f'capture {shown} at the classifier')
                elif isinstance(message, OffloadDecision) and message.item_id:
                    # Nor is there room for these beside all that the policy says of the flood.
                    key = item_key(message)
                    cell.wait(lambda: reached_encoder(key), 5, f'{key} at the encoder')
        cell.wait(
            lambda: len({o.item_id for o in cell.outcomes()}) == len(accepted),
            5,
            f'an outcome for each of {sorted(accepted)}',
        )
        assert sorted(o.item_id for o in cell.outcomes()) == sorted(accepted)
        for node, text in (
            ('actuator', 'absurd_deadline'),
            ('actuator', 'BadMessage'),
            ('actuator', 'wrong_source'),
            ('actuator', 'bad_answer'),
            ('actuator', 'unknown_class'),
            ('local_classifier', 'BadImage'),
            ('local_classifier', 'too_late'),
            ('offload_policy', 'bad_probabilities'),
            ('offload_policy', 'unexpected_transfer'),
            ('encoder', 'bad_probabilities'),
            ('edge_classifier', 'codec_mismatch'),
            ('edge_classifier', 'bad_packet'),
            ('edge_classifier', 'too_late'),
            ('edge_classifier', 'BadMessage'),
        ):
            cell.wait(lambda: cell.runner.node(node).health.counted(text), 5, f'{text} at {node}')
        for node in cell.runner.nodes:
            assert node.is_active
            assert node.health.counted('exception') == 0, cell.complaints()
        # And the cell goes on.
        cell.wait(lambda: cell.runner.node('offload_policy').edge_alive, 10, 'the edge')
        for item_id in range(1000, 1020):
            captures.publish(make_capture(item_id, cell.now_ns(), image))
            outcome = cell.wait(lambda: cell.heard.of('sort_outcome', item_id=item_id))[0]
            if outcome.source == SortOutcome.SOURCE_EDGE:
                break
        assert outcome.source == SortOutcome.SOURCE_EDGE


def test_duplicates_and_conflicts_at_the_actuator():
    image = tiny_images(1, LABELS)[0][0]
    with CellHarness([NodeSpec(Actuator, described(guard=0.3))]) as cell:
        cell.wait_active()
        captures = cell.publisher('capture', readers=2)
        answers = cell.publisher('classification', readers=2)
        stamp_ns = cell.now_ns()
        answers.publish(make_classification(1, stamp_ns, CELL.classes[3]))  # overtakes
        for _ in range(3):
            captures.publish(make_capture(1, stamp_ns, image))
        captures.publish(make_capture(1, stamp_ns + 5, image))
        (outcome,) = cell.wait(cell.outcomes)
        assert outcome.class_id == CELL.classes[3] and not outcome.missed
        actuator = cell.runner.node('actuator')
        cell.wait(lambda: actuator.health.counted('duplicate_capture') >= 1)
        cell.wait(lambda: actuator.health.counted('item_id_conflict') == 1)
        captures.publish(make_capture(1, stamp_ns, image))
        answers.publish(make_classification(1, stamp_ns, CELL.classes[4]))
        captures.publish(make_capture(2, cell.now_ns(), image))
        cell.wait(lambda: len(cell.outcomes()) == 2)
        assert [o.item_id for o in cell.outcomes()] == [1, 2]


def test_a_camera_that_was_restarted_counts_again_and_each_item_gets_its_outcome():
    image = tiny_images(1, LABELS)[0][0]
    with CellHarness([NodeSpec(Actuator, described(guard=0.05))]) as cell:
        cell.wait_active()
        captures = cell.publisher('capture', readers=2)
        answers = cell.publisher('classification', readers=2)
        now_ns = cell.now_ns()
        stamps = [now_ns, now_ns + 300_000_000]
        for stamp_ns in stamps:
            captures.publish(make_capture(1, stamp_ns, image))
        for stamp_ns, name in zip(stamps, (CELL.classes[3], CELL.classes[4])):
            answers.publish(make_classification(1, stamp_ns, name))
        outcomes = cell.wait(lambda: len(cell.outcomes()) == 2 and cell.outcomes())
        assert {to_ns(o.header.stamp): o.class_id for o in outcomes} == dict(
            zip(stamps, (CELL.classes[3], CELL.classes[4]))
        )
        assert cell.runner.node('actuator').health.counted('item_id_again') == 1


def test_camera_refuses_bad_frames_and_never_repeats_a_number():
    with CellHarness([NodeSpec(Camera, {'longest_delay': 60.0})]) as cell:
        cell.wait_active()
        camera = cell.runner.node('camera')
        frames = cell.publisher('camera/image_raw', Image)

        def frame(stamp_ns, **changes):
            message = Image(
                header=Header(stamp=to_stamp(stamp_ns), frame_id='lens'),
                height=240,
                width=320,
                step=960,
                encoding='rgb8',
                data=array.array('B', bytes(240 * 960)),
            )
            for name, value in changes.items():
                setattr(message, name, value)
            return message

        def send(message, counter):
            before = camera.health.counted(counter)
            frames.publish(message)
            cell.wait(lambda: camera.health.counted(counter) > before, 5, counter)

        now_ns = cell.now_ns()
        send(frame(now_ns - 3, encoding='32FC1'), 'BadImage')
        send(frame(now_ns - 2, data=array.array('B', bytes(7))), 'BadImage')
        send(frame(now_ns - 1, width=10**9), 'BadImage')
        send(frame(now_ns + YEAR), 'stamp_ahead')
        send(frame(now_ns - YEAR), 'stamp_old')
        send(frame(now_ns), 'items')
        send(frame(now_ns), 'stamp_repeated')
        send(frame(0), 'stamp_zero')
        camera.executor.create_task(camera.trigger_deactivate)
        cell.wait(lambda: not camera.is_active)
        camera.executor.create_task(camera.trigger_activate)
        cell.wait(lambda: camera.is_active)
        cell.wait(lambda: frames.get_subscription_count() == 1)
        cell.wait(lambda: camera.count_subscribers('capture') == 1)
        cell.connect('capture')
        send(frame(cell.now_ns()), 'items')
        cell.wait(lambda: len(cell.heard.of('capture')) >= 2)
        captures = cell.heard.of('capture')
        assert [c.item_id for c in captures] == [1, 2]
        assert captures[0].header.frame_id == 'lens'
        assert captures[0].crop.header == captures[0].header
        assert (captures[0].crop.height, captures[0].crop.width) == (160, 160)
        deadline = captures[0].deadline
        assert deadline.sec * SECOND + deadline.nanosec == now_ns + CELL.decision_time_ns
        assert camera.health.counted('exception') == 0
