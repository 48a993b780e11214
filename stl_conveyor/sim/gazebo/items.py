# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The items of a run in Gazebo: their shapes, how the feeder lets them go, their descriptions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.sim.arrivals import ItemPlan
from stl_conveyor.sim.gazebo.sdf import (
    ITEMS,
    box_geometry,
    cylinder_geometry,
    document,
    element,
    inertial,
    material,
    numbers,
    plugin,
    pose,
    surface,
)
from stl_conveyor.sim.layout import FEED_OFFSET
from stl_conveyor.sim.mesh import mass_properties, mesh_path, read_stl
from stl_conveyor.sim.parts import FLAT, PARTS, Finish, feed_pose_of, finish_of, part_index

SLOTS = 24  # items that may be in the cell at once; each has a name of its own
POSE_RATE = 60.0  # Hz, per item


def item_name(slot: int) -> str:
    """Return the name of the model in a slot, 0..SLOTS - 1."""
    return f'item_{slot}'


@dataclass(frozen=True)
class Shape:
    """A box or an upright cylinder that stands for part of an item in collisions.

    size: (x, y, z) of the box, or (radius, radius, length); centre: in the part's frame; metres.
    """

    kind: str
    size: tuple[float, float, float]
    centre: tuple[float, float, float]

    def corners(self) -> NDArray[np.float64]:
        """Return points whose hull is the shape, float64 [n, 3]."""
        if self.kind == 'box':
            x, y, z = (np.array([-s / 2, s / 2]) for s in self.size)
            grid = np.stack(np.meshgrid(x, y, z), -1).reshape(-1, 3)
        else:
            turn = np.arange(32) * math.pi / 16
            ring = self.size[0] * np.stack([np.cos(turn), np.sin(turn)], -1)
            grid = np.concatenate(
                [
                    np.column_stack([ring, np.full(len(ring), side * self.size[2] / 2)])
                    for side in (-1, 1)
                ]
            )
        return grid + self.centre


def collision_shapes(name: str) -> tuple[Shape, ...]:
    """Return the simple shapes that stand for a part in collisions.

    Flat parts are cylinders without their bores. Screws are two boxes, head and shank: the engine
    knows no rolling resistance, and a round shank would roll off the belt.
    """
    points = read_stl(mesh_path(name)).reshape(-1, 3)
    low, high = points.min(axis=0), points.max(axis=0)
    if PARTS[part_index(name)].rest == FLAT:
        radius = float(np.hypot(points[:, 0], points[:, 1]).max())
        return (Shape('cylinder', (radius, radius, float(high[2] - low[2])), (0.0, 0.0, 0.0)),)
    radii = np.hypot(points[:, 0], points[:, 1])
    shank = float(radii[points[:, 2] < (low[2] + high[2]) / 2].max())
    # A conical head has corners at its two ends only: look along the edges.
    triangles = points.reshape(-1, 3, 3)
    share = np.linspace(0, 1, 9)[:, None, None, None]
    along = (triangles + share * (np.roll(triangles, 1, axis=1) - triangles)).reshape(-1, 3)
    wide = along[np.hypot(along[:, 0], along[:, 1]) > 1.2 * shank]
    seat = float(wide[:, 2].min())
    head = points[points[:, 2] >= seat - 1e-6]
    width = head.max(axis=0) - head.min(axis=0)
    return (
        Shape(
            'box',
            (float(width[0]), float(width[1]), float(high[2] - seat)),
            (0.0, 0.0, float(high[2] + seat) / 2),
        ),
        Shape(
            'box',
            (2 * shank, 2 * shank, seat - float(low[2])),
            (0.0, 0.0, (seat + float(low[2])) / 2),
        ),
    )


def feed_pose(
    cell: CellDescription, item: ItemPlan, seed: int
) -> tuple[tuple[float, float, float], tuple[float, float, float, float]]:
    """Return position (m) and orientation (x, y, z, w) in which the feeder lets an item go."""
    feed = feed_pose_of(item, seed)
    turns = [_turn(2, feed.yaw), _turn(0, feed.tilt)]
    if feed.spin is not None:
        turns += [_turn(1, math.pi / 2), _turn(2, feed.spin)]
    elif feed.turned_over:
        turns.append(_turn(0, math.pi))
    quaternion = turns[0]
    for turn in turns[1:]:
        quaternion = _product(quaternion, turn)
    points = np.concatenate([shape.corners() for shape in collision_shapes(item.class_id)])
    lowest = float((points @ _matrix(quaternion).T)[:, 2].min())
    return ((cell.belt.start + FEED_OFFSET, item.lateral_offset, 0.0015 - lowest), quaternion)


def _turn(axis: int, angle: float) -> tuple[float, float, float, float]:
    along = [0.0, 0.0, 0.0]
    along[axis] = math.sin(angle / 2)
    return (along[0], along[1], along[2], math.cos(angle / 2))


def _product(a, b):
    (x, y, z, w), (p, q, r, s) = a, b
    return (
        w * p + x * s + y * r - z * q,
        w * q - x * r + y * s + z * p,
        w * r + x * q - y * p + z * s,
        w * s - x * p - y * q - z * r,
    )


def _matrix(quaternion) -> NDArray[np.float64]:
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def item_sdf(item: ItemPlan, seed: int, slot: int, meshes: str = '') -> str:
    """Return the SDFormat description of one item of a run, as model `item_<slot>`.

    Args:
        seed: Of the run, on which the item's finish depends.
        meshes: URI of the folder with the meshes; empty: the one that the package ships.
    """
    part, finish = PARTS[part_index(item.class_id)], finish_of(item, seed)
    body = mass_properties(read_stl(mesh_path(part.name)))
    folder = meshes.rstrip('/') or mesh_path(part.name).parent.as_uri()
    collisions = [
        element(
            'collision',
            pose(*shape.centre, 0, 0, 0),
            box_geometry(shape.size)
            if shape.kind == 'box'
            else cylinder_geometry(shape.size[0], shape.size[2]),
            # The belt's own friction is lower, and of two the engine takes the lower one.
            surface((1.0, 1.0), ITEMS),
            name=f'collision_{index}',
        )
        for index, shape in enumerate(collision_shapes(part.name))
    ]
    visuals = [_mesh_visual(f'{folder}/{part.name}.stl', 'body', finish)]
    if part.insert:
        visuals.append(
            _mesh_visual(
                f'{folder}/{part.name}_insert.stl', 'insert', Finish(part.insert, 0.2, 0.3)
            )
        )
    model = element(
        'model',
        element(
            'link',
            inertial(body.mass, body.inertia, body.centre),
            *collisions,
            *visuals,
            name='link',
        ),
        # The scene's own pose topic loses its names in the bridge; this one is stamped, too.
        plugin(
            'pose-publisher',
            'PosePublisher',
            element('publish_model_pose', 'true'),
            element('publish_link_pose', 'false'),
            # Before gz-sim 8.10, and in 9.0, nothing at all is published without it.
            element('publish_nested_model_pose', 'true'),
            element('use_pose_vector_msg', 'false'),
            element('update_frequency', numbers(POSE_RATE)),
        ),
        name=item_name(slot),
    )
    return document(model)


def _mesh_visual(uri: str, name: str, finish: Finish) -> Element:
    colour = numbers(*np.clip(finish.rgb, 0, 1))
    return element(
        'visual',
        element('geometry', element('mesh', element('uri', uri))),
        material(colour, numbers(*[finish.specular] * 3), 128 * finish.shininess),
        name=name,
    )
