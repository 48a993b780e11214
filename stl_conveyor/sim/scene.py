# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The MuJoCo model of the cell, made from its description.

Frame: that of config/cell.yaml. Contact bits: 1 items, bins and floor, 2 pushers, 4 the belt; belt
and pushers touch items alone, so that a pusher's lower edge may reach below the belt's surface.
"""

from __future__ import annotations

from pathlib import Path

from stl_conveyor.resources import share_path
from stl_conveyor.sim.layout import (
    BELT_THICKNESS,
    FLOOR,
    PUSHER_HOME,
    TIME_STEP,
    bin_boxes,
    lane_colour,
    vertical_field_of_view,
)
from stl_conveyor.sim.parts import PARTS
from stl_conveyor.sim.strangers import stl_of

SKIN_PERIOD = 0.5  # m after which the belt's dirt repeats
SKIN_REST = 0.3  # m, half the length of the skin that lies where the first one does not reach
PARKING_HEIGHT = 5.0  # z at which unused slots wait


def mesh_assets(strangers=()):
    """Return the MJCF mesh elements of every part; names are part and part_insert.

    strangers: Stranger sequence; the file of each is `<name>.stl` among the model's assets.
    """
    folder = Path(share_path('worlds/meshes'))
    lines = []
    for part in PARTS:
        names = [part.name] + ([f'{part.name}_insert'] if part.insert else [])
        lines += [
            f'<mesh name="{name}" file="{folder / (name + ".stl")}" maxhullvert="64"/>'
            for name in names
        ]
    # Some are open where they were cut; their mass need not be exact.
    lines += [
        f'<mesh name="{stranger.name}" file="{stranger.name}.stl" maxhullvert="64" '
        'inertia="convex"/>'
        for stranger in strangers
    ]
    return '\n'.join(lines)


def stranger_files(strangers):
    """Return the meshes of strangers as the assets of a model, by file name."""
    return {f'{stranger.name}.stl': stl_of(stranger.make()) for stranger in strangers}


def template_xml(strangers=()):
    """Return a model with one body per part, from which slots take mass, inertia and frames."""
    bodies = ''.join(
        f'<body name="{part.name}"><freejoint/>'
        f'<geom name="{part.name}" type="mesh" mesh="{part.name}" density="7850"/>'
        + (
            f'<geom name="{part.name}_insert" type="mesh" mesh="{part.name}_insert" mass="0"/>'
            if part.insert
            else ''
        )
        + '</body>'
        for part in PARTS
    )
    bodies += ''.join(
        f'<body name="{stranger.name}"><freejoint/>'
        f'<geom name="{stranger.name}" type="mesh" mesh="{stranger.name}" '
        f'density="{stranger.density}"/></body>'
        for stranger in strangers
    )
    return (
        f'<mujoco><asset>{mesh_assets(strangers)}</asset><worldbody>{bodies}</worldbody></mujoco>'
    )


def _box(name, x, y, z, rgba, extra=''):
    """Return a box geom that spans the three (low, high) intervals."""
    centre = ' '.join(f'{(a + b) / 2:.5f}' for a, b in (x, y, z))
    half = ' '.join(f'{(b - a) / 2:.5f}' for a, b in (x, y, z))
    return f'<geom name="{name}" type="box" pos="{centre}" size="{half}" rgba="{rgba}" {extra}/>'


def _bin(cell, lane):
    """Return an open box below the belt with one raised back wall."""
    foam = 'material="foam" friction="1.2 0.02 0.004" solref="0.008 1"'
    return ''.join(
        _box(
            box.name,
            box.x,
            box.y,
            box.z,
            f'{box.colour} 1',
            foam if box.name.endswith('_floor') else '',
        )
        for box in bin_boxes(cell, lane)
    )


def cell_xml(cell, slots, strangers=()):
    """Return the MJCF of the whole cell with `slots` interchangeable item bodies.

    cell: CellDescription. The names that MujocoCell relies on: body and geom `belt`, geoms and
    textures `skin` and `skin_rest`, body and joint `pusher_<lane>`, actuator `push_<lane>`, bodies
    `item_<i>` with geoms `item_<i>` and `insert_<i>`, material `item_<i>`, lights `key` and
    `fill`, cameras `belt` and `overview`.
    """
    belt, half = cell.belt, cell.belt.width / 2
    middle = (belt.start + belt.end) / 2
    world, actuators, frame = [], [], []
    for lane in cell.lanes:
        colour, x = f'{lane_colour(cell, lane)} 1', lane.diverter_x
        world.append(_bin(cell, lane))
        paddle = cell.diverter.paddle_width / 2
        rest = half + PUSHER_HOME
        world.append(
            f'<body name="pusher_{lane.name}" pos="{x} {rest} 0.016">'
            f'<joint name="pusher_{lane.name}" type="slide" axis="0 -1 0" damping="2"/>'
            f'<geom name="plate_{lane.name}" type="box" size="{paddle} 0.004 0.016" '
            f'pos="0 0.004 0" mass="0" rgba="{colour}" contype="0" conaffinity="0"/>'
            # What touches reaches deep below the belt's surface, or a washer of 2 mm would find
            # its way out of a contact downwards.
            f'<geom name="paddle_{lane.name}" type="box" size="{paddle} 0.012 0.036" '
            'pos="0 0.012 -0.018" mass="0.4" group="4" contype="2" conaffinity="0" '
            'friction="0.15 0.002 0.0001" priority="1"/>'
            f'<geom type="capsule" size="0.006" fromto="0 0.008 0.004 0 0.17 0.004" mass="0.1" '
            'rgba="0.7 0.7 0.72 1" contype="0" conaffinity="0"/></body>'
        )
        frame.append(
            _box(
                f'cylinder_{lane.name}',
                (x - 0.022, x + 0.022),
                (half + 0.05, half + 0.20),
                (0.0, 0.045),
                '0.22 0.23 0.25 1',
                'contype="0" conaffinity="0"',
            )
        )
        actuators.append(
            f'<position name="push_{lane.name}" joint="pusher_{lane.name}" kp="4000" kv="90"/>'
        )
    world.append(_bin(cell, None))
    for side, y in (('near', -half - 0.004), ('far', half)):
        frame.append(
            _box(
                f'rail_{side}',
                (belt.start, belt.end),
                (y, y + 0.004),
                (-0.055, -0.004),
                '0.62 0.64 0.66 1',
                'contype="0" conaffinity="0"',
            )
        )
    for x in (belt.start + 0.08, middle, belt.end - 0.06):
        for y in (-half + 0.01, half - 0.01):
            frame.append(
                f'<geom type="cylinder" size="0.011" fromto="{x} {y} -0.40 {x} {y} -0.05"'
                ' rgba="0.5 0.52 0.54 1" contype="0" conaffinity="0"/>'
            )
    items = ''.join(
        f'<body name="item_{i}" pos="{0.1 * i} 0 {PARKING_HEIGHT}" gravcomp="1"><freejoint/>'
        f'<geom name="item_{i}" type="mesh" mesh="{PARTS[0].name}" material="item_{i}" '
        'contype="0" conaffinity="0" condim="6" friction="0.55 0.002 0.00015" density="7850"/>'
        f'<geom name="insert_{i}" type="mesh" mesh="lock_nut_m8_insert" material="insert_{i}" '
        'contype="0" conaffinity="0" mass="0"/></body>'
        for i in range(slots)
    )
    materials = ''.join(
        f'<material name="item_{i}" rgba="0.7 0.7 0.7 1" specular="0.7" shininess="0.6"/>'
        f'<material name="insert_{i}" rgba="0.7 0.7 0.7 0" specular="0.2" shininess="0.3"/>'
        for i in range(slots)
    )
    # A plane's texture begins at its edge, and is repeated so many times in two metres.
    skin = ''.join(
        f'<texture name="{name}" type="2d" builtin="flat" rgb1="0.1 0.1 0.1" width="512" '
        f'height="512"/><material name="{name}" texture="{name}" texuniform="true" '
        f'texrepeat="{2 / SKIN_PERIOD} {2 / SKIN_PERIOD}" specular="0.15" shininess="0.1"/>'
        for name in ('skin', 'skin_rest')
    )
    camera = cell.camera
    fovy = 57.29577951308232 * vertical_field_of_view(cell)
    post_y = half + 0.06
    length = belt.end - belt.start
    return f"""<mujoco model="cell">
<compiler angle="degree"/>
<option timestep="{TIME_STEP}" integrator="implicitfast" cone="elliptic" impratio="3">
  <flag midphase="disable" multiccd="enable"/>
</option>
<size memory="32M"/>
<visual>
  <global offwidth="1280" offheight="720" fovy="{fovy:.6f}"/>
  <quality shadowsize="640" offsamples="4"/>
  <headlight active="0"/>
  <map znear="0.02" zfar="12" shadowclip="0.5"/>
</visual>
<asset>
  {mesh_assets(strangers)}
  <texture type="skybox" builtin="gradient" rgb1="0.78 0.82 0.86" rgb2="0.50 0.53 0.57"
           width="64" height="384"/>
  {skin}
  <material name="foam" specular="0" shininess="0"/>
  {materials}
</asset>
<default><geom friction="0.6 0.003 0.0002" solref="0.006 1" solimp="0.95 0.99 0.0005"/></default>
<worldbody>
  <light name="key" pos="-0.16 0.20 0.46" dir="0.36 -0.40 -0.9" type="spot" cutoff="42"
         exponent="2" castshadow="true" diffuse="0.62 0.62 0.60" specular="0.5 0.5 0.5"
         ambient="0.06 0.06 0.06" attenuation="1 0 0"/>
  <light name="fill" pos="0.20 -0.20 0.50" dir="-0.3 0.35 -0.9" castshadow="false"
         diffuse="0.32 0.32 0.34" specular="0.35 0.35 0.35" attenuation="1 0 0"/>
  <light name="hall" type="directional" pos="0.6 -1.2 2.4" dir="0 0.45 -1" castshadow="false"
         diffuse="0.10 0.10 0.10" specular="0.05 0.05 0.05" ambient="0.10 0.10 0.10"/>
  <geom name="floor" type="plane" size="4 4 0.1" pos="{middle} 0 {FLOOR:.2f}"
        rgba="0.46 0.47 0.48 1"/>
  <body name="belt" pos="{middle} 0 {-BELT_THICKNESS / 2}">
    <joint name="belt" type="slide" axis="1 0 0"/>
    <geom name="belt" type="box" size="{length / 2} {half} {BELT_THICKNESS / 2}" mass="50"
          rgba="0.11 0.11 0.12 1" friction="0.7 0.003 0.0002" contype="4" conaffinity="0"/>
  </body>
  <geom name="skin" type="plane" size="{length / 2 - SKIN_PERIOD / 2} {half} 0.1" pos="0 0 0.0001"
        material="skin" contype="0" conaffinity="0"/>
  <geom name="skin_rest" type="plane" size="{SKIN_REST} {half} 0.1" pos="0 0 -1"
        material="skin_rest" contype="0" conaffinity="0"/>
  <geom name="pole" type="cylinder" size="0.009" contype="0" conaffinity="0"
        fromto="{camera.x} {post_y} -0.4 {camera.x} {post_y} {camera.height + 0.03}"
        rgba="0.3 0.31 0.33 1"/>
  <geom name="arm" type="cylinder" size="0.006" contype="0" conaffinity="0"
        fromto="{camera.x} {post_y} {camera.height + 0.03} {camera.x} 0 {camera.height + 0.03}"
        rgba="0.3 0.31 0.33 1"/>
  <geom name="housing" type="box" size="0.018 0.018 0.016" contype="0" conaffinity="0"
        pos="{camera.x} 0 {camera.height + 0.026}" rgba="0.75 0.2 0.15 1"/>
  <geom name="beam_emitter" type="box" size="0.006 0.006 0.012" contype="0" conaffinity="0"
        pos="{cell.break_beam.x} {half + 0.01} 0.01" rgba="0.8 0.1 0.1 1"/>
  <geom name="beam_receiver" type="box" size="0.006 0.006 0.012" contype="0" conaffinity="0"
        pos="{cell.break_beam.x} {-half - 0.01} 0.01" rgba="0.1 0.1 0.1 1"/>
  <geom name="feeder" type="box" size="0.03 {half + 0.01} 0.004" contype="0" conaffinity="0"
        pos="{belt.start - 0.01} 0 0.05" rgba="0.62 0.64 0.66 1"/>
  {''.join(frame)}
  {''.join(world)}
  {items}
  <camera name="belt" pos="{camera.x} 0 {camera.height}" xyaxes="0 -1 0 1 0 0"
          fovy="{fovy:.6f}"/>
  <camera name="overview" pos="0.40 -1.08 0.80" xyaxes="1 0 0 0 0.60 0.80" fovy="49"/>
</worldbody>
<actuator>{''.join(actuators)}</actuator>
</mujoco>"""
