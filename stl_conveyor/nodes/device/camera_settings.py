# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The parameters of the camera."""

from __future__ import annotations

from dataclasses import dataclass

from stl_conveyor.errors import ConfigError
from stl_conveyor.hardware.pins import LARGEST_PIN, NO_PIN
from stl_conveyor.hardware.video_device import check_fourcc
from stl_conveyor.nodes.base.outside_input import StampSettings
from stl_conveyor.nodes.base.peers import WaitingSettings
from stl_conveyor.nodes.base.settings import parameter
from stl_conveyor.nodes.device.topic_source import TRANSPORTS
from stl_conveyor.vision.bit_depth import DEPTHS
from stl_conveyor.vision.encodings import MAX_SIDE
from stl_conveyor.vision.item_detector import Travel


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
        'How the movement of the belt is known: by the speed of the cell description, by a '
        'belt encoder on encoder_pins, or by what somebody else reports on the topic belt_state.',
        choices=('description', 'encoder', 'belt_state'),
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
    image_transport: str = parameter(
        'raw',
        'How the topic brings pictures: raw takes sensor_msgs/Image on camera/image_raw, '
        'compressed takes sensor_msgs/CompressedImage (JPEG or PNG) on '
        'camera/image_raw/compressed.',
        choices=tuple(TRANSPORTS),
    )
    device: str = parameter(
        '/dev/video0',
        'Camera, with source device: a number, a path (those in /dev/v4l/by-id stay the same '
        'when it is plugged in elsewhere), or the address of a stream.',
    )
    device_width: int = parameter(
        0,
        'Pixels that the device is asked for; 0: those of the cell description.',
        minimum=0,
        maximum=MAX_SIDE,
    )
    device_height: int = parameter(
        0,
        'Rows that the device is asked for; 0: those of the cell description.',
        minimum=0,
        maximum=MAX_SIDE,
    )
    device_format: str = parameter(
        '',
        'Format that the device is asked for, as V4L2 calls it: MJPG, YUYV, GREY, Y16. Empty: '
        'what it has chosen.',
    )
    device_rate: float = parameter(
        0.0,
        'Frames per second that the device is asked for; 0: what it has chosen.',
        minimum=0.0,
        maximum=1000.0,
    )
    sample_bits: int = parameter(
        0,
        'Bits that the camera uses of samples of 16: 8, 10, 12, 14 or 16; 0: as many as its '
        'pictures so far have needed.',
        minimum=0,
        maximum=16,
    )
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
    journal: str = parameter(
        'auto',
        'File by which a camera that was killed and started again knows how many pictures its '
        'driver has sent meanwhile. auto: one in the folder that RUNTIME_DIRECTORY or '
        'XDG_RUNTIME_DIR names, else in /dev/shm: in memory, so that no disk is worn. none: there '
        'is none.',
    )
    region_of_interest: tuple[int, ...] = parameter(
        (0, 0, 0, 0),
        'Part of the image that shows the belt, with trigger image: x_offset, y_offset, height '
        'and width in pixels, as in sensor_msgs/RegionOfInterest; height or width 0 = up to the '
        'edge of the image.',
    )


def check_camera_settings(settings: CameraSettings) -> None:
    """Refuse what does not fit together, such as a trigger that the source cannot have.

    Raises:
        ConfigError: Naming the parameter.
    """
    if settings.source == 'folder' and settings.trigger != 'frame':
        raise ConfigError('trigger: with source folder every image is an item; use frame')
    if settings.sample_bits not in (0, *DEPTHS):
        raise ConfigError(
            f'sample_bits: {settings.sample_bits} is neither 0 nor one of '
            f'{", ".join(map(str, DEPTHS))}'
        )
    check_fourcc(settings.device_format)
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
