# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Where frames come from beside a topic: a camera that OpenCV opens, or a folder of images.

They need no ROS: whatever has what FrameHost lists can hold them, a node or a command.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.errors import ConfigError, HardwareError, Level
from stl_conveyor.hardware.video_device import VideoDevice, VideoFormat
from stl_conveyor.vision.image import read_image
from stl_conveyor.vision.image_inventory import look_through
from stl_conveyor.vision.opencv import import_cv2

RETRY_S = 1.0  # before a camera is opened again

# RGB uint8 [H, W, 3], stamp (ns, ROS time), frame_id
FrameCallback = Callable[[NDArray[np.uint8], int, str], None]


class FrameHost(Protocol):
    """What a source asks of the node or command that holds it."""

    def get_clock(self) -> Any:
        """Return a clock with `now().nanoseconds`."""

    def guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        """Return the callback with this package's errors reported instead of raised."""

    def every(self, period: float, callback: Callable[[], None]) -> Any:
        """Call back every `period` seconds until the `cancel` of what is returned."""

    def set_condition(self, name: str, level: Level, message: str) -> None:
        """Report a condition that lasts."""

    def clear_condition(self, name: str, message: str) -> None:
        """Say that a condition has ended."""

    def report_value(self, name: str, value: object) -> None:
        """Say what holds from now on."""


class FrameSource(Protocol):
    """Calls back with frames from its start until it is stopped; it may be started again."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End; no frame comes afterwards."""


class DeviceSource:
    """Frames of a camera that OpenCV can open (V4L2); a camera that is unplugged is awaited."""

    def __init__(
        self,
        node: FrameHost,
        callback: FrameCallback,
        device: str,
        latency: float,
        wanted: VideoFormat = VideoFormat(),
        sample_bits: int = 0,
    ) -> None:
        """Prepare to open `device`: a path or a number, as `VideoDevice` takes it.

        Args:
            latency: Seconds from mid-exposure until OpenCV hands a frame over.
            wanted: What the camera is asked for; what it gives is reported, and with a warning
                where it is something else.
            sample_bits: Bits that a grey camera uses of samples of 16; 0 = find it out.

        Raises:
            MissingDependency: If OpenCV is not installed.
        """
        import_cv2()
        self._node = node
        self._callback = node.guarded(callback)
        self._device = device
        self._wanted = wanted
        self._sample_bits = sample_bits
        self._latency_ns = round(latency * 1e9)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Read in a thread of its own, because a read blocks."""
        # Each thread has its event: one that was stopped in a long read stays stopped.
        self._stop = threading.Event()
        thread = threading.Thread(
            target=self._run, args=(self._stop,), name='camera device', daemon=True
        )
        thread.start()
        self._thread = thread

    def stop(self) -> None:
        """Let the thread end, at the latest with the read that it is in."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)
            self._thread = None

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._deliver(stop)
                reason = (
                    'delivers no frame; check that it is plugged in and that no other program '
                    'holds it'
                )
            except HardwareError as error:
                reason = str(error)
            except Exception as error:  # OpenCV's and NumPy's; the thread must not end by one
                reason = (
                    f'fails ({type(error).__name__}: {error}); check that it is plugged in and '
                    'that no other program holds it'
                )
            if not stop.is_set():
                self._node.set_condition('device', Level.ERROR, f'camera {self._device} {reason}')
                stop.wait(RETRY_S)

    def _deliver(self, stop: threading.Event) -> None:
        """Open the camera and hand over its frames until there come no more."""
        given = None
        with VideoDevice(self._device, self._wanted, self._sample_bits) as camera:
            while not stop.is_set():
                image = camera.read()
                if image is None or stop.is_set():
                    return
                stamp_ns = self._node.get_clock().now().nanoseconds - self._latency_ns
                self._node.clear_condition('device', f'camera {self._device} delivers')
                if given is not camera.given:
                    given = camera.given
                    self._say(given)
                self._callback(image, stamp_ns, '')

    def _say(self, given: VideoFormat) -> None:
        self._node.report_value('device', f'{self._device}: {given}')
        if given.lacks(self._wanted):
            self._node.set_condition(
                'device_format',
                Level.WARN,
                f'camera {self._device} gives {given}, not {self._wanted} as it was asked; '
                f'`v4l2-ctl --list-formats-ext` says what it can',
            )
        else:
            self._node.clear_condition(
                'device_format', f'camera {self._device} gives what it was asked for'
            )


class FolderSource:
    """The images of a folder, by name, at a steady rate: each one an item."""

    def __init__(
        self, node: FrameHost, callback: FrameCallback, folder: str, rate: float, repeat: bool
    ) -> None:
        """List the images of the folder itself.

        Raises:
            ConfigError: If there are none.
        """
        if not folder:
            raise ConfigError('folder: is not set; give a folder of images')
        path = Path(folder).expanduser()
        inventory = look_through(path, deep=False)
        self._said = '; '.join(inventory.lines(path))
        self._folder = folder
        self._files = inventory.read
        if not self._files:
            raise ConfigError(
                f'folder: {folder!r} holds no image; '
                + ('; '.join(inventory.lines(path)[1:]) if path.is_dir() else 'it is no folder')
            )
        self._node = node
        self._callback = callback
        self._rate = rate
        self._repeat = repeat
        self._next = 0

    def start(self) -> None:
        """Say what is read, and show the first image after one period."""
        self._node.report_value('folder', f'{self._folder}: {self._said}')
        self._next = 0
        self._timer = self._node.every(1.0 / self._rate, self._show)

    def stop(self) -> None:
        """Leave the timer to the node, which destroys it."""

    def _show(self) -> None:
        if self._next >= len(self._files):
            if not self._repeat:
                self._timer.cancel()
                return
            self._next = 0
        path = self._files[self._next]
        self._next += 1
        self._callback(read_image(path), self._node.get_clock().now().nanoseconds, '')
