# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A cell without physics, with the interface of MujocoCell, for fast tests of what is around."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.sim.arrivals import ItemPlan
from stl_conveyor.sim.cell_events import Exposed, PusherOut, Rested


class FakeCell:
    """Items move with the belt; a stroke takes what is in front of its paddle when it gets there.

    The picture of an item shows its class in the middle, as one colour: see class_colour.
    """

    def __init__(
        self, cell: CellDescription, plan: Sequence[ItemPlan], seed: int, time_unit: float = 0.5
    ) -> None:
        """Put the plan on the belt."""
        self.cell, self.plan, self.time_unit = cell, tuple(plan), time_unit
        self.time = 0.0
        self.strokes: list[tuple] = []  # (time of contact, lane)
        self.fired: list[tuple] = []
        self._rest_at = {}
        self._rested = set()
        self._to_camera = (cell.camera.x - cell.belt.start) / cell.belt.speed

    @property
    def finished(self) -> bool:
        """Whether every item is at rest."""
        return len(self._rested) == len(self.plan)

    def exposure_time(self, item: ItemPlan) -> float:
        """Return when an item's centre is under the camera."""
        return item.arrival * self.time_unit + self._to_camera

    def step_until(self, time: float) -> list:
        """Return the exposures and rests on the way to a time."""
        events = []
        for item in self.plan:
            if self.time < self.exposure_time(item) <= time:
                events.append(
                    Exposed(
                        self.exposure_time(item),
                        item.serial,
                        self.picture(item),
                        item.class_id,
                        item.difficulty,
                    )
                )
        for contact, lane in self.strokes:
            if self.time < contact <= time:
                events.append(PusherOut(contact, lane))
                for item in self.plan:
                    x = (contact - self.exposure_time(item)) * self.cell.belt.speed
                    if (
                        abs(x - self.cell.lane(lane).diverter_x)
                        <= self.cell.diverter.paddle_width / 2
                    ):
                        self._rest_at.setdefault(item.serial, (contact + 0.3, lane))
        for item in self.plan:
            end = self.exposure_time(item) + self.cell.belt.end / self.cell.belt.speed
            at, lane = self._rest_at.get(item.serial, (end, self.cell.reject_lane))
            if at <= time and item.serial not in self._rested:
                self._rested.add(item.serial)
                events.append(Rested(at, item.serial, lane))
        self.time = time
        return events

    def fire(self, lane_name: str, time: float) -> None:
        """Schedule a stroke."""
        self.fired.append((lane_name, time))
        self.strokes.append((max(time, self.time) + self.cell.diverter.lead_time, lane_name))

    def picture(self, item: ItemPlan) -> np.ndarray:
        """Return a belt in grey with the item in its class's colour."""
        camera = self.cell.camera
        image = np.full((camera.image_height, camera.image_width, 3), 90, np.uint8)
        y, x = camera.image_height // 2, camera.image_width // 2
        image[y - 40 : y + 40, x - 40 : x + 40] = class_colour(self.cell, item.class_id)
        return image

    def render_overview(self, height: int, width: int) -> np.ndarray:
        """Return a grey picture."""
        return np.full((height, width, 3), 128, np.uint8)

    def close(self) -> None:
        """Nothing is held."""


def class_colour(cell: CellDescription, class_id: str) -> tuple:
    """Return the colour that stands for a class."""
    index = cell.classes.index(class_id)
    return (15 * index + 10, 250 - 15 * index, 200)
