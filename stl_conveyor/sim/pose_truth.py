# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Which item is where, by the poses that a simulator publishes: what was seen, where it lies.

Poses say where a named model is; captures say when something was under the camera. Together they
tell which item a capture shows and into which bin it went. Times are in nanoseconds of one clock,
lengths in metres in the frame of config/cell.yaml.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field

from stl_conveyor.cell.description import NS_PER_SECOND, CellDescription
from stl_conveyor.sim.arrivals import ItemPlan
from stl_conveyor.sim.layout import lane_at
from stl_conveyor.sim.rest import RestWatch

SEEN_WITHIN = 0.05  # m from the camera's axis: an item this far off is another one
PASSED_BY = 0.15  # m behind the camera: no capture of the item will come any more
ON_BELT = -0.01  # z (m) above which an item is on the belt
HISTORY = 64  # poses kept per item: a second


@dataclass(frozen=True)
class ItemSeen:
    """An item was under the camera at `stamp_ns`; `captured` tells whether a capture says so."""

    item: ItemPlan
    stamp_ns: int
    captured: bool


@dataclass(frozen=True)
class ItemRested:
    """An item came to rest in `lane`, or in no bin; `stamp_ns` is None if it was never seen."""

    item: ItemPlan
    name: str
    lane: str
    stamp_ns: int | None


Event = ItemSeen | ItemRested


@dataclass
class _Follow:
    item: ItemPlan
    name: str
    begin_ns: int
    rest: RestWatch
    times: deque[int] = field(default_factory=lambda: deque(maxlen=HISTORY))
    places: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))  # x, m
    stamp_ns: int | None = None


class PoseTruth:
    """Follows every item from the feeder to its rest.

    cell: CellDescription.
    """

    def __init__(self, cell: CellDescription) -> None:
        """Begin with an empty cell."""
        self._cell = cell
        self._items: dict[str, _Follow] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the models that are followed."""
        return tuple(self._items)

    def feed(self, name: str, item: ItemPlan, time_ns: int) -> None:
        """Follow an item that was let go as the model `name`; earlier poses are another's."""
        self._items[name] = _Follow(
            item, name, time_ns, RestWatch(self._cell, time_ns / NS_PER_SECOND)
        )

    def was_seen(self, name: str) -> bool:
        """Return whether any pose of a model has come."""
        follow = self._items.get(name)
        return follow is not None and bool(follow.times)

    def forget(self, name: str) -> None:
        """Follow a model no longer."""
        self._items.pop(name, None)

    def pose(self, name: str, time_ns: int, x: float, y: float, z: float) -> tuple[Event, ...]:
        """Take in where a model is; return what happened by that."""
        follow = self._items.get(name)
        if follow is None or time_ns < follow.begin_ns:
            return ()
        if follow.times and time_ns <= follow.times[-1]:
            return ()
        events: list[Event] = []
        if z > ON_BELT:
            follow.times.append(time_ns)
            follow.places.append(x)
            camera = self._cell.camera.x
            if follow.stamp_ns is None and x > camera + PASSED_BY:
                follow.stamp_ns = self._crossing_ns(follow)
                if follow.stamp_ns is not None:
                    events.append(ItemSeen(follow.item, follow.stamp_ns, captured=False))
        if follow.rest.at_rest(time_ns / NS_PER_SECOND, (x, y, z)):
            del self._items[name]
            events.append(
                ItemRested(follow.item, name, lane_at(self._cell, x, y, z), follow.stamp_ns)
            )
        return tuple(events)

    def capture(self, stamp_ns: int) -> ItemSeen | None:
        """Return which item a capture shows: the one nearest to the camera's axis then."""
        best: _Follow | None = None
        nearest = SEEN_WITHIN
        for follow in self._items.values():
            if follow.stamp_ns is None and follow.times:
                off = abs(self._place_at(follow, stamp_ns) - self._cell.camera.x)
                if off < nearest:
                    best, nearest = follow, off
        if best is None:
            return None
        best.stamp_ns = stamp_ns
        return ItemSeen(best.item, stamp_ns, captured=True)

    def _place_at(self, follow: _Follow, time_ns: int) -> float:
        """Return x (m) at a time: between two poses, or with the belt from the nearest one."""
        times, places = follow.times, follow.places
        index = bisect_left(times, time_ns)
        if 0 < index < len(times):
            share = (time_ns - times[index - 1]) / (times[index] - times[index - 1])
            return places[index - 1] + share * (places[index] - places[index - 1])
        near = 0 if index == 0 else len(times) - 1
        return places[near] + (time_ns - times[near]) / NS_PER_SECOND * self._cell.belt.speed

    def _crossing_ns(self, follow: _Follow) -> int | None:
        """Return when an item crossed the camera's axis, from the poses around it."""
        camera = self._cell.camera.x
        pairs = list(zip(follow.times, follow.places))
        for (t0, x0), (t1, x1) in zip(pairs, pairs[1:]):
            if x0 <= camera < x1:
                return t0 + round((camera - x0) / (x1 - x0) * (t1 - t0))
        return None
