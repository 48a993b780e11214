# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The elements of SDFormat 1.9 that a world and its items are built from.

Metres, seconds, radians; the names are those of Gazebo Harmonic and later.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

# What touches what: a bit in common. Pushers reach below the belt's surface, or a washer of 2 mm
# would find its way out of a contact downwards; so they pass through everything but items.
FIXED, PUSHERS, ITEMS = 1, 2, 3


def numbers(*values: float) -> str:
    """Return numbers as SDFormat writes a vector, with six significant digits."""
    return ' '.join(f'{value:.6g}' for value in values)


def element(tag: str, *content: Element | str | None, **attributes: str) -> Element:
    """Return an element with its attributes.

    Args:
        content: Its text, or the elements in it; None stands for one that is left out.
    """
    made = Element(tag, attributes)
    for part in content:
        if isinstance(part, str):
            made.text = part
        elif part is not None:
            made.append(part)
    return made


def document(content: Element, comment: str = '') -> str:
    """Return an SDFormat file with one element in it.

    Args:
        content: A world or a model.
        comment: Stands above everything; it may have several lines.
    """
    root = element('sdf', content, version='1.9')
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding='unicode')
    # In text and attributes a '>' is escaped, so this is the end of an empty element.
    text = text.replace(' />', '/>')
    above = f'<!-- {comment} -->\n' if comment else ''
    return f'<?xml version="1.0"?>\n{above}{text}\n'


def pose(*values: float) -> Element:
    """Return a pose: x, y, z in metres, then roll, pitch, yaw in radians."""
    return element('pose', numbers(*values))


def material(colour: str, specular: str = '0.1 0.1 0.1', shininess: float = 0.0) -> Element:
    """Return a material; colours are three numbers within 0..1, as text."""
    return element(
        'material',
        element('ambient', f'{colour} 1'),
        element('diffuse', f'{colour} 1'),
        element('specular', f'{specular} 1'),
        element('shininess', numbers(shininess)) if shininess else None,
    )


def box_geometry(size: Sequence[float]) -> Element:
    """Return the geometry of a box with edges in metres."""
    return element('geometry', element('box', element('size', numbers(*size))))


def cylinder_geometry(radius: float, length: float) -> Element:
    """Return the geometry of a cylinder along z; metres."""
    return element(
        'geometry',
        element(
            'cylinder', element('radius', numbers(radius)), element('length', numbers(length))
        ),
    )


def surface(friction: Sequence[float], group: int) -> Element:
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


def plugin(system: str, name: str, *content: Element) -> Element:
    """Return a system of Gazebo, such as ('contact', 'Contact'), with its parameters."""
    return element(
        'plugin', *content, filename=f'gz-sim-{system}-system', name=f'gz::sim::systems::{name}'
    )


def inertial(mass: float, inertia: NDArray[np.float64], centre: Sequence[float] = ()) -> Element:
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
        pose(*centre, 0, 0, 0) if centre else None,
        element('mass', f'{mass:.9g}'),
        element('inertia', *(element(name, f'{inertia[i, j]:.9g}') for name, i, j in entries)),
    )


def box_inertia(mass: float, size: Sequence[float]) -> NDArray[np.float64]:
    """Return the inertia of a solid box about its centre, float64[3, 3], kg m2."""
    x, y, z = (edge * edge for edge in size)
    return mass / 12 * np.diag([y + z, x + z, x + y])
