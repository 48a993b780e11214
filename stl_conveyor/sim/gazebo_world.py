# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The Gazebo world of the cell, its items and its bridges, made from the description of the cell.

``python -m stl_conveyor.sim.gazebo_world [--cell FILE] [--out FOLDER]`` writes ``cell.sdf``,
``gazebo_bridge.yaml`` and ``gazebo_camera_bridge.yaml``. Without arguments it brings what the
package ships up to date.

SDFormat 1.9 and the names of Gazebo Harmonic and later. The world's frame is that of
config/cell.yaml: x along the belt, y to its left, z up, the origin on the belt's top surface below
the camera (REP-103); metres, seconds, radians.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.cell.description import CellDescription, Lane
from stl_conveyor.errors import exit_code
from stl_conveyor.resources import share_path
from stl_conveyor.sim.arrivals import ItemPlan
from stl_conveyor.sim.layout import (
    BELT_THICKNESS,
    FEED_OFFSET,
    FLOOR,
    PUSH_TIME,
    PUSHER_HOME,
    TIME_STEP,
    Box,
    bin_boxes,
    horizontal_field_of_view,
    lane_colour,
)
from stl_conveyor.sim.mesh import mass_properties, mesh_path, read_stl
from stl_conveyor.sim.parts import FLAT, PARTS, Finish, feed_pose_of, finish_of, part_index

WORLD = 'cell'
SLOTS = 24  # items that may be in the cell at once; each has a name of its own
BELT_MODEL, BELT_LINK = 'belt', 'base_link'
MAX_COMMAND_AGE = 1.0  # s after which the belt stops when nobody repeats the command
BELT_ACCELERATION = 2.0  # m/s2
POSE_RATE = 60.0  # Hz, per item
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

# What touches what: a bit in common. Pushers reach below the belt's surface, or a washer of 2 mm
# would find its way out of a contact downwards; so they pass through everything but items.
FIXED, PUSHERS, ITEMS = 1, 2, 3


@dataclass(frozen=True)
class Bridge:
    """One row of a configuration file of ros_gz_bridge."""

    ros_topic: str  # relative: the bridge's namespace makes the cell
    gz_topic: str
    ros_type: str
    gz_type: str
    to_ros: bool

    def yaml(self) -> str:
        """Return the row as it stands in the file."""
        direction = 'GZ_TO_ROS' if self.to_ros else 'ROS_TO_GZ'
        return (
            f'- ros_topic_name: "{self.ros_topic}"\n'
            f'  gz_topic_name: "{self.gz_topic}"\n'
            f'  ros_type_name: "{self.ros_type}"\n'
            f'  gz_type_name: "{self.gz_type}"\n'
            f'  direction: {direction}\n'
        )


# -- names ----------------------------------------------------------------------------------------


def item_name(slot: int) -> str:
    """Return the name of the model in a slot, 0..SLOTS - 1."""
    return f'item_{slot}'


def pusher_name(lane: str) -> str:
    """Return the name of a lane's pusher: of its model and of its joint."""
    return f'pusher_{lane}'


def pusher_topic(lane: str) -> str:
    """Return the ROS topic of a lane's pusher, relative."""
    return f'{pusher_name(lane)}/cmd_pos'


def control_bridges(cell: CellDescription) -> tuple[Bridge, ...]:
    """Return the rows for commands, poses and the clock."""
    belt = f'/model/{BELT_MODEL}/link/{BELT_LINK}'
    rows = [
        Bridge('/clock', '/clock', 'rosgraph_msgs/msg/Clock', 'gz.msgs.Clock', True),
        Bridge(
            'belt/cmd_vel',
            f'{belt}/track_cmd_vel',
            'std_msgs/msg/Float64',
            'gz.msgs.Double',
            False,
        ),
        Bridge(
            'belt/odometry', f'{belt}/odometry', 'nav_msgs/msg/Odometry', 'gz.msgs.Odometry', True
        ),
        Bridge(
            'break_beam/scan',
            '/break_beam/scan',
            'sensor_msgs/msg/LaserScan',
            'gz.msgs.LaserScan',
            True,
        ),
    ]
    for lane in cell.lanes:
        name = pusher_name(lane.name)
        rows += [
            Bridge(
                pusher_topic(lane.name),
                f'/model/{name}/joint/{name}/0/cmd_pos',
                'std_msgs/msg/Float64',
                'gz.msgs.Double',
                False,
            ),
            Bridge(
                'joint_states',
                f'/world/{WORLD}/model/{name}/joint_state',
                'sensor_msgs/msg/JointState',
                'gz.msgs.Model',
                True,
            ),
        ]
    rows += [
        Bridge(
            'item_poses',
            f'/model/{item_name(slot)}/pose',
            'geometry_msgs/msg/TransformStamped',
            'gz.msgs.Pose',
            True,
        )
        for slot in range(SLOTS)
    ]
    return tuple(rows)


def camera_bridges() -> tuple[Bridge, ...]:
    """Return the rows for the camera, which go through a process of their own."""
    return (
        Bridge(
            'camera/image_raw', '/camera/image_raw', 'sensor_msgs/msg/Image', 'gz.msgs.Image', True
        ),
        Bridge(
            'camera/camera_info',
            '/camera/camera_info',
            'sensor_msgs/msg/CameraInfo',
            'gz.msgs.CameraInfo',
            True,
        ),
    )


def bridge_yaml(rows: Sequence[Bridge], what: str) -> str:
    """Return a configuration file of ros_gz_bridge."""
    return (
        f'# {what}, between Gazebo and ROS 2. Made from the description of the cell by\n'
        '# python -m stl_conveyor.sim.gazebo_world; do not edit.\n'
        + ''.join(row.yaml() for row in rows)
    )


# -- geometry -------------------------------------------------------------------------------------


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
    parts = [0.0, 0.0, 0.0, math.cos(angle / 2)]
    parts[axis] = math.sin(angle / 2)
    return tuple(parts)


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


# -- SDFormat -------------------------------------------------------------------------------------


def _numbers(*values: float) -> str:
    return ' '.join(f'{value:.6g}' for value in values)


def _element(tag: str, *content: str, **attributes: str) -> str:
    """Return an element; content that begins with '<' goes on lines of its own, indented."""
    start = tag + ''.join(f' {key}="{escape(value)}"' for key, value in attributes.items())
    content = tuple(part for part in content if part)
    if not content:
        return f'<{start}/>'
    if not content[0].startswith('<'):
        return f'<{start}>{content[0]}</{tag}>'
    inside = '\n'.join('  ' + line for part in content for line in part.split('\n'))
    return f'<{start}>\n{inside}\n</{tag}>'


def _pose(*values: float) -> str:
    return _element('pose', _numbers(*values))


def _material(colour: str, specular: str = '0.1 0.1 0.1', shininess: float = 0.0) -> str:
    return _element(
        'material',
        _element('ambient', f'{colour} 1'),
        _element('diffuse', f'{colour} 1'),
        _element('specular', f'{specular} 1'),
        _element('shininess', _numbers(shininess)) if shininess else '',
    )


def _box_geometry(size: Sequence[float]) -> str:
    return _element('geometry', _element('box', _element('size', _numbers(*size))))


def _cylinder_geometry(radius: float, length: float) -> str:
    return _element(
        'geometry',
        _element(
            'cylinder', _element('radius', _numbers(radius)), _element('length', _numbers(length))
        ),
    )


def _surface(friction: Sequence[float], group: int) -> str:
    mu, mu2 = friction
    return _element(
        'surface',
        _element(
            'friction',
            _element('ode', _element('mu', _numbers(mu)), _element('mu2', _numbers(mu2))),
        ),
        _element('contact', _element('collide_bitmask', f'0x{group:02x}')),
    )


def _plugin(system: str, name: str, *content: str) -> str:
    return _element(
        'plugin', *content, filename=f'gz-sim-{system}-system', name=f'gz::sim::systems::{name}'
    )


def _inertial(mass: float, inertia: NDArray[np.float64], centre: Sequence[float] = ()) -> str:
    entries = (
        ('ixx', 0, 0),
        ('ixy', 0, 1),
        ('ixz', 0, 2),
        ('iyy', 1, 1),
        ('iyz', 1, 2),
        ('izz', 2, 2),
    )
    return _element(
        'inertial',
        _pose(*centre, 0, 0, 0) if centre else '',
        _element('mass', f'{mass:.9g}'),
        _element('inertia', *(_element(name, f'{inertia[i, j]:.9g}') for name, i, j in entries)),
    )


def _box_inertia(mass: float, size: Sequence[float]) -> NDArray[np.float64]:
    x, y, z = (edge * edge for edge in size)
    return mass / 12 * np.diag([y + z, x + z, x + y])


def _fixed_model(name: str, boxes: Sequence[Box], friction: Sequence[float]) -> str:
    parts = []
    for box in boxes:
        parts += [
            _element(
                'collision',
                _pose(*box.centre, 0, 0, 0),
                _box_geometry(box.size),
                _surface(friction, FIXED),
                name=box.name,
            ),
            _element(
                'visual',
                _pose(*box.centre, 0, 0, 0),
                _box_geometry(box.size),
                _material(box.colour),
                name=f'{box.name}_visual',
            ),
        ]
    return _element(
        'model', _element('static', 'true'), _element('link', *parts, name='link'), name=name
    )


def _belt(cell: CellDescription) -> str:
    belt = cell.belt
    size = (belt.end - belt.start, belt.width, BELT_THICKNESS)
    fastest = max(1.0, 2 * belt.speed)
    return _element(
        'model',
        _element('static', 'true'),
        _pose((belt.start + belt.end) / 2, 0, -BELT_THICKNESS / 2, 0, 0, 0),
        _element(
            'link',
            # The controller turns the first friction direction along the belt: mu takes items
            # along, mu2 lets a pusher move them across.
            _element(
                'collision',
                _box_geometry(size),
                _surface((0.7, 0.2), FIXED),
                name='belt_collision',
            ),
            _element(
                'visual', _box_geometry(size), _material('0.11 0.11 0.12'), name='belt_visual'
            ),
            name=BELT_LINK,
        ),
        _plugin(
            'track-controller',
            'TrackController',
            _element('link', BELT_LINK),
            _element('max_command_age', _numbers(MAX_COMMAND_AGE)),
            _element('min_velocity', _numbers(-fastest)),
            _element('max_velocity', _numbers(fastest)),
            _element('min_acceleration', _numbers(-BELT_ACCELERATION)),
            _element('max_acceleration', _numbers(BELT_ACCELERATION)),
        ),
        name=BELT_MODEL,
    )


def _pusher(cell: CellDescription, lane: Lane) -> str:
    """Return a pusher: a slide across the belt whose position 0 is at rest beside the belt."""
    name, colour = pusher_name(lane.name), lane_colour(cell, lane)
    width, stroke = cell.diverter.paddle_width, cell.diverter.stroke
    mass, block, plate = 0.5, (width, 0.024, 0.072), (width, 0.008, 0.032)
    return _element(
        'model',
        _pose(lane.diverter_x, cell.belt.width / 2 + PUSHER_HOME, 0.016, 0, 0, 0),
        _element(
            'link',
            _inertial(1.0, _box_inertia(1.0, (0.044, 0.15, 0.045))),
            _element(
                'visual',
                _pose(0, 0.119, 0.0065, 0, 0, 0),
                _box_geometry((0.044, 0.15, 0.045)),
                _material('0.22 0.23 0.25'),
                name='cylinder',
            ),
            name='base',
        ),
        _element(
            'joint',
            _element('parent', 'world'),
            _element('child', 'base'),
            name='mount',
            type='fixed',
        ),
        _element(
            'link',
            _inertial(mass, _box_inertia(mass, block)),
            _element(
                'collision',
                _pose(0, 0.012, -0.018, 0, 0, 0),
                _box_geometry(block),
                _surface((0.15, 0.15), PUSHERS),
                name='paddle_collision',
            ),
            _element(
                'visual',
                _pose(0, 0.004, 0, 0, 0, 0),
                _box_geometry(plate),
                _material(colour),
                name='plate',
            ),
            _element(
                'visual',
                _pose(0, 0.089, 0.004, math.pi / 2, 0, 0),
                _cylinder_geometry(0.006, 0.162),
                _material('0.70 0.70 0.72'),
                name='rod',
            ),
            name='paddle',
        ),
        _element(
            'joint',
            _element('parent', 'base'),
            _element('child', 'paddle'),
            _element(
                'axis',
                _element('xyz', '0 -1 0'),
                _element(
                    'limit',
                    _element('lower', _numbers(-END_PLAY)),
                    _element('upper', _numbers(stroke + END_PLAY)),
                    _element('effort', '200'),
                    _element('velocity', '2'),
                ),
                _element('dynamics', _element('damping', '2')),
            ),
            name=name,
            type='prismatic',
        ),
        _plugin(
            'joint-position-controller',
            'JointPositionController',
            _element('joint_name', name),
            _element('use_velocity_commands', 'true'),
            _element('cmd_max', _numbers(stroke / PUSH_TIME)),
        ),
        _plugin(
            'joint-state-publisher',
            'JointStatePublisher',
            _element('joint_name', name),
            _element('update_rate', _numbers(JOINT_RATE)),
        ),
        name=name,
    )


def _camera(cell: CellDescription) -> str:
    """Return the camera: its x axis down, its z axis (the image's top) along the belt."""
    camera = cell.camera
    return _sensor_above(
        'camera',
        'camera',
        camera.x,
        camera.height,
        _element(
            'visual',
            _pose(-0.026, 0, 0, 0, 0, 0),
            _box_geometry((0.032, 0.036, 0.036)),
            _material('0.75 0.20 0.15'),
            name='housing',
        ),
        _element(
            'camera',
            _element('horizontal_fov', f'{horizontal_field_of_view(cell):.9g}'),
            _element(
                'image',
                _element('width', str(camera.image_width)),
                _element('height', str(camera.image_height)),
                _element('format', 'R8G8B8'),
            ),
            _element('clip', _element('near', '0.02'), _element('far', '5')),
            _element(
                'noise',
                _element('type', 'gaussian'),
                _element('mean', '0'),
                _element('stddev', '0.007'),
            ),
            _element('optical_frame_id', OPTICAL_FRAME),
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
    visual: str,
    content: str,
    *,
    topic: str,
    rate: float,
    frame: str,
    link: str,
) -> str:
    """Return a sensor that stands above the middle of the belt and looks down, its x axis."""
    return _element(
        'model',
        _element('static', 'true'),
        _pose(x, 0, height, 0, math.pi / 2, 0),
        _element(
            'link',
            visual,
            _element(
                'sensor',
                _element('topic', topic),
                _element('update_rate', _numbers(rate)),
                _element('always_on', '1'),
                _element('gz_frame_id', frame),
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


def _break_beam(cell: CellDescription) -> str:
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
        _element(
            'visual',
            _pose(-0.012, 0, 0, 0, 0, 0),
            _box_geometry((0.02, 0.03, 0.03)),
            _material('0.80 0.10 0.10'),
            name='head',
        ),
        _element(
            'lidar',
            _element(
                'scan',
                _element(
                    'horizontal',
                    _element('samples', str(BEAM_RAYS)),
                    _element('resolution', '1'),
                    _element('min_angle', f'{-angle:.9g}'),
                    _element('max_angle', f'{angle:.9g}'),
                ),
            ),
            _element(
                'range',
                _element('min', '0.02'),
                _element('max', '1'),
                _element('resolution', '0.0001'),
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
    pose: Sequence[float],
    direction: Sequence[float],
    diffuse: str,
    specular: str,
    shadows: bool = False,
) -> str:
    spot = kind == 'spot'
    return _element(
        'light',
        _pose(*pose, 0, 0, 0),
        _element('cast_shadows', str(shadows).lower()),
        _element('diffuse', f'{diffuse} 1'),
        _element('specular', f'{specular} 1'),
        _element(
            'attenuation',
            _element('range', '5'),
            _element('constant', '1'),
            _element('linear', '0'),
            _element('quadratic', '0'),
        )
        if spot
        else '',
        _element('direction', _numbers(*direction)),
        _element(
            'spot',
            _element('inner_angle', '0.6'),
            _element('outer_angle', '1.47'),
            _element('falloff', '1'),
        )
        if spot
        else '',
        type=kind,
        name=name,
    )


def _lights(cell: CellDescription) -> tuple[str, ...]:
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


def _floor(cell: CellDescription) -> str:
    plane = _element(
        'geometry', _element('plane', _element('normal', '0 0 1'), _element('size', '8 8'))
    )
    return _element(
        'model',
        _element('static', 'true'),
        _pose((cell.belt.start + cell.belt.end) / 2, 0, FLOOR, 0, 0, 0),
        _element(
            'link',
            _element('collision', plane, _surface((0.6, 0.6), FIXED), name='floor'),
            _element('visual', plane, _material('0.46 0.47 0.48'), name='floor_visual'),
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
    world = _element(
        'world',
        # Of Gazebo's engines only this one has the moving contact surface that makes the belt.
        _element(
            'physics',
            _element('max_step_size', _numbers(TIME_STEP)),
            _element('real_time_factor', '1'),
            name='dart',
            type='dart',
        ),
        _plugin('physics', 'Physics'),
        _plugin('user-commands', 'UserCommands'),
        _plugin('scene-broadcaster', 'SceneBroadcaster'),
        _plugin('contact', 'Contact'),
        _plugin('sensors', 'Sensors', _element('render_engine', 'ogre2')),
        _element('gravity', '0 0 -9.81'),
        _element(
            'scene',
            _element('ambient', '0.16 0.16 0.16 1'),
            _element('background', '0.78 0.82 0.86 1'),
            _element('shadows', 'true'),
            _element('grid', 'false'),
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
    return (
        '<?xml version="1.0"?>\n<!-- Made from the description of the cell by\n     '
        'python -m stl_conveyor.sim.gazebo_world; do not edit. -->\n'
        + _element('sdf', world, version='1.9')
        + '\n'
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
        _element(
            'collision',
            _pose(*shape.centre, 0, 0, 0),
            _box_geometry(shape.size)
            if shape.kind == 'box'
            else _cylinder_geometry(shape.size[0], shape.size[2]),
            # The belt's own friction is lower, and of two the engine takes the lower one.
            _surface((1.0, 1.0), ITEMS),
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
    model = _element(
        'model',
        _element(
            'link',
            _inertial(body.mass, body.inertia, body.centre),
            *collisions,
            *visuals,
            name='link',
        ),
        # The scene's own pose topic loses its names in the bridge; this one is stamped, too.
        _plugin(
            'pose-publisher',
            'PosePublisher',
            _element('publish_model_pose', 'true'),
            _element('publish_link_pose', 'false'),
            _element('publish_nested_model_pose', 'false'),
            _element('use_pose_vector_msg', 'false'),
            _element('update_frequency', _numbers(POSE_RATE)),
        ),
        name=item_name(slot),
    )
    return f'<?xml version="1.0"?>\n{_element("sdf", model, version="1.9")}\n'


def _mesh_visual(uri: str, name: str, finish: Finish) -> str:
    colour = _numbers(*np.clip(finish.rgb, 0, 1))
    return _element(
        'visual',
        _element('geometry', _element('mesh', _element('uri', escape(uri)))),
        _material(colour, _numbers(*[finish.specular] * 3), 128 * finish.shininess),
        name=name,
    )


# -- files ----------------------------------------------------------------------------------------


def files_of(cell: CellDescription) -> dict[str, str]:
    """Return the content of every file that Gazebo and its bridges need, by its name."""
    return {
        'cell.sdf': world_sdf(cell),
        'gazebo_bridge.yaml': bridge_yaml(control_bridges(cell), 'Commands, poses and the clock'),
        'gazebo_camera_bridge.yaml': bridge_yaml(camera_bridges(), 'The camera'),
    }


def write_files(cell: CellDescription, folder: Path) -> dict[str, Path]:
    """Write what :func:`files_of` returns; return where each file is."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, content in files_of(cell).items():
        written[name] = folder / name
        written[name].write_text(content, encoding='utf-8')
    return written


def shipped_files() -> dict[str, Path]:
    """Return where the package has the files made from its own config/cell.yaml."""
    return {
        name: Path(share_path('worlds' if name.endswith('.sdf') else 'config')) / name
        for name in ('cell.sdf', 'gazebo_bridge.yaml', 'gazebo_camera_bridge.yaml')
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files; return the exit code, 2 if the description cannot be used."""
    parser = argparse.ArgumentParser(
        prog='python -m stl_conveyor.sim.gazebo_world',
        description='Make the Gazebo world of a cell and the configuration of its bridges.',
    )
    parser.add_argument(
        '--cell', type=Path, help='description of the cell (YAML); the default is config/cell.yaml'
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='folder to write into; the default updates worlds/ and config/ of the package',
    )
    given = parser.parse_args(arguments)

    def work() -> None:
        cell = CellDescription.load(given.cell or share_path('config/cell.yaml'))
        if given.out:
            written = write_files(cell, given.out)
        else:
            written = shipped_files()
            for name, content in files_of(cell).items():
                written[name].write_text(content, encoding='utf-8')
        for path in written.values():
            print(path)

    return exit_code(parser.prog, work)


if __name__ == '__main__':
    sys.exit(main())
