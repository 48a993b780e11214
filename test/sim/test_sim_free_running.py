# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The simulation's own belt and parts before a camera that runs freely: n parts are n items."""

from __future__ import annotations

import pytest

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.resources import share_path
from stl_conveyor.sim.arrivals import ItemPlan
from stl_conveyor.sim.camera_model import Exposure
from stl_conveyor.vision.item_detector import Travel
from stl_conveyor.vision.item_tracker import ItemTracker

mujoco_cell = pytest.importorskip('stl_conveyor.sim.mujoco_cell', reason='MuJoCo is missing')
RATE = 15.0  # pictures per second
EXACT = 0.004  # m
MS = 0.001  # s, the time unit of the plans


@pytest.fixture(scope='module')
def cell():
    return CellDescription.load(share_path('config/cell.yaml'))


def planned(number, class_id, arrival_ms, across=0.0):
    return ItemPlan(number, arrival_ms, class_id, 0.2, 0.0, across, number)


def test_a_belt_that_stands_carries_nothing_and_goes_on_from_there(cell):
    run = mujoco_cell.MujocoCell(cell, [planned(1, 'hex_nut_m8', 0)], 3, MS)
    try:
        ways = []
        for speed, until in ((cell.belt.speed, 1.0), (0.0, 2.0), (-0.1, 2.5), (0.2, 3.0)):
            run.belt_speed = speed
            run.step_until(until)
            ways.append(run.belt_way)
    finally:
        run.close()
    assert ways == pytest.approx([0.4, 0.4, 0.35, 0.45], abs=0.001)
    assert not run.finished  # it lies before the camera, where the belt has brought it


def test_n_parts_are_n_items_beside_each_other_close_together_over_a_stop_and_a_lamp(cell):
    """Two lie side by side, two 5 mm apart; the lamp steps, and the belt stands for a second."""
    plan = [
        planned(1, 'hex_bolt_m8x40', 0),
        planned(2, 'hex_nut_m8', 300, -0.03),
        planned(3, 'spur_gear_z20', 300, 0.03),
        planned(4, 'hex_nut_m8', 600),
        planned(5, 'hex_nut_m8', 650),
    ]
    stop, go_on, end = 1.5, 2.5, 3.1
    scale = cell.camera.image_height / cell.camera.field_of_view
    tracker = ItemTracker(Travel.UP, cell.belt.speed, scale)
    run = mujoco_cell.MujocoCell(cell, plan, 3, MS)
    found, places = [], []
    try:
        for number in range(int(end * RATE)):
            time = number / RATE
            for speed, until in ((cell.belt.speed, stop), (0.0, go_on), (cell.belt.speed, end)):
                if run.time < until:
                    run.belt_speed = speed
                    run.step_until(min(time, until))
            light = 0.75 if time < 1.0 else 1.0
            motion = run.belt_speed * cell.camera.exposure * scale
            picture = run.look(Exposure(light, 1.0, 0.6, motion, (3, number)))
            items = tracker.update(picture, 10**18 + round(time * 1e9))
            found += [(item.time_ns - 10**18) / 1e9 for item in items]
            places.append((time, run.belt_way))
    finally:
        run.close()
    assert len(found) == len(plan)

    def way(moment):
        return cell.belt.speed * (min(moment, stop) + max(0.0, moment - go_on))

    assert [w for _, w in places] == pytest.approx([way(t) for t, _ in places], abs=0.002)
    fed = mujoco_cell.FEED_OFFSET + cell.belt.start
    for moment, item in zip(sorted(found), plan):
        came = fed + way(moment) - cell.belt.speed * item.arrival * MS
        assert came == pytest.approx(cell.camera.x, abs=EXACT), item
