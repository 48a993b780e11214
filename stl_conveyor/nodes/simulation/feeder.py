# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The feeding end of a cell in Gazebo: drives the belt, brings items, tells where they end."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from geometry_msgs.msg import TransformStamped
from std_msgs.msg import Float64

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConfigError
from stl_conveyor.msg import ItemCapture, ItemTruth
from stl_conveyor.nodes.base.clock import clock_ns, to_ns, to_stamp
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.health import Level
from stl_conveyor.nodes.base.items import configured_path
from stl_conveyor.nodes.base.peers import PeerWatch
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.settings import niceness_parameter, parameter
from stl_conveyor.nodes.simulation.arrivals import ArrivalParameters, arrival_settings
from stl_conveyor.nodes.simulation.gazebo_entities import BridgedEntities, Entities
from stl_conveyor.sim.arrivals import ItemPlan, plan_items
from stl_conveyor.sim.gazebo.items import SLOTS, feed_pose, item_name, item_sdf
from stl_conveyor.sim.model_slots import ModelSlots
from stl_conveyor.sim.pose_truth import Event, ItemSeen, PoseTruth

FEED_PERIOD = 0.02  # s between looks at what is due, by the clock of the simulation
TOLERABLE_LATENESS = 0.1  # s; an item that comes later delays all that follow
LINGER = 0.5  # s after its removal in which poses of a model may still come
LOOK_TIME = 0.3  # s to listen for poses of what is in the cell before the first item


@dataclass(frozen=True)
class FeederSettings(ArrivalParameters):
    """Parameters of feeder."""

    niceness: int = niceness_parameter(5, 'What it simulates beside itself must not wait for it.')
    meshes: str = parameter(
        '',
        'URI of the folder with the meshes of the items, for a Gazebo on another machine; '
        'empty: the files of this package.',
    )
    repeat_period: float = parameter(
        0.1,
        "Seconds between repetitions of the belt's speed, which stops without them.",
        minimum=0.01,
        maximum=0.5,
    )
    service_timeout: float = parameter(
        3.0, 'Seconds after which a request to Gazebo is made again.', minimum=0.1, maximum=60.0
    )


@dataclass
class _Spawn:
    """An item that Gazebo has not confirmed yet."""

    item: ItemPlan
    asked_ns: int  # steady clock
    clearing: bool = False


class Feeder(ConveyorNode):
    """Brings the items of a plan, each as a model of its own, and takes them out when they rest.

    Models are named by slots: Gazebo publishes poses by name, and the bridge must know the names
    before it starts.
    """

    NAME = 'feeder'
    SETTINGS = FeederSettings

    def check_settings(self, settings: FeederSettings) -> None:
        """Refuse what makes no run."""
        arrival_settings(settings)
        if settings.foreign_share:
            raise ConfigError(
                'foreign_share: Gazebo has no meshes of things that do not belong; leave it 0 '
                'here, or run the simulated cell (make run)'
            )

    def make_entities(self) -> Entities:
        """Return who brings models in and takes them out."""
        return BridgedEntities(self)

    def configure(self) -> None:
        """Plan the run."""
        settings = self.settings
        self.cell = CellDescription.load(configured_path(settings.cell_file, 'config/cell.yaml'))
        self._plan = plan_items(
            settings.items, settings.seed, self.cell.classes, arrival_settings(settings)
        )

    def activate(self) -> None:
        """Set the belt in motion, and wait for Gazebo and the cell."""
        self._entities = self.make_entities()
        self._truth = PoseTruth(self.cell)
        self._waiting = deque(self._plan)
        self._slot_of = {item_name(slot): slot for slot in range(SLOTS)}
        self._slots = ModelSlots(SLOTS, round(LINGER * 1e9))
        self._spawning: dict[int, _Spawn] = {}
        self._rested = 0
        self._begin_ns = 0  # ROS time of the first item's arrival; 0 = it is not known yet
        self._peers = PeerWatch(self)
        self._belt = self.publish_on('belt/cmd_vel')
        self._truths = self.publish_on('item_truth')
        self.listen('item_poses', self._on_pose)
        self.listen('capture', self._on_capture)
        self.every(self.settings.repeat_period, self._drive)
        self.every(FEED_PERIOD, self._feed, clock=self.get_clock())

    def deactivate(self) -> None:
        """Stop the belt and clear it; what Gazebo was asked to remove is not asked for twice."""
        self._belt.publish(Float64(data=0.0))
        if self._entities.ready():
            for slot in self._slots.held:
                self._entities.remove(item_name(slot), lambda good: None)

    def refresh_health(self) -> None:
        """Report how far the run is."""
        if self.is_active:
            self.health.set_value('fed', len(self._plan) - len(self._waiting))
            self.health.set_value('rested', self._rested)
            self.health.set_value('finished', self._rested == len(self._plan))

    def _drive(self) -> None:
        self._belt.publish(Float64(data=self.cell.belt.speed))
        now_ns = clock_ns(self.steady_clock)
        timeout_ns = round(self.settings.service_timeout * 1e9)
        for slot, spawn in list(self._spawning.items()):
            if now_ns - spawn.asked_ns > timeout_ns:
                self.warn(
                    'spawn_unanswered', f'Gazebo did not bring in {item_name(slot)}; asked again'
                )
                self._ask_again(slot, spawn)
        for slot in self._slots.unanswered(now_ns - timeout_ns):
            self._remove(slot)

    def _ready(self) -> bool:
        """Return whether items may come, and note from when on."""
        now_ns = clock_ns(self.get_clock())
        if self._begin_ns:
            return now_ns >= self._begin_ns
        if not self._entities.ready():
            self.set_condition(
                'gazebo',
                Level.WARN,
                'waiting for Gazebo: nobody offers '
                'spawn_entity and delete_entity; start ros_gz_bridge',
            )
            return False
        self.clear_condition('gazebo', 'Gazebo answers')
        if not self._peers.present():
            return False
        self._begin_ns = now_ns + round(LOOK_TIME * 1e9)
        return False

    def _feed(self) -> None:
        if not self._ready():
            return
        if not self._waiting or self._lateness(self._waiting[0]) < 0 or self._spawning:
            return
        if self._slots.full:
            self.warn('cell_full', f'{SLOTS} items are in the cell: the next one waits')
            return
        slot = self._slots.take(clock_ns(self.get_clock()))
        if slot is not None:
            self._spawn(slot, self._waiting.popleft())

    def _lateness(self, item: ItemPlan) -> float:
        """Return how many seconds ago an item was due."""
        elapsed_ns = clock_ns(self.get_clock()) - self._begin_ns
        return elapsed_ns / 1e9 - item.arrival * self.settings.time_unit

    def _spawn(self, slot: int, item: ItemPlan) -> None:
        name, late = item_name(slot), self._lateness(item)
        if late > TOLERABLE_LATENESS:  # or it would come together with the next one
            self._begin_ns += round(late * 1e9)
        position, orientation = feed_pose(self.cell, item, self.settings.seed)
        self._truth.feed(name, item, clock_ns(self.get_clock()))
        spawn = _Spawn(item, clock_ns(self.steady_clock))
        self._spawning[slot] = spawn
        self._entities.spawn(
            name,
            item_sdf(item, self.settings.seed, slot, self.settings.meshes),
            position,
            orientation,
            lambda good: self._spawned(slot, spawn, good),
        )

    def _spawned(self, slot: int, spawn: _Spawn, good: bool) -> None:
        # A yes means that Gazebo will try; that the item is there its first pose says.
        if self._spawning.get(slot) is spawn and not good:
            self.warn('spawn_refused', f'Gazebo refused {item_name(slot)}; it will be asked again')

    def _ask_again(self, slot: int, spawn: _Spawn) -> None:
        """Take out what may stand in the way, and try again."""
        spawn.asked_ns = clock_ns(self.steady_clock)
        if not spawn.clearing:
            spawn.clearing = True
            self._entities.remove(item_name(slot), lambda good: self._respawn(slot, spawn))
        else:
            self._respawn(slot, spawn)

    def _respawn(self, slot: int, spawn: _Spawn) -> None:
        if self._spawning.get(slot) is spawn:
            self._spawn(slot, spawn.item)

    def _remove(self, slot: int) -> None:
        self._slots.ask(slot, clock_ns(self.steady_clock))
        self._entities.remove(item_name(slot), lambda good: self._removed(slot))

    def _removed(self, slot: int) -> None:
        """Use the slot again; a refusal says that the model is gone already."""
        self._slots.removed(slot, clock_ns(self.get_clock()))

    def _on_pose(self, message: TransformStamped) -> None:
        name, place = message.child_frame_id.rsplit('/', 1)[-1], message.transform.translation
        slot, stamp_ns = self._slot_of.get(name), to_ns(message.header.stamp)
        if slot is not None and self._slots.is_free(slot):
            if self._slots.left_behind(slot, stamp_ns):  # by a feeder that ended before its items
                self._remove(slot)
            return
        events = self._truth.pose(name, stamp_ns, place.x, place.y, place.z)
        if slot in self._spawning and self._truth.was_seen(name):
            del self._spawning[slot]
            self.tick('items')
        for event in events:
            self._report(event)

    def _on_capture(self, message: ItemCapture) -> None:
        seen = self._truth.capture(to_ns(message.header.stamp))
        if seen is None:
            self.warn(
                'capture_of_nothing',
                f'item {message.item_id} was captured where no item '
                'is; compare the cameras of cell_file and of the world',
            )
        else:
            self._report(seen)

    def _report(self, event: Event) -> None:
        item = event.item
        message = ItemTruth(
            serial=item.serial,
            class_id=item.class_id,
            lane=self.cell.lane_of(item.class_id),
            difficulty=item.difficulty,
        )
        message.header.frame_id = self.settings.frame_id
        if isinstance(event, ItemSeen):
            message.event = ItemTruth.EVENT_CAPTURED
            message.header.stamp = to_stamp(event.stamp_ns)
            if not event.captured:
                self.warn('item_not_captured', f'item {item.serial} passed the camera unseen')
        else:
            # An item that was never seen has no stamp; its serial keeps it apart from others.
            stamp_ns = item.serial if event.stamp_ns is None else event.stamp_ns
            message.event, message.rest_lane = ItemTruth.EVENT_RESTED, event.lane
            message.header.stamp = to_stamp(stamp_ns)
            self._rested += 1
            self._remove(self._slot_of[event.name])
        self._truths.publish(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run_node(Feeder, arguments)


if __name__ == '__main__':
    sys.exit(main())
