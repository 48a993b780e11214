# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Gazebo and its bridge as the cell sees them: the bridged topics, and no physics behind them."""

from __future__ import annotations

import array
import math
import signal
import threading
import time
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
from fake_cell import class_colour
from geometry_msgs.msg import TransformStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState, LaserScan
from std_msgs.msg import Float64

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.nodes.base.clock import to_stamp
from stl_conveyor.resources import share_path
from stl_conveyor.sim.gazebo.bridges import pusher_topic
from stl_conveyor.sim.gazebo.world import (
    BEAM_FRAME,
    BEAM_HEIGHT,
    BEAM_RAYS,
    CAMERA_RATE,
    MAX_COMMAND_AGE,
    OPTICAL_FRAME,
    beam_angle,
    pusher_name,
)
from stl_conveyor.sim.layout import BIN_FLOOR, PUSHER_HOME, bin_extent

STEP_NS = 20_000_000  # of simulated time: of every message that is not an image
PUSHER_SPEED = 1.0  # m/s
OLDEST, NEWEST = (6, 7), (10, 4)  # versions of gz-sim that rules are known of
HALF_LENGTH = 0.012  # of an item along the belt, m
BELT_ENDED = 0.2  # s from the belt's edge to rest in a bin
IN_BIN = 0.02  # m above the bin's floor


@dataclass
class Item:
    class_id: str
    x: float
    y: float
    z: float
    fell_ns: int = 0
    bin: tuple = ()
    told: bool = True  # its poses are published


def publishes_model_pose(version, model):
    """Return whether PosePublisher tells where a model is, by the SDFormat of the model.

    The pose of the model itself hangs on `publish_model_pose`, which is what
    `publish_nested_model_pose` is where it is left out. Before gz-sim 8.10, and in 9.0, a model
    without nested poses was not looked at at all (gazebosim/gz-sim#2690).
    """
    for plugin in model.iter('plugin'):
        if plugin.get('name').endswith('::PosePublisher'):

            def said(name, otherwise):
                text = plugin.findtext(name)
                return otherwise if text is None else text.strip() in ('true', '1')

            nested = said('publish_nested_model_pose', False)
            looked_at = nested or (8, 10) <= version < (9, 0) or version >= (9, 1)
            return looked_at and said('publish_model_pose', nested)
    return False


class FakeGazebo:
    """Items move with the belt, pushers sweep what is before them into their bins.

    cell: CellDescription. context: of rclpy. factor: simulated seconds per second. services:
    whether to offer those of ros_gz_interfaces. version: of gz-sim, whose rules count.
    """

    def __init__(self, cell, context, factor=1.0, services=False, namespace='', version=NEWEST):
        self.cell, self.factor, self.version = cell, factor, version
        self.items = {}
        self.refused_removals = []  # of models that are not there: an error in Gazebo's log
        self._on_the_way = []  # poses of models that are gone since: what the bridge still holds
        self.spawned = []
        self.lose_spawns = 0  # requests that are not answered
        self.ignore_spawns = 0  # and such that are accepted and not carried out
        self.blind = False  # the light barrier sees nothing
        self._lock = threading.RLock()
        self._time_ns = 0
        self._belt_speed, self._belt_ns = 0.0, -math.inf
        self._targets = {lane.name: 0.0 for lane in cell.lanes}
        self.positions = {lane.name: 0.0 for lane in cell.lanes}
        self.node = Node(
            'gazebo', context=context, namespace=namespace, use_global_arguments=False
        )
        reliable = QoSProfile(depth=10)

        def publisher(kind, topic):
            return self.node.create_publisher(kind, topic, reliable)

        self._clock = publisher(Clock, '/clock')
        self._image = publisher(Image, 'camera/image_raw')
        self._scan = publisher(LaserScan, 'break_beam/scan')
        self._poses = publisher(TransformStamped, 'item_poses')
        self._joints = publisher(JointState, 'joint_states')
        self.node.create_subscription(Float64, 'belt/cmd_vel', self._on_belt, reliable)
        for lane in cell.lanes:
            self.node.create_subscription(
                Float64,
                pusher_topic(lane.name),
                lambda message, name=lane.name: self._on_pusher(name, message.data),
                reliable,
            )
        if services:
            from ros_gz_interfaces.srv import DeleteEntity, SpawnEntity

            self.node.create_service(SpawnEntity, 'spawn_entity', self._serve_spawn)
            self.node.create_service(DeleteEntity, 'delete_entity', self._serve_delete)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._spin, daemon=True),
            threading.Thread(target=self._run, daemon=True),
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=5.0)
        self._executor.shutdown(timeout_sec=0)
        self.node.destroy_node()

    @property
    def time_ns(self):
        """Return the simulated time."""
        return self._time_ns

    # What the services do -----------------------------------------------------------------------

    def spawn(self, name, sdf, position):
        """Bring in a model; return whether that is possible."""
        with self._lock:
            if self.lose_spawns:
                self.lose_spawns -= 1
                return None
            if self.ignore_spawns:
                self.ignore_spawns -= 1
                return True
            if name in self.items:
                return False
            model = ElementTree.fromstring(sdf).find('model')
            assert model.get('name') == name
            mesh = model.findtext('link/visual/geometry/mesh/uri')
            self.items[name] = Item(
                mesh.rsplit('/', 1)[-1].removesuffix('.stl'),
                *position,
                told=publishes_model_pose(self.version, model),
            )
            self.spawned.append((self._time_ns, name, self.items[name].class_id))
            return True

    def remove(self, name):
        """Take out a model; return whether there was one."""
        with self._lock:
            item = self.items.pop(name, None)
            if item is None:
                self.refused_removals.append(name)
            else:
                self._on_the_way.append((self._time_ns, name, item))
            return item is not None

    def _serve_spawn(self, request, response):
        place = request.entity_factory.pose.position
        response.success = bool(
            self.spawn(
                request.entity_factory.name,
                request.entity_factory.sdf,
                (place.x, place.y, place.z),
            )
        )
        return response

    def _serve_delete(self, request, response):
        response.success = self.remove(request.entity.name)
        return response

    # The simulation -----------------------------------------------------------------------------

    def _on_belt(self, message):
        with self._lock:
            self._belt_speed, self._belt_ns = message.data, self._time_ns

    def _on_pusher(self, lane, position):
        with self._lock:
            self._targets[lane] = position

    def _spin(self):
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.05)

    def _run(self):
        begin = time.monotonic()
        while not self._stop.is_set():
            with self._lock:
                self._step()
            wait = begin + self._time_ns / 1e9 / self.factor - time.monotonic()
            self._stop.wait(max(0.0, wait))

    def _step(self):
        self._time_ns += STEP_NS
        dt = STEP_NS / 1e9
        running = (self._time_ns - self._belt_ns) / 1e9 < MAX_COMMAND_AGE
        for lane, target in self._targets.items():
            off = target - self.positions[lane]
            self.positions[lane] += math.copysign(min(abs(off), PUSHER_SPEED * dt), off)
        for item in self.items.values():
            if item.bin:
                if self._time_ns - item.fell_ns > BELT_ENDED * 1e9:
                    (x0, x1), (y0, y1) = item.bin
                    item.x, item.y = (x0 + x1) / 2, (y0 + y1) / 2
                    item.z = BIN_FLOOR + IN_BIN
                continue
            if running:
                item.x += self._belt_speed * dt
            for lane in self.cell.lanes:
                out = self.positions[lane.name] - self.cell.belt.width / 2 - PUSHER_HOME
                near = abs(item.x - lane.diverter_x) <= self.cell.diverter.paddle_width / 2
                if near and out > -item.y:
                    self._fall(item, lane)
            if not item.bin and item.x > self.cell.belt.end:
                self._fall(item, None)
        self._publish()

    def _fall(self, item, lane):
        item.bin, item.fell_ns = bin_extent(self.cell, lane), self._time_ns

    # The sensors --------------------------------------------------------------------------------

    def _publish(self):
        stamp = to_stamp(self._time_ns)
        self._clock.publish(Clock(clock=stamp))
        late, self._on_the_way = self._on_the_way, []
        now = [(self._time_ns, name, item) for name, item in self.items.items()]
        for time_ns, name, item in late + now:
            if not item.told:
                continue
            message = TransformStamped(child_frame_id=name)
            message.header.stamp, message.header.frame_id = to_stamp(time_ns), 'cell'
            place = message.transform.translation
            place.x, place.y, place.z = item.x, item.y, item.z
            self._poses.publish(message)
        for lane, position in self.positions.items():  # each pusher is a model that publishes
            message = JointState(name=[pusher_name(lane)], position=[position])
            message.header.stamp = stamp
            self._joints.publish(message)
        self._publish_scan(stamp)
        before_ns = self._time_ns - STEP_NS
        if int(self._time_ns * CAMERA_RATE / 1e9) != int(before_ns * CAMERA_RATE / 1e9):
            self._publish_image(stamp)

    def _publish_scan(self, stamp):
        angle = beam_angle(self.cell)
        angles = np.linspace(-angle, angle, BEAM_RAYS)
        heights = np.zeros(BEAM_RAYS)
        for item in self.items.values():
            if (
                not self.blind
                and not item.bin
                and abs(item.x - self.cell.break_beam.x) < HALF_LENGTH
            ):
                heights[np.abs(BEAM_HEIGHT * np.tan(angles) - item.y) < HALF_LENGTH] = 0.002
        message = LaserScan(
            angle_min=-angle,
            angle_max=angle,
            angle_increment=2 * angle / (BEAM_RAYS - 1),
            range_min=0.02,
            range_max=1.0,
            ranges=array.array('f', ((BEAM_HEIGHT - heights) / np.cos(angles)).tolist()),
        )
        message.header.stamp, message.header.frame_id = stamp, BEAM_FRAME
        self._scan.publish(message)

    def _publish_image(self, stamp):
        camera = self.cell.camera
        picture = np.full((camera.image_height, camera.image_width, 3), 90, np.uint8)
        for item in self.items.values():
            along = (item.x - camera.x) * camera.pixels_per_metre
            row = camera.image_height / 2 - along
            column = camera.image_width / 2 - item.y * camera.pixels_per_metre
            top, bottom = int(row) - 20, int(row) + 20
            if not item.bin and bottom > 0 and top < camera.image_height:
                picture[max(0, top) : bottom, int(column) - 20 : int(column) + 20] = class_colour(
                    self.cell, item.class_id
                )
        height, width, _ = picture.shape
        message = Image(
            height=height,
            width=width,
            encoding='rgb8',
            step=3 * width,
            data=array.array('B', picture.tobytes()),
        )
        message.header.stamp, message.header.frame_id = stamp, OPTICAL_FRAME
        self._image.publish(message)


class FakeEntities:
    """The bridge's services without ros_gz_interfaces; answers may be lost."""

    def __init__(self, gazebo):
        self._gazebo = gazebo

    def ready(self):
        return True

    def spawn(self, name, sdf, position, orientation, done):
        assert len(orientation) == 4
        answer = self._gazebo.spawn(name, sdf, position)
        if answer is not None:
            done(answer)

    def remove(self, name, done):
        done(self._gazebo.remove(name))


def main():
    """Be Gazebo and its bridge until a signal comes."""
    import rclpy

    rclpy.init()
    cell = CellDescription.load(share_path('config/cell.yaml'))
    with FakeGazebo(cell, rclpy.utilities.get_default_context(), services=True):
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        stop.wait()


if __name__ == '__main__':
    main()
