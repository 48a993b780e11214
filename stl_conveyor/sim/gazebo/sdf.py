# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The elements of SDFormat 1.9 that a world and its items are built from.

Metres, seconds, radians; the names are those of Gazebo Harmonic and later.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

# What touches what: a bit in common. Pushers reach below the belt's surface, or a washer of 2 mm
# would find its way out of a contact downwards; so they pass through everything but items.
FIXED, PUSHERS, ITEMS = 1, 2, 3


def numbers(*values: float) -> str:
    """Return numbers as SDFormat writes a vector, with six significant digits."""
    return ' '.join(f'{value:.6g}' for value in values)


def element(tag: str, *content: str, **attributes: str) -> str:
    """Return an element; content that begins with '<' goes on lines of its own, indented."""
    start = tag + ''.join(f' {key}="{escape(value)}"' for key, value in attributes.items())
    content = tuple(part for part in content if part)
    if not content:
        return f'<{start}/>'
    if not content[0].startswith('<'):
        return f'<{start}>{content[0]}</{tag}>'
    inside = '\n'.join('  ' + line for part in content for line in part.split('\n'))
    return f'<{start}>\n{inside}\n</{tag}>'


def pose(*values: float) -> str:
    """Return a pose: x, y, z in metres, then roll, pitch, yaw in radians."""
    return element('pose', numbers(*values))


def material(colour: str, specular: str = '0.1 0.1 0.1', shininess: float = 0.0) -> str:
    """Return a material; colours are three numbers within 0..1, as text."""
    return element(
        'material',
        element('ambient', f'{colour} 1'),
        element('diffuse', f'{colour} 1'),
        element('specular', f'{specular} 1'),
        element('shininess', numbers(shininess)) if shininess else '',
    )


def box_geometry(size: Sequence[float]) -> str:
    """Return the geometry of a box with edges in metres."""
    return element('geometry', element('box', element('size', numbers(*size))))


def cylinder_geometry(radius: float, length: float) -> str:
    """Return the geometry of a cylinder along z; metres."""
    return element(
        'geometry',
        element(
            'cylinder', element('radius', numbers(radius)), element('length', numbers(length))
        ),
    )


def surface(friction: Sequence[float], group: int) -> str:
    """Return how a collision rubs, and what it touches.

    Args:
        friction: mu along the first direction of friction, mu2 across.
        group: FIXED, PUSHERS or ITEMS.
    """
    mu, mu2 = friction
    return element(
        'surface',
        element(
            'friction', element('ode', element('mu', numbers(mu)), element('mu2', numbers(mu2)))
        ),
        element('contact', element('collide_bitmask', f'0x{group:02x}')),
    )


def plugin(system: str, name: str, *content: str) -> str:
    """Return a system of Gazebo, such as ('contact', 'Contact'), with its parameters."""
    return element(
        'plugin', *content, filename=f'gz-sim-{system}-system', name=f'gz::sim::systems::{name}'
    )


def inertial(mass: float, inertia: NDArray[np.float64], centre: Sequence[float] = ()) -> str:
    """Return the inertia of a link.

    Args:
        mass: In kg.
        inertia: About the centre of mass, float64[3, 3], kg m2.
        centre: The centre of mass in the link's frame, m; empty: the link's origin.
    """
    entries = (
        ('ixx', 0, 0),
        ('ixy', 0, 1),
        ('ixz', 0, 2),
        ('iyy', 1, 1),
        ('iyz', 1, 2),
        ('izz', 2, 2),
    )
    return element(
        'inertial',
        pose(*centre, 0, 0, 0) if centre else '',
        element('mass', f'{mass:.9g}'),
        element('inertia', *(element(name, f'{inertia[i, j]:.9g}') for name, i, j in entries)),
    )


def box_inertia(mass: float, size: Sequence[float]) -> NDArray[np.float64]:
    """Return the inertia of a solid box about its centre, float64[3, 3], kg m2."""
    x, y, z = (edge * edge for edge in size)
    return mass / 12 * np.diag([y + z, x + z, x + y])
