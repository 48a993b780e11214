# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Things that do not belong: enough kinds, sound meshes, and on the belt as often as asked."""

from __future__ import annotations

import numpy as np
import pytest

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConfigError
from stl_conveyor.resources import share_path
from stl_conveyor.sim.arrivals import ArrivalSettings, ItemPlan, plan_items
from stl_conveyor.sim.parts import CLASS_IDS
from stl_conveyor.sim.strangers import KINDS, OWN_KINDS, STRANGERS, part_named, strangers_by_name


def test_there_are_at_least_twelve_kinds_and_no_class_among_them():
    assert len(KINDS) >= 12
    assert set(OWN_KINDS) < set(KINDS)
    assert len(strangers_by_name()) == len(STRANGERS)
    assert not set(strangers_by_name()) & set(CLASS_IDS)


@pytest.mark.parametrize('stranger', STRANGERS, ids=lambda stranger: stranger.name)
def test_meshes_lie_at_the_origin_and_fit_on_the_belt(stranger):
    points = stranger.make().reshape(-1, 3)
    low, high = points.min(axis=0), points.max(axis=0)
    assert np.abs(low + high).max() < 1e-6
    assert (high - low).max() < 0.12 and (high - low).min() > 0.0009
    assert np.isfinite(points).all() and len(points) >= 3 * 12


def test_foreign_share_changes_nothing_but_what_comes():
    own = plan_items(400, 5, CLASS_IDS)
    mixed = plan_items(400, 5, CLASS_IDS, ArrivalSettings(foreign_share=0.1))
    foreign = [item for item in mixed if item.class_id not in CLASS_IDS]
    assert 20 <= len(foreign) <= 60
    assert len({strangers_by_name()[item.class_id].kind for item in foreign}) >= 8
    for before, after in zip(own, mixed):
        if after not in foreign:
            assert before == after
        assert (before.arrival, before.yaw) == (after.arrival, after.yaw)
    with pytest.raises(ConfigError, match='foreign_share'):
        ArrivalSettings(foreign_share=1.5)


def test_unknown_names_are_still_refused():
    with pytest.raises(ConfigError, match='teapot'):
        part_named('teapot')


def test_strangers_pass_the_camera_and_end_in_the_reject_bin():
    mujoco_cell = pytest.importorskip('stl_conveyor.sim.mujoco_cell', exc_type=ImportError)
    from stl_conveyor.sim.cell_events import Exposed, Rested

    cell = CellDescription.load(share_path('config/cell.yaml'))
    names = ('clear_film', 'fingers', 'hex_nut_m8_beside_plain_washer_m8', 'hex_nut_m8')
    plan = [ItemPlan(k + 1, 2 * k, name, 0.2, 0.3, 0.0, 7 + k) for k, name in enumerate(names)]
    run = mujoco_cell.MujocoCell(cell, plan, 3)
    seen, rest, now = {}, {}, 0.0
    try:
        while not run.finished:
            now += 0.05
            for event in run.step_until(now):
                if isinstance(event, Exposed):
                    seen[event.serial] = event.image.astype(float)
                elif isinstance(event, Rested):
                    rest[event.serial] = event.lane_name
    finally:
        run.close()
    assert rest == dict.fromkeys((1, 2, 3, 4), cell.reject_lane)
    assert cell.lane_of('fingers') == cell.reject_lane
    spread = {serial: image[40:200, 80:240].std() for serial, image in seen.items()}
    assert spread[1] < 0.5 * min(spread[2], spread[3], spread[4])  # nothing but the belt
    red, _, blue = seen[2][40:200, 80:240].reshape(-1, 3).mean(axis=0)
    assert red > 1.2 * blue  # skin
