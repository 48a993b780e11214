# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Run a simulated cell in step with a clock.

The physics runs up to "now" in small chunks and never skips any. Where the machine was busy for
a moment, the simulation falls behind and catches up, and every stamp still tells the instant that
the clock showed when the simulated thing was due.

Where it falls behind by more than ``LONGEST_LAG``, pictures would come too late to be of use, the
longer the more. Then simulated time is held: the cell stands still for as long as it is behind,
and goes on from there in step with the clock. So items come later, and each still has the time
that it would have in a real cell. Both are measured and reported.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConfigError
from stl_conveyor.sim.cell_events import Exposed, PusherOut, Rested

SECOND = 1_000_000_000

# A cell that is behind by more (s) is held: a picture that comes later than this leaves its item
# less than half of the time that it has until its deadline in the shipped cell.
LONGEST_LAG = 0.3

# A clock that is off by more than this was set; below, stamps keep to the physics.
CLOCK_JUMP_NS = 5_000_000


CellEvent = Exposed | Rested | PusherOut


class Cell(Protocol):
    """What is paced; :class:`stl_conveyor.sim.mujoco_cell.MujocoCell` is one."""

    @property
    def time(self) -> float:
        """Return the simulated time in seconds."""

    @property
    def finished(self) -> bool:
        """Return whether every item is at rest."""

    def step_until(self, time: float) -> Sequence[CellEvent]:
        """Simulate up to a time in seconds; return the events on the way."""

    def fire(self, lane_name: str, time: float) -> None:
        """Schedule a push."""


@dataclass(frozen=True)
class Photograph:
    """The camera took a picture; ``image`` is uint8[H, W, 3]."""

    stamp_ns: int
    serial: int
    class_id: str
    difficulty: float
    image: np.ndarray


@dataclass(frozen=True)
class Rest:
    """An item came to rest; ``exposure`` is None if no picture of it was ever taken."""

    serial: int
    lane: str
    exposure: Photograph | None


@dataclass(frozen=True)
class Pushed:
    """A pusher came out for the item that was captured at ``stamp_ns``.

    Attributes:
        lateness: Seconds from the diverter's time to the command's execution.
        delay: Seconds from then until it was out.
    """

    stamp_ns: int
    lane: str
    lateness: float
    delay: float


@dataclass(frozen=True)
class Pace:
    """How well the simulation keeps up; seconds."""

    simulated: float
    lag: float  # behind the clock now
    worst_lag: float  # since the last reading
    held: float  # for how long the cell was held in all, to let the clock go ahead
    late_commands: int  # that came after their diverter's time
    unknown_commands: int  # for items that no picture was taken of
    finished: bool


@dataclass(frozen=True)
class _Command:
    stamp_ns: int
    lane: str


@dataclass(frozen=True)
class _Fired:
    stamp_ns: int
    time: float
    lateness: float


class PacedCell:
    """Steps a cell in its own thread; the only one that touches it.

    Attributes:
        cell: The simulated cell.
        description: Of the same cell.
        on_exposure: Called in the thread as soon as a picture is rendered.
        on_rest: Called in the thread when an item comes to rest.
        now_ns: The clock of the stamps. None: stamps are simulated time from 0, and ``on_time`` is
            called with it after every chunk.
        on_time: See above.
        on_push: Called in the thread when a pusher that was commanded is out.
        prepare: Called in the thread before time begins, for what belongs to the thread (an OpenGL
            context) and is slow the first time.
        finish: Called in the thread when it ends.
        chunk: Seconds of physics at a time.
        real_time_factor: Simulated seconds per second; 1 unless stamps are simulated time.
        steady_ns: The clock that paces.
    """

    def __init__(
        self,
        cell: Cell,
        description: CellDescription,
        *,
        on_exposure: Callable[[Photograph], None],
        on_rest: Callable[[Rest], None],
        now_ns: Callable[[], int] | None,
        on_time: Callable[[int], None] | None = None,
        on_push: Callable[[Pushed], None] = lambda pushed: None,
        prepare: Callable[[], object] = lambda: None,
        finish: Callable[[], object] = lambda: None,
        chunk: float = 0.004,
        real_time_factor: float = 1.0,
        steady_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Prepare; nothing moves before :meth:`start`."""
        if real_time_factor <= 0 or (now_ns is not None and real_time_factor != 1.0):
            raise ConfigError(
                f'real_time_factor is {real_time_factor}: it must be above 0, and 1 unless the '
                'simulation publishes the clock (publish_clock)'
            )
        self._cell = cell
        self._description = description
        self._on_exposure = on_exposure
        self._on_rest = on_rest
        self._now_ns = now_ns
        self._on_time = on_time
        self._on_push = on_push
        self._fired: dict[str, deque[_Fired]] = {}  # by lane
        self._prepare = prepare
        self._finish = finish
        self._chunk = chunk
        self._factor = real_time_factor
        self._steady_ns = steady_ns
        self._commands: deque[_Command] = deque()
        self._exposures: dict[int, tuple[float, Photograph]] = {}  # by stamp, with simulated time
        self._stamps: dict[int, int] = {}  # by serial
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._begun = False
        self._began_ns = 0
        self._offset_ns = 0  # clock of the stamps minus simulated time
        self._reached = cell.time  # simulated seconds asked of the cell
        self._worst_lag = 0.0
        self._held = 0.0
        self._late = self._unknown = 0

    def start(self) -> None:
        """Set the belt in motion, from simulated time 0."""
        self._thread = threading.Thread(target=self._run, name='physics', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop for good and wait for the thread to end."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def command(self, stamp_ns: int, lane: str) -> None:
        """Have the item that was captured at a stamp pushed into a lane, at that lane's time.

        A command that comes too late fires at once, and probably hits nothing. The reject lane
        has no diverter: nothing moves.
        """
        self._commands.append(_Command(stamp_ns, lane))

    @property
    def error(self) -> BaseException | None:
        """Return what ended the thread, if it did not end by itself."""
        return self._error

    def pace(self) -> Pace:
        """Return how well the simulation keeps up, and start a new worst lag."""
        worst, self._worst_lag = self._worst_lag, 0.0
        return Pace(
            self._cell.time,
            max(self._target() - self._reached, 0.0),
            worst,
            self._held,
            self._late,
            self._unknown,
            self._cell.finished,
        )

    def _target(self) -> float:
        if not self._begun or self._cell.finished:
            return self._reached
        return self._factor * (self._steady_ns() - self._began_ns) / SECOND

    def _run(self) -> None:
        try:
            self._prepare()
            self.begin()
            while not self._stop.is_set():
                wait = self.step()
                if wait is None:
                    break
                if wait > 0:
                    self._stop.wait(wait)
            self._finish()
        except BaseException as error:  # the node reports it; a thread would just vanish
            self._error = error

    def begin(self) -> None:
        """Let simulated time 0 be now."""
        self._begun = True
        self._began_ns = self._steady_ns()
        self._offset_ns = 0 if self._now_ns is None else self._now_ns()

    def step(self) -> float | None:
        """Simulate one chunk if one is due.

        Returns:
            Seconds until the next chunk is due, 0 when behind; None when all items rest.
        """
        cell = self._cell
        target, due = self._target(), self._reached + self._chunk
        if target >= due:
            self._worst_lag = max(self._worst_lag, target - due)
            if target - due > LONGEST_LAG:
                self._hold(target - due)
            self._reached = due
            self._drain_commands()
            events = cell.step_until(due)
            if self._now_ns is None and self._on_time is not None:
                self._on_time(round(cell.time * SECOND))
            for event in events:
                self._report(event)
            if cell.finished:
                return None
        return max(0.0, (self._reached + self._chunk - self._target()) / self._factor)

    def _hold(self, seconds: float) -> None:
        """Let the cell have stood still for a while, in simulated seconds."""
        self._held += seconds
        pause_ns = round(seconds / self._factor * SECOND)
        self._began_ns += pause_ns
        if self._now_ns is not None:
            self._offset_ns += pause_ns

    def _report(self, event: CellEvent) -> None:
        if isinstance(event, Exposed):
            stamp = self._stamp(event.time)
            exposure = Photograph(
                stamp, event.serial, event.class_id, event.difficulty, event.image
            )
            self._exposures[stamp] = (event.time, exposure)
            self._stamps[event.serial] = stamp
            self._on_exposure(exposure)
        elif isinstance(event, PusherOut):
            # One stroke may serve two items that lie close together.
            fired = self._fired.get(event.lane_name, deque())
            while fired and fired[0].time < event.time:
                each = fired.popleft()
                self._on_push(
                    Pushed(each.stamp_ns, event.lane_name, each.lateness, event.time - each.time)
                )
        else:
            stamp_of_item = self._stamps.pop(event.serial, None)
            known = None if stamp_of_item is None else self._exposures.pop(stamp_of_item, None)
            self._on_rest(Rest(event.serial, event.lane_name, known and known[1]))

    def _stamp(self, simulated: float) -> int:
        """Return the stamp of a simulated time, following the clock when it was set."""
        if self._now_ns is not None:
            before = self._steady_ns()
            offset = self._now_ns() - (before - self._began_ns)
            undisturbed = self._steady_ns() - before < CLOCK_JUMP_NS // 5
            if undisturbed and abs(offset - self._offset_ns) > CLOCK_JUMP_NS:
                self._offset_ns = offset
        return self._offset_ns + round(simulated * SECOND)

    def _drain_commands(self) -> None:
        while self._commands:
            command = self._commands.popleft()
            known = self._exposures.get(command.stamp_ns)
            if known is None:
                self._unknown += 1
            elif command.lane != self._description.reject_lane:
                fire = known[0] + self._description.fire_time_ns(0, command.lane) / SECOND
                if fire < self._cell.time:
                    self._late += 1
                begin = max(fire, self._cell.time)
                self._cell.fire(command.lane, begin)
                self._fired.setdefault(command.lane, deque()).append(
                    _Fired(command.stamp_ns, begin, begin - fire)
                )
