# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The MuJoCo cell: belt, beam, camera, pushers, bins, and the same run from the same seed."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConfigError
from stl_conveyor.resources import share_path
from stl_conveyor.sim.arrivals import ArrivalSettings, ItemPlan, plan_items
from stl_conveyor.sim.cell_events import PusherOut
from stl_conveyor.sim.layout import PUSH_TIME
from stl_conveyor.sim.parts import CLASS_IDS, PARTS

mujoco_cell = pytest.importorskip('stl_conveyor.sim.mujoco_cell', reason='MuJoCo is missing')


@pytest.fixture(scope='module')
def cell():
    return CellDescription.load(share_path('config/cell.yaml'))


@pytest.mark.parametrize(
    'given, used',
    [({}, 'egl'), ({'DISPLAY': ':0'}, 'None'), ({'MUJOCO_GL': 'disable'}, 'disable')],
)
def test_without_a_display_nothing_is_rendered_into_a_window(given, used):
    show = 'import os, stl_conveyor.sim.mujoco_cell; print(os.environ.get("MUJOCO_GL"))'
    named = {'MUJOCO_GL', 'DISPLAY', 'WAYLAND_DISPLAY', 'PYOPENGL_PLATFORM'}
    env = {name: value for name, value in os.environ.items() if name not in named}
    env['PYTHONPATH'] = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, '-c', show], env={**env, **given}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f'{used}\n'), done.stderr


def plan_of(classes, difficulty=0.2):
    return [
        ItemPlan(
            serial=i + 1,
            arrival=i,
            class_id=name,
            difficulty=difficulty,
            yaw=0.7 * i,
            lateral_offset=0.004 * (i % 3 - 1),
            appearance_seed=100 + i,
        )
        for i, name in enumerate(classes)
    ]


def run_to_the_end(cell, plan, seed=3, lane_for=None, limit=60.0):
    """Run a plan; lane_for(class_id) names the pusher to fire. Returns the events."""
    run = mujoco_cell.MujocoCell(cell, plan, seed)
    events = []
    try:
        while not run.finished:
            assert run.time < limit, 'the run does not end'
            for event in run.step_until(run.time + 0.02):
                events.append(event)
                if isinstance(event, mujoco_cell.Exposed) and lane_for:
                    name = lane_for(event.class_id)
                    x = cell.lane(name).diverter_x if name != cell.reject_lane else 0.0
                    run.fire(
                        name,
                        event.time
                        + (x - cell.camera.x) / cell.belt.speed
                        - cell.diverter.lead_time,
                    )
    finally:
        run.close()
    return events


@pytest.fixture(scope='module')
def sorted_run(cell):
    return run_to_the_end(cell, plan_of(CLASS_IDS), lane_for=cell.lane_of)


def test_every_class_has_a_lane_and_a_mesh(cell):
    assert sorted(cell.classes) == sorted(CLASS_IDS)
    for part in PARTS:
        for name in [part.name] + ([f'{part.name}_insert'] if part.insert else []):
            content = share_path(f'worlds/meshes/{name}.stl').read_bytes()
            assert len(content) == 84 + 50 * struct.unpack_from('<I', content, 80)[0]


@pytest.mark.parametrize(
    'name, size_mm',
    [
        ('hex_nut_m8', (15.0, 13.0, 6.8)),
        ('plain_washer_m8', (16, 16, 1.6)),
        ('ball_bearing_608', (22, 22, 7)),
        ('hex_bolt_m8x40', (15.0, 13.0, 45.3)),
    ],
)
def test_meshes_have_the_nominal_size(name, size_mm):
    content = share_path(f'worlds/meshes/{name}.stl').read_bytes()[84:]
    rows = np.frombuffer(content, dtype=[('n', '<f4', 3), ('v', '<f4', (3, 3)), ('a', '<u2')])
    points = rows['v'].reshape(-1, 3) * 1e3
    assert np.allclose(np.ptp(points, axis=0), size_mm, atol=0.15)


def test_each_item_is_photographed_once_and_comes_to_rest_once(sorted_run):
    exposed = [e.serial for e in sorted_run if isinstance(e, mujoco_cell.Exposed)]
    rested = [e.serial for e in sorted_run if isinstance(e, mujoco_cell.Rested)]
    assert exposed == list(range(1, len(CLASS_IDS) + 1))
    assert sorted(rested) == exposed


def test_pushed_items_lie_in_the_bin_of_their_lane(cell, sorted_run):
    rest = {e.serial: e.lane_name for e in sorted_run if isinstance(e, mujoco_cell.Rested)}
    assert rest == {i + 1: cell.lane_of(name) for i, name in enumerate(CLASS_IDS)}


def test_pushers_report_when_they_are_out(cell, sorted_run):
    out = [e for e in sorted_run if isinstance(e, PusherOut)]
    assert {e.lane_name for e in out} == {lane.name for lane in cell.lanes}
    for event in out:  # within a stroke of the command for some item of the lane
        delays = [
            event.time - e.time - cell.fire_time_ns(0, event.lane_name) / 1e9
            for e in sorted_run
            if isinstance(e, mujoco_cell.Exposed) and cell.lane_of(e.class_id) == event.lane_name
        ]
        assert min(d for d in delays if d > 0) < 2 * PUSH_TIME


def test_items_nobody_pushes_go_to_the_reject_bin(cell):
    events = run_to_the_end(cell, plan_of(CLASS_IDS[:8]))
    lanes = {e.lane_name for e in events if isinstance(e, mujoco_cell.Rested)}
    assert lanes == {cell.reject_lane}


def test_the_exposure_is_taken_when_the_item_is_under_the_camera(cell, sorted_run):
    for event in sorted_run:
        if not isinstance(event, mujoco_cell.Exposed):
            continue
        assert event.image.shape == (cell.camera.image_height, cell.camera.image_width, 3)
        grey = event.image.astype(float).mean(2)
        contrast = np.abs(grey - np.median(grey))
        rows = np.flatnonzero((contrast > 0.5 * contrast.max()).any(1))
        middle = (rows.min() + rows.max()) / 2
        assert abs(middle - cell.camera.image_height / 2) < 0.1 * cell.camera.image_height


def digest(events):
    total = hashlib.sha256()
    for event in events:
        total.update(repr((event.time, getattr(event, 'serial', 0))).encode())
        total.update(
            event.image.tobytes()
            if isinstance(event, mujoco_cell.Exposed)
            else event.lane_name.encode()
        )
    return total.hexdigest()


def test_the_same_seed_gives_the_same_run_to_the_bit(cell):
    plan = plan_items(5, 9, CLASS_IDS, ArrivalSettings())
    first, again, other = (
        digest(run_to_the_end(cell, plan, seed, cell.lane_of)) for seed in (4, 4, 5)
    )
    assert first == again
    assert first != other


def test_a_pusher_that_does_not_exist_is_refused_by_name(cell):
    run = mujoco_cell.MujocoCell(cell, plan_of(CLASS_IDS[:1]), 0)
    with pytest.raises(ConfigError, match="'Z'"):
        run.fire('Z', 0.0)
    run.close()


def test_more_items_than_slots_is_refused_with_the_remedy(cell):
    run = mujoco_cell.MujocoCell(cell, plan_of(CLASS_IDS[:4]), 0, slots=2)
    with pytest.raises(ConfigError, match='further apart'):
        run.step_until(3.0)
    run.close()


def test_the_overview_shows_a_picture(cell):
    run = mujoco_cell.MujocoCell(cell, plan_of(CLASS_IDS[:2]), 0)
    picture = run.render_overview(180, 320)
    run.close()
    assert picture.shape == (180, 320, 3)
    assert picture.std() > 20


def test_dirt_moves_with_the_belt_and_never_jumps(cell):
    """Over one period of the dirt and more; each picture is the one before, ten pixels on."""
    pixels = 10
    step = pixels / cell.camera.pixels_per_metre / cell.belt.speed
    run = mujoco_cell.MujocoCell(cell, [replace(plan_of(CLASS_IDS[:1])[0], arrival=10_000)], 5)

    def grey(time):
        run.step_until(time)
        picture = run._render('belt', cell.camera.image_height, cell.camera.image_width)
        return picture.astype(float).mean(axis=2)

    try:
        for begin in (0.3, 0.62, 0.93, 1.24):  # where the dirt's planes change places
            before, after = grey(begin), grey(begin + step)
            moved = np.abs(after[:-pixels] - before[pixels:]).mean()
            assert moved < 5.0
            assert moved < 0.8 * np.abs(after - before).mean()  # and it does not stand
    finally:
        run.close()
