# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Make an item of everything that passes under the camera."""

from __future__ import annotations

import array
import sys
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from stl_conveyor.cell.deadline import sorting_deadline
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.cell.item_flow import WINDOW_NS, ItemFlow
from stl_conveyor.cell.light_barrier import BEAM_MERGE, LightBarrier
from stl_conveyor.cell.odometry import Belt, BeltState, MeasuredBelt, SteadyBelt
from stl_conveyor.errors import ConfigError
from stl_conveyor.hardware.frame_sources import DeviceSource, FolderSource, FrameSource
from stl_conveyor.hardware.inputs import GpioBeltEncoder, GpioBreakBeam
from stl_conveyor.hardware.pins import LARGEST_PIN, NO_PIN
from stl_conveyor.msg import BeltState as BeltStateMessage
from stl_conveyor.msg import ItemCapture
from stl_conveyor.nodes.base.clock import to_stamp
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.health import Level
from stl_conveyor.nodes.base.inbox import Inbox
from stl_conveyor.nodes.base.items import configured_path
from stl_conveyor.nodes.base.outside_input import StampRules, StampSettings
from stl_conveyor.nodes.base.peers import PeerWatch, WaitingSettings
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.settings import parameter
from stl_conveyor.nodes.device.topic_source import TopicSource
from stl_conveyor.vision.image import crop_square, resize_height, resize_square
from stl_conveyor.vision.item_detector import Region, Travel
from stl_conveyor.vision.item_tracker import ItemTracker

WATCH_BELT_S = 0.05
OFF_SPEED_S = 0.6  # longer than a belt takes to start or to be known to stand
BEAM_BLOCKED_S = 3.0  # longer than any item takes


@dataclass(frozen=True)
class CameraSettings(StampSettings, WaitingSettings):
    """Parameters of the camera."""

    cell_file: str = parameter(
        '', 'Cell description (YAML). Empty: the one that the package ships.'
    )
    source: str = parameter(
        'topic',
        'Where frames come from: the topic camera/image_raw, a device, or a folder of images.',
        choices=('topic', 'device', 'folder'),
    )
    trigger: str = parameter(
        'frame',
        'What makes an item of a frame: every frame shows one (a camera with a hardware '
        'trigger), a light barrier (beam: its times come on the topic break_beam; gpio: it is on '
        'beam_pin), or the image itself.',
        choices=('frame', 'beam', 'gpio', 'image'),
    )
    beam_pin: int = parameter(
        23,
        'Input of the light barrier (BCM number), with trigger gpio.',
        minimum=0,
        maximum=LARGEST_PIN,
    )
    beam_broken_high: bool = parameter(
        False, 'Whether the input is high while the beam is broken; else low, with a pull-up.'
    )
    belt_speed_source: str = parameter(
        'description',
        'Where the speed of the belt comes from: the cell description, or a '
        'belt encoder on encoder_pins.',
        choices=('description', 'encoder'),
    )
    encoder_pins: tuple[int, ...] = parameter(
        (20, 21),
        "Inputs of the belt encoder's channels (BCM numbers); -1 as the second one: it has "
        'one channel.',
    )
    encoder_steps_per_metre: float = parameter(
        1000.0,
        'Steps of the belt encoder per metre of belt: whole cycles of both channels, or rising '
        'edges of one.',
        minimum=1.0,
        maximum=100_000.0,
    )
    travel: str = parameter(
        'up',
        'Where the belt carries things in the image.',
        choices=tuple(item.name.lower() for item in Travel),
    )
    frame_id: str = parameter(
        'camera_optical_frame', 'Optical frame (REP-103), where the frames do not name one.'
    )
    first_item_id: int = parameter(
        1, 'Number of the first item.', minimum=1, maximum=2**62, fixed=True
    )
    device: str = parameter('/dev/video0', 'Camera, with source device: a path or a number.')
    latency: float = parameter(
        0.03,
        'Seconds from mid-exposure until a frame arrives: with source device, and with stamp '
        'arrival.',
        minimum=0.0,
        maximum=1.0,
    )
    beam_stamp: str = parameter(
        'same',
        'As stamp, for the times on break_beam: same leaves it to stamp.',
        choices=('same', 'header', 'arrival'),
    )
    beam_latency: float = parameter(
        0.0,
        "Seconds from an item's crossing of the light barrier until that arrives on break_beam, "
        'where those are stamped by arrival.',
        minimum=0.0,
        maximum=1.0,
    )
    frame_timeout: float = parameter(
        1.5,
        'Seconds without a frame after which that is reported; 0 = never. Not where the '
        'topic brings a frame for each item only (trigger frame).',
        minimum=0.0,
        maximum=3600.0,
    )
    folder: str = parameter('', 'Folder of images, with source folder.')
    rate: float = parameter(
        1.0, 'Images per second, with source folder.', minimum=0.01, maximum=100.0
    )
    repeat: bool = parameter(False, 'Begin again after the last image of the folder.')
    threshold: float = parameter(
        24.0,
        'Difference of grey values between item and belt, with trigger image.',
        minimum=1.0,
        maximum=255.0,
    )
    min_area: int = parameter(
        400,
        'Pixels that an item has at least, holes filled, with trigger image; what is thinner '
        'than half the side of a square of that area is no item.',
        minimum=1,
        maximum=10_000_000,
    )
    region_of_interest: tuple[int, ...] = parameter(
        (0, 0, 0, 0),
        'Part of the image that shows the belt, with trigger image: x_offset, y_offset, height '
        'and width in pixels, as in sensor_msgs/RegionOfInterest; height or width 0 = up to the '
        'edge of the image.',
    )


class Camera(ConveyorNode):
    """See the module."""

    NAME = 'camera'
    SETTINGS = CameraSettings

    def __init__(self, **arguments: object) -> None:
        """Start to count; the count goes on through every reactivation."""
        super().__init__(**arguments)
        self._next_id = self.settings.first_item_id

    def check_settings(self, settings: CameraSettings) -> None:
        """Refuse a trigger that the source cannot have."""
        if settings.source == 'folder' and settings.trigger != 'frame':
            raise ConfigError('trigger: with source folder every image is an item; use frame')
        pins = settings.encoder_pins
        if (
            len(pins) != 2
            or not 0 <= pins[0] <= LARGEST_PIN
            or pins[0] == pins[1]
            or not NO_PIN <= pins[1] <= LARGEST_PIN
        ):
            raise ConfigError(
                f'encoder_pins: {list(pins)} must be two BCM numbers of '
                f'0..{LARGEST_PIN}, or one and -1'
            )
        if len(settings.region_of_interest) != 4 or min(settings.region_of_interest) < 0:
            raise ConfigError(
                f'region_of_interest: {list(settings.region_of_interest)} must be x_offset, '
                'y_offset, height and width, none below 0'
            )
        used = list(pins) if settings.belt_speed_source == 'encoder' else []
        if settings.trigger == 'gpio' and settings.beam_pin in used:
            raise ConfigError(f"beam_pin: GPIO {settings.beam_pin} is the belt encoder's")

    def configure(self) -> None:
        """Read the cell and prepare the source."""
        settings = self.settings
        self.cell = CellDescription.load(configured_path(settings.cell_file, 'config/cell.yaml'))
        camera = self.cell.camera
        self.travel = Travel[settings.travel.upper()]
        self._scale = camera.pixels_per_metre
        self._belt: Belt = SteadyBelt(self.cell.belt.speed, self._now_ns())
        if settings.belt_speed_source == 'encoder':
            self._belt = MeasuredBelt(
                1.0 / settings.encoder_steps_per_metre,
                expected_speed=self.cell.belt.speed,
                tolerance=self.cell.belt.speed_tolerance,
            )
        self._begin_anew()
        make_item = {
            'frame': self._whole_frame,
            'beam': self._at_beam,
            'gpio': self._at_beam,
            'image': self._in_image,
        }[settings.trigger]
        self._make_item = make_item
        self._source: FrameSource
        if settings.source == 'topic':
            rules = StampRules.of(settings, settings.latency)
            self._source = TopicSource(self, self._on_frame, rules)
        elif settings.source == 'device':
            self._source = DeviceSource(self, self._on_frame, settings.device, settings.latency)
        else:
            self._source = FolderSource(
                self, self._whole_image, settings.folder, settings.rate, settings.repeat
            )

    def _begin_anew(self) -> None:
        """Know of no item, of no earlier frame, and of no empty belt."""
        settings = self.settings
        if settings.trigger == 'image':
            self._tracker = ItemTracker(
                self.travel,
                self.cell.belt.speed,
                self._scale,
                threshold=settings.threshold,
                min_area=settings.min_area,
                region=self._region(),
            )
        self._expected: deque[float] = deque(maxlen=64)  # place of the belt (m)
        self._previous: float | None = None  # the same, at the last frame
        self._crossed: float | None = None  # the same, when an item last broke the beam
        self._flow = ItemFlow(self.cell.diverter.paddle_width)
        self._too_many = ''  # what is said while more items come than the belt can bring

    def activate(self) -> None:
        """Look."""
        self.watch_clock()
        self._captures = self.publish_on('capture')
        self._peers = PeerWatch(self, heard_on=self._captures)
        self._peer_timer = self.every(0.1, self._look_for_peers)
        self._look_for_peers()
        self._open_pins()
        if self.settings.trigger == 'beam':
            self._listen_to_beam()
        self._frame_ns = self.steady_clock.now().nanoseconds
        steady = self.settings.source == 'device' or (
            self.settings.source == 'topic' and self.settings.trigger != 'frame'
        )
        if self.settings.frame_timeout and steady:
            self.every(min(0.25, self.settings.frame_timeout), self._watch_frames)
        self._source.start()
        self.resources.callback(self._source.stop)

    def clock_jumped(self, jump_ns: int) -> None:
        """Forget what was to be captured at times that never come, or come twice."""
        lost = len(self._expected)
        self._begin_anew()
        said = f'ROS time jumped by {jump_ns / 1e9:+.3f} s'
        if lost:
            self.error(
                'clock_jumped', f'{said}; {lost} items between light barrier and camera are lost'
            )
        else:
            self.warn('clock_jumped', f'{said}; no item was on its way to the camera')

    def _listen_to_beam(self) -> None:
        settings = self.settings
        stamp = '' if settings.beam_stamp == 'same' else settings.beam_stamp
        self.listen_outside(
            'break_beam',
            lambda _, time_ns: self._on_crossing(time_ns),
            StampRules.of(settings, settings.beam_latency, stamp),
            stamp_of=lambda message: message.stamp,
            remedy='or set `trigger` to what makes an item here',
        )

    def _on_crossing(self, time_ns: int) -> None:
        place = self._belt.position(time_ns)
        if self._crossed is not None and abs(place - self._crossed) < BEAM_MERGE:
            self.health.count('beam_bounces')  # of one item: its edges, a hole, a relay
            return
        self._crossed = place
        self._item_in_beam(time_ns)

    def refresh_health(self) -> None:
        """Report how the belt moves."""
        if self.is_active:
            if self._flow.count(self._now_ns()) == 0:
                self._flow_is_well()
            self.health.set_value('belt_speed', f'{self._belt.motion(self._now_ns()).speed:.4f}')

    def _on_frame(self, image: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> None:
        self._frame_ns = self.steady_clock.now().nanoseconds
        self._make_item(self._of_described_size(image), stamp_ns, frame_id)

    def _of_described_size(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the picture at the scale of the cell description, which all offsets need."""
        camera = self.cell.camera
        height, width = image.shape[:2]
        if (height, width) == (camera.image_height, camera.image_width):
            self.clear_condition('picture_size', 'pictures have the size of the cell description')
            return image
        said = (
            f'a picture is {width} x {height} pixels, and the cell description says '
            f'{camera.image_width} x {camera.image_height}; it is scaled to its height, which is '
            f'taken for field_of_view ({camera.field_of_view} m). '
        )
        if width * camera.image_height != height * camera.image_width:
            said += (
                'Its shape differs too, as where a driver cuts off the top and the bottom: '
                'measure field_of_view again with `calibrate camera`, and '
            )
        self.set_condition(
            'picture_size',
            Level.WARN,
            said + 'set camera.image_width and image_height of the cell description, or the size '
            'in the driver',
        )
        return resize_height(image, camera.image_height)

    def _watch_frames(self) -> None:
        silence_ns = self.steady_clock.now().nanoseconds - self._frame_ns
        if silence_ns <= self.settings.frame_timeout * 1e9:
            self.clear_condition('frames', 'frames come again')
            return
        remedy = (
            'check the cable and power of the camera'
            if self.settings.source == 'device'
            else 'check that the driver runs and publishes on camera/image_raw'
        )
        self.set_condition(
            'frames',
            Level.ERROR,
            f'no frame for more than {self.settings.frame_timeout} s; {remedy}',
        )

    def _open_pins(self) -> None:
        settings = self.settings
        if settings.trigger == 'gpio':
            self._barrier = LightBarrier(self.cell.belt.speed)
            self._merge_time = BEAM_MERGE / self.cell.belt.speed + 0.002
            self._light = self.every(self._merge_time, self._after_break)
            self._light.cancel()
            self._blocked = self.every(BEAM_BLOCKED_S, self._on_blocked)
            self._blocked.cancel()
            # After the timers, which the last calls that it makes still use.
            self._inbox = Inbox(self)
            beam = GpioBreakBeam(
                settings.beam_pin,
                self._inbox.brings(self._on_beam_change),
                self._now_ns,
                broken_high=settings.beam_broken_high,
            )
            self.resources.callback(beam.close)
        if isinstance(self._belt, MeasuredBelt):
            pin_a, pin_b = settings.encoder_pins
            encoder = GpioBeltEncoder(pin_a, pin_b, self._belt.step, self._now_ns)
            self.resources.callback(encoder.close)
            self._belt_states = self.publish_on('belt_state')
            self._off_speed_for = 0.0
            self.every(WATCH_BELT_S, self._watch_belt)

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _watch_belt(self) -> None:
        now_ns = self._now_ns()
        motion = self._belt.motion(now_ns)
        self._belt_states.publish(
            BeltStateMessage(
                header=Header(stamp=to_stamp(now_ns)),
                position=self._belt.position(now_ns),
                speed=motion.speed,
                state=list(BeltState).index(motion.state),
            )
        )
        self.health.set_value('belt_state', motion.state.value)
        # A belt that starts or stops passes through other speeds.
        off_speed = motion.state is BeltState.OFF_SPEED
        self._off_speed_for = self._off_speed_for + WATCH_BELT_S if off_speed else 0.0
        pins = ', '.join(str(pin) for pin in self.settings.encoder_pins)
        described = self.cell.belt.speed
        if motion.state is BeltState.STOPPED:
            self.set_condition(
                'belt',
                Level.WARN,
                f'the belt stands: no step of the belt encoder (GPIO {pins}). If '
                "it runs, check the belt encoder's wheel and wiring",
            )
        elif motion.state is BeltState.REVERSED:
            self.set_condition(
                'belt',
                Level.ERROR,
                f'the belt runs backwards; if it does not, exchange the two encoder_pins {pins}',
            )
        elif self._off_speed_for > OFF_SPEED_S:
            self.set_condition(
                'belt',
                Level.ERROR,
                f'the belt is not at the {described} m/s of the cell '
                'description: it slips, or encoder_steps_per_metre is wrong; measure it with '
                '`calibrate belt`',
            )
        elif not off_speed:
            self.clear_condition('belt', f'the belt runs at {described} m/s')

    def _on_beam_change(self, broken: bool, time_ns: int) -> None:
        self._light.cancel()
        self._blocked.cancel()
        if broken:  # the light before it may have ended an item
            self._break_beam(time_ns, False)
            self._blocked.reset()
        else:
            self._light.reset()
            self.clear_condition('beam', 'the light barrier is free')
        self._break_beam(time_ns, True)
        self._edge_ns = time_ns

    def _after_break(self) -> None:
        self._light.cancel()
        self._break_beam(self._edge_ns + round(self._merge_time * 1e9), False)

    def _on_blocked(self) -> None:
        self._blocked.cancel()
        self.set_condition(
            'beam',
            Level.WARN,
            f'the light barrier (GPIO {self.settings.beam_pin}) has been '
            f'broken for {BEAM_BLOCKED_S} s: clear it, align it, or compare beam_broken_high',
        )

    def _break_beam(self, time_ns: int, broken: bool) -> None:
        middle = self._barrier.update(time_ns / 1e9, broken)
        if middle is not None:
            self._item_in_beam(round(middle * 1e9))

    def _item_in_beam(self, time_ns: int) -> None:
        travel = self.cell.camera.x - self.cell.break_beam.x
        self._expected.append(self._belt.position(time_ns) + travel)

    def _whole_frame(self, image: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> None:
        self._publish(self._crop(image, *_middle(image)), stamp_ns, frame_id)

    def _whole_image(self, image: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> None:
        self._publish(resize_square(image, self.cell.camera.crop_size), stamp_ns, frame_id)

    def _at_beam(self, image: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> None:
        """Take the frame in which the item is nearest to the middle."""
        place = self._belt.position(stamp_ns)
        previous, self._previous = self._previous, place
        moved = 0.0 if previous is None else max(0.0, place - previous)
        while self._expected and self._expected[0] <= place + moved / 2:
            centred = self._expected.popleft()
            offset = (place - centred) * self._scale
            centred_ns = self._belt.time_at(centred, stamp_ns)
            if abs(offset) > min(image.shape[:2]) / 2 or centred_ns is None:
                self.error(
                    'item_not_seen',
                    'no frame shows an item that broke the beam; raise the frame rate',
                )
                continue
            middle = self.travel.shifted(*_middle(image), offset)
            self._publish(self._crop(image, *middle), centred_ns, frame_id)

    def _in_image(self, image: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> None:
        # A belt that nothing measures is followed in the images.
        measured = isinstance(self._belt, MeasuredBelt)
        place = self._belt.position(stamp_ns) if measured else None
        for item in self._tracker.update(image, stamp_ns, place):
            crop = self._crop(item.image, item.row, item.column)
            self._publish(crop, item.time_ns, frame_id)

    def _region(self) -> Region:
        """Return the part of the image that shows the belt.

        Raises:
            ConfigError: If the cell's image does not have it.
        """
        region = Region(*self.settings.region_of_interest)
        camera = self.cell.camera
        try:
            region.slices((camera.image_height, camera.image_width))
        except ConfigError as error:
            raise ConfigError(
                f'region_of_interest: {error} (camera.image_width and image_height of the cell)'
            ) from None
        return region

    def _crop(self, image: NDArray[np.uint8], row: float, column: float) -> NDArray[np.uint8]:
        return crop_square(image, row, column, self.cell.camera.crop_size)

    def _look_for_peers(self) -> None:
        if self._peers.present():
            self._peer_timer.cancel()

    def _publish(self, crop: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> None:
        if not self._peers.present():
            # Nobody could give it an answer, or act on it.
            self.health.count('items_before_the_cell_was_there')
            return
        self._watch_flow(stamp_ns)
        header = Header(stamp=to_stamp(stamp_ns), frame_id=frame_id or self.settings.frame_id)
        size = crop.shape[0]
        item_id, self._next_id = self._next_id, self._next_id + 1
        self._captures.publish(
            ItemCapture(
                header=header,
                item_id=item_id,
                deadline=to_stamp(sorting_deadline(stamp_ns, self.cell, self._tolerated_speed())),
                crop=Image(
                    header=header,
                    height=size,
                    width=size,
                    encoding='rgb8',
                    step=3 * size,
                    data=array.array('B', crop.tobytes()),
                ),
            )
        )
        self.tick('items')
        self.health.set_value('last_item_id', item_id)

    def _watch_flow(self, stamp_ns: int) -> None:
        if self.settings.trigger != 'frame' or self.settings.source == 'folder':
            return
        if not self._flow.add(stamp_ns, self._belt.position(stamp_ns)):
            self._flow_is_well()
            return
        # One text for as long as it lasts; the rate stands beside it.
        self._too_many = self._too_many or (
            f'{self._flow.count(stamp_ns)} items in {WINDOW_NS / 1e9:g} s are more than the belt '
            'can bring: the camera runs free, and with trigger frame every frame is an item; set '
            '`trigger` to image, beam or gpio, or have each item trigger the camera'
        )
        self.set_condition('items', Level.ERROR, self._too_many)

    def _flow_is_well(self) -> None:
        self._too_many = ''
        self.clear_condition('items', 'no more items come than the belt can bring')

    def _tolerated_speed(self) -> float | None:
        """Return the measured speed (m/s) for deadlines, within what is tolerated."""
        motion = self._belt.motion(self._now_ns())
        if not isinstance(self._belt, MeasuredBelt) or motion.speed <= 0:
            return None
        tolerance, described = self.cell.belt.speed_tolerance, self.cell.belt.speed
        return min(max(motion.speed, described * (1 - tolerance)), described * (1 + tolerance))


def _middle(image: NDArray[np.uint8]) -> tuple[float, float]:
    return (image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2


def main(arguments: list[str] | None = None) -> int:
    """Run the node as a process."""
    return run_node(Camera, arguments)


if __name__ == '__main__':
    sys.exit(main())
