# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The bridges between Gazebo and ROS 2, as rows of the configuration of ros_gz_bridge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.sim.gazebo.items import SLOTS, item_name
from stl_conveyor.sim.gazebo.world import BELT_LINK, BELT_MODEL, WORLD, pusher_name


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
