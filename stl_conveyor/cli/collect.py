# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The command `stl-conveyor collect`: what passes under the camera goes into a label's folder.

Images come from a running cell's topic `capture`, from a camera that OpenCV opens, or from a
folder.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConfigError, ConveyorError, MissingDependency
from stl_conveyor.hardware.frame_sources import DeviceSource, FolderSource
from stl_conveyor.hardware.video_device import VideoFormat
from stl_conveyor.nodes.base.ending import told_of_ending
from stl_conveyor.resources import share_path
from stl_conveyor.vision.image import crop_square, resize_square
from stl_conveyor.vision.item_detector import Travel
from stl_conveyor.vision.item_tracker import ItemTracker
from stl_conveyor.vision.label_folder import Collector, LabelFolder

#: Images per second that are read from a folder.
FOLDER_RATE = 50.0


class ItemCropper:
    """Cut items out of frames, as the camera node does: each item once, around its centre.

    With trigger 'frame' every frame is an item (a camera behind a light barrier); with 'image'
    items are found and followed in the frames.
    """

    def __init__(
        self,
        cell: CellDescription,
        trigger: str,
        travel: str,
        threshold: float,
        min_area: int,
        collect: Callable[[NDArray[np.uint8]], None],
    ) -> None:
        """Take the camera and the belt of a cell; `collect` gets crops u8[S, S, 3]."""
        self._size = cell.camera.crop_size
        self._tracker = None
        if trigger == 'image':
            self._tracker = ItemTracker(
                Travel[travel.upper()],
                cell.belt.speed,
                cell.camera.pixels_per_metre,
                threshold=threshold,
                min_area=min_area,
            )
        self._collect = collect

    def on_frame(self, image: NDArray[np.uint8], stamp_ns: int, _: str = '') -> None:
        """Take in a frame u8[H, W, 3] with its time."""
        if self._tracker is None:
            self._collect(
                crop_square(image, (image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2, self._size)
            )
            return
        for item in self._tracker.update(image, stamp_ns):
            self._collect(crop_square(item.image, item.row, item.column, self._size))

    def on_picture(self, image: NDArray[np.uint8], _: int = 0, __: str = '') -> None:
        """Take in a picture u8[H, W, 3] of one item, whatever its size."""
        self._collect(resize_square(image, self._size))


class SourceHost:
    """What camera sources ask of a node, without ROS."""

    def __init__(self, stop: threading.Event, warn: Callable[[str], None]) -> None:
        """`stop` is set when a source has no more to give."""
        self._stop = stop
        self._warn = warn
        self._said: set[str] = set()
        self.skipped = 0
        self.failure: Exception | None = None  # that ended the work

    def get_clock(self) -> SimpleNamespace:
        """Return a clock with `now().nanoseconds`."""
        return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=time.time_ns()))

    def guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        """Return the callback with this package's errors shown instead of raised."""

        def call(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except ConveyorError as error:
                self.skipped += 1
                self._warn(f'left out: {error}')

        return call

    def every(self, period: float, callback: Callable[[], None]) -> SimpleNamespace:
        """Call back every `period` seconds until the handle's `cancel`, which ends the work.

        So does an error that is none of this package's; it is kept in `failure`.
        """
        call = self.guarded(callback)

        def run() -> None:
            try:
                while not self._stop.wait(period):
                    call()
            except Exception as error:  # whatever it is, nobody else would end the work
                self.failure = error
            finally:
                self._stop.set()

        threading.Thread(target=run, name='camera timer', daemon=True).start()
        return SimpleNamespace(cancel=self._stop.set)

    def set_condition(self, name: str, level: object, message: str) -> None:
        """Show a lasting condition once."""
        del level
        if name not in self._said:
            self._said.add(name)
            self._warn(message)

    def clear_condition(self, name: str, message: str) -> None:
        """Say that a condition has ended."""
        if name in self._said:
            self._said.remove(name)
            self._warn(message)

    def report_value(self, name: str, value: object) -> None:
        """Show what holds from now on."""
        self._warn(f'{name} {value}')


def collect_from_source(
    collector: Collector,
    cell: CellDescription,
    *,
    device: str = '',
    folder: str = '',
    trigger: str = 'image',
    travel: str = 'up',
    threshold: float = 24.0,
    min_area: int = 400,
    warn: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
) -> None:
    """Collect from an OpenCV device or a folder of images until `collector.done` is set.

    Raises:
        ConfigError: If the folder holds no image.
        MissingDependency: If OpenCV is needed and not installed.
    """
    host = SourceHost(collector.done, warn)
    # Pictures of one item each are not searched, which would need OpenCV.
    trigger = 'frame' if folder else trigger
    cropper = ItemCropper(cell, trigger, travel, threshold, min_area, collector.take)
    source: Any
    if folder:
        source = FolderSource(host, cropper.on_picture, folder, FOLDER_RATE, False)
    else:
        wanted = VideoFormat(cell.camera.image_width, cell.camera.image_height)
        source = DeviceSource(host, cropper.on_frame, device, 0.0, wanted)
    source.start()
    try:
        collector.done.wait()
    finally:
        source.stop()
    if host.failure is not None:
        raise host.failure


def _collect(options: argparse.Namespace) -> None:
    if options.device and options.folder:
        raise ConfigError('--device and --folder: give one of them')
    collector = Collector(LabelFolder(options.out, options.label), options.count)
    with contextlib.ExitStack() as stack:
        stack.callback(collector.finish)
        stack.enter_context(told_of_ending(collector.done.set))
        if options.device or options.folder:
            cell = CellDescription.load(options.cell or share_path('config/cell.yaml'))
            collect_from_source(
                collector,
                cell,
                device=options.device,
                folder=options.folder,
                trigger=options.trigger,
                travel=options.travel,
                threshold=options.threshold,
                min_area=options.min_area,
            )
        else:
            try:
                from stl_conveyor.nodes.device.item_collector import collect_from_cell
            except ImportError as error:
                raise MissingDependency(
                    f'collecting from a cell needs ROS 2 ({error}): source its setup file, or '
                    'give --device or --folder'
                ) from error
            collect_from_cell(
                collector, options.namespace, warn=lambda text: print(f'\n{text}', file=sys.stderr)
            )


def add_collect(commands: Any) -> None:
    """Add the command to the parsers of `stl-conveyor`."""
    collect = commands.add_parser(
        'collect',
        help='put what passes under the camera into the folder of a label',
        description='Without --device or --folder, the items of a running cell are taken from '
        'its topic capture. Ctrl-C ends; call it again to go on or for the next label.',
    )
    collect.set_defaults(run=_collect)
    collect.add_argument('--out', type=Path, required=True, help='the folder of all classes')
    collect.add_argument('--label', required=True, help='the class of what passes now')
    collect.add_argument(
        '--count', type=int, default=0, help='stop after so many new pictures (0: at Ctrl-C)'
    )
    collect.add_argument('--namespace', default='', help='of the cell, with ROS')
    collect.add_argument(
        '--device', default='', help='a camera that OpenCV opens: a path or a number; needs no ROS'
    )
    collect.add_argument(
        '--folder', default='', help='a folder of pictures, each of one item; needs no ROS'
    )
    collect.add_argument(
        '--trigger',
        choices=('image', 'frame'),
        default='image',
        help='with --device: what makes an item; default: items are found and followed in the '
        'images',
    )
    collect.add_argument('--cell', type=Path, help='cell description (YAML) with belt and camera')
    collect.add_argument(
        '--travel',
        choices=('up', 'down', 'left', 'right'),
        default='up',
        help='where the belt carries things in the image',
    )
    collect.add_argument(
        '--threshold',
        type=float,
        default=24.0,
        help='difference of grey values between item and belt',
    )
    collect.add_argument(
        '--min-area', type=int, default=400, help='pixels that an item has at least'
    )
