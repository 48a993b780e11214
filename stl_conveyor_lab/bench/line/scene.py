# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A belt with parts on it as a free-running camera sees it. Needs no ROS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stl_conveyor_lab.bench.line.motion import Motion
from stl_conveyor_lab.bench.line.pictures import Picture, Spot, picture

#: Of the shipped cell: pixels per metre, m/s, rows and columns of the picture.
SCALE, SPEED, SIZE = 2000.0, 0.4, (240, 320)
NOISE = 2.0  # grey values (standard deviation) from picture to picture
TEXTURE_ROWS = 2400  # of a pattern that repeats along the belt


@dataclass(frozen=True)
class Lying:
    """A part on the belt.

    Attributes:
        place: Metres behind the middle of the picture, at time 0.
        length: Metres along the belt.
        across: Metres from the middle of the belt to its side.
        width: Metres across the belt.
    """

    place: float
    length: float = 0.024
    across: float = 0.0
    width: float = 0.03


def train(
    count: int,
    length: float,
    gap: float,
    *,
    first: float = 0.3,
    across: float = 0.0,
    width: float = 0.03,
) -> tuple[Lying, ...]:
    """Return parts behind each other with a gap (m) between them; the first front at `first`."""
    return tuple(
        Lying(first + length / 2 + number * (length + gap), length, across, width)
        for number in range(count)
    )


def steady(_: float) -> float:
    """Return no change of the light."""
    return 0.0


@dataclass(frozen=True)
class Scene:
    """What passes, how the belt moves, and how it is lit.

    Attributes:
        parts: On the belt.
        seconds: For how long pictures are taken.
        expected: Items that must be found.
        motion: Of the belt.
        light: Time (s) → grey values by which everything is brighter.
        texture: Grey values (standard deviation) of a pattern on the belt that moves with it.
        rate: Pictures per second.
        travel: Where the belt carries things in the picture.
    """

    parts: Sequence[Lying]
    seconds: float
    expected: int
    motion: Motion = field(default_factory=lambda: Motion([], SPEED))
    light: Callable[[float], float] = steady
    texture: float = 0.0
    rate: float = 30.0
    travel: str = 'up'

    def pictures(self) -> Iterator[tuple[float, Picture]]:
        """Yield each picture u8[H, W, 3] with its time (s)."""
        rng = np.random.default_rng(7)
        pattern = self._pattern(rng)
        turned = self.travel in ('left', 'right')
        size = SIZE[::-1] if turned else SIZE
        for number in range(int(self.seconds * self.rate)):
            time = number / self.rate
            moved = self.motion.position(time)
            noise = rng.normal(0.0, NOISE, size).astype(np.float32)
            if pattern is not None:
                rows = (np.arange(size[0]) - round(moved * SCALE)) % TEXTURE_ROWS
                noise += pattern[rows, : size[1]]
            image = picture(
                [self._spot(part, moved, size) for part in self.parts],
                size,
                light=self.light(time),
                noise=noise,
            )
            yield time, self._as_seen(image)

    def _spot(self, part: Lying, moved: float, size: tuple[int, int]) -> Spot:
        """Return a part in the picture of a belt that runs down."""
        row = size[0] / 2 + (moved - part.place) * SCALE
        return Spot(
            row, size[1] / 2 + part.across * SCALE, part.length * SCALE, part.width * SCALE
        )

    def _as_seen(self, image: Picture) -> Picture:
        turned = {
            'down': image,
            'up': image[::-1],
            'right': image.swapaxes(0, 1),
            'left': image.swapaxes(0, 1)[:, ::-1],
        }[self.travel]
        return np.ascontiguousarray(turned)

    def _pattern(self, rng: np.random.Generator) -> NDArray[np.float32] | None:
        if not self.texture:
            return None
        coarse = rng.normal(0.0, self.texture, (TEXTURE_ROWS // 8, max(SIZE) // 8))
        return np.kron(coarse, np.ones((8, 8))).astype(np.float32)
