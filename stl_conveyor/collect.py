# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""
Collect training images: what passes under the camera goes into the folder of a label.

Images come from a running cell's topic `capture`, from a camera that OpenCV opens, or from a
folder. What is there already is never overwritten, and numbers go on where they ended.
"""
from __future__ import annotations

from collections.abc import Callable
import io
import os
from pathlib import Path
import re
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConfigError, ConveyorError
from stl_conveyor.nodes.camera_sources import DeviceSource, FolderSource
from stl_conveyor.vision.image import crop_square, resize_square
from stl_conveyor.vision.item_detector import ItemDetector, PassageTrigger, Travel

#: Characters that no file system and no class name should be asked to hold.
_FORBIDDEN = re.compile(r'[/\\\x00-\x1f:*?"<>|]')
#: Images per second that are read from a folder.
FOLDER_RATE = 50.0


class LabelFolder:
    """
    Numbered pictures of one class, `OUT/LABEL/LABEL_000001.png` and so on.

    A number that was taken once is not given again while its picture is there; several
    collectors may write to the same folder.
    """

    def __init__(self, out: 'str | Path', label: str) -> None:
        """
        Make the folder and find the last number.

        :raises ConfigError: if the label cannot be the name of a folder, or the folder cannot be
            written to.
        """
        label = label.strip()
        if not label or label.startswith('.') or _FORBIDDEN.search(label) or len(label) > 100:
            raise ConfigError(f'label {label!r}: give a name of up to 100 characters that does '
                              'not begin with a dot and has no / \\ : * ? " < > |')
        self.label = label
        self.path = Path(out) / label
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f'{self.path}: cannot be made ({error.strerror})') from error
        if not os.access(self.path, os.W_OK):
            raise ConfigError(f'{self.path}: cannot be written to; change its permissions')
        numbered = re.compile(re.escape(label) + r'_(\d+)\.\w+$')
        found = [numbered.match(path.name) for path in self.path.iterdir()]
        numbers = [int(match[1]) for match in found if match]
        self._next = max(numbers, default=0) + 1
        self.before = len(numbers)
        self.added = 0

    def add(self, image: NDArray[np.uint8]) -> Path:
        """
        Write an RGB picture u8[H, W, 3] under the next number and return its path.

        :raises ConfigError: if it cannot be written.
        """
        data = io.BytesIO()
        Image.fromarray(image).save(data, format='png')
        while True:
            path = self.path / f'{self.label}_{self._next:06d}.png'
            self._next += 1
            try:
                with open(path, 'xb') as stream:
                    try:
                        stream.write(data.getbuffer())
                    except BaseException:
                        path.unlink(missing_ok=True)
                        raise
            except FileExistsError:
                continue
            except OSError as error:
                raise ConfigError(f'{path}: cannot be written ({error.strerror}); make room or '
                                  'give another folder') from error
            self.added += 1
            return path


class Collector:
    """Take in pictures up to a number, and say how many there are."""

    def __init__(self, folder: LabelFolder, count: int = 0, stream: Any = None) -> None:
        """
        Begin.

        :param count: stop after this many new pictures; 0: when told to.
        :param stream: where the count is shown, standard output without it.
        """
        self.folder = folder
        self.done = threading.Event()
        self.failure: ConveyorError | None = None
        self._count = count
        self._stream = stream or sys.stdout
        self._live = bool(getattr(self._stream, 'isatty', lambda: False)())
        self._lock = threading.Lock()

    def take(self, image: NDArray[np.uint8]) -> None:
        """Keep a picture u8[H, W, 3], unless there are enough already."""
        with self._lock:
            if self.done.is_set():
                return
            try:
                path = self.folder.add(image)
            except ConveyorError as error:
                self.failure = error
                self.done.set()
                return
            self._show(path)
            if self._count and self.folder.added >= self._count:
                self.done.set()

    def _show(self, path: Path) -> None:
        line = (f'{self.folder.label}: {self.folder.added} new, '
                f'{self.folder.before + self.folder.added} in all  {path.name}')
        if self._live:
            self._stream.write(f'\r\x1b[K{line}')
        else:
            self._stream.write(line + '\n')
        self._stream.flush()

    def finish(self) -> None:
        """End the line of the live count and say where the pictures are; raise what failed."""
        self.done.set()
        if self._live and self.folder.added:
            self._stream.write('\n')
        self._stream.write(
            f'{self.folder.added} pictures of {self.folder.label} added to {self.folder.path}, '
            f'{self.folder.before + self.folder.added} in all\n')
        self._stream.flush()
        if self.failure is not None:
            raise self.failure


class ItemCropper:
    """
    Cut items out of frames, as the camera node does: each item once, around its centre.

    With trigger 'frame' every frame is an item (a camera behind a light barrier); with 'image'
    the item is found by its difference to the belt.
    """

    def __init__(self, cell: CellDescription, trigger: str, travel: str, threshold: float,
                 min_area: int, collect: Callable[[NDArray[np.uint8]], None]) -> None:
        """Take the camera and the belt of a cell; `collect` gets crops u8[S, S, 3]."""
        self._size = cell.camera.crop_size
        self._travel = Travel[travel.upper()]
        self._detector = ItemDetector(self._travel, threshold=threshold, min_area=min_area)
        self._passages = PassageTrigger(
            self._travel, cell.belt.speed * cell.camera.pixels_per_metre)
        self._by_image = trigger == 'image'
        self._collect = collect

    def on_frame(self, image: NDArray[np.uint8], stamp_ns: int, _: str = '') -> None:
        """Take in a frame u8[H, W, 3] with its time."""
        if not self._by_image:
            self._collect(crop_square(image, (image.shape[0] - 1) / 2,
                                      (image.shape[1] - 1) / 2, self._size))
            return
        for item in self._passages.passed(
                self._detector.detect(image), image.shape[:2], stamp_ns):
            self._collect(crop_square(image, item.row, item.column, self._size))

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
        """Call back every `period` seconds until the handle's `cancel`, which ends the work."""
        call = self.guarded(callback)

        def run() -> None:
            while not self._stop.wait(period):
                call()

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


def collect_from_source(
    collector: Collector, cell: CellDescription, *, device: str = '', folder: str = '',
    trigger: str = 'image', travel: str = 'up', threshold: float = 24.0, min_area: int = 400,
    warn: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
) -> None:
    """
    Collect from an OpenCV device or a folder of images until `collector.done` is set.

    :raises ConfigError: if the folder holds no image.
    :raises MissingDependency: if OpenCV is needed and not installed.
    """
    host = SourceHost(collector.done, warn)
    cropper = ItemCropper(cell, trigger, travel, threshold, min_area, collector.take)
    source: Any
    if folder:
        source = FolderSource(host, cropper.on_picture, folder, FOLDER_RATE, False)
    else:
        source = DeviceSource(host, cropper.on_frame, device, 0.0)
    source.start()
    try:
        collector.done.wait()
    finally:
        source.stop()
