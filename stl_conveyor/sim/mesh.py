# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the mesh of a part weighs, how hard it is to turn, and how large it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.errors import ConfigError
from stl_conveyor.resources import share_path

STEEL = 7850.0  # kg/m3
_RECORD = np.dtype([('normal', '<f4', 3), ('corners', '<f4', (3, 3)), ('attribute', '<u2')])


@dataclass(frozen=True)
class MassProperties:
    """Mass (kg), centre of mass (m) and inertia about it (kg m2, float64 [3, 3])."""

    mass: float
    centre: tuple[float, float, float]
    inertia: NDArray[np.float64]


def mesh_path(name: str) -> Path:
    """Return the file of a part's mesh, or of its insert (`<part>_insert`)."""
    return Path(share_path('worlds/meshes')) / f'{name}.stl'


def read_stl(path: Path) -> NDArray[np.float64]:
    """Return the corners of a binary STL file's triangles, float64 [n, 3, 3], metres.

    Raises:
        ConfigError: If the file is missing or is something else.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f'{path}: cannot read the mesh ({error.strerror}); '
            'python worlds/make_meshes.py makes it'
        ) from error
    count = int.from_bytes(content[80:84], 'little')
    if len(content) != 84 + count * _RECORD.itemsize:
        raise ConfigError(f'{path}: not a binary STL file; python worlds/make_meshes.py makes it')
    return np.frombuffer(content, _RECORD, count, 84)['corners'].astype(float)


def mass_properties(triangles: NDArray[np.float64], density: float = STEEL) -> MassProperties:
    """Return the mass properties of a closed surface.

    Each triangle spans a tetrahedron with the origin; signed, they add up to the body.

    Args:
        triangles: corners, counterclockwise seen from outside, float64 [n, 3, 3], metres.
        density: kg/m3.
    """
    volumes = (
        np.einsum('ni,ni->n', triangles[:, 0], np.cross(triangles[:, 1], triangles[:, 2])) / 6
    )
    volume = volumes.sum()
    centre = np.einsum('n,ni->i', volumes, triangles.sum(axis=1) / 4) / volume
    # Integral of x xT over a tetrahedron with corners 0, a, b, c: V/20 (aaT + bbT + ccT + ssT),
    # where s = a + b + c.
    sums = triangles.sum(axis=1)
    moments = (
        np.einsum('n,nki,nkj->ij', volumes, triangles, triangles)
        + np.einsum('n,ni,nj->ij', volumes, sums, sums)
    ) / 20
    moments -= volume * np.outer(centre, centre)
    inertia = density * (np.trace(moments) * np.eye(3) - moments)
    x, y, z = map(float, centre)
    return MassProperties(float(density * volume), (x, y, z), inertia)
