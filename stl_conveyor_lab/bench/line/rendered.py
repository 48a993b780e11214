# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The shipped simulation's belt and parts as a free-running camera sees them. Needs no ROS.

Physics carries the parts, which are those of the catalogue or bars of any length; the belt moves
and the lamp shines as the scene says.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.resources import share_path
from stl_conveyor.sim.arrivals import ItemPlan
from stl_conveyor.sim.camera_model import Exposure
from stl_conveyor.sim.layout import FEED_OFFSET, TIME_STEP
from stl_conveyor.sim.parts import CLASS_IDS, FLAT, Part
from stl_conveyor.sim.strangers import Stranger, box
from stl_conveyor.vision.item_detector import Travel
from stl_conveyor.vision.item_tracker import ItemTracker, TrackedItem
from stl_conveyor_lab.bench.line.motion import Motion
from stl_conveyor_lab.bench.line.pictures import Picture
from stl_conveyor_lab.bench.line.scene import SPEED
from stl_conveyor_lab.bench.line.situation import Finding

CELL = CellDescription.load(share_path('config/cell.yaml'))
BEGIN_NS = 1_000_000_000_000_000_000
FED = CELL.camera.x - CELL.belt.start - FEED_OFFSET  # m before the camera where a part begins
DIFFICULTY = 0.2
DEFOCUS = 0.6  # px, standard deviation
#: Metres past the middle of the picture by which a part has been made an item, beside what of it
#: is longer than the picture, and before which none is made.
LATE, EARLY = 0.03, 0.008
#: Metres by which the middle of an item may be off.
OFF = 0.008
BAR_HEIGHT = 0.008  # m
SLOTS = 40


def evenly(_: float) -> float:
    """Return the usual light."""
    return 1.0


@dataclass(frozen=True)
class Placed:
    """A part on the belt.

    Attributes:
        name: A class of the catalogue, or `bar`.
        place: Metres from its middle to the middle of the picture, at time 0; at least FED.
        across: Metres from the middle of the belt to its left.
        yaw: Radians by which it is turned.
        length: Metres along the belt, of a bar.
        width: Metres across the belt, of a bar.
    """

    name: str
    place: float
    across: float = 0.0
    yaw: float = 0.0
    length: float = 0.03
    width: float = 0.014

    @property
    def mesh(self) -> str:
        """Return the name of its shape."""
        if self.name != 'bar':
            return self.name
        return f'bar_{round(1e4 * self.length)}x{round(1e4 * self.width)}'


def bars(
    count: int, length: float, gap: float, *, first: float = FED + 0.1, across: float = 0.0
) -> tuple[Placed, ...]:
    """Return bars behind each other with a gap (m) between them; the first front at `first`."""
    return tuple(
        Placed('bar', first + length / 2 + number * (length + gap), across, length=length)
        for number in range(count)
    )


def catalogue(count: int, pitch: float, seed: int) -> tuple[Placed, ...]:
    """Return parts of all classes in turn, turned at random, `pitch` (m) from middle to middle."""
    rng = np.random.default_rng(seed)
    return tuple(
        Placed(
            CLASS_IDS[number % len(CLASS_IDS)],
            FED + 0.1 + number * pitch,
            float(rng.uniform(-0.02, 0.02)),
            float(rng.uniform(-np.pi, np.pi)),
        )
        for number in range(count)
    )


@dataclass(frozen=True)
class RenderedScene:
    """What passes, how the belt moves, and how it is lit.

    Attributes:
        parts: On the belt.
        seed: Of the belt's dirt, the lamps and the finishes.
        seconds: For how long pictures are taken; 0 = until the last part has left the picture.
        motion: Of the belt.
        light: Time (s) -> brightness of the lamps, as a factor.
        rate: Pictures per second.
    """

    parts: Sequence[Placed]
    seed: int
    seconds: float = 0.0
    motion: Motion = field(default_factory=lambda: Motion([], SPEED))
    light: Callable[[float], float] = evenly
    rate: float = 15.0

    @property
    def end(self) -> float:
        """Return when (s) the last picture is taken."""
        if self.seconds:
            return self.seconds
        last = max(part.place + part.length / 2 for part in self.parts)
        return self.motion.time_at(last + CELL.camera.field_of_view)

    def pictures(self) -> Iterator[tuple[float, Picture]]:
        """Yield each picture u8[H, W, 3] with its time (s)."""
        os.environ.setdefault('MUJOCO_GL', 'egl')
        from stl_conveyor.sim.mujoco_cell import MujocoCell

        camera = CELL.camera
        shapes = {part.mesh: _bar(part) for part in self.parts if part.name == 'bar'}
        run = MujocoCell(
            CELL, self._plan(), self.seed, 1.0, slots=SLOTS, strangers=tuple(shapes.values())
        )
        scale = camera.image_height / camera.field_of_view
        try:
            for number in range(int(self.end * self.rate)):
                time = number / self.rate
                while run.time + TIME_STEP <= time:
                    run.belt_speed = self.motion.speed(run.time)
                    run.step_until(run.time + TIME_STEP)
                moved = abs(self.motion.speed(time)) * camera.exposure * scale
                conditions = Exposure(self.light(time), 1.0, DEFOCUS, moved, (self.seed, number))
                yield time, run.look(conditions)
        finally:
            run.close()

    def _plan(self) -> list[ItemPlan]:
        """Return the parts by when the belt has made room for them at the feeder."""
        plan = []
        for number, part in enumerate(sorted(self.parts, key=lambda part: part.place), 1):
            plan.append(
                ItemPlan(
                    number,
                    self.motion.time_at(part.place - FED),  # type: ignore[arg-type]
                    part.mesh,
                    DIFFICULTY,
                    part.yaw,
                    part.across,
                    number,
                )
            )
        return plan or [ItemPlan(1, 10**6, CLASS_IDS[0], DIFFICULTY, 0.0, 0.0, 1)]


def _bar(part: Placed) -> Stranger:
    shape = partial(box, (part.length, part.width, BAR_HEIGHT))
    return Stranger(Part(part.mesh, FLAT), 'bar', shape)


def play_rendered(scene: RenderedScene) -> Finding:
    """Follow the items of a scene: after n parts there must be n items, for every n."""
    tracker = ItemTracker(Travel.UP, CELL.belt.speed, CELL.camera.pixels_per_metre)
    places = sorted(part.place for part in scene.parts)
    longest = max((part.length for part in scene.parts), default=0.0)
    late = LATE + max(0.0, (longest - CELL.camera.field_of_view) / 2)
    found: list[float] = []
    wrong: list[str] = []
    for time, image in scene.pictures():
        items = tracker.update(image, BEGIN_NS + round(time * 1e9))
        found += [_place(scene, item) for item in items]
        moved = scene.motion.position(time)
        least, most = (sum(place <= moved - off for place in places) for off in (late, -EARLY))
        if not least <= len(found) <= most and not wrong:
            wrong.append(f'{len(found)} items after {least} to {most} parts at {time:.2f} s')
    finding = Finding.items(len(found), len(places), detail='; '.join(wrong))
    offs = [abs(a - b) for a, b in zip(sorted(found), places)]
    if len(found) == len(places) and offs:
        finding = finding.and_also(
            max(offs) <= OFF and not wrong, f'places within {1000 * max(offs):.1f} mm'
        )
    return finding


def _place(scene: RenderedScene, item: TrackedItem) -> float:
    """Return where (m) on the belt an item was at time 0, by when it was under the camera."""
    return scene.motion.position((item.time_ns - BEGIN_NS) / 1e9)
