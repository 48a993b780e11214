# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The Gazebo world of the cell, made from its description.

The world's frame is that of config/cell.yaml: x along the belt, y to its left, z up, the origin
on the belt's top surface below the camera (REP-103); metres, seconds, radians.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from stl_conveyor.cell.description import CellDescription, Lane
from stl_conveyor.sim.gazebo.sdf import (
    FIXED,
    PUSHERS,
    box_geometry,
    box_inertia,
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
from stl_conveyor.sim.layout import (
    BELT_THICKNESS,
    FLOOR,
    PUSH_TIME,
    PUSHER_HOME,
    TIME_STEP,
    Box,
    bin_boxes,
    horizontal_field_of_view,
    lane_colour,
)

WORLD = 'cell'
BELT_MODEL, BELT_LINK = 'belt', 'base_link'
MAX_COMMAND_AGE = 1.0  # s after which the belt stops when nobody repeats the command
BELT_ACCELERATION = 2.0  # m/s2
JOINT_RATE = 100.0  # Hz, per pusher; older versions publish in every step
CAMERA_RATE = 20.0  # Hz
# A joint that is driven into its limit may stay there for good (DART 6.12), so the limits lie
# beyond the stroke, m.
END_PLAY = 0.02
BEAM_RATE = 100.0  # Hz
BEAM_HEIGHT = 0.15  # of the light barrier's head above the belt, m
BEAM_RAYS = 129
BEAM_MARGIN = 0.01  # m of the belt's edges that the rays leave out
OPTICAL_FRAME = 'camera_optical_frame'
BEAM_FRAME = 'break_beam_link'


@dataclass(frozen=True)
class Frame:
    """Where something stands in the cell: a frame of its own in another one (REP 103).

    Attributes:
        place: x, y and z in the parent, m.
        turn: Roll, pitch and yaw about the fixed axes of the parent, in that order, rad.
    """

    parent: str
    child: str
    place: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)


def still_frames(cell: CellDescription) -> tuple[Frame, ...]:
    """Return the frames of camera and light barrier; that of the cell has x along the belt."""
    down = math.pi / 2
    return (
        Frame(WORLD, 'camera_link', (cell.camera.x, 0.0, cell.camera.height), (0.0, down, 0.0)),
        Frame('camera_link', OPTICAL_FRAME, turn=(-down, 0.0, -down)),
        Frame(WORLD, BEAM_FRAME, (cell.break_beam.x, 0.0, BEAM_HEIGHT), (0.0, down, 0.0)),
    )


def pusher_name(lane: str) -> str:
    """Return the name of a lane's pusher: of its model and of its joint."""
    return f'pusher_{lane}'


def _fixed_model(name: str, boxes: Sequence[Box], friction: Sequence[float]) -> Element:
    parts = []
    for box in boxes:
        parts += [
            element(
                'collision',
                pose(*box.centre, 0, 0, 0),
                box_geometry(box.size),
                surface(friction, FIXED),
                name=box.name,
            ),
            element(
                'visual',
                pose(*box.centre, 0, 0, 0),
                box_geometry(box.size),
                material(box.colour),
                name=f'{box.name}_visual',
            ),
        ]
    return element(
        'model', element('static', 'true'), element('link', *parts, name='link'), name=name
    )


def _belt(cell: CellDescription) -> Element:
    belt = cell.belt
    size = (belt.end - belt.start, belt.width, BELT_THICKNESS)
    fastest = max(1.0, 2 * belt.speed)
    return element(
        'model',
        element('static', 'true'),
        pose((belt.start + belt.end) / 2, 0, -BELT_THICKNESS / 2, 0, 0, 0),
        element(
            'link',
            # The controller turns the first friction direction along the belt: mu takes items
            # along, mu2 lets a pusher move them across.
            element(
                'collision', box_geometry(size), surface((0.7, 0.2), FIXED), name='belt_collision'
            ),
            element('visual', box_geometry(size), material('0.11 0.11 0.12'), name='belt_visual'),
            name=BELT_LINK,
        ),
        plugin(
            'track-controller',
            'TrackController',
            element('link', BELT_LINK),
            element('max_command_age', numbers(MAX_COMMAND_AGE)),
            element('min_velocity', numbers(-fastest)),
            element('max_velocity', numbers(fastest)),
            element('min_acceleration', numbers(-BELT_ACCELERATION)),
            element('max_acceleration', numbers(BELT_ACCELERATION)),
        ),
        name=BELT_MODEL,
    )


def _pusher(cell: CellDescription, lane: Lane) -> Element:
    """Return a pusher: a slide across the belt whose position 0 is at rest beside the belt."""
    name, colour = pusher_name(lane.name), lane_colour(cell, lane)
    width, stroke = cell.diverter.paddle_width, cell.diverter.stroke
    mass, block, plate = 0.5, (width, 0.024, 0.072), (width, 0.008, 0.032)
    return element(
        'model',
        pose(lane.diverter_x, cell.belt.width / 2 + PUSHER_HOME, 0.016, 0, 0, 0),
        element(
            'link',
            inertial(1.0, box_inertia(1.0, (0.044, 0.15, 0.045))),
            element(
                'visual',
                pose(0, 0.119, 0.0065, 0, 0, 0),
                box_geometry((0.044, 0.15, 0.045)),
                material('0.22 0.23 0.25'),
                name='cylinder',
            ),
            name='base',
        ),
        element(
            'joint',
            element('parent', 'world'),
            element('child', 'base'),
            name='mount',
            type='fixed',
        ),
        element(
            'link',
            inertial(mass, box_inertia(mass, block)),
            element(
                'collision',
                pose(0, 0.012, -0.018, 0, 0, 0),
                box_geometry(block),
                surface((0.15, 0.15), PUSHERS),
                name='paddle_collision',
            ),
            element(
                'visual',
                pose(0, 0.004, 0, 0, 0, 0),
                box_geometry(plate),
                material(colour),
                name='plate',
            ),
            element(
                'visual',
                pose(0, 0.089, 0.004, math.pi / 2, 0, 0),
                cylinder_geometry(0.006, 0.162),
                material('0.70 0.70 0.72'),
                name='rod',
            ),
            name='paddle',
        ),
        element(
            'joint',
            element('parent', 'base'),
            element('child', 'paddle'),
            element(
                'axis',
                element('xyz', '0 -1 0'),
                element(
                    'limit',
                    element('lower', numbers(-END_PLAY)),
                    element('upper', numbers(stroke + END_PLAY)),
                    element('effort', '200'),
                    element('velocity', '2'),
                ),
                element('dynamics', element('damping', '2')),
            ),
            name=name,
            type='prismatic',
        ),
        plugin(
            'joint-position-controller',
            'JointPositionController',
            element('joint_name', name),
            element('use_velocity_commands', 'true'),
            element('cmd_max', numbers(stroke / PUSH_TIME)),
        ),
        plugin(
            'joint-state-publisher',
            'JointStatePublisher',
            element('joint_name', name),
            element('update_rate', numbers(JOINT_RATE)),
        ),
        name=name,
    )


def _camera(cell: CellDescription) -> Element:
    """Return the camera: its x axis down, its z axis (the image's top) along the belt."""
    camera = cell.camera
    return _sensor_above(
        'camera',
        'camera',
        camera.x,
        camera.height,
        element(
            'visual',
            pose(-0.026, 0, 0, 0, 0, 0),
            box_geometry((0.032, 0.036, 0.036)),
            material('0.75 0.20 0.15'),
            name='housing',
        ),
        element(
            'camera',
            element('horizontal_fov', f'{horizontal_field_of_view(cell):.9g}'),
            element(
                'image',
                element('width', str(camera.image_width)),
                element('height', str(camera.image_height)),
                element('format', 'R8G8B8'),
            ),
            element('clip', element('near', '0.02'), element('far', '5')),
            element(
                'noise',
                element('type', 'gaussian'),
                element('mean', '0'),
                element('stddev', '0.007'),
            ),
            element('optical_frame_id', OPTICAL_FRAME),
        ),
        topic='/camera/image_raw',
        rate=CAMERA_RATE,
        frame=OPTICAL_FRAME,
        link='camera_link',
    )


def _sensor_above(
    name: str,
    kind: str,
    x: float,
    height: float,
    visual: Element,
    content: Element,
    *,
    topic: str,
    rate: float,
    frame: str,
    link: str,
) -> Element:
    """Return a sensor that stands above the middle of the belt and looks down, its x axis."""
    return element(
        'model',
        element('static', 'true'),
        pose(x, 0, height, 0, math.pi / 2, 0),
        element(
            'link',
            visual,
            element(
                'sensor',
                element('topic', topic),
                element('update_rate', numbers(rate)),
                element('always_on', '1'),
                element('gz_frame_id', frame),
                content,
                name=name,
                type=kind,
            ),
            name=link,
        ),
        name=name,
    )


def beam_angle(cell: CellDescription) -> float:
    """Return the angle (rad) to either side of the light barrier's fan of rays."""
    return math.atan((cell.belt.width / 2 - BEAM_MARGIN) / BEAM_HEIGHT)


def _break_beam(cell: CellDescription) -> Element:
    """Return the light barrier: a fan of rays across the belt, seen from above.

    x of the sensor looks down, its angles turn about the belt's axis. One ray along the surface
    would have to pass within a millimetre of it, which is less than the renderer resolves.
    """
    angle = beam_angle(cell)
    return _sensor_above(
        'break_beam',
        'gpu_lidar',
        cell.break_beam.x,
        BEAM_HEIGHT,
        element(
            'visual',
            pose(-0.012, 0, 0, 0, 0, 0),
            box_geometry((0.02, 0.03, 0.03)),
            material('0.80 0.10 0.10'),
            name='head',
        ),
        element(
            'lidar',
            element(
                'scan',
                element(
                    'horizontal',
                    element('samples', str(BEAM_RAYS)),
                    element('resolution', '1'),
                    element('min_angle', f'{-angle:.9g}'),
                    element('max_angle', f'{angle:.9g}'),
                ),
            ),
            element(
                'range',
                element('min', '0.02'),
                element('max', '1'),
                element('resolution', '0.0001'),
            ),
        ),
        topic='/break_beam/scan',
        rate=BEAM_RATE,
        frame=BEAM_FRAME,
        link='link',
    )


def _light(
    kind: str,
    name: str,
    position: Sequence[float],
    direction: Sequence[float],
    diffuse: str,
    specular: str,
    shadows: bool = False,
) -> Element:
    spot = kind == 'spot'
    return element(
        'light',
        pose(*position, 0, 0, 0),
        element('cast_shadows', str(shadows).lower()),
        element('diffuse', f'{diffuse} 1'),
        element('specular', f'{specular} 1'),
        element(
            'attenuation',
            element('range', '5'),
            element('constant', '1'),
            element('linear', '0'),
            element('quadratic', '0'),
        )
        if spot
        else None,
        element('direction', numbers(*direction)),
        element(
            'spot',
            element('inner_angle', '0.6'),
            element('outer_angle', '1.47'),
            element('falloff', '1'),
        )
        if spot
        else None,
        type=kind,
        name=name,
    )


def _lights(cell: CellDescription) -> tuple[Element, ...]:
    x = cell.camera.x
    return (
        _light(
            'spot',
            'key',
            (x - 0.16, 0.20, 0.46),
            (0.36, -0.40, -0.9),
            '0.62 0.62 0.60',
            '0.5 0.5 0.5',
            shadows=True,
        ),
        _light(
            'spot',
            'fill',
            (x + 0.20, -0.20, 0.50),
            (-0.3, 0.35, -0.9),
            '0.32 0.32 0.34',
            '0.35 0.35 0.35',
        ),
        _light(
            'directional',
            'hall',
            (0.6, -1.2, 2.4),
            (0, 0.45, -1),
            '0.10 0.10 0.10',
            '0.05 0.05 0.05',
        ),
    )


def _floor(cell: CellDescription) -> Element:
    plane = element(
        'geometry', element('plane', element('normal', '0 0 1'), element('size', '8 8'))
    )
    return element(
        'model',
        element('static', 'true'),
        pose((cell.belt.start + cell.belt.end) / 2, 0, FLOOR, 0, 0, 0),
        element(
            'link',
            element('collision', plane, surface((0.6, 0.6), FIXED), name='floor'),
            element('visual', plane, material('0.46 0.47 0.48'), name='floor_visual'),
            name='link',
        ),
        name='floor',
    )


def world_sdf(cell: CellDescription) -> str:
    """Return the SDFormat description of the cell without items."""
    bins = [
        _fixed_model(
            f'bin_{lane.name if lane else cell.reject_lane}', bin_boxes(cell, lane), (1.2, 1.2)
        )
        for lane in (*cell.lanes, None)
    ]
    world = element(
        'world',
        # Of Gazebo's engines only this one has the moving contact surface that makes the belt.
        element(
            'physics',
            element('max_step_size', numbers(TIME_STEP)),
            element('real_time_factor', '1'),
            name='dart',
            type='dart',
        ),
        plugin('physics', 'Physics'),
        plugin('user-commands', 'UserCommands'),
        plugin('scene-broadcaster', 'SceneBroadcaster'),
        plugin('contact', 'Contact'),
        plugin('sensors', 'Sensors', element('render_engine', 'ogre2')),
        element('gravity', '0 0 -9.81'),
        element(
            'scene',
            element('ambient', '0.16 0.16 0.16 1'),
            element('background', '0.78 0.82 0.86 1'),
            element('shadows', 'true'),
            element('grid', 'false'),
        ),
        *_lights(cell),
        _floor(cell),
        _belt(cell),
        *bins,
        *(_pusher(cell, lane) for lane in cell.lanes),
        _camera(cell),
        _break_beam(cell),
        name=WORLD,
    )
    return document(
        world,
        'Made from the description of the cell by\n     '
        'python -m stl_conveyor.sim.gazebo_world; do not edit.',
    )
