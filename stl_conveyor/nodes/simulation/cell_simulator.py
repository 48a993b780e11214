# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The physical cell, simulated in step with the clock: items, belt, camera, diverters, bins."""

from __future__ import annotations

import array
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from builtin_interfaces.msg import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.cell.ledger import ItemKey
from stl_conveyor.errors import ConfigError, MissingDependency
from stl_conveyor.msg import Actuation, ItemTruth, SortOutcome
from stl_conveyor.nodes.base.clock import to_ns, to_stamp
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.health import Level
from stl_conveyor.nodes.base.items import RecentItems, configured_path
from stl_conveyor.nodes.base.peers import PeerWatch
from stl_conveyor.nodes.base.run_log import open_log
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.settings import niceness_parameter, parameter
from stl_conveyor.nodes.simulation.arrivals import ArrivalParameters, arrival_settings
from stl_conveyor.sim.arrivals import ItemPlan, plan_items
from stl_conveyor.sim.paced_cell import LONGEST_LAG, Cell, PacedCell, Photograph, Pushed, Rest


@dataclass(frozen=True)
class CellSimulatorSettings(ArrivalParameters):
    """Parameters of cell_simulator."""

    niceness: int = niceness_parameter(
        5,
        'The physics catches up; what it simulates beside itself must not wait for it.',
        threads='thread that runs the node and of those that render',
    )
    publish_clock: bool = parameter(
        False, 'Publish simulated time on /clock, for nodes with use_sim_time.'
    )
    real_time_factor: float = parameter(
        1.0,
        'Simulated seconds per second; other than 1 only with publish_clock.',
        minimum=0.01,
        maximum=100.0,
    )
    belt_running: bool = parameter(
        True, 'False holds everything until it is set to true, once.', tunable=True
    )
    viewer: bool = parameter(
        False, "Show the cell in MuJoCo's own viewer, on the screen of this machine."
    )
    log_path: str = parameter(
        '',
        'File for one CSV line per picture: its stamp, and when it was handed over; empty = none.',
    )
    chunk: float = parameter(0.004, 'Seconds of physics at a time.', minimum=0.002, maximum=0.1)


class SimulatedCell(Cell, Protocol):
    """A cell that can be looked at; :class:`stl_conveyor.sim.mujoco_cell.MujocoCell` is one."""

    def render_overview(self, height: int, width: int) -> object:
        """Return a picture of the whole cell."""

    def close(self) -> None:
        """Free the renderer."""


class CellSimulator(ConveyorNode):
    """Shows items to the camera, moves diverters when told, and tells where items come to rest.

    The belt starts when the node is activated or, with belt_running false, when that parameter
    is set to true.
    """

    NAME = 'cell_simulator'
    SETTINGS = CellSimulatorSettings

    def __init__(self, **arguments: Any) -> None:
        """Begin with the belt held."""
        self._belt_released = threading.Event()
        self._prepared = threading.Event()
        self._cell: SimulatedCell | None = None
        super().__init__(**arguments)

    def check_settings(self, settings: CellSimulatorSettings) -> None:
        """Refuse what makes no run."""
        arrival_settings(settings)
        if settings.real_time_factor != 1.0 and not settings.publish_clock:
            raise ConfigError(
                'real_time_factor: other than 1 needs publish_clock, since the '
                'other nodes must follow simulated time'
            )

    def make_cell(self, description: CellDescription, plan: Sequence[ItemPlan]) -> SimulatedCell:
        """Return the simulated cell."""
        try:
            from stl_conveyor.sim.mujoco_cell import MujocoCell
        except (ImportError, AttributeError) as error:  # the latter: OpenGL is not there
            raise MissingDependency(
                f'the simulated cell needs MuJoCo and off-screen OpenGL ({error}): pip install '
                'mujoco; apt install libegl1 libgl1-mesa-dri; set MUJOCO_GL=egl'
            ) from error
        kind = MujocoCell
        if self.settings.viewer:
            from stl_conveyor.sim.cell_viewer import ViewedCell

            kind = ViewedCell
        return kind(description, plan, self.settings.seed, self.settings.time_unit)

    def configure(self) -> None:
        """Plan the run and build the cell."""
        settings = self.settings
        self._description = CellDescription.load(
            configured_path(settings.cell_file, 'config/cell.yaml')
        )
        self._plan = plan_items(
            settings.items, settings.seed, self._description.classes, arrival_settings(settings)
        )
        self._cell = self.make_cell(self._description, self._plan)

    def activate(self) -> None:
        """Set the belt in motion."""
        settings = self.settings
        if self._cell is None:
            self._cell = self.make_cell(self._description, self._plan)
        cell = self._cell
        self._image = self.publish_on('camera/image_raw')
        self._log_file = open_log(self.resources, settings.log_path, 'stamp_ns,published_ns')
        self._truth = self.publish_on('item_truth')
        self._actuations = self.publish_on('actuation')
        self._commanded: RecentItems[SortOutcome] = RecentItems(64)
        if settings.publish_clock:
            clock = self.publish_on('/clock')
        self._paced = PacedCell(
            cell,
            self._description,
            on_exposure=self._expose,
            on_rest=self._rest,
            now_ns=None if settings.publish_clock else self.schedule_clock.ros_now_ns,
            on_time=lambda ns: clock.publish(Clock(clock=to_stamp(ns))),
            on_push=self._pushed,
            prepare=lambda: self._prepare(cell),
            finish=cell.close,
            chunk=settings.chunk,
            real_time_factor=settings.real_time_factor,
        )
        self.listen('sort_outcome', self._command)
        self._belt_released.clear()
        self._prepared.clear()
        self._peers = PeerWatch(self)
        self._peer_timer = self.every(0.1, self._look_for_peers)
        self._look_for_peers()
        self._paced.start()
        self.resources.callback(self._stop_physics)
        # Until then nothing can be shown, and nothing can end: a renderer in the making cannot be
        # interrupted, which on a busy machine takes seconds.
        while not self._prepared.wait(0.05) and self._paced.error is None:
            pass

    def settings_changed(self) -> None:
        """Release the belt if it was held."""
        if self.is_active:
            self._look_for_peers()

    def _look_for_peers(self) -> None:
        if self.settings.belt_running and self._peers.present():
            self._peer_timer.cancel()
            self._belt_released.set()

    def _stop_physics(self) -> None:
        """Stop the belt for good; the next activation starts a new run."""
        self._belt_released.set()
        self._paced.stop()
        self.cleanup()

    def cleanup(self) -> None:
        """Free the renderer; nothing renders any more."""
        if self._cell is not None:
            self._cell.close()
            self._cell = None

    def refresh_health(self) -> None:
        """Report how well physics keeps up with the clock."""
        if not self.is_active:
            return
        self.watch_log(self._log_file)
        pace = self._paced.pace()
        for name in (
            'simulated',
            'lag',
            'worst_lag',
            'held',
            'late_commands',
            'unknown_commands',
            'finished',
        ):
            self.health.set_value(name, getattr(pace, name))
        error = self._paced.error
        if error is not None:
            text = f'{type(error).__name__}: {error}'
            self.health.set_value('error', text)
            self.set_condition('physics', Level.ERROR, f'the simulation ended: {text}')
        if pace.worst_lag > LONGEST_LAG:  # below, it catches up, and every item keeps its time
            self.warn(
                'too_slow',
                f'the simulation is {pace.lag:.1f} s behind the clock now, and was '
                f'{pace.worst_lag:.1f} s behind; it was held for {pace.held:.1f} s in all, so '
                'that items keep their time: the machine is too slow or busy',
            )

    def _prepare(self, cell: SimulatedCell) -> None:
        # The first picture makes the renderer, which takes long and must not delay an exposure.
        camera = self._description.camera
        cell.render_overview(camera.image_height, camera.image_width)
        self._prepared.set()
        self._belt_released.wait()

    def _expose(self, exposure: Photograph) -> None:
        stamp = to_stamp(exposure.stamp_ns)
        height, width, _ = exposure.image.shape
        message = Image(height=height, width=width, encoding='rgb8', step=3 * width)
        message.header.stamp, message.header.frame_id = stamp, self.settings.frame_id
        message.data = array.array('B', exposure.image.tobytes())
        published_ns = self.schedule_clock.ros_now_ns()  # what follows is the middleware's time
        self._image.publish(message)
        self.health.sample('exposure_to_publish_ms', (published_ns - exposure.stamp_ns) / 1e6)
        if self._log_file is not None:
            self._log_file.write(f'{exposure.stamp_ns},{published_ns}')
        self._truth.publish(self._truth_of(stamp, exposure.serial, event=ItemTruth.EVENT_CAPTURED))

    def _rest(self, rest: Rest) -> None:
        # An item that was never seen has no capture stamp; its serial keeps it apart from others.
        stamp_ns = rest.serial if rest.exposure is None else rest.exposure.stamp_ns
        self._truth.publish(
            self._truth_of(
                to_stamp(stamp_ns), rest.serial, event=ItemTruth.EVENT_RESTED, rest_lane=rest.lane
            )
        )

    def _truth_of(self, stamp: Time, serial: int, **event: object) -> ItemTruth:
        item = self._plan[serial - 1]
        message = ItemTruth(
            serial=serial,
            class_id=item.class_id,
            lane=self._description.lane_of(item.class_id),
            difficulty=item.difficulty,
            **event,
        )
        message.header.stamp, message.header.frame_id = stamp, self.settings.frame_id
        return message

    def _command(self, outcome: SortOutcome) -> None:
        if outcome.lane in (lane.name for lane in self._description.lanes):
            stamp_ns = to_ns(outcome.header.stamp)
            self._commanded.put(ItemKey(1, stamp_ns), outcome)
            self._paced.command(stamp_ns, outcome.lane)
        elif outcome.lane != self._description.reject_lane:
            self.warn(
                'unknown_lane',
                f'item {outcome.item_id} is to go to {outcome.lane!r}, '
                'which the cell does not have',
            )

    def _pushed(self, pushed: Pushed) -> None:
        outcome = self._commanded.pop(ItemKey(1, pushed.stamp_ns))
        if outcome is not None:
            self._actuations.publish(
                Actuation(
                    header=outcome.header,
                    item_id=outcome.item_id,
                    lane=pushed.lane,
                    status=Actuation.STATUS_CONFIRMED,
                    lateness=pushed.lateness,
                    delay=pushed.delay,
                )
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run_node(CellSimulator, arguments)


if __name__ == '__main__':
    sys.exit(main())
