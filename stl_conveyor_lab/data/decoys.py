# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Decoys: solids of random shape, which teach what a thing that does not belong is like.

They are no strangers of `sim/strangers.py`, on which detectors are judged, and no parts in another
size, cut or piled up: each is one to three random solids (plates, rings, rods, boxes, lumps) in a
random finish or colour, and none comes twice (outlier exposure: Hendrycks, Mazeika, Dietterich,
"Deep Anomaly Detection with Outlier Exposure", ICLR 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.resources import share_path
from stl_conveyor.sim.parts import FLAT, Part
from stl_conveyor.sim.strangers import Stranger, Triangles, box, joined, lump, prism, ring, rod
from stl_conveyor_lab.data.render import render_missing, render_things

#: Of the first belt; belts that nothing else is trained, calibrated or measured on.
FIRST_SEED = 4_000_000
#: Decoys on a belt, and photographs of each.
DECOYS, LOOKS = 24, 3
TIME_UNIT = 0.5  # s between decoys
LARGEST = 0.070  # m, what a picture shows
#: Corners of the outlines of rings.
_AROUND = 48


def _plate(rng: np.random.Generator) -> Triangles:
    turns = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 9))))
    # With two corners more the outline holds its middle.
    turns = np.concatenate([turns, turns[0] + np.array([2.1, 4.2])])
    turns = np.sort(turns % (2 * math.pi))
    radius = rng.uniform(0.005, 0.020)
    stretch = rng.uniform(0.4, 1.0)
    outline = [(radius * math.cos(a), stretch * radius * math.sin(a)) for a in turns]
    return prism(outline, 0.0, rng.uniform(0.0008, 0.012))


def _outline(rng: np.random.Generator, turns: np.ndarray) -> np.ndarray:
    """Return radii at angles, 1 at most: of a circle, a regular polygon or a wavy line."""
    corners = int(rng.integers(3, 25))
    inside = (turns + rng.uniform(0, 2 * math.pi)) % (2 * math.pi / corners)
    kind = rng.integers(3)
    if kind == 0:
        return np.ones_like(turns)
    if kind == 1:
        return math.cos(math.pi / corners) / np.cos(inside - math.pi / corners)
    height = rng.uniform(0.03, 0.3)
    return 1 - height * (0.5 + 0.5 * np.cos(corners * inside))


def _ring(rng: np.random.Generator) -> Triangles:
    turns = np.arange(_AROUND) * 2 * math.pi / _AROUND
    around = np.column_stack([np.cos(turns), rng.uniform(0.5, 1.0) * np.sin(turns)])
    outer = rng.uniform(0.005, 0.020) * _outline(rng, turns)
    inner = rng.uniform(0.2, 0.9) * outer.min() * _outline(rng, turns)
    outside, inside = (
        [(float(x), float(y)) for x, y in radii[:, None] * around] for radii in (outer, inner)
    )
    return ring(outside, inside, 0.0, rng.uniform(0.0008, 0.015))


def _rod(rng: np.random.Generator) -> Triangles:
    length, turn = rng.uniform(0.010, 0.060), rng.uniform(0, 2 * math.pi)
    end = (length * math.cos(turn), length * math.sin(turn), rng.uniform(-0.004, 0.004))
    return rod((0.0, 0.0, 0.0), end, rng.uniform(0.001, 0.008))


def _box(rng: np.random.Generator) -> Triangles:
    return box(rng.uniform((0.006, 0.003, 0.001), (0.050, 0.025, 0.015)).tolist())


def _lump(rng: np.random.Generator) -> Triangles:
    return lump(int(rng.integers(1000, 2**31)), rng.uniform(0.004, 0.018))


SOLIDS: tuple[Callable[[np.random.Generator], Triangles], ...] = (
    _plate,
    _ring,
    _ring,
    _rod,
    _rod,
    _box,
    _lump,
)


def decoy(rng: np.random.Generator) -> Triangles:
    """Return one to three random solids as one body, no larger than a picture shows."""
    solids = []
    for _ in range(int(rng.choice((1, 1, 2, 3)))):
        solid = SOLIDS[int(rng.integers(len(SOLIDS)))](rng)
        turn = rng.uniform(0, 2 * math.pi)
        cosine, sine = math.cos(turn), math.sin(turn)
        turned = solid @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
        solids.append(turned + (*rng.uniform(-0.014, 0.014, 2), 0.0))
    body = joined(*solids)
    points = body.reshape(-1, 3)
    return body * min(1.0, LARGEST / float(np.ptp(points, axis=0).max()))


def decoys_of(seed: int, count: int = DECOYS) -> tuple[Stranger, ...]:
    """Return the decoys of a belt."""
    rng = np.random.default_rng((seed, 61))
    found = []
    for number in range(count):
        mesh = decoy(rng)
        metal = rng.random() < 0.6
        colour = None if metal else tuple(rng.uniform(0.05, 0.95, 3).tolist())
        part = Part(f'decoy_{number}', FLAT, colour=colour)
        found.append(Stranger(part, 'decoy', partial(np.copy, mesh)))
    return tuple(found)


def render_decoys(
    cell: CellDescription, seed: int, count: int = DECOYS, looks: int = LOOKS
) -> Mapping[str, np.ndarray]:
    """Return pixels uint8 [N, S, S, 3] and names of a belt's decoys."""
    decoys = decoys_of(seed, count)
    names = [each.name for each in decoys]
    return render_things(cell, seed, names, looks, TIME_UNIT, decoys)


def decoy_shards(
    folder: Path, belts: int, *, count: int = DECOYS, looks: int = LOOKS, jobs: int = 2
) -> list[Path]:
    """Return the shards of some belts' decoys, rendering those that are missing.

    Args:
        folder: Where they lie.
        belts: How many belts.
        count: Decoys on a belt.
        looks: Photographs of each.
        jobs: Processes that render.
    """
    cell = CellDescription.load(share_path('config/cell.yaml'))
    shards = {
        Path(folder) / f'{seed}.npz': partial(render_decoys, cell, seed, count, looks)
        for seed in range(FIRST_SEED, FIRST_SEED + belts)
    }
    render_missing(shards, jobs)
    return list(shards)
