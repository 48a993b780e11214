# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Make the meshes of the parts that the simulated cells sort.

Dimensions are the nominal ones of the standards named beside each part, in millimetres; the
files are binary STL in metres, z along the part's axis, which MuJoCo and Gazebo both read. A part
of two materials has a second file, `<name>_insert.stl`. Threads are drawn as rings of the right
pitch and depth: at half a millimetre per pixel nobody sees the helix.

    python worlds/make_meshes.py [folder]        needs manifold3d
"""

from __future__ import annotations

import math
import struct
import sys
from pathlib import Path

import numpy as np
from manifold3d import CrossSection, Manifold, OpType

SEGMENTS = 28  # of a circle; bearings and washers fill few pixels
PITCH = 1.25  # M8 coarse, ISO 261
THREAD_DEPTH = 0.767  # external thread of that pitch, ISO 68-1: 0.6134 P


def cylinder(diameter, height, z=0.0, segments=SEGMENTS):
    """Return a cylinder standing on z."""
    return Manifold.cylinder(height, diameter / 2, diameter / 2, segments).translate([0, 0, z])


def cone(lower, upper, height, z=0.0):
    """Return a truncated cone with the two diameters given."""
    return Manifold.cylinder(height, lower / 2, upper / 2, SEGMENTS).translate([0, 0, z])


def hexagon(across_flats, height, z=0.0):
    """Return a hexagonal prism."""
    return cylinder(across_flats / math.cos(math.pi / 6), height, z, segments=6)


def revolve(profile):
    """Turn a closed (r, z) profile about the z axis."""
    return Manifold.revolve(CrossSection([profile]), SEGMENTS)


def shank(length, thread, diameter=8.0):
    """Return a shank from z = 0 down to -length, its last `thread` millimetres threaded."""
    outer, core = diameter / 2, diameter / 2 - THREAD_DEPTH
    profile = [(0.0, 0.0), (outer, 0.0)]
    z = -(length - thread)
    if thread < length:
        profile.append((outer, z))
    tip = 1.0
    while z - PITCH > -length + tip:
        profile += [(core, z - 0.3 * PITCH), (core, z - 0.45 * PITCH), (outer, z - 0.85 * PITCH)]
        z -= PITCH
    profile += [(core, -length + tip), (core - 0.7, -length), (0.0, -length)]
    return revolve(profile[::-1])


def chamfered_hexagon(across_flats, height, top=True, bottom=False):
    """Return a hexagonal head or nut whose corners are turned off at 30 degrees."""
    radius = across_flats / 2
    corner = radius / math.cos(math.pi / 6)
    cut = (corner - radius * 0.96) * math.tan(math.pi / 6)
    profile = [(0.0, 0.0)]
    profile += [(radius * 0.96, 0.0), (corner, cut)] if bottom else [(corner, 0.0)]
    profile += [(corner, height - cut), (radius * 0.96, height)] if top else [(corner, height)]
    profile.append((0.0, height))
    return hexagon(across_flats, height) ^ revolve(profile)


def screw(head, length, thread=None, socket=None):
    """Join a head that stands on z = 0 to its shank; socket is (across flats, depth, top)."""
    part = head + shank(length, length if thread is None else thread)
    if socket:
        flats, depth, top = socket
        part -= hexagon(flats, depth + 1, top - depth)
    return part


def button_head(diameter=14.0, height=4.4):
    """Return a round head, ISO 7380-1."""
    turns = np.linspace(0, math.pi / 2, 7)
    arc = [
        (1.5 + (diameter / 2 - 1.5) * math.cos(a), 0.6 + (height - 0.6) * math.sin(a))
        for a in turns
    ]
    return revolve([(0.0, 0.0), (diameter / 2, 0.0), *arc, (0.0, height)])


def nut(height, across_flats=13.0, bore=7.2):
    """Return a chamfered hexagon nut with a countersunk bore."""
    body = chamfered_hexagon(across_flats, height, bottom=True)
    hole = cylinder(bore, height + 2, -1)
    return body - hole - cone(8.8, bore, 0.8) - cone(bore, 8.8, 0.8, height - 0.8)


def lock_nut():
    """Return body and nylon ring of a prevailing torque nut, ISO 7040."""
    collar = revolve(
        [(5.2, 6.0), (6.1, 6.0), (6.1, 8.7), (5.3, 9.5), (4.5, 9.5), (4.5, 9.0), (5.2, 8.6)]
    )
    ring = revolve([(3.75, 6.8), (5.25, 6.8), (5.25, 9.0), (3.75, 9.0)])
    return nut(6.8) + collar, ring


def flange_nut():
    """Return a hexagon nut with flange, ISO 4161."""
    flange = revolve([(0.0, 0.0), (8.95, 0.0), (8.95, 1.2), (6.6, 2.6), (0.0, 2.6)])
    return (chamfered_hexagon(13.0, 8.0) + flange) - cylinder(7.2, 12, -1)


def washer(inner, outer, height):
    """Return a plain washer."""
    return cylinder(outer, height) - cylinder(inner, height + 2, -1)


def spring_washer(inner=8.1, outer=14.8, height=2.0, gap=1.8, rise=1.6):
    """Return a split spring lock washer, DIN 127 B: one turn of a square wire, ends apart."""
    ring = washer(inner, outer, height)
    slot = Manifold.cube([outer, gap, height + 4]).translate([0, -gap / 2, -2])
    slot = slot.rotate([18, 0, 0])

    def lift(point):
        turn = math.atan2(point[1], point[0]) % (2 * math.pi)
        return [point[0], point[1], point[2] + rise * (turn / (2 * math.pi) - 0.5)]

    return (ring - slot).refine(2).warp(lift)


def bearing(sealed):
    """Return rings and balls, or rings and seal, of a 608 deep groove bearing, ISO 15."""
    outer, inner, width = 22.0, 8.0, 7.0
    rings = (
        cylinder(outer, width)
        - cylinder(outer - 4.4, width + 2, -1)
        + (cylinder(inner + 4.2, width) - cylinder(inner, width + 2, -1))
    )
    if sealed:
        seal = washer(inner + 4.0, outer - 4.2, width - 0.8).translate([0, 0, 0.4])
        return rings, seal
    radius = (outer - 4.4 + inner + 4.2) / 4
    balls = [
        Manifold.sphere(1.98, 12).translate(
            [radius * math.cos(a), radius * math.sin(a), width / 2]
        )
        for a in np.arange(7) * 2 * math.pi / 7
    ]
    cage = washer(2 * radius - 1.6, 2 * radius + 1.6, 1.2).translate([0, 0, width / 2 - 0.6])
    return rings, Manifold.batch_boolean([*balls, cage], OpType.Add)


def spur_gear(teeth, module, width=8.0, bore=8.0, pressure_angle=math.radians(20)):
    """Return a spur gear with involute flanks, ISO 53 proportions."""
    pitch_radius = teeth * module / 2
    base = pitch_radius * math.cos(pressure_angle)
    tip, root = pitch_radius + module, pitch_radius - 1.25 * module
    half = math.pi / (2 * teeth) + math.tan(pressure_angle) - pressure_angle
    radii = np.linspace(max(base, root), tip, 5)
    roll = np.sqrt(np.maximum((radii / base) ** 2 - 1, 0))
    angle = half - (roll - np.arctan(roll))
    flank = [(root, half + 0.02), *zip(radii, angle)]
    points = []
    for tooth in range(teeth):
        middle = 2 * math.pi * tooth / teeth
        for r, a in flank:
            points.append((r * math.cos(middle - a), r * math.sin(middle - a)))
        for r, a in flank[::-1]:
            points.append((r * math.cos(middle + a), r * math.sin(middle + a)))
    body = Manifold.extrude(CrossSection([points]), width)
    recess = washer(bore + 5, 2 * root - 4, 1.2)
    return (
        body
        - cylinder(bore, width + 2, -1)
        - recess.translate([0, 0, -0.01])
        - recess.translate([0, 0, width - 1.19])
    )


def parts():
    """Yield (name, body, insert or None) of every part."""
    yield 'hex_bolt_m8x40', screw(chamfered_hexagon(13, 5.3), 40, thread=22), None  # ISO 4014
    yield 'hex_screw_m8x40', screw(chamfered_hexagon(13, 5.3), 40), None  # ISO 4017
    yield 'hex_screw_m8x35', screw(chamfered_hexagon(13, 5.3), 35), None  # ISO 4017
    yield 'socket_screw_m8x30', screw(cylinder(13, 8), 30, socket=(6, 4, 8)), None  # ISO 4762
    yield 'button_screw_m8x30', screw(button_head(), 30, socket=(5, 2.6, 4.4)), None  # ISO 7380-1
    yield (
        'countersunk_screw_m8x30',  # ISO 10642
        screw(cone(8, 16.5, 4.6, 0.0), 25.4, socket=(5, 3.0, 4.6)),
        None,
    )
    yield 'hex_nut_m8', nut(6.8), None  # ISO 4032
    yield 'lock_nut_m8', *lock_nut()
    yield 'flange_nut_m8', flange_nut(), None
    yield 'plain_washer_m8', washer(8.4, 16, 1.6), None  # ISO 7089
    yield 'spring_washer_m8', spring_washer(), None
    yield 'large_washer_m8', washer(8.4, 24, 2.0), None  # ISO 7093-1
    yield 'ball_bearing_608', *bearing(sealed=False)
    yield 'sealed_bearing_608', *bearing(sealed=True)
    yield 'spur_gear_z20', spur_gear(20, 1.18), None
    yield 'spur_gear_z24', spur_gear(24, 1.0), None


def write_stl(path, solid):
    """Write one solid as binary STL, in metres."""
    mesh = solid.to_mesh()
    corners = (np.asarray(mesh.vert_properties)[:, :3][np.asarray(mesh.tri_verts)] * 1e-3).astype(
        '<f4'
    )
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    keep = length[:, 0] > 0
    rows = np.zeros(int(keep.sum()), dtype=[('n', '<f4', 3), ('v', '<f4', (3, 3)), ('a', '<u2')])
    rows['n'], rows['v'] = (normals / np.maximum(length, 1e-30))[keep], corners[keep]
    path.write_bytes(b'stl_conveyor'.ljust(80) + struct.pack('<I', len(rows)) + rows.tobytes())
    return len(rows)


def main():
    """Write every mesh into the folder given, by default the one beside this script."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / 'meshes'
    folder.mkdir(parents=True, exist_ok=True)
    for name, body, insert in parts():
        # The origin goes to the middle of the bounding box, so that poses mean the same for all.
        low, high = np.split(np.asarray(body.bounding_box()), 2)
        shift = [0.0, 0.0, float(-(low[2] + high[2]) / 2)]
        triangles = write_stl(folder / f'{name}.stl', body.translate(shift))
        if insert is not None:
            triangles += write_stl(folder / f'{name}_insert.stl', insert.translate(shift))
        size = high - low
        print(
            f'{name:26s} {size[0]:5.1f} x {size[1]:5.1f} x {size[2]:5.1f} mm, '
            f'{triangles} triangles'
        )


if __name__ == '__main__':
    main()
