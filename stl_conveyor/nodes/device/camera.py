# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Make an item of everything that passes under the camera."""

from __future__ import annotations

import array
import sys
from collections import deque

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from stl_conveyor.cell.beam_tracker import BeamTracker
from stl_conveyor.cell.deadline import sorting_deadline
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.cell.item_flow import WINDOW_NS, ItemFlow
from stl_conveyor.cell.light_barrier import BEAM_MERGE
from stl_conveyor.cell.odometry import Belt, BeltState, MeasuredBelt, ReportedBelt, SteadyBelt
from stl_conveyor.errors import ConfigError
from stl_conveyor.hardware.frame_sources import DeviceSource, FolderSource, FrameSource
from stl_conveyor.hardware.inputs import GpioBeltEncoder, GpioBreakBeam
from stl_conveyor.hardware.video_device import asked_of_device
from stl_conveyor.msg import BeltState as BeltStateMessage
from stl_conveyor.msg import ItemCapture
from stl_conveyor.nodes.base.clock import clock_ns, to_stamp
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.health import Level
from stl_conveyor.nodes.base.inbox import Inbox
from stl_conveyor.nodes.base.items import configured_path
from stl_conveyor.nodes.base.outside_input import StampRules
from stl_conveyor.nodes.base.peers import PeerWatch
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.sole_publisher import SolePublisher
from stl_conveyor.nodes.device.camera_memory import CameraMemory
from stl_conveyor.nodes.device.camera_settings import CameraSettings, check_camera_settings
from stl_conveyor.nodes.device.topic_source import TopicSource
from stl_conveyor.vision.image import crop_square, resize_height, resize_square
from stl_conveyor.vision.item_detector import Region, Travel
from stl_conveyor.vision.item_tracker import ItemTracker

WATCH_BELT_S = 0.05
OFF_SPEED_S = 0.6  # longer than a belt takes to start or to be known to stand
BEAM_BLOCKED_NS = 3_000_000_000  # longer than any item takes
BELT_SILENT_NS = 500_000_000
WAITING_FRAMES = 16  # more than come between two reports of the belt
# After a crash an item waits for those who are to hear of it until so little time is left (ns): a
# local answer takes less, and what is published to nobody is lost for sure.
LEAST_LEFT_NS = 500_000_000
LOOK_FOR_HEARERS_S = 0.02
MOST_HELD = 64

Frame = tuple[NDArray[np.uint8], int, str]  # image, stamp (ns), frame_id


class Camera(ConveyorNode):
    """See the module."""

    NAME = 'camera'
    SETTINGS = CameraSettings

    def __init__(self, **arguments: object) -> None:
        """Start to count; the count goes on through every reactivation."""
        super().__init__(**arguments)
        self._next_id = self.settings.first_item_id

    def check_settings(self, settings: CameraSettings) -> None:
        """Refuse what does not fit together, such as a trigger that the source cannot have."""
        check_camera_settings(settings)

    def configure(self) -> None:
        """Read the cell and prepare the source."""
        settings = self.settings
        self.cell = CellDescription.load(configured_path(settings.cell_file, 'config/cell.yaml'))
        camera = self.cell.camera
        self.travel = Travel[settings.travel.upper()]
        self._scale = camera.pixels_per_metre
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
            self._source = TopicSource(
                self,
                self._on_frame,
                StampRules.of(settings, settings.latency),
                settings.image_transport,
                settings.sample_bits,
            )
        elif settings.source == 'device':
            self._source = DeviceSource(
                self,
                self._on_frame,
                settings.device,
                settings.latency,
                asked_of_device(vars(settings), camera),
                settings.sample_bits,
            )
        else:
            self._source = FolderSource(
                self, self._whole_image, settings.folder, settings.rate, settings.repeat
            )

    def _begin_anew(self) -> None:
        """Know of no item, of no earlier frame, and of no empty belt."""
        settings = self.settings
        if settings.trigger == 'image':
            self._followed = ItemTracker(
                self.travel,
                self.cell.belt.speed,
                self._scale,
                threshold=settings.threshold,
                min_area=settings.min_area,
                region=self._region(),
            )
        self._flow = ItemFlow(self.cell.diverter.paddle_width)
        self._too_many = ''  # what is said while more items come than the belt can bring

    def activate(self) -> None:
        """Look."""
        self.watch_clock()
        self._captures = self.publish_on('capture')
        self._memory = CameraMemory(self)
        self._sole = SolePublisher(self, 'capture')
        self._memory.ask(self._sole.when_known)
        self._held: deque[Frame] = deque()  # crops, for those who are to hear of them
        self._hold_timer = self.every(LOOK_FOR_HEARERS_S, self._look_for_hearers)
        self._hold_timer.cancel()
        self._peers = PeerWatch(self, heard_on=self._captures)
        self._peer_timer = self.every(0.1, self._look_for_peers)
        self._look_for_peers()
        self._start_belt()
        self._open_pins()
        if self.settings.trigger == 'beam':
            self._listen_to_beam()
            self.every(WATCH_BELT_S, self._look_at_beam)
        self._frame_ns = clock_ns(self.steady_clock)
        steady = self.settings.source == 'device' or (
            self.settings.source == 'topic' and self.settings.trigger != 'frame'
        )
        if self.settings.frame_timeout and steady:
            self.watch(self._watch_frames)
        if isinstance(self._source, TopicSource):
            self._source.memory = self._memory
        self._source.start()
        self.resources.callback(self._source.stop)

    def deactivate(self) -> None:
        """Publish what is held."""
        while self._held:
            self._publish_to_peers(*self._held.popleft())

    def clock_jumped(self, jump_ns: int) -> None:
        """Forget what was to be captured at times that never come, or come twice."""
        lost = len(self._expected)
        self._begin_anew()
        self._expect_nothing()
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
            lambda _, time_ns: self._item_in_beam(time_ns),
            StampRules.of(settings, settings.beam_latency, stamp),
            stamp_of=lambda message: message.stamp,
            remedy='or set `trigger` to what makes an item here',
            memory=self._memory,
        )

    def refresh_health(self) -> None:
        """Report how the belt moves."""
        if self.is_active:
            if self._flow.count(self._now_ns()) == 0:
                self._flow_is_well()
            self.health.set_value('belt_speed', f'{self._belt.motion(self._now_ns()).speed:.4f}')

    def _on_frame(self, image: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> None:
        self._frame_ns = clock_ns(self.steady_clock)
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
        silence_ns = clock_ns(self.steady_clock) - self._frame_ns
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
            self._light = self.every(BEAM_MERGE / self.cell.belt.speed + 0.002, self._after_break)
            self._light.cancel()
            self._blocked = self.once(self._on_blocked)
            # After the timers, which the last calls that it makes still use.
            self._inbox = Inbox(self)
            beam = GpioBreakBeam(
                settings.beam_pin,
                self._inbox.brings(self._on_beam_change),
                self._now_ns,
                broken_high=settings.beam_broken_high,
            )
            self.resources.callback(beam.close)
            if beam.is_broken:
                self._tracker.begin_inside(self._now_ns())
                self._blocked.after(BEAM_BLOCKED_NS)
                self.warn(
                    'item_in_beam',
                    'something was in the light barrier when the node started; where it begins '
                    'is not known, so it is not captured',
                )
        if isinstance(self._belt, MeasuredBelt):
            pin_a, pin_b = settings.encoder_pins
            encoder = GpioBeltEncoder(pin_a, pin_b, self._belt.step, self._now_ns)
            self.resources.callback(encoder.close)
            self._belt_states = self.publish_on('belt_state')
            # Counts begin at zero here; who adds them up must not take that for a movement.
            self._origin = max(1, clock_ns(self.steady_clock) // 1_000_000 % 2**32)
            self._off_speed_for = 0.0
            self.every(WATCH_BELT_S, self._watch_belt)
        elif isinstance(self._belt, ReportedBelt):
            self.listen_outside('belt_state', self._on_belt_state)
            self._off_speed_for = 0.0
            self.every(WATCH_BELT_S, self._watch_belt)

    def _start_belt(self) -> None:
        """Begin with an empty belt: the counts of an encoder and what was expected end."""
        settings, belt = self.settings, self.cell.belt
        self._belt: Belt = SteadyBelt(belt.speed, self._now_ns())
        if settings.belt_speed_source == 'encoder':
            self._belt = MeasuredBelt(
                1.0 / settings.encoder_steps_per_metre,
                expected_speed=belt.speed,
                tolerance=belt.speed_tolerance,
            )
        elif settings.belt_speed_source == 'belt_state':
            self._belt = ReportedBelt(
                expected_speed=belt.speed,
                tolerance=belt.speed_tolerance,
                counter_length=belt.counter_length,
            )
        self._belt_heard_ns = self._now_ns()
        self._expect_nothing()

    def _expect_nothing(self) -> None:
        """Know of no item before the camera, and of no earlier frame."""
        self._tracker = BeamTracker(self._belt, self.cell.camera.x - self.cell.break_beam.x)
        self._expected = self._tracker.expected  # places of the belt (m)
        self._previous: float | None = None  # the same, at the last frame
        self._waiting: deque[Frame] = deque(maxlen=WAITING_FRAMES)

    def _now_ns(self) -> int:
        return clock_ns(self.get_clock())

    def _watch_belt(self) -> None:
        now_ns = self._now_ns()
        motion = self._belt.motion(now_ns)
        unknown = motion.state is BeltState.UNKNOWN
        if isinstance(self._belt, MeasuredBelt):
            self._belt_states.publish(
                BeltStateMessage(
                    header=Header(stamp=to_stamp(now_ns)),
                    position=self._belt.position(now_ns),
                    speed=0.0 if unknown else self._belt.speed_now(now_ns),
                    state=list(BeltState).index(motion.state),
                    origin=self._origin,
                )
            )
        self.health.set_value('belt_state', motion.state.value)
        # A belt that starts or stops passes through other speeds.
        off_speed = motion.state is BeltState.OFF_SPEED
        self._off_speed_for = self._off_speed_for + WATCH_BELT_S if off_speed else 0.0
        described = self.cell.belt.speed
        if isinstance(self._belt, ReportedBelt):
            stands, backwards = 'belt_state changes no position', 'turn the sign of the counter'
            scale = 'what publishes belt_state has another scale'
        else:
            pins = ', '.join(str(pin) for pin in self.settings.encoder_pins)
            stands = f'no step of the belt encoder (GPIO {pins})'
            backwards = f'exchange the two encoder_pins {pins}'
            scale = 'encoder_steps_per_metre is wrong; measure it with `calibrate belt`'
        if unknown and isinstance(self._belt, ReportedBelt):
            self._report_silence(now_ns)
        elif motion.state is BeltState.STOPPED:
            self.set_condition(
                'belt',
                Level.WARN,
                f'the belt stands: {stands}. If it runs, check the wheel and the wiring of the '
                'belt encoder',
            )
        elif motion.state is BeltState.REVERSED:
            self.set_condition(
                'belt', Level.ERROR, f'the belt runs backwards; if it does not, {backwards}'
            )
        elif self._off_speed_for > OFF_SPEED_S:
            self.set_condition(
                'belt',
                Level.ERROR,
                f'the belt is not at the {described} m/s of the cell '
                f'description: it slips, or {scale}',
            )
        elif not off_speed:
            self.clear_condition('belt', f'the belt runs at {described} m/s')

    def _report_silence(self, now_ns: int) -> None:
        if now_ns - self._belt_heard_ns > BELT_SILENT_NS:
            self.set_condition(
                'belt',
                Level.ERROR,
                'belt_unknown: nothing comes on belt_state, and no item can be placed; check what '
                'publishes it, and its clock',
            )

    def _on_belt_state(self, message: BeltStateMessage, stamp_ns: int) -> None:
        assert isinstance(self._belt, ReportedBelt)
        known = message.state != BeltStateMessage.STATE_UNKNOWN
        if self._belt.history.add(
            stamp_ns, message.position, message.speed if known else None, origin=message.origin
        ):
            self._belt_heard_ns = stamp_ns
            settled_ns = self._belt.history.settled_ns or 0
            take = self._follow if self.settings.trigger == 'image' else self._take
            while self._waiting and self._waiting[0][1] <= settled_ns:
                take(*self._waiting.popleft())

    def _on_beam_change(self, broken: bool, time_ns: int) -> None:
        self._light.cancel()
        self._blocked.cancel()
        if broken:
            self._blocked.after(BEAM_BLOCKED_NS)
        else:
            self._light.reset()
            self.clear_condition('beam', 'the light barrier is free')
        self._tracker.changed(time_ns, broken)
        # No further: the next edge may be waiting already.
        self._look_at_beam(time_ns)

    def _after_break(self) -> None:
        self._look_at_beam()
        if self._tracker.is_idle:
            self._light.cancel()

    def _on_blocked(self) -> None:
        self.set_condition(
            'beam',
            Level.WARN,
            f'the light barrier (GPIO {self.settings.beam_pin}) has been broken for '
            f'{BEAM_BLOCKED_NS / 1e9} s: clear it, align it, or compare beam_broken_high',
        )

    def _item_in_beam(self, time_ns: int) -> None:
        self._tracker.passed(time_ns)
        self._look_at_beam()

    def _look_at_beam(self, until_ns: int | None = None) -> None:
        """Bring the barrier up to a time (ns); None = now, with every edge that has come."""
        if until_ns is None:
            if self.settings.trigger == 'gpio':
                self._inbox.drain()
            until_ns = self._now_ns()
        bounces = self._tracker.bounces
        lost = self._tracker.look(until_ns)
        self.health.count('beam_bounces', self._tracker.bounces - bounces)
        if lost:
            self._previous = None
            self.error(
                'items_lost',
                f'{lost} items were between light barrier and camera when the position of the '
                'belt was lost; they are not captured',
            )

    def _whole_frame(self, image: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> None:
        self._publish(self._crop(image, *_middle(image)), stamp_ns, frame_id)

    def _whole_image(self, image: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> None:
        self._publish(resize_square(image, self.cell.camera.crop_size), stamp_ns, frame_id)

    def _at_beam(self, image: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> None:
        """Take the frame in which the item is nearest to the middle."""
        if isinstance(self._belt, ReportedBelt):  # until a report tells where the belt was then
            self._waiting.append((image, stamp_ns, frame_id))
        else:
            self._take(image, stamp_ns, frame_id)

    def _take(self, image: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> None:
        self._look_at_beam()
        place = self._belt.position(stamp_ns)
        if place is None:  # the belt is unknown: the items wait for a frame of which it is known
            return
        previous, self._previous = self._previous, place
        seen = min(image.shape[:2]) / self._scale  # along the belt, m
        # What the next frame, if it comes as soon, would show nearer to the middle waits for it.
        # Within half a pixel of it nothing is nearer; the next one may be that of the next item.
        moved = 0.0 if previous is None else min(max(0.0, place - previous), seen / 2)
        nearest = max(moved, 1 / self._scale) / 2
        while self._expected and self._expected[0] <= place + nearest:
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
        if isinstance(self._belt, ReportedBelt):  # until a report tells where the belt was then
            self._waiting.append((image, stamp_ns, frame_id))
        else:
            self._follow(image, stamp_ns, frame_id)

    def _follow(self, image: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> None:
        place = None
        if not isinstance(self._belt, SteadyBelt):
            place = self._belt.position(stamp_ns)
            if place is None:  # the belt is unknown: no item can be placed
                return
        # A belt that nothing measures is followed in the images.
        for item in self._followed.update(image, stamp_ns, place):
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
        """Publish an item; after a crash, as soon as those who are to hear of it are back."""
        if not self._held and (not self._memory.settles or self._is_heard()):
            self._publish_to_peers(crop, stamp_ns, frame_id)
            return
        if not self._held:
            self._hold_timer.reset()
        self._held.append((crop, stamp_ns, frame_id))
        self.health.count('held_items')

    def _is_heard(self) -> bool:
        return self._peers.present() and not self._memory.lacks(self._captures)

    def _look_for_hearers(self) -> None:
        while self._held:
            _, stamp_ns, _ = self._held[0]
            left_ns = sorting_deadline(stamp_ns, self.cell) - self._now_ns()
            if left_ns > LEAST_LEFT_NS and len(self._held) <= MOST_HELD and not self._is_heard():
                return
            self._publish_to_peers(*self._held.popleft())
        self._hold_timer.cancel()

    def _publish_to_peers(self, crop: NDArray[np.uint8], stamp_ns: int, frame_id: str) -> None:
        if not self._peers.present():
            # Nobody could give it an answer, or act on it.
            self.health.count('items_before_the_cell_was_there')
            self._memory.dropped_item()
            return
        self._sole.when_known(lambda alone: self._publish_alone(alone, crop, stamp_ns, frame_id))

    def _publish_alone(
        self, alone: bool, crop: NDArray[np.uint8], stamp_ns: int, frame_id: str
    ) -> None:
        if not alone:
            self.health.count('items_of_another_camera')
            return
        self._watch_flow(stamp_ns)
        self._memory.captured_item(self._captures)
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
        place = self._belt.position(stamp_ns)
        if place is None or not self._flow.add(stamp_ns, place):
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
        if isinstance(self._belt, SteadyBelt) or motion.speed <= 0:
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
