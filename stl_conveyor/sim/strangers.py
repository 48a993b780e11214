# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Things that do not belong on the belt: the test set of strangers, which no training sees.

Their meshes are made here, from those of the parts or from simple solids; z points up, as they lie
on the belt. Metres.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.sim.mesh import STEEL, mesh_path, read_stl
from stl_conveyor.sim.parts import FLAT, LYING, PARTS, Part, part_index

Triangles = NDArray[np.float64]  # corners, [n, 3, 3]
SKIN, PAPER, PLASTIC = (0.80, 0.58, 0.46), (0.90, 0.89, 0.84), (0.20, 0.35, 0.70)
STONE, RUBBER, WOOD = (0.42, 0.38, 0.33), (0.08, 0.08, 0.08), (0.62, 0.45, 0.28)
INVISIBLE = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Stranger:
    """One thing that does not belong.

    Attributes:
        part: How it lies, and its colour; None as colour = one of the parts' finishes.
        kind: What sort of stranger it is; one of KINDS.
        make: Returns its mesh.
        density: kg/m3.
    """

    part: Part
    kind: str
    make: Callable[[], Triangles]
    density: float = STEEL

    @property
    def name(self) -> str:
        """Return its name, which no class has."""
        return self.part.name


def lying(name: str) -> Triangles:
    """Return the mesh of a part as it lies on the belt, its middle at the origin."""
    mesh = read_stl(mesh_path(name))
    if PARTS[part_index(name)].rest == LYING:
        mesh = mesh[..., [2, 1, 0]] * (1.0, 1.0, -1.0)  # the part's axis becomes x
    return centred(mesh)


def centred(mesh: Triangles) -> Triangles:
    """Return a mesh whose bounding box has its middle at the origin."""
    points = mesh.reshape(-1, 3)
    return mesh - (points.min(axis=0) + points.max(axis=0)) / 2


def scaled(name: str, factor: float) -> Triangles:
    """Return a part in another size."""
    return lying(name) * factor


def half(name: str) -> Triangles:
    """Return a part sawn through in the middle, across its axis."""
    return centred(clipped(lying(name)))


def touching(first: str, second: str) -> Triangles:
    """Return two parts side by side that touch, as one body."""
    left, right = lying(first), lying(second)
    gap = left[..., 1].max() - right[..., 1].min()
    floor = left[..., 2].min() - right[..., 2].min()
    return centred(np.concatenate([left, right + (0.002, gap - 0.0002, floor)]))


def stacked(first: str, second: str) -> Triangles:
    """Return a part on top of another, a little aside, as one body."""
    below, above = lying(first), lying(second)
    lift = below[..., 2].max() - above[..., 2].min()
    return centred(np.concatenate([below, above + (0.004, 0.003, lift - 0.0002)]))


def clipped(mesh: Triangles) -> Triangles:
    """Return what of a mesh lies at x >= 0; the cut stays open."""
    pieces = []
    for triangle in mesh:
        inside = triangle[:, 0] >= 0
        if inside.all():
            pieces.append(triangle)
            continue
        if not inside.any():
            continue
        polygon = []
        for k in range(3):
            here, there = triangle[k], triangle[(k + 1) % 3]
            if inside[k]:
                polygon.append(here)
            if inside[k] != inside[(k + 1) % 3]:
                share = here[0] / (here[0] - there[0])
                polygon.append(here + share * (there - here))
        pieces += [
            np.array([polygon[0], polygon[k], polygon[k + 1]]) for k in range(1, len(polygon) - 1)
        ]
    return np.array(pieces)


def prism(outline: Sequence[tuple[float, float]], low: float, high: float) -> Triangles:
    """Return a prism over a convex outline, counterclockwise seen from above."""
    points = np.array(outline)
    bottom = np.column_stack([points, np.full(len(points), low)])
    top = np.column_stack([points, np.full(len(points), high)])
    found = []
    for k in range(len(points)):
        n = (k + 1) % len(points)
        found += [(bottom[k], bottom[n], top[n]), (bottom[k], top[n], top[k])]
        if 0 < k < len(points) - 1:
            found += [(top[0], top[k], top[n]), (bottom[0], bottom[n], bottom[k])]
    return np.array(found)


def regular(count: int, radius: float, start: float = 0.0) -> list[tuple[float, float]]:
    """Return the corners of a regular polygon."""
    turns = start + np.arange(count) * 2 * math.pi / count
    return [(radius * math.cos(a), radius * math.sin(a)) for a in turns]


def ring(
    outer: Sequence[tuple[float, float]],
    inner: Sequence[tuple[float, float]],
    low: float,
    high: float,
) -> Triangles:
    """Return a prism with a hole; both outlines have as many corners, counterclockwise."""
    found = []
    for k in range(len(outer)):
        n = (k + 1) % len(outer)
        corners = {
            (side, z, i): np.array([*outline[i], z])
            for side, outline in (('o', outer), ('i', inner))
            for z in (low, high)
            for i in (k, n)
        }
        o, i = 'o', 'i'
        for quad in (
            ((o, low, k), (o, low, n), (o, high, n), (o, high, k)),
            ((i, low, n), (i, low, k), (i, high, k), (i, high, n)),
            ((o, high, k), (o, high, n), (i, high, n), (i, high, k)),
            ((o, low, n), (o, low, k), (i, low, k), (i, low, n)),
        ):
            a, b, c, d = (corners[key] for key in quad)
            found += [(a, b, c), (a, c, d)]
    return np.array(found)


def rod(start: Sequence[float], end: Sequence[float], radius: float) -> Triangles:
    """Return a round rod between two points."""
    axis = np.subtract(end, start)
    length = float(np.linalg.norm(axis))
    mesh = prism(regular(16, radius), 0.0, length)
    along = axis / length
    side = np.cross(along, (0.0, 0.0, 1.0) if abs(along[2]) < 0.9 else (1.0, 0.0, 0.0))
    side /= np.linalg.norm(side)
    return mesh @ np.array([side, np.cross(along, side), along]) + np.asarray(start)


def box(size: Sequence[float], centre: Sequence[float] = (0.0, 0.0, 0.0)) -> Triangles:
    """Return a box."""
    x, y, z = (s / 2 for s in size)
    return prism([(-x, -y), (x, -y), (x, y), (-x, y)], -z, z) + np.asarray(centre)


def joined(*meshes: Triangles) -> Triangles:
    """Return several solids as one body."""
    return centred(np.concatenate(meshes))


def square_nut() -> Triangles:
    """Return a square nut M8, DIN 557."""
    corners = np.array(regular(4, 0.0065 * math.sqrt(2), math.pi / 4))
    outer = np.concatenate(
        [np.linspace(corners[k], corners[(k + 1) % 4], 5)[:-1] for k in range(4)]
    )
    turns = np.arctan2(outer[:, 1], outer[:, 0])
    inner = 0.0036 * np.column_stack([np.cos(turns), np.sin(turns)])
    return centred(ring([tuple(p) for p in outer], [tuple(p) for p in inner], 0.0, 0.0065))


def wing_nut() -> Triangles:
    """Return a wing nut."""
    hub = ring(regular(20, 0.0065), regular(20, 0.0036), 0.0, 0.008)
    return joined(
        hub, *(rod((0.006 * s, 0, 0.005), (0.015 * s, 0, 0.011), 0.003) for s in (-1, 1))
    )


def sleeve() -> Triangles:
    """Return a spacer sleeve, lying."""
    tube = ring(regular(24, 0.006), regular(24, 0.0042), 0.0, 0.025)
    return centred(tube[..., [2, 1, 0]] * (1.0, 1.0, -1.0))


def dowel() -> Triangles:
    """Return a dowel pin of 8 x 40 mm."""
    return centred(rod((0, 0, 0), (0.040, 0, 0), 0.004))


def hook() -> Triangles:
    """Return a bent piece of rod."""
    return joined(
        rod((0, 0, 0), (0.035, 0, 0), 0.003), rod((0.035, 0, 0), (0.035, 0.018, 0), 0.003)
    )


def fingers() -> Triangles:
    """Return the fingers of a hand."""
    return joined(
        box((0.030, 0.060, 0.018), (-0.030, 0.0, 0.0)),
        *(
            rod((-0.018, y, 0.0), (reach, y * 1.15, 0.0), 0.0075)
            for y, reach in ((-0.023, 0.028), (-0.008, 0.040), (0.008, 0.043), (0.023, 0.036))
        ),
    )


def spanner() -> Triangles:
    """Return an open-ended spanner."""
    return joined(
        box((0.055, 0.008, 0.004)),
        *(
            box((0.014, 0.005, 0.005), (0.033 * s, 0.007 * t, 0.0))
            for s in (-1, 1)
            for t in (-1, 1)
        ),
        *(box((0.006, 0.019, 0.005), (0.026 * s, 0.0, 0.0)) for s in (-1, 1)),
    )


def screwdriver() -> Triangles:
    """Return a short screwdriver."""
    return joined(
        rod((0.0, 0, 0), (0.038, 0, 0), 0.009), rod((0.038, 0, 0), (0.078, 0, 0), 0.0025)
    )


def label(seed: int) -> Triangles:
    """Return a crumpled sheet of paper of 36 x 28 mm; both of its sides are there."""
    rng = np.random.default_rng((seed, 31))
    count = 9
    x, y = np.meshgrid(np.linspace(-0.018, 0.018, count), np.linspace(-0.014, 0.014, count))
    z = rng.normal(0.0, 0.0022, (count, count)) + 0.004 * np.sin(120 * x + rng.uniform(0, 6))
    points = np.stack([x * rng.uniform(0.7, 1.0), y * rng.uniform(0.7, 1.0), z], -1)
    points[..., :2] += rng.normal(0.0, 0.0008, (count, count, 2))
    a, b, c, d = points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]
    upper = np.concatenate(
        [np.stack(corners, -2).reshape(-1, 3, 3) for corners in ((a, b, c), (a, c, d))]
    )
    return centred(np.concatenate([upper, upper[:, ::-1] - (0.0, 0.0, 0.0003)]))


def lump(seed: int, size: float) -> Triangles:
    """Return an uneven stone or chip."""
    rng = np.random.default_rng((seed, 37))
    rows, columns = 7, 12
    turns = np.arange(columns) * 2 * math.pi / columns
    heights = np.linspace(-math.pi / 2, math.pi / 2, rows)
    radius = size * rng.uniform(0.7, 1.15, (rows, columns))
    radius[0], radius[-1] = radius[0, 0], radius[-1, 0]
    ball = np.stack(
        [
            radius * np.cos(heights)[:, None] * np.cos(turns),
            radius * np.cos(heights)[:, None] * np.sin(turns),
            0.55 * radius * np.sin(heights)[:, None],
        ],
        -1,
    )
    found = []
    for r in range(rows - 1):
        for k in range(columns):
            n = (k + 1) % columns
            a, b, c, d = ball[r, k], ball[r, n], ball[r + 1, n], ball[r + 1, k]
            if r:
                found.append((a, b, c))
            if r < rows - 2:
                found.append((a, c, d))
    return centred(np.array(found))


def cap() -> Triangles:
    """Return the cap of a bottle."""
    return joined(
        prism(regular(28, 0.0145), 0.0, 0.0015),
        ring(regular(28, 0.0145), regular(28, 0.0130), 0.0015, 0.010),
    )


def loop() -> Triangles:
    """Return a closed cable tie."""
    return joined(
        ring(regular(32, 0.0150), regular(32, 0.0138), 0.0, 0.0035),
        box((0.006, 0.006, 0.005), (0.016, 0.0, 0.0025)),
    )


def film() -> Triangles:
    """Return a piece of clear film, which a light barrier sees and a camera does not."""
    return prism(regular(16, 0.011), -0.0008, 0.0008)


def _metal(name: str, kind: str, make: Callable[[], Triangles]) -> Stranger:
    return Stranger(Part(name, FLAT), kind, make)


def _soft(
    name: str, kind: str, make: Callable[[], Triangles], colour: tuple[float, ...]
) -> Stranger:
    return Stranger(Part(name, FLAT, colour=colour), kind, make, density=1100.0)


_SIZED = (
    'hex_nut_m8',
    'plain_washer_m8',
    'hex_screw_m8x40',
    'socket_screw_m8x30',
    'spur_gear_z20',
)
_HALVED = ('large_washer_m8', 'hex_bolt_m8x40', 'flange_nut_m8', 'spur_gear_z24', 'hex_nut_m8')
_PAIRS = (
    ('hex_nut_m8', 'plain_washer_m8'),
    ('hex_screw_m8x35', 'countersunk_screw_m8x30'),
    ('flange_nut_m8', 'flange_nut_m8'),
    ('spring_washer_m8', 'hex_nut_m8'),
    ('socket_screw_m8x30', 'plain_washer_m8'),
)
_STACKS = (
    ('large_washer_m8', 'hex_nut_m8'),
    ('spur_gear_z24', 'plain_washer_m8'),
    ('large_washer_m8', 'socket_screw_m8x30'),
    ('hex_nut_m8', 'plain_washer_m8'),
)

STRANGERS: tuple[Stranger, ...] = (
    *(_metal(f'{n}_smaller', 'smaller', partial(scaled, n, 0.6)) for n in _SIZED),
    *(_metal(f'{n}_larger', 'larger', partial(scaled, n, 1.5)) for n in _SIZED),
    *(_metal(f'{n}_half', 'half', partial(half, n)) for n in _HALVED),
    *(_metal(f'{a}_beside_{b}', 'touching', partial(touching, a, b)) for a, b in _PAIRS),
    *(_metal(f'{b}_on_{a}', 'stacked', partial(stacked, a, b)) for a, b in _STACKS),
    _metal('square_nut_m8', 'other nut', square_nut),
    _metal('wing_nut_m8', 'other nut', wing_nut),
    _metal('sleeve_12x25', 'other pin', sleeve),
    _metal('dowel_8x40', 'other pin', dowel),
    _metal('hook', 'other pin', hook),
    _soft('clear_film', 'empty', film, INVISIBLE),
    _soft('fingers', 'hand', fingers, SKIN),
    _metal('spanner', 'tool', spanner),
    _soft('screwdriver', 'tool', screwdriver, RUBBER),
    *(_soft(f'label_{k}', 'label', partial(label, k), PAPER) for k in range(3)),
    _soft('bottle_cap', 'plastic', cap, PLASTIC),
    _soft('cable_tie', 'plastic', loop, RUBBER),
    _soft('stone', 'debris', partial(lump, 1, 0.012), STONE),
    _soft('wood_chip', 'debris', partial(lump, 2, 0.016), WOOD),
    _metal('swarf', 'debris', partial(lump, 3, 0.007)),
)
KINDS = tuple(dict.fromkeys(stranger.kind for stranger in STRANGERS))
# What is made of the cell's own parts; the other kinds are foreign objects.
OWN_KINDS = ('smaller', 'larger', 'half', 'touching', 'stacked')


@cache
def strangers_by_name() -> dict[str, Stranger]:
    """Return every stranger by its name."""
    return {stranger.name: stranger for stranger in STRANGERS}


def part_named(name: str) -> Part:
    """Return a part of the catalogue or a stranger.

    Raises:
        ConfigError: For a name that neither has.
    """
    stranger = strangers_by_name().get(name)
    return PARTS[part_index(name)] if stranger is None else stranger.part


def stl_of(mesh: Triangles) -> bytes:
    """Return a mesh as a binary STL file."""
    records = np.zeros(
        len(mesh), [('normal', '<f4', 3), ('corners', '<f4', (3, 3)), ('attribute', '<u2')]
    )
    records['corners'] = mesh
    return bytes(80) + len(mesh).to_bytes(4, 'little') + records.tobytes()


def stranger_in(names: Sequence[str]) -> tuple[Stranger, ...]:
    """Return the strangers among the names of a plan, in the order of STRANGERS."""
    wanted = set(names)
    return tuple(stranger for stranger in STRANGERS if stranger.name in wanted)


def draw_stranger(rng: np.random.Generator) -> str:
    """Return the name of a stranger; each kind comes equally often."""
    kind = KINDS[int(rng.integers(len(KINDS)))]
    named = [stranger.name for stranger in STRANGERS if stranger.kind == kind]
    return named[int(rng.integers(len(named)))]
