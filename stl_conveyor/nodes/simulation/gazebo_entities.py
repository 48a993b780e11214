# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Models in Gazebo: brought in and taken out through the services that ros_gz_bridge offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from geometry_msgs.msg import Point, Pose, Quaternion
from rclpy.client import Client

from stl_conveyor.errors import MissingDependency
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode

# Called with whether it worked; never, if the answer is lost.
Done = Callable[[bool], None]


class Entities(Protocol):
    """Who brings models in and takes them out."""

    def ready(self) -> bool:
        """Return whether the simulator answers."""

    def spawn(
        self,
        name: str,
        sdf: str,
        position: tuple[float, float, float],
        orientation: tuple[float, float, float, float],
        done: Done,
    ) -> None:
        """Bring in a model; position in metres, orientation as (x, y, z, w)."""

    def remove(self, name: str, done: Done) -> None:
        """Take out a model."""


class BridgedEntities:
    """The services `spawn_entity` and `delete_entity` of ros_gz_interfaces."""

    def __init__(self, node: ConveyorNode) -> None:
        """Make the clients, which are among the node's resources.

        Raises:
            MissingDependency: If ros_gz_interfaces is not installed.
        """
        try:
            from ros_gz_interfaces.msg import Entity, EntityFactory
            from ros_gz_interfaces.srv import DeleteEntity, SpawnEntity
        except ImportError as error:
            raise MissingDependency(
                'Gazebo needs ros_gz_interfaces: apt install ros-$ROS_DISTRO-ros-gz'
            ) from error
        self._entity, self._factory = Entity, EntityFactory
        self._spawn_type, self._delete_type = SpawnEntity, DeleteEntity
        self._node = node
        self._spawn = self._own(self._node.create_client(SpawnEntity, 'spawn_entity'))
        self._delete = self._own(self._node.create_client(DeleteEntity, 'delete_entity'))

    def ready(self) -> bool:
        """Return whether both services are there."""
        return self._spawn.service_is_ready() and self._delete.service_is_ready()

    def spawn(
        self,
        name: str,
        sdf: str,
        position: tuple[float, float, float],
        orientation: tuple[float, float, float, float],
        done: Done,
    ) -> None:
        """Ask for a model."""
        x, y, z = position
        i, j, k, w = orientation
        factory = self._factory(
            name=name,
            allow_renaming=False,
            sdf=sdf,
            relative_to='world',
            pose=Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=i, y=j, z=k, w=w)),
        )
        self._ask(self._spawn, self._spawn_type.Request(entity_factory=factory), done)

    def remove(self, name: str, done: Done) -> None:
        """Ask for a model to be taken out."""
        entity = self._entity(name=name, type=self._entity.MODEL)
        self._ask(self._delete, self._delete_type.Request(entity=entity), done)

    def _own(self, client: Client) -> Client:
        self._node.resources.callback(self._node.destroy_client, client)
        return client

    def _ask(self, client: Any, request: Any, done: Done) -> None:
        answered = self._node.guarded(lambda future: done(bool(future.result().success)))
        client.call_async(request).add_done_callback(answered)
