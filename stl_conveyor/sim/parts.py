# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The catalogue of parts that the simulated cell sorts, and how each may lie on the belt."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stl_conveyor.errors import ConfigError

LYING = 'lying'  # the part's axis is level
FLAT = 'flat'  # the part's axis is vertical, either side up


@dataclass(frozen=True)
class Part:
    """One class of part; its mesh is worlds/meshes/<name>.stl."""

    name: str
    rest: str  # LYING or FLAT, how it comes off the feeder
    insert: tuple | None = None  # RGB of a second material, mesh <name>_insert.stl
    colour: tuple | None = None  # RGB or RGBA of what is not metal; None = one of FINISHES


PARTS = (
    Part('hex_bolt_m8x40', LYING),
    Part('hex_screw_m8x40', LYING),
    Part('hex_screw_m8x35', LYING),
    Part('socket_screw_m8x30', LYING),
    Part('button_screw_m8x30', LYING),
    Part('countersunk_screw_m8x30', LYING),
    Part('hex_nut_m8', FLAT),
    Part('lock_nut_m8', FLAT, insert=(0.75, 0.75, 0.78)),
    Part('flange_nut_m8', FLAT),
    Part('plain_washer_m8', FLAT),
    Part('spring_washer_m8', FLAT),
    Part('large_washer_m8', FLAT),
    Part('ball_bearing_608', FLAT, insert=(0.72, 0.70, 0.66)),
    Part('sealed_bearing_608', FLAT, insert=(0.16, 0.12, 0.11)),
    Part('spur_gear_z20', FLAT),
    Part('spur_gear_z24', FLAT),
)

CLASS_IDS = tuple(part.name for part in PARTS)

# Surface finishes: RGB and specular strength. They say nothing about the class.
FINISHES = (
    ('zinc', (0.74, 0.76, 0.79), 0.7),
    ('stainless', (0.66, 0.66, 0.66), 0.9),
    ('yellow zinc', (0.72, 0.63, 0.40), 0.6),
    ('black oxide', (0.13, 0.13, 0.14), 0.6),
)


def part_index(name):
    """Return the place of a class in the catalogue; raises ConfigError for an unknown one."""
    try:
        return CLASS_IDS.index(name)
    except ValueError:
        raise ConfigError(
            f'no mesh for class {name!r}; the catalogue has ' + ', '.join(CLASS_IDS)
        ) from None


@dataclass(frozen=True)
class Finish:
    """How an item's surface looks; RGB of the body, strength and sharpness of its highlights."""

    rgb: tuple[float, float, float]
    specular: float
    shininess: float
    opacity: float = 1.0


def finish_of(item, seed: int, variant: int = 0, part: Part | None = None) -> Finish:
    """Return the finish of an ItemPlan in the run of a seed; variant > 0 draws another one.

    part: of an item that the catalogue does not have.
    """
    rng = np.random.default_rng((seed, item.appearance_seed, 3, variant))
    if part is not None and part.colour is not None:
        rgb, opacity = part.colour[:3], (*part.colour, 1.0)[3]
        return Finish(tuple(np.array(rgb) * rng.uniform(0.85, 1.1)), 0.1, 0.2, opacity)
    dark = 0.12 + 0.35 * item.difficulty
    weights = np.array([0.45, 0.35, 0.20, 0.0]) * (1 - dark)
    weights[3] = dark
    _, rgb, specular = FINISHES[rng.choice(len(FINISHES), p=weights)]
    return Finish(
        tuple(np.array(rgb) * rng.uniform(0.85, 1.1)),
        specular * rng.uniform(0.7, 1.1),
        rng.uniform(0.3, 0.9),
    )


@dataclass(frozen=True)
class FeedPose:
    """How an item leaves the feeder; radians."""

    spin: float | None  # of a lying part about its axis; None for a flat one
    turned_over: bool  # a flat part lies on its other side
    tilt: float  # about the x axis of the part as it lies
    yaw: float  # about the vertical


def feed_pose_of(item, seed: int, part: Part | None = None) -> FeedPose:
    """Return how an ItemPlan leaves the feeder in the run of a seed.

    part: of an item that the catalogue does not have.
    """
    rng = np.random.default_rng((seed, item.appearance_seed, 2))
    spin, turned_over = None, False
    if (part or PARTS[part_index(item.class_id)]).rest == FLAT:
        turned_over = bool(rng.random() < 0.5)
    else:
        spin = rng.uniform(0, 2 * math.pi)
    return FeedPose(spin, turned_over, rng.uniform(-0.05, 0.05), item.yaw)
