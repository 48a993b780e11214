# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The physical cell in MuJoCo: belt, break beam, camera, pushers and bins.

Frame and units: those of config/cell.yaml (x along the belt, metres, seconds). The belt is a body
on a slide whose velocity is set and whose position is put back before every step, so that
friction with a surface that truly moves carries the items. Slots, bodies that take the shape of
any part, let a run of any length use a model of fixed size. Everything random comes from the
plan and the seed: the same plan, seed and commands give the same run, to the bit.
"""

from __future__ import annotations

import functools
import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stl_conveyor.cell.light_barrier import SteadyLightBarrier
from stl_conveyor.errors import ConfigError, MissingDependency
from stl_conveyor.sim.camera_model import Exposure, belt_texture, exposure_for, photograph
from stl_conveyor.sim.cell_events import Exposed, PusherOut, Rested
from stl_conveyor.sim.layout import (
    FEED_OFFSET,
    HOLD_TIME,
    PUSH_TIME,
    PUSHER_OUT,
    RETRACT_TIME,
    TIME_STEP,
    lane_at,
)
from stl_conveyor.sim.off_screen import mujoco
from stl_conveyor.sim.parts import PARTS, feed_pose_of, finish_of
from stl_conveyor.sim.rest import RestWatch
from stl_conveyor.sim.scene import (
    PARKING_HEIGHT,
    SKIN_PERIOD,
    SKIN_REST,
    cell_xml,
    stranger_files,
    template_xml,
)
from stl_conveyor.sim.strangers import Stranger, part_named, stranger_in

SLOTS = 24
HIDDEN_GROUP = 5  # a geom group that MuJoCo does not draw


@dataclass
class _Slot:
    index: int
    body: int
    geom: int
    insert: int
    qpos: int
    dof: int
    item: object = None  # ItemPlan
    part: int = -1
    rest: object = None  # RestWatch


class MujocoCell:
    """A run of the cell.

    cell: CellDescription. plan: ItemPlan sequence in order of arrival. seed: of belt and light.
    time_unit: seconds per unit of the plan's arrival times. strangers: more things that a plan may
    name than those of sim/strangers.py.

    Raises:
        ConfigError: When the plan is denser than the cell can hold, MissingDependency when nothing
            can render.
    """

    def __init__(
        self,
        cell,
        plan: Sequence,
        seed: int,
        time_unit: float = 0.5,
        slots=SLOTS,
        strangers: Sequence[Stranger] = (),
    ):
        self.cell, self.plan, self.seed, self.time_unit = cell, tuple(plan), int(seed), time_unit
        strangers = (*stranger_in([item.class_id for item in self.plan]), *strangers)
        files = stranger_files(strangers)
        self._parts = (*PARTS, *(stranger.part for stranger in strangers))
        self._part_of = {stranger.name: stranger.part for stranger in strangers}
        self.model = mujoco.MjModel.from_xml_string(cell_xml(cell, slots, strangers), files)
        self._template = mujoco.MjModel.from_xml_string(template_xml(strangers), files)
        self.data = mujoco.MjData(self.model)
        self._id = lambda kind, name: mujoco.mj_name2id(self.model, kind, name)
        self._slots = [self._slot(i) for i in range(slots)]
        self._serials: dict[int, int] = {}
        belt = self._id(mujoco.mjtObj.mjOBJ_JOINT, 'belt')
        self._belt_qpos = self.model.jnt_qposadr[belt]
        self._belt_dof = self.model.jnt_dofadr[belt]
        self._skin = self._id(mujoco.mjtObj.mjOBJ_GEOM, 'skin')
        self._skin_home = self.model.geom_pos[self._skin].copy()
        self._skin_home[0] = (cell.belt.start + cell.belt.end - SKIN_PERIOD) / 2
        self._skin_rest = self._id(mujoco.mjtObj.mjOBJ_GEOM, 'skin_rest')
        self._skin_under = self.model.geom_pos[self._skin_rest].copy()
        self._pushers = {
            lane.name: self._id(mujoco.mjtObj.mjOBJ_ACTUATOR, f'push_{lane.name}')
            for lane in cell.lanes
        }
        self._pusher_qpos = {
            name: self.model.jnt_qposadr[self.model.actuator_trnid[pusher, 0]]
            for name, pusher in self._pushers.items()
        }
        self._pushes: dict[str, list[float]] = {lane.name: [] for lane in cell.lanes}
        self._out: set[str] = set()
        self._next = 0
        self._steps = 0
        self._belt_speed = cell.belt.speed
        self._speed_since = (0.0, 0.0)  # time (s), and the way (m) of the belt until then
        self._active: list[_Slot] = []
        self._rested = 0
        self._beam = SteadyLightBarrier(cell.belt.speed)
        self._exposures: list[float] = []  # times, s
        self._captured: set[int] = set()
        self._renderer: dict[tuple[int, int], mujoco.Renderer] | None = None
        self._beam_to_camera = (cell.camera.x - cell.break_beam.x) / cell.belt.speed
        self._vertices = [self._hull(part.name) for part in self._parts]
        self._set_run_appearance()
        for slot in self._slots:
            self._set_contact(slot, 0, 0)
        mujoco.mj_forward(self.model, self.data)

    # -- set-up ---------------------------------------------------------------------------------

    def _slot(self, i):
        body = self._id(mujoco.mjtObj.mjOBJ_BODY, f'item_{i}')
        joint = self.model.body_jntadr[body]
        return _Slot(
            i,
            body,
            self._id(mujoco.mjtObj.mjOBJ_GEOM, f'item_{i}'),
            self._id(mujoco.mjtObj.mjOBJ_GEOM, f'insert_{i}'),
            self.model.jnt_qposadr[joint],
            self.model.jnt_dofadr[joint],
        )

    def _hull(self, name):
        """Return the mesh's outermost points in the body frame, float64 [n, 3]."""
        model = self._template
        mesh = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_MESH, name)
        geom = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, name)
        start = model.mesh_vertadr[mesh]
        points = model.mesh_vert[start : start + model.mesh_vertnum[mesh]].astype(float)
        directions = np.array(
            [
                [math.cos(a) * math.cos(b), math.sin(a) * math.cos(b), math.sin(b)]
                for a in np.arange(24) * math.pi / 12
                for b in np.arange(-5, 6) * math.pi / 12
            ]
        )
        outermost = np.unique(np.argmax(points @ directions.T, axis=0))
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, model.geom_quat[geom])
        return points[outermost] @ rotation.reshape(3, 3).T + model.geom_pos[geom]

    def _set_run_appearance(self):
        """Draw the belt's dirt and place the lamps for this seed."""
        model, rng = self.model, np.random.default_rng((self.seed, 11))
        draw = functools.cache(lambda size: belt_texture((self.seed, 12), size))
        for name in ('skin', 'skin_rest'):
            texture = self._id(mujoco.mjtObj.mjOBJ_TEXTURE, name)
            size = int(model.tex_width[texture])
            pixels = draw(size)
            if name == 'skin_rest':  # it begins half a period before the other one
                pixels = np.roll(pixels, size // 2, axis=1)
            start = model.tex_adr[texture]
            model.tex_data[start : start + pixels.size] = pixels.reshape(-1)
        for name, spread in (('key', 0.05), ('fill', 0.05)):
            light = self._id(mujoco.mjtObj.mjOBJ_LIGHT, name)
            model.light_pos[light][:2] += rng.uniform(-spread, spread, 2)
            model.light_pos0[light] = model.light_pos[light]
            model.light_diffuse[light] *= rng.uniform(0.8, 1.2) * rng.uniform(0.97, 1.03, 3)

    # -- the items ------------------------------------------------------------------------------

    @property
    def time(self) -> float:
        """Return the simulated seconds since the start of the run."""
        return self._steps * TIME_STEP

    @property
    def belt_speed(self) -> float:
        """Return the speed (m/s) of the belt; that of the description, until it is set."""
        return self._belt_speed

    @belt_speed.setter
    def belt_speed(self, speed: float) -> None:
        if speed != self._belt_speed:
            self._speed_since = (self.time, self.belt_way)
            self._belt_speed = speed

    @property
    def belt_way(self) -> float:
        """Return how far (m) the belt has moved since the start of the run."""
        since, way = self._speed_since
        return way + (self.time - since) * self._belt_speed

    @property
    def finished(self) -> bool:
        """Whether every item of the plan has come to rest."""
        return self._rested == len(self.plan)

    def feed_time(self, item) -> float:
        """Return the simulated time at which the feeder lets an item go."""
        return item.arrival * self.time_unit

    def _feed(self, item):
        free = next((slot for slot in self._slots if slot.item is None), None)
        if free is None:
            raise ConfigError(
                f'item {item.serial} finds {len(self._slots)} items in the cell already: '
                'space the arrivals further apart or pass more slots'
            )
        model, data, source = self.model, self.data, self._template
        known = self._part_named(item.class_id)
        part, name = self._parts.index(known), known.name
        body = mujoco.mj_name2id(source, mujoco.mjtObj.mjOBJ_BODY, name)
        pairs = [(free.geom, name)]
        if known.insert:
            pairs.append((free.insert, f'{name}_insert'))
        for geom, mesh in pairs:
            template = mujoco.mj_name2id(source, mujoco.mjtObj.mjOBJ_GEOM, mesh)
            model.geom_dataid[geom] = self._id(mujoco.mjtObj.mjOBJ_MESH, mesh)
            for attribute in ('geom_size', 'geom_rbound', 'geom_aabb', 'geom_pos', 'geom_quat'):
                getattr(model, attribute)[geom] = getattr(source, attribute)[template]
        for attribute in (
            'body_mass',
            'body_subtreemass',
            'body_inertia',
            'body_ipos',
            'body_iquat',
            'body_invweight0',
        ):
            getattr(model, attribute)[free.body] = getattr(source, attribute)[body]
        dof = source.jnt_dofadr[source.body_jntadr[body]]
        model.dof_invweight0[free.dof : free.dof + 6] = source.dof_invweight0[dof : dof + 6]
        self._set_contact(free, 1, 7)
        model.body_gravcomp[free.body] = 0
        self._paint(free, item, 0)

        feed = feed_pose_of(item, self.seed, known)
        upright = np.array([1.0, 0, 0, 0])
        if feed.turned_over:
            upright = np.array([0.0, 1, 0, 0])
        elif feed.spin is not None:
            spin, level = np.zeros(4), np.zeros(4)
            mujoco.mju_axisAngle2Quat(spin, np.array([0.0, 0, 1]), feed.spin)
            mujoco.mju_axisAngle2Quat(level, np.array([0.0, 1, 0]), math.pi / 2)
            mujoco.mju_mulQuat(upright, level, spin)
        tilt, yaw, turned, pose = np.zeros(4), np.zeros(4), np.zeros(4), np.zeros(4)
        mujoco.mju_axisAngle2Quat(tilt, np.array([1.0, 0, 0]), feed.tilt)
        mujoco.mju_axisAngle2Quat(yaw, np.array([0.0, 0, 1]), feed.yaw)
        mujoco.mju_mulQuat(turned, tilt, upright)
        mujoco.mju_mulQuat(pose, yaw, turned)
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, pose)
        lowest = (self._vertices[part] @ rotation.reshape(3, 3).T)[:, 2].min()
        data.qpos[free.qpos : free.qpos + 3] = (
            self.cell.belt.start + FEED_OFFSET,
            item.lateral_offset,
            0.0015 - lowest,
        )
        data.qpos[free.qpos + 3 : free.qpos + 7] = pose
        data.qvel[free.dof : free.dof + 6] = (self._belt_speed, 0, 0, 0, 0, 0)
        free.item, free.part, free.rest = item, part, RestWatch(self.cell, self.time)
        self._active.append(free)

    def _part_named(self, name):
        return self._part_of.get(name) or part_named(name)

    def _set_contact(self, slot, contype, conaffinity):
        model = self.model
        model.geom_contype[slot.geom] = model.body_contype[slot.body] = contype
        model.geom_conaffinity[slot.geom] = model.body_conaffinity[slot.body] = conaffinity
        model.geom_group[[slot.geom, slot.insert]] = 0 if contype else HIDDEN_GROUP

    def _paint(self, slot, item, variant):
        """Give a slot the finish that its item has; variant > 0 draws another one."""
        part = self._part_named(item.class_id)
        finish = finish_of(item, self.seed, variant, part)
        body = self._id(mujoco.mjtObj.mjOBJ_MATERIAL, f'item_{slot.index}')
        insert = self._id(mujoco.mjtObj.mjOBJ_MATERIAL, f'insert_{slot.index}')
        model = self.model
        model.mat_rgba[body] = (*finish.rgb, finish.opacity)
        model.mat_specular[body] = finish.specular
        model.mat_shininess[body] = finish.shininess
        model.mat_rgba[insert] = (*part.insert, 1) if part.insert else (0, 0, 0, 0)

    def _park(self, slot):
        model, data = self.model, self.data
        self._set_contact(slot, 0, 0)
        model.body_gravcomp[slot.body] = 1
        data.qpos[slot.qpos : slot.qpos + 7] = (0.1 * slot.index, 0, PARKING_HEIGHT, 1, 0, 0, 0)
        data.qvel[slot.dof : slot.dof + 6] = 0
        slot.item = None
        self._active.remove(slot)

    # -- time -----------------------------------------------------------------------------------

    def fire(self, lane_name: str, time: float) -> None:
        """Start the stroke of a lane's pusher at a simulated time, or now if that has passed.

        Raises ConfigError for a lane that has no pusher. The reject lane needs none.
        """
        if lane_name == self.cell.reject_lane:
            return
        if lane_name not in self._pushes:
            raise ConfigError(
                f'no pusher for lane {lane_name!r}; the cell has ' + ', '.join(self._pushes)
            )
        insort(self._pushes[lane_name], max(time, self.time))

    def _drive_pushers(self, now):
        for name, strokes in self._pushes.items():
            target = 0.0
            for begin in strokes:
                age = now - begin
                if age < 0:
                    break
                if age < PUSH_TIME:
                    target = max(target, age / PUSH_TIME)
                elif age < PUSH_TIME + HOLD_TIME:
                    target = 1.0
                else:
                    target = max(target, 1 - (age - PUSH_TIME - HOLD_TIME) / RETRACT_TIME)
            self.data.ctrl[self._pushers[name]] = target * self.cell.diverter.stroke
            while strokes and now - strokes[0] > PUSH_TIME + HOLD_TIME + RETRACT_TIME:
                strokes.pop(0)

    def step_until(self, time: float) -> list:
        """Run the physics to a simulated time; return what happened, in order."""
        events = []
        while self.time + TIME_STEP <= time + 1e-9:
            now = self.time
            while (
                self._next < len(self.plan) and self.feed_time(self.plan[self._next]) <= now + 1e-9
            ):
                self._feed(self.plan[self._next])
                self._next += 1
            self._drive_pushers(now)
            self.data.qpos[self._belt_qpos] = 0
            self.data.qvel[self._belt_dof] = self._belt_speed
            mujoco.mj_step(self.model, self.data)
            self._steps += 1
            self._watch_beam()
            while self._exposures and self._exposures[0] <= self.time + 1e-9:
                self._exposures.pop(0)
                events += self._expose()
            if self._steps % 10 == 0:
                events += self._watch_rest()
            events += self._watch_pushers()
        return events

    def _watch_beam(self):
        """Follow the light barrier; a finished break schedules the exposure of its middle."""
        x_beam = self.cell.break_beam.x
        broken = False
        for slot in self._active:
            centre = self.data.qpos[slot.qpos]
            if abs(centre - x_beam) > 0.045 or self.data.qpos[slot.qpos + 2] < -0.01:
                continue
            rotation = self.data.xmat[slot.body].reshape(3, 3)
            extent = self._vertices[slot.part] @ rotation[0] + self.data.xpos[slot.body][0]
            if extent.min() <= x_beam <= extent.max():
                broken = True
                break
        middle = self._beam.update(self.time, broken)
        if middle is not None:
            self._exposures.append(middle + self._beam_to_camera)

    def _watch_pushers(self):
        events = []
        for name, place in self._pusher_qpos.items():
            out = self.data.qpos[place] > PUSHER_OUT * self.cell.diverter.stroke
            if out and name not in self._out:
                self._out.add(name)
                events.append(PusherOut(self.time, name))
            elif not out:
                self._out.discard(name)
        return events

    def _watch_rest(self):
        events, now = [], self.time
        for slot in list(self._active):
            place = self.data.qpos[slot.qpos : slot.qpos + 3]
            if slot.rest.at_rest(now, place):
                events.append(Rested(now, slot.item.serial, lane_at(self.cell, *place)))
                self._park(slot)
                self._rested += 1
        return events

    # -- pictures -------------------------------------------------------------------------------

    def _render(self, camera, height, width):
        if self._renderer is None:
            try:
                self._renderer = {}
                self._renderer[height, width] = mujoco.Renderer(self.model, height, width)
            except Exception as error:
                raise MissingDependency(
                    f'no off-screen OpenGL ({error}): install EGL '
                    '(apt install libegl1 libgl1-mesa-dri) and set MUJOCO_GL=egl'
                ) from error
        if (height, width) not in self._renderer:
            self._renderer[height, width] = mujoco.Renderer(self.model, height, width)
        renderer = self._renderer[height, width]
        self._move_skin()
        renderer.update_scene(self.data, camera)
        return renderer.render()

    def _move_skin(self):
        """Move the belt's dirt with it; behind or before the skin lies another piece of it."""
        belt = self.cell.belt
        shift = (self.belt_way + SKIN_PERIOD / 4) % SKIN_PERIOD
        place = self._skin_home + (shift, 0, 0)
        self.data.geom_xpos[self._skin] = place
        first = place[0] - self.model.geom_size[self._skin][0]  # where its dirt begins
        rest = self._skin_under
        for begin in (first - SKIN_PERIOD / 2, first + 1.5 * SKIN_PERIOD):
            if belt.start <= begin and begin + 2 * SKIN_REST <= belt.end:
                rest = np.array((begin + SKIN_REST, place[1], place[2] / 2))  # below it
        self.data.geom_xpos[self._skin_rest] = rest

    def look(self, exposure: Exposure | None = None) -> np.ndarray:
        """Return what the camera over the belt sees now, uint8 [H, W, 3], as one that runs freely.

        exposure: its conditions; None: a rendering without noise, blur and motion.
        """
        camera = self.cell.camera
        picture = self._render('belt', camera.image_height, camera.image_width)
        return picture if exposure is None else photograph(picture, exposure)

    def _exposure_of(self, slot, item, variant, difficulty):
        camera = self.cell.camera
        motion = (
            abs(self.data.qvel[slot.dof])
            * camera.exposure
            * camera.image_height
            / camera.field_of_view
        )
        return self.look(
            exposure_for(difficulty, motion, (self.seed, item.appearance_seed, 4, variant))
        )

    def _under_camera(self):
        """Return the item whose exposure is due: the one nearest to the camera's axis."""
        waiting = [
            slot
            for slot in self._active
            if slot.item.serial not in self._captured and self.data.qpos[slot.qpos + 2] > -0.01
        ]
        if not waiting:
            return None
        return min(waiting, key=lambda s: abs(self.data.qpos[s.qpos] - self.cell.camera.x))

    def _expose(self):
        slot = self._under_camera()
        if slot is None:
            return []
        self._captured.add(slot.item.serial)
        self._last_exposed = slot
        image = self._exposure_of(slot, slot.item, 0, slot.item.difficulty)
        return [
            Exposed(self.time, slot.item.serial, image, slot.item.class_id, slot.item.difficulty)
        ]

    def look_again(self, variant: int, difficulty: float) -> np.ndarray:
        """Photograph the item exposed last once more, in another finish and light (training data).

        Call it right after step_until returned the exposure. Returns uint8 [H, W, 3].
        """
        slot = self._last_exposed
        self._paint(slot, slot.item, variant)
        image = self._exposure_of(slot, slot.item, variant, difficulty)
        self._paint(slot, slot.item, 0)
        return image

    def render_overview(self, height: int = 720, width: int = 1280) -> np.ndarray:
        """Return a picture of the whole cell, uint8 [height, width, 3]."""
        lamp = self.model.vis.headlight
        lamp.active, lamp.ambient[:], lamp.diffuse[:] = 1, 0.42, 0.35
        lamp.specular[:] = 0.1
        shadows = self.model.light_castshadow.copy()
        self.model.light_castshadow[:] = 0
        self.model.light_castshadow[self._id(mujoco.mjtObj.mjOBJ_LIGHT, 'hall')] = 1
        try:
            return self._render('overview', height, width).copy()
        finally:
            lamp.active = 0
            self.model.light_castshadow[:] = shadows

    def close(self) -> None:
        """Free the renderers."""
        for renderer in (self._renderer or {}).values():
            renderer.close()
        self._renderer = None
