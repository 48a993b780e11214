# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The camera node's sources and triggers."""

from __future__ import annotations

import array
import sys
import threading
import time
from contextlib import contextmanager

import fake_video
import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('stl_conveyor.msg')

from cell_harness import CELL, CellHarness, NodeSpec, to_stamp  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from stl_conveyor.msg import BeltState  # noqa: E402
from stl_conveyor.nodes.base.clock import to_ns  # noqa: E402
from stl_conveyor.nodes.device.camera import Camera  # noqa: E402
from stl_conveyor.vision.encodings import ENCODINGS  # noqa: E402

pytestmark = pytest.mark.ros

SECOND = 10**9
SPEED = CELL.belt.speed * CELL.camera.pixels_per_metre  # pixels per second, upwards
WATCHED = ('capture', '/diagnostics')
PATIENT = {'longest_delay': 60.0}  # for what happened before the test began


def frame(stamp_ns, row=None, column=160):
    """Return an image message of a dark belt, with a bright part around a place."""
    image = np.full((240, 320, 3), 60, np.uint8)
    if row is not None:
        image[max(0, row - 20) : max(0, row + 20), column - 20 : column + 20] = 200
    return Image(
        header=Header(stamp=to_stamp(stamp_ns)),
        height=240,
        width=320,
        step=960,
        encoding='rgb8',
        data=array.array('B', image.tobytes()),
    )


def crop_of(capture):
    return np.frombuffer(capture.crop.data, np.uint8).reshape(160, 160, 3)


def bright_centre(crop):
    rows, columns = np.nonzero(crop[:, :, 0] > 150)
    return rows.mean(), columns.mean()


def show(cell, publisher, camera, message):
    """Publish a frame and wait until the camera has seen it: its queue holds the newest only."""
    before = camera.frames
    publisher.publish(message)
    cell.wait(lambda: camera.frames > before, 5, 'a frame')


class CountingCamera(Camera):
    """A camera that counts the frames it was shown."""

    frames = 0

    def configure(self):
        super().configure()
        inner = self._source._callback

        def count(*arguments):
            inner(*arguments)
            self.frames += 1

        self._source._callback = count


@contextmanager
def counting(trigger):
    """Yield a cell with a CountingCamera alone, the camera, and what publishes its frames."""
    specs = [NodeSpec(CountingCamera, {'trigger': trigger, **PATIENT})]
    with CellHarness(specs, watched=WATCHED) as cell:
        cell.wait_active()
        frames = cell.publisher('camera/image_raw', Image)
        cell.connect('capture')
        yield cell, cell.runner.nodes[0], frames


def capture_of(cell, stamp_ns):
    """Wait for the capture of a frame."""
    return cell.wait(
        lambda: next(
            (c for c in cell.heard.of('capture') if to_ns(c.header.stamp) == stamp_ns), None
        )
    )


def test_beam_gives_the_time_and_the_frame_gives_the_picture():
    with counting('beam') as (cell, camera, frames):
        beam = cell.publisher('break_beam', Header)
        broken_ns = cell.now_ns() - 2 * SECOND
        centred_ns = broken_ns + round(0.12 / CELL.belt.speed * SECOND)
        beam.publish(Header(stamp=to_stamp(broken_ns)))
        cell.wait(lambda: camera._expected)
        for time_ns in (centred_ns - 75_000_000, centred_ns - 25_000_000, centred_ns + 25_000_000):
            offset = SPEED * (time_ns - centred_ns) / SECOND
            show(cell, frames, camera, frame(time_ns, round(119.5 - offset), 160))
        (capture,) = cell.wait(lambda: cell.heard.of('capture'))
        assert to_ns(capture.header.stamp) == centred_ns
        assert to_ns(capture.deadline) == centred_ns + CELL.decision_time_ns
        assert bright_centre(crop_of(capture)) == pytest.approx((79.5, 79.5), abs=2)
        assert capture.header.frame_id == 'camera_optical_frame'
        # An item of which no frame is taken is said to be lost, and not made up.
        beam.publish(Header(stamp=to_stamp(broken_ns + SECOND // 2)))
        cell.wait(lambda: camera._expected)
        show(cell, frames, camera, frame(centred_ns + SECOND))
        cell.wait_diagnostic('camera', 'item_not_seen', level=2)
        assert len(cell.heard.of('capture')) == 1


@pytest.mark.parametrize('early_ns', [0, 500_000])
def test_a_frame_that_shows_the_item_in_its_middle_needs_no_next_one(early_ns):
    # A camera that the barrier triggers gives one frame an item, a hair before the middle, too.
    with counting('beam') as (cell, camera, frames):
        beam = cell.publisher('break_beam', Header)
        assert CELL.belt.speed * early_ns / SECOND < 0.5 / CELL.camera.pixels_per_metre
        begin_ns = cell.now_ns() - 4 * SECOND
        way_ns = round(0.12 / CELL.belt.speed * SECOND)
        # At some of these times the way back and forth is a last bit longer.
        for number in range(1, 17):
            broken_ns = begin_ns + number * 201_234_567
            beam.publish(Header(stamp=to_stamp(broken_ns)))
            cell.wait(lambda: camera._expected)
            show(cell, frames, camera, frame(broken_ns + way_ns - early_ns))
            cell.wait(lambda number=number: len(cell.heard.of('capture')) == number)
            assert to_ns(cell.heard.of('capture')[-1].header.stamp) == broken_ns + way_ns


def test_image_alone_gives_time_and_place():
    with counting('image') as (cell, camera, frames):
        start_ns = cell.now_ns() - 2 * SECOND
        show(cell, frames, camera, frame(start_ns))
        centred_ns = start_ns + 250_000_000
        for step in range(12):
            time_ns = start_ns + step * 40_000_000
            row = round(119.5 - SPEED * (time_ns - centred_ns) / SECOND)
            show(cell, frames, camera, frame(time_ns + 1, row if -20 < row < 260 else None, 150))
        (capture,) = cell.wait(lambda: cell.heard.of('capture'))
        assert abs(to_ns(capture.header.stamp) - centred_ns) < 5_000_000
        assert bright_centre(crop_of(capture)) == pytest.approx((79.5, 79.5), abs=2)


def test_folder_of_images(tmp_path):
    pillow = pytest.importorskip('PIL.Image')
    for index in range(3):
        pillow.new('RGB', (400, 300), (0, 0, 50 * index + 50)).save(tmp_path / f'{index}.png')
    (tmp_path / '1.png').write_bytes(b'broken')
    with CellHarness(
        [NodeSpec(Camera, {'source': 'folder', 'folder': str(tmp_path), 'rate': 20.0})],
        watched=WATCHED,
    ) as cell:
        cell.wait_diagnostic('camera', 'cannot be read as an image')
        cell.wait_active()
        captures = cell.wait(
            lambda: len(cell.heard.of('capture')) == 2 and cell.heard.of('capture')
        )
        assert [tuple(crop_of(c)[80, 80]) for c in captures] == [(0, 0, 50), (0, 0, 150)]


def test_device_without_opencv_and_empty_folder_are_explained(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'cv2', None)
    with CellHarness(
        [
            NodeSpec(Camera, {'source': 'device'}, name='cv'),
            NodeSpec(Camera, {'source': 'folder', 'folder': str(tmp_path)}, name='empty'),
        ],
        watched=WATCHED,
    ) as cell:
        cell.wait_diagnostic('cv', 'needs OpenCV', level=2)
        cell.wait_diagnostic('empty', 'holds no image', level=2)


def test_device_delivers_is_unplugged_and_comes_back(monkeypatch):
    class Unpluggable(fake_video.FakeCapture):
        plugged = True
        opened = 0

        def __init__(self, device, api=0):
            assert (device, api) == (3, fake_video.CONSTANTS['CAP_V4L2'])
            super().__init__(device, api)
            Unpluggable.opened += 1

        def read(self):
            threading.Event().wait(0.02)  # as long as a picture takes
            good, image = super().read()
            return good and self.plugged, image

    fake_video.install(monkeypatch, Unpluggable)
    with CellHarness(
        [NodeSpec(Camera, {'source': 'device', 'device': '3', 'diagnostics_period': 0.2})],
        watched=WATCHED,
    ) as cell:
        cell.wait_active()
        capture = cell.wait(lambda: cell.heard.of('capture'))[0]
        assert tuple(crop_of(capture)[0, 0]) == (3, 2, 1)  # OpenCV's order is BGR
        Unpluggable.plugged = False
        cell.wait_diagnostic('camera', 'camera 3 delivers no frame', level=2)
        Unpluggable.plugged = True
        before = len(cell.heard.of('capture'))
        cell.wait(lambda: len(cell.heard.of('capture')) > before + 2)
        assert Unpluggable.opened >= 2


def test_exception_in_the_thread_of_a_device_is_reported_and_the_camera_opened_again(monkeypatch):
    class Troubled(fake_video.FakeCapture):
        trouble = threading.Event()
        opened = released = 0

        def __init__(self, device, api=0):
            super().__init__(device, api)
            Troubled.opened += 1
            if Troubled.opened == 3:
                raise RuntimeError('no such device')

        def read(self):
            if Troubled.trouble.wait(0.01):
                Troubled.trouble.clear()
                raise ValueError('a bad frame')
            return super().read()

        def release(self):
            Troubled.released += 1

    fake_video.install(monkeypatch, Troubled)
    monkeypatch.setattr('stl_conveyor.hardware.frame_sources.RETRY_S', 1.0)
    with CellHarness(
        [NodeSpec(Camera, {'source': 'device', 'device': '3', 'diagnostics_period': 0.2})],
        watched=WATCHED,
    ) as cell:
        cell.wait_active()
        for opened, reason in (
            (2, 'camera 3 fails (ValueError: a bad frame)'),
            (4, 'camera 3 fails (RuntimeError: no such device)'),
        ):
            cell.wait(lambda: cell.heard.of('capture'))
            Troubled.trouble.set()
            cell.wait_diagnostic('camera', reason, level=2)
            cell.wait(lambda opened=opened: Troubled.opened == opened)
            before = len(cell.heard.of('capture'))
            cell.wait(lambda before=before: len(cell.heard.of('capture')) > before)
    assert Troubled.released == Troubled.opened - 1


def values_of(cell):
    """Return what the newest report says beside its message."""
    newest = cell.statuses('camera')[-1:]
    return {value.key: value.value for status in newest for value in status.values}


@pytest.mark.parametrize('device', ['0', 0])
def test_device_is_asked_for_the_pixels_of_the_cell_and_says_what_it_gives(monkeypatch, device):
    fake_video.install(monkeypatch, fake_video.FakeCapture)
    with CellHarness(
        [
            NodeSpec(
                Camera,
                {
                    'source': 'device',
                    'device': device,
                    'trigger': 'beam',  # not every picture is an item
                    'diagnostics_period': 0.2,
                },
            )
        ],
        watched=WATCHED,
    ) as cell:
        cell.wait_active()
        cell.wait(lambda: 'device' in values_of(cell))
        assert values_of(cell)['device'] == '0: 320 x 240 YUYV at 30 Hz'
        cell.wait(
            lambda: cell.statuses('camera')[-1].level == b'\x00', 30, 'a camera that is well'
        )


def test_device_that_gives_something_else_is_reported(monkeypatch):
    fake_video.install(monkeypatch, fake_video.FakeCapture)
    asked = {
        'device_width': 800,
        'device_height': 600,
        'device_format': 'MJPG',
        'device_rate': 60.0,
    }
    with CellHarness(
        [NodeSpec(Camera, {'source': 'device', 'diagnostics_period': 0.2, **asked})],
        watched=WATCHED,
    ) as cell:
        cell.wait_active()
        cell.wait_diagnostic(
            'camera',
            'camera /dev/video0 gives 640 x 480 MJPG at 30 Hz, not 800 x 600 MJPG at 60 Hz',
            level=1,
        )


def test_device_that_is_not_there_is_named_with_those_that_are(monkeypatch):
    class Absent(fake_video.FakeCapture):
        there = False

    fake_video.install(monkeypatch, Absent)
    monkeypatch.setattr('glob.glob', lambda _: ['/dev/video7', '/dev/video9'])
    with CellHarness(
        [NodeSpec(Camera, {'source': 'device', 'device': '/dev/v4l/by-id/usb-none'})],
        watched=WATCHED,
    ) as cell:
        cell.wait_diagnostic(
            'camera',
            'camera /dev/v4l/by-id/usb-none is not there; there is /dev/video7, /dev/video9',
            level=2,
        )


def compressed(stamp_ns, image, format_text, suffix):
    cv2 = pytest.importorskip('cv2', reason='compressed pictures need OpenCV')
    data = cv2.imencode(suffix, image)[1]
    return CompressedImage(
        header=Header(stamp=to_stamp(stamp_ns)),
        format=format_text,
        data=array.array('B', data.tobytes()),
    )


@pytest.mark.parametrize('base', ['camera/image_raw', '/line/cam'])
def test_compressed_pictures_of_a_driver(base):
    remappings = {} if base == 'camera/image_raw' else {'camera/image_raw': base}
    with CellHarness(
        [NodeSpec(Camera, {'image_transport': 'compressed'}, remappings=remappings)],
        watched=WATCHED,
    ) as cell:
        cell.wait_active()
        frames = cell.publisher(f'{base}/compressed', CompressedImage)
        cell.connect('capture')
        orange = np.full((240, 320, 3), (30, 120, 210), np.uint8)  # blue first
        grey = np.full((240, 320), 2000, np.uint16)  # of 12 bits
        grey[0, 0] = 4095
        for picture, format_text, suffix, seen in (
            (orange, 'rgb8; jpeg compressed bgr8', '.jpg', (210, 120, 30)),
            (orange, 'bgr8; png compressed bgr8', '.png', (210, 120, 30)),
            (grey, 'mono16; png compressed ', '.png', (125, 125, 125)),
        ):
            stamp_ns = cell.now_ns()
            frames.publish(compressed(stamp_ns, picture, format_text, suffix))
            capture = capture_of(cell, stamp_ns)
            assert abs(crop_of(capture)[80, 80].astype(int) - seen).max() <= 3
        frames.publish(
            CompressedImage(
                header=Header(stamp=to_stamp(cell.now_ns())),
                format='jpeg',
                data=array.array('B', b'\xff\xd8'),
            )
        )
        cell.wait_diagnostic('camera', 'no picture of JPEG or PNG', level=1)


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_every_encoding_of_a_driver_makes_an_item(encodings_cell, encoding):
    pytest.importorskip('cv2')
    cell, frames = encodings_cell
    layout = ENCODINGS[encoding]
    step = 320 * layout.channels * layout.sample_bytes
    stamp_ns = cell.now_ns()
    frames.publish(
        Image(
            header=Header(stamp=to_stamp(stamp_ns)),
            height=240,
            width=320,
            step=step,
            encoding=encoding,
            data=array.array('B', bytes([120]) * (step * 240 * layout.rows // 2)),
        )
    )
    capture = capture_of(cell, stamp_ns)
    assert (capture.crop.encoding, capture.crop.width) == ('rgb8', 160)
    assert (crop_of(capture) == crop_of(capture)[0, 0]).all() and crop_of(capture).max() > 100


@pytest.fixture(scope='module')
def encodings_cell():
    with CellHarness([NodeSpec(Camera)], watched=WATCHED) as cell:
        cell.wait_active()
        frames = cell.publisher('camera/image_raw', Image)
        cell.connect('capture')
        yield cell, frames


def test_unknown_encoding_is_named_with_those_that_are_taken(encodings_cell):
    cell, frames = encodings_cell
    message = frame(cell.now_ns())
    message.encoding = '32FC1'
    frames.publish(message)
    cell.wait_diagnostic('camera', "encoding '32FC1' is not taken; publish one of rgb8", level=1)


class Turning:
    """A one-channel encoder on a mock pin that turns in a thread."""

    def __init__(self, pin, speed, steps_per_metre):
        self.pin, self.interval = pin, 1.0 / (speed * steps_per_metre)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        due = time.monotonic()
        while not self.stopped.wait(max(0.0, due - time.monotonic())):
            self.pin.drive_low()
            self.pin.drive_high()
            due += self.interval

    def stop(self):
        self.stopped.set()
        self.thread.join()


def test_light_barrier_on_a_pin_joins_the_breaks_of_a_part_with_a_hole(pins):
    with counting('gpio') as (cell, camera, frames):
        begin_ns = cell.now_ns() - 2 * SECOND
        # A washer: rim, hole, rim; 16 mm at 0.4 m/s are 40 ms.
        for after_ms, broken in ((0, True), (10, False), (30, True), (40, False)):
            camera._inbox.brings(camera._on_beam_change)(broken, begin_ns + after_ms * 1_000_000)
        cell.wait(lambda: camera._expected)
        centred_ns = begin_ns + 20_000_000 + round(0.12 / CELL.belt.speed * SECOND)
        for offset_ms in (-30, 10):
            show(cell, frames, camera, frame(centred_ns + offset_ms * 1_000_000))
        (capture,) = cell.wait(lambda: cell.heard.of('capture'))
        assert abs(to_ns(capture.header.stamp) - centred_ns) < 1000


def test_beam_on_a_pin_is_heard_and_a_blocked_one_reported(pins, monkeypatch):
    monkeypatch.setattr('stl_conveyor.nodes.device.camera.BEAM_BLOCKED_NS', 200_000_000)
    specs = [NodeSpec(Camera, {'trigger': 'gpio', 'frame_timeout': 60.0})]
    with CellHarness(specs, watched=WATCHED) as cell:
        cell.wait_active()
        cell.publisher('camera/image_raw', Image)  # or it is no longer well by its frames
        camera = cell.runner.nodes[0]
        pin = pins.pin(23)
        before_ns = cell.now_ns()
        pin.drive_low()
        cell.wait_diagnostic('camera', 'light barrier (GPIO 23)', level=1)
        pin.drive_high()
        cell.wait(lambda: camera._expected)
        centred_ns = camera._belt.time_at(camera._expected[0], 0)
        assert 0 < centred_ns - before_ns < 2 * SECOND
        cell.wait(lambda: cell.statuses('camera')[-1].level == b'\x00')


def test_encoder_gives_the_speed_of_deadlines_and_tells_stop_and_slip(pins):
    with CellHarness(
        [
            NodeSpec(
                Camera,
                {
                    'belt_speed_source': 'encoder',
                    'encoder_pins': [20, -1],
                    'encoder_steps_per_metre': 200.0,
                    'diagnostics_period': 0.1,
                },
            )
        ],
        watched=WATCHED,
    ) as cell:
        cell.wait_active()
        states = []
        cell.probe.create_subscription(BeltState, 'belt_state', states.append, 10)
        frames = cell.publisher('camera/image_raw', Image)
        cell.connect('capture')
        travel = CELL.first_diverter_x - CELL.camera.x

        def deadline_speed():
            stamp_ns = cell.now_ns()
            frames.publish(frame(stamp_ns, 120))
            capture = capture_of(cell, stamp_ns)
            left = (to_ns(capture.deadline) - stamp_ns) / SECOND + CELL.diverter.lead_time
            return travel / left

        cell.wait_diagnostic('camera', 'the belt stands', level=1)
        assert deadline_speed() == pytest.approx(CELL.belt.speed)
        turning = Turning(pins.pin(20), 0.34, 200.0)
        cell.wait(lambda: cell.statuses('camera')[-1].level == b'\x00')
        # The window of the estimate begins with the stand.
        cell.wait(lambda: states[-1].speed == pytest.approx(0.34, rel=0.1))
        assert deadline_speed() == pytest.approx(0.34, rel=0.1)
        first = next(s for s in states if s.state == BeltState.STATE_STOPPED)
        assert first.speed == 0
        last = cell.wait(lambda: states[-1].state == BeltState.STATE_RUNNING and states[-1])
        assert last.position > first.position and last.speed == pytest.approx(0.34, rel=0.1)
        turning.stop()
        turning = Turning(pins.pin(20), 0.2, 200.0)
        cell.wait_diagnostic('camera', 'not at the 0.4 m/s', level=2)
        assert deadline_speed() == pytest.approx(0.3)  # the slowest that is tolerated
        turning.stop()
        before = len(cell.statuses('camera'))
        cell.wait(
            lambda: any('the belt stands' in s.message for s in cell.statuses('camera')[before:])
        )


def test_driver_that_falls_silent_is_reported_and_its_return_too():
    with CellHarness(
        [NodeSpec(Camera, {'trigger': 'image', 'frame_timeout': 0.3, 'diagnostics_period': 0.1})],
        watched=WATCHED,
    ) as cell:
        cell.wait_active()
        cell.wait_diagnostic('camera', 'no frame for more than 0.3 s', level=2)
        frames = cell.publisher('camera/image_raw', Image)

        def well():
            frames.publish(frame(cell.now_ns()))
            return cell.statuses('camera')[-1].level == b'\x00'

        cell.wait(well)
        before = len(cell.statuses('camera'))
        cell.wait(
            lambda: any('driver runs' in s.message for s in cell.statuses('camera')[before:])
        )


def test_frame_for_each_item_may_be_long_in_coming():
    with CellHarness(
        [NodeSpec(Camera, {'frame_timeout': 0.1, 'diagnostics_period': 0.1})], watched=WATCHED
    ) as cell:
        cell.wait_active()
        cell.publisher('camera/image_raw', Image)
        cell.wait(lambda: cell.statuses('camera') and cell.statuses('camera')[-1].level == b'\x00')
        before = len(cell.statuses('camera'))
        cell.wait(lambda: len(cell.statuses('camera')) > before + 5)
        assert all(s.level == b'\x00' for s in cell.statuses('camera')[before:])
