# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Frames of a belt with texture, light and items whose places are known, without a renderer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stl_conveyor.vision.item_detector import Travel

SCALE = 2000.0  # pixels per metre
SPEED = 0.4  # metres per second
SHAPE = (240, 320)


@dataclass(frozen=True)
class Part:
    """A rectangle on the belt; metres.

    Attributes:
        start: Place of its middle along the belt at way 0, from the middle of the image.
        length: Along the belt.
        width: Across the belt.
        aside: Of its middle, from the middle of the image.
        grey: Its level, before the light.
    """

    start: float
    length: float = 0.03
    width: float = 0.03
    aside: float = 0.0
    grey: float = 170.0


def worn(seed: int, rough: float, smooth: float) -> np.ndarray:
    """Return a belt's marks, float [1200, 400]: grain, and soft stains over centimetres."""
    rng = np.random.default_rng(seed)
    marks = rough * rng.standard_normal((1200, 400))
    coarse = rng.standard_normal((1200 // 60 + 2, 400 // 60 + 2))
    rows, columns = np.arange(1200) / 60, np.arange(400) / 60
    top, left = rows.astype(int), columns.astype(int)
    down = (1 - np.cos(np.pi * (rows - top)))[:, None] / 2
    right = (1 - np.cos(np.pi * (columns - left)))[None, :] / 2
    above = coarse[top][:, left] * (1 - right) + coarse[top][:, left + 1] * right
    below = coarse[top + 1][:, left] * (1 - right) + coarse[top + 1][:, left + 1] * right
    return marks + smooth * (above * (1 - down) + below * down)


def film(
    parts: Sequence[Part],
    ways: Sequence[float],
    *,
    travel: Travel = Travel.DOWN,
    belt: float = 70.0,
    marks: np.ndarray | None = None,
    noise: float = 2.0,
    light: Callable[[int], tuple[float, float]] = lambda number: (1.0, 0.0),
    seed: int = 0,
):
    """Yield a frame uint8 [H, W, 3] for each way (m) by which the belt has moved.

    light: factor and offset of the grey values in frame `number`.
    """
    rng = np.random.default_rng(seed)
    length, width = SHAPE if travel.axis == 0 else SHAPE[::-1]
    for number, way in enumerate(ways):
        view = np.full((length, width), belt)
        if marks is not None:
            rows = (np.arange(length) - round(way * SCALE)) % marks.shape[0]
            view += marks[rows, :width]
        for part in parts:
            middle = (length - 1) / 2 + (part.start + way) * SCALE
            first, last = (round(middle + s * part.length * SCALE / 2 + 0.5) for s in (-1, 1))
            centre = (width - 1) / 2 + part.aside * SCALE
            left, right = (round(centre + s * part.width * SCALE / 2 + 0.5) for s in (-1, 1))
            view[max(0, first) : max(0, last), max(0, left) : max(0, right)] = part.grey
        factor, offset = light(number)
        view = view * factor + offset + rng.normal(0, noise, view.shape)
        grey = np.clip(view, 0, 255).astype(np.uint8)
        if travel.sign < 0:
            grey = grey[::-1]
        if travel.axis == 1:
            grey = grey.T
        yield np.repeat(grey[:, :, None], 3, axis=2)


def steady(seconds: float, rate: float = 30.0, speed: float = SPEED) -> list[float]:
    """Return the ways of a belt that runs steadily."""
    return [speed * number / rate for number in range(round(seconds * rate))]


def stopping(at: int, frames: int, ways: Sequence[float]) -> list[float]:
    """Return ways with a stop of so many frames at one of them."""
    return [*ways[:at], *[ways[at]] * frames, *ways[at:]]
