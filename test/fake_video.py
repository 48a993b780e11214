# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A stand-in for OpenCV's video capture, which behaves as V4L2 does when it is asked."""

from __future__ import annotations

import sys
import threading

import numpy as np

CONSTANTS = {
    'CAP_V4L2': 200,
    'CAP_PROP_FRAME_WIDTH': 3,
    'CAP_PROP_FRAME_HEIGHT': 4,
    'CAP_PROP_FPS': 5,
    'CAP_PROP_FOURCC': 6,
    'CAP_PROP_CONVERT_RGB': 16,
    'CAP_PROP_BUFFERSIZE': 38,
}


def code_of(fourcc):
    return sum(ord(letter) << 8 * place for place, letter in enumerate(f'{fourcc:4}'))


class FakeCapture:
    """A camera with a few sizes, formats and rates: what it is asked for becomes the nearest.

    `asked` holds the properties in the order in which they were set, of all that were opened.
    """

    sizes = ((320, 240), (640, 480), (1280, 720))
    fourccs = ('YUYV', 'MJPG')
    rates = (30.0, 15.0)
    colour = (1, 2, 3)  # blue first
    there = True
    asked: list = []

    def __init__(self, device, api=0):
        self.device, self.api = device, api
        self.size, self.fourcc, self.rate = (640, 480), self.fourccs[0], self.rates[0]
        self.converts = True
        self.released = threading.Event()

    def isOpened(self):  # noqa: N802
        return self.there

    def set(self, what, value):  # noqa: A003
        name = next(name for name, number in CONSTANTS.items() if number == what)
        self.asked.append((name.removeprefix('CAP_PROP_'), value))
        if what == CONSTANTS['CAP_PROP_FRAME_WIDTH']:
            self.size = min(self.sizes, key=lambda size: abs(size[0] - value))
        elif what == CONSTANTS['CAP_PROP_FRAME_HEIGHT']:
            self.size = min(self.sizes, key=lambda size: abs(size[1] - value))
        elif what == CONSTANTS['CAP_PROP_FPS']:
            self.rate = min(self.rates, key=lambda rate: abs(rate - value))
        elif what == CONSTANTS['CAP_PROP_FOURCC']:
            self.fourcc = next((f for f in self.fourccs if code_of(f) == value), self.fourcc)
        elif what == CONSTANTS['CAP_PROP_CONVERT_RGB']:
            self.converts = bool(value)
        return True

    def get(self, what):
        return {
            CONSTANTS['CAP_PROP_FOURCC']: float(code_of(self.fourcc)),
            CONSTANTS['CAP_PROP_FPS']: self.rate,
        }[what]

    def read(self):
        self.released.wait(1 / self.rate)  # the next picture is not there before
        return self.there, np.full((*self.size[::-1], 3), self.colour, np.uint8)

    def release(self):
        self.released.set()


def install(monkeypatch, capture):
    """Put a module cv2 in place that has this VideoCapture, and nothing of OpenCV else."""
    module = type(sys)('cv2')
    vars(module).update(CONSTANTS, VideoCapture=capture)
    monkeypatch.setitem(sys.modules, 'cv2', module)
