# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Diverters behind a PLC, over Modbus TCP; in threads of their own.

docs/modbus.md has the registers, and what the program of the PLC does with them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from stl_conveyor.errors import ConfigError, HardwareError
from stl_conveyor.hardware.diverter import DiverterEvents
from stl_conveyor.hardware.modbus_connection import (
    ACKNOWLEDGE,
    ModbusConnection,
    ModbusLost,
    ModbusRefused,
    contiguous,
)
from stl_conveyor.hardware.output import DirectOutput, Site
from stl_conveyor.parameters import parameter

SETTLE = 1.0  # s after which a diverter that was commanded back must be back
POLL = 0.01  # s between two looks at the feedback while a confirmation is awaited
RETRY = 0.01  # s before something that failed is tried again
BUSY_FOR = 0.3  # s for which a PLC may be busy before that is a fault
BUSY_POLL = 0.05  # s between two looks at a busy PLC
BEAT = 0.25  # s between two changes of the heartbeat
ALIVE = 1.0  # s; the heart stops when the node has done nothing for so long
SMALLEST_PATIENCE = 0.03  # s; an answer may take as long on any network
IDLE_PATIENCE = 0.1  # s; the same, where nothing is urgent
SMALLEST_SERIAL, LARGEST_SERIAL = 1, 65535  # 0 is what a PLC starts with
NO_REGISTER = -1
CONNECTION = 'connection'

AnswerT = TypeVar('AnswerT')


@dataclass(frozen=True)
class ModbusSettings:
    """Parameters of the output modbus."""

    modbus_host: str = parameter('192.168.0.10', 'Address of the PLC, with output modbus.')
    modbus_port: int = parameter(502, 'TCP port of the PLC.', minimum=1, maximum=65535)
    modbus_unit: int = parameter(1, 'Unit (device) number of the PLC.', minimum=0, maximum=255)
    modbus_kind: str = parameter(
        'coil',
        'coil: a coil per lane is set and cleared. register: a number that changes with every '
        'stroke is written to a holding register per lane, and the PLC makes the stroke.',
        choices=('coil', 'register'),
    )
    modbus_addresses: tuple[int, ...] = parameter(
        (0, 1, 2), 'Coil or register of each lane, counted from 0.'
    )
    modbus_feedback: tuple[int, ...] = parameter(
        (0, 1, 2),
        'Where each lane confirms: with coils the discrete input of the end switch '
        '(-1: read the coil back); with registers the holding register to which the PLC copies '
        'the number.',
    )
    modbus_heartbeat: int = parameter(
        NO_REGISTER,
        'Holding register that changes four times a second for as long as this node works, so '
        'that the PLC can stop the line when it does not; -1: there is none.',
        minimum=NO_REGISTER,
        maximum=65535,
    )
    modbus_timeout: float = parameter(
        0.5, 'Seconds for which a request to the PLC may take.', minimum=0.01, maximum=10.0
    )
    modbus_connections: int = parameter(
        2,
        'Most connections to the PLC: with two or more, a stroke does not wait for the reading '
        'of the feedback. Where the PLC takes only one, one is used.',
        minimum=1,
        maximum=8,
    )


@dataclass(frozen=True)
class ModbusLane:
    """Where a PLC has the diverter of a lane; addresses count from 0, as on the wire.

    With `register` a number (1..65535) is written to a holding register; the PLC makes one stroke,
    out and back, whenever the number changes, and copies it to the holding register `feedback`
    when the diverter was out. Otherwise the coil is set and cleared, and `feedback` is the
    discrete input of the end switch; -1 reads the coil back.
    """

    address: int
    feedback: int
    register: bool = False

    @property
    def kind(self) -> str:
        """Return what is written: 'register' or 'coil'."""
        return 'register' if self.register else 'coil'

    @property
    def command_place(self) -> tuple[str, int]:
        """Return kind and address of what is written."""
        return self.kind, self.address

    @property
    def feedback_place(self) -> tuple[str, int]:
        """Return kind and address of what confirms."""
        if self.register:
            return 'register', self.feedback
        return ('input', self.feedback) if self.feedback >= 0 else ('coil', self.address)


@dataclass(eq=False)
class _Command:
    """What a lane is to do.

    Attributes:
        until: Monotonic s; afterwards it is of no use.
        order: Rises with every command.
        number: For the register; 0 = not chosen yet.
        confirmed: Whether the PLC was seen to have made it.
    """

    lane: str
    extend: bool
    serial: int
    until: float
    order: int
    number: int = 0
    confirmed: bool = False


@dataclass(frozen=True)
class _Awaited:
    command: _Command
    until: float  # monotonic s; afterwards the schedule has called it silent


@dataclass
class _Lane:
    """What is known of a lane.

    Attributes:
        number: What its command register holds; None = not read yet.
        echo: What the PLC copied to its feedback register when that was read last.
        writes: How often it was written to; tells a reading that is older than a write.
        wanted: Where the coil should be.
        unsure: Whether the coil may be elsewhere.
        back_since: When it was commanded back (monotonic s).
        seen_back: Whether its feedback was seen inactive since then.
        stuck: The end switch says out though it was commanded back.
    """

    place: ModbusLane
    number: int | None = None
    echo: int | None = None
    writes: int = 0
    wanted: bool = False
    unsure: bool = True
    back_since: float = float('-inf')
    seen_back: bool = False
    stuck: bool = False


@dataclass
class _Line:
    """A connection and the thread that works with it.

    Attributes:
        proven: Whether the PLC has answered on it, and takes it.
    """

    index: int
    connection: ModbusConnection
    proven: bool = False


class ModbusDiverters:
    """Coils or registers of one PLC.

    Each connection has a thread, which takes what is most urgent: a stroke before a diverter that
    goes back, commands before readings. One thread at a time reads, so that another one is free to
    write. Feedback is read while a confirmation is awaited, and otherwise every `idle_period`, so
    that a dead PLC is noticed before the next item needs it. A command whose connection is lost
    is written again over a fresh one for as long as it is of use; it is the same number or
    the same level then, so that the PLC makes no second stroke of it.
    """

    connects = True  # and reports that it did

    def __init__(
        self,
        lanes: Mapping[str, ModbusLane],
        events: DiverterEvents,
        *,
        host: str,
        port: int = 502,
        unit: int = 1,
        timeout: float = 0.5,
        confirm_time: float = 0.5,
        idle_period: float = 0.3,
        useful_time: float = 0.1,
        connections: int = 2,
        heartbeat: int = NO_REGISTER,
        alive: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the threads.

        Args:
            timeout: Seconds for which a request may take.
            confirm_time: Seconds for which feedback is polled after a command.
            useful_time: Seconds after which a command out that was not written is dropped.
            connections: Most connections at a time.
            heartbeat: Holding register that shows the PLC that we live; NO_REGISTER = none.
            alive: When the node was last seen to work (monotonic s); the heart beats by it.

        Raises:
            MissingDependency: If pymodbus is not installed.
        """
        self._events = events
        self._peer = f'PLC {host}:{port}'
        self._timeout = timeout
        self._confirm_time = confirm_time
        self._idle_period = idle_period
        self._useful_time = useful_time
        self._heartbeat, self._beats, self._alive = heartbeat, 0, alive
        self._lanes = {name: _Lane(place) for name, place in lanes.items()}
        self._feedback_runs = contiguous(place.feedback_place for place in lanes.values())
        # Numbers are read again while idle: a PLC that was switched on again has others.
        self._idle_runs = contiguous(
            each
            for place in lanes.values()
            for each in (place.feedback_place, *([place.command_place] * place.register))
        )
        self._delays: deque[float] = deque(maxlen=32)  # s that the last answers took
        self._pause = threading.Event()  # never set: what is waited for in between
        # What follows is guarded by this lock.
        self._changed = threading.Condition()
        self._commands: list[_Command] = []
        self._ordered = 0
        self._busy: set[str] = set()  # lanes to which a thread writes
        self._awaited: list[_Awaited] = []
        self._reading = False
        self._well = False  # the last look was answered
        self._look_at, self._beat_at = float('-inf'), time.monotonic()
        self._closing = False
        self._lines = [
            _Line(index, ModbusConnection(host, port, unit)) for index in range(connections)
        ]
        self._limit = connections
        # What follows is guarded by this one, under which events are told in their order.
        self._telling = threading.Lock()
        self._troubles = {CONNECTION: ''}  # reason by what was asked for
        self._busy_since: dict[str, float] = {}
        self._trouble: str | None = ''  # why nothing can be commanded; None = all is well
        self._threads: list[threading.Thread] = []
        try:
            for line in self._lines:
                thread = threading.Thread(
                    target=self._work, args=(line,), name='modbus', daemon=True
                )
                thread.start()
                self._threads.append(thread)
        except BaseException:
            self.close()
            raise

    def extend(self, lane: str, serial: int, late: float = 0.0) -> None:
        """Move a diverter out, as soon as a thread comes to it.

        Also where the PLC could not be reached the last time: it may be back.
        """
        self._command(lane, True, serial, self._useful_time - late)

    def retract(self, lane: str) -> None:
        """Move a diverter back; with registers the PLC does so by itself."""
        if not self._lanes[lane].place.register:
            self._command(lane, False, 0, SETTLE)

    def is_out(self, lane: str) -> bool | None:
        """Return True if the end switch was active long after the way back; None = not known.

        Asking takes time, so that nothing is asked now.
        """
        return True if self._lanes[lane].stuck else None

    def remedy(self, lane: str) -> str:
        """Return what to check when the diverter of a lane stays silent."""
        place = self._lanes[lane].place
        return (
            f'check that the {self._peer} runs, the network to it, and its program for '
            f'{place.kind} {place.address}'
        )

    def close(self) -> None:
        """Write what is queued, move everything back, stop the heart, and hang up."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        end = time.monotonic() + 2.0 + 4 * self._timeout
        for thread in self._threads:
            thread.join(timeout=max(0.0, end - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            return  # one hangs in the network, with the connection that it works with
        if not self._trouble:
            self._leave(self._lines[0])
        for line in self._lines:
            line.connection.close()

    def _leave(self, line: _Line) -> None:
        places = [
            ('coil', lane.place.address)
            for lane in self._lanes.values()
            if not lane.place.register
        ]
        if self._beats:
            places.append(('register', self._heartbeat))
        try:
            for kind, address in places:
                self._ask(line, partial(line.connection.write, kind, address, 0))
        except HardwareError as error:
            self._events.connected(str(error))

    def _command(self, lane: str, extend: bool, serial: int, useful: float) -> None:
        with self._changed:
            self._ordered += 1
            self._commands.append(
                _Command(lane, extend, serial, time.monotonic() + useful, self._ordered)
            )
            self._changed.notify_all()

    # The threads.

    def _work(self, line: _Line) -> None:
        while (task := self._take(line)) is not None:
            task()

    def _take(self, line: _Line) -> Callable[[], None] | None:
        """Wait for the most urgent task that this thread may do; None = there comes no other."""
        with self._changed:
            while True:
                command = self._next_command() if line.index == 0 or line.proven else None
                if command is not None:
                    self._commands.remove(command)
                    self._busy.add(command.lane)
                    return partial(self._execute, line, command)
                if self._closing and (line.index > 0 or not self._commands):
                    return None
                beat_at, look_at = self._due(line)
                now = time.monotonic()
                if min(beat_at, look_at) <= now:
                    self._reading = True
                    return partial(self._beat if beat_at <= look_at else self._look, line)
                self._changed.wait(min(beat_at, look_at, now + 1.0) - now)

    def _next_command(self) -> _Command | None:
        """Return the command to write next: a lane keeps its order, and lanes that push go first.

        No lane is written to by two threads at a time.
        """
        first: dict[str, _Command] = {}
        pushing = set()
        for command in self._commands:
            if command.lane not in self._busy:
                first.setdefault(command.lane, command)
                if command.extend:
                    pushing.add(command.lane)
        return min(
            first.values(), key=lambda each: (each.lane not in pushing, each.order), default=None
        )

    def _due(self, line: _Line) -> tuple[float, float]:
        """Return when this thread beats and looks next (monotonic s); infinite = not at all."""
        never = float('inf')
        if self._reading or self._closing or line.index >= self._limit:
            return never, never
        if line.index > 0 and self._trouble is not None:
            return never, never  # one is enough to find out whether the PLC is back
        beats = self._heartbeat != NO_REGISTER and CONNECTION not in self._troubles
        beat_at = self._beat_at if beats else never
        if self._awaited or not self._well:
            return beat_at, self._look_at
        # Each connection in turn: one that is never used may be cut on the way, unnoticed.
        idle_at = line.connection.answered_at + self._idle_period
        return beat_at, max(idle_at, self._look_at)

    # Commands.

    def _execute(self, line: _Line, command: _Command) -> None:
        lane = self._lanes[command.lane]
        if not lane.place.register:
            lane.wanted = command.extend
            if not command.extend:
                lane.back_since = time.monotonic()
        reason = self._write_while_useful(line, lane, command)
        with self._changed:
            self._busy.discard(command.lane)
            lane.writes += 1
            if reason is None:  # this thread cannot; another one may
                self._commands.insert(0, command)
            elif reason:
                self._awaited = [each for each in self._awaited if each.command is not command]
                lane.wanted, lane.unsure = False, True  # it is not made later
            elif not lane.place.register:
                lane.unsure = False
                if command.extend and not lane.stuck:  # what is read from now on tells
                    self._await(command)
            self._look_at = time.monotonic()
            self._changed.notify_all()
        if reason and command.extend and not command.confirmed:
            self._events.failed(command.lane, command.serial, reason)

    def _await(self, command: _Command) -> None:
        if not command.confirmed and not any(e.command is command for e in self._awaited):
            self._awaited.append(_Awaited(command, time.monotonic() + self._confirm_time))

    def _write_while_useful(self, line: _Line, lane: _Lane, command: _Command) -> str | None:
        """Write a command, and again where that may help.

        Returns:
            '', or why it failed; None if there is no connection to be had, but that of others.
        """
        reason = ''
        while time.monotonic() <= command.until:
            try:
                if self._write(line, lane, command):
                    return ''
            except ModbusLost as error:
                reason = str(error)
                if line.index > 0 and error.unreachable:
                    line.proven = False
                    return None
            except ModbusRefused as error:
                reason = str(error)
                if not error.passing:
                    return reason
            self._pause.wait(RETRY)
        return reason or (
            f'{self._peer} is too slow: a command waited '
            f'{self._useful_time + time.monotonic() - command.until:.2f} s, its item was past '
            'the diverter, and it was dropped; raise modbus_connections, or let the PLC answer '
            'faster'
        )

    def _write(self, line: _Line, lane: _Lane, command: _Command) -> bool:
        """Write a command once; return False if it was of no use any more before that."""
        connection, place = line.connection, lane.place
        connection.open(max(RETRY, command.until - time.monotonic()))
        if place.register and command.number == 0:
            if lane.number is None or lane.echo is None:
                for run in contiguous((place.command_place, place.feedback_place)):
                    values = connection.read(run, self._patience(line, command))
                    self._answered(line)
                    self._digest(values, {}, ())
            assert lane.number is not None
            command.number = next_number(lane.number, lane.echo)
        if time.monotonic() > command.until:
            return False
        with self._changed:
            if place.register:
                lane.number = command.number
            if command.extend and (place.register or lane.seen_back):
                # Feedback that changes from now on can only be of this command.
                self._await(command)
                self._look_at = time.monotonic()
                self._changed.notify_all()
            lane.seen_back = False
        value = command.number if place.register else int(command.extend)
        try:
            connection.write(place.kind, place.address, value, self._patience(line, command))
        except ModbusRefused as error:
            if error.code != ACKNOWLEDGE:  # it was taken, and is being done
                raise
        self._answered(line)
        return True

    def _patience(self, line: _Line, command: _Command) -> float:
        """Return for how long the answer to a command is awaited (s).

        A connection that was cut on the way is silent; there must be time left for a fresh one.
        """
        usual = self._usual(line, SMALLEST_PATIENCE)
        return (
            usual if command.extend and usual < command.until - time.monotonic() else self._timeout
        )

    def _usual(self, line: _Line, least: float) -> float:
        """Return within how many seconds an answer should come, where there were some."""
        if not line.connection.answers or not self._delays:
            return self._timeout
        return min(self._timeout, max(least, 2 * max(self._delays)))

    def _answered(self, line: _Line) -> None:
        connection = line.connection
        self._delays.append(connection.delay)
        line.proven = True
        if connection.answers == 1 and connection.times_opened > 1:
            # The PLC may have been switched off and on.
            with self._changed:
                for lane in self._lanes.values():
                    lane.unsure = True

    # Readings, and the heartbeat.

    def _look(self, line: _Line) -> None:
        """Read the feedback: that from which a stroke is awaited, or all of it when idle."""
        began = time.monotonic()

        def work() -> None:
            self._restore(line)
            with self._changed:
                awaited = tuple(self._awaited)
                written = {
                    name: lane.writes
                    for name, lane in self._lanes.items()
                    if name not in self._busy
                }
            places = {self._lanes[each.command.lane].place.feedback_place for each in awaited}
            runs = [
                run for run in self._feedback_runs if any(run.covers(place) for place in places)
            ]
            values: dict[tuple[str, int], int] = {}
            for run in runs or self._idle_runs:
                values |= self._ask(line, partial(line.connection.read, run))
                self._tell(str(run), None)
            self._digest(values, written, awaited)

        pause = self._attempt(line, work)
        with self._changed:
            now = time.monotonic()
            self._awaited = [each for each in self._awaited if now <= each.until]
            self._well = pause is None
            if pause is None:
                # A connection for everything is left to commands for half of the time.
                pause = max(POLL, now - began) if self._limit == 1 else POLL
            self._look_at = now + pause
            self._reading = False
            self._changed.notify_all()

    def _beat(self, line: _Line) -> None:
        """Change the heartbeat, unless the node has stopped to work."""
        number = next_number(self._beats)

        def work() -> None:
            self._ask(
                line,
                lambda timeout: line.connection.write(
                    'register', self._heartbeat, number, timeout
                ),
            )
            self._beats = number
            self._tell(f'register {self._heartbeat}', None)

        if time.monotonic() - self._alive() < ALIVE:
            self._attempt(line, work)
        with self._changed:
            self._beat_at = max(self._beat_at + BEAT, time.monotonic())
            self._reading = False
            self._changed.notify_all()

    def _ask(self, line: _Line, request: Callable[[float], AnswerT]) -> AnswerT:
        """Make a request, and once more over a fresh connection if the old one was lost."""
        known = line.connection.answers > 0
        try:
            answer = request(self._usual(line, IDLE_PATIENCE))
        except ModbusLost:
            if not known:
                raise
            answer = request(self._timeout)
        self._answered(line)
        return answer

    def _attempt(self, line: _Line, work: Callable[[], None]) -> float | None:
        """Do some work; return None, or after how many seconds it is to be tried again."""
        try:
            work()
        except ModbusLost as error:
            if line.index > 0 and self._trouble is None and not (line.proven and error.silent):
                with self._changed:
                    line.proven = False
                    self._limit = line.index  # the PLC takes no more connections, or is dead
                return 0.0
            self._tell(CONNECTION, str(error))
            return self._idle_period
        except ModbusRefused as error:
            self._answered(line)
            if error.passing:
                self._tell_busy(error)
                return BUSY_POLL
            self._tell(error.what, str(error))
            self._tell(CONNECTION, None)
            return self._idle_period
        self._tell(CONNECTION, None)
        return None

    def _restore(self, line: _Line) -> None:
        """Bring every coil to where it should be: the connection or this node was gone."""
        for name, lane in self._lanes.items():
            if lane.place.register:
                continue
            with self._changed:
                waits = any(command.lane == name for command in self._commands)
                if not lane.unsure or name in self._busy or waits:
                    continue
                self._busy.add(name)
            try:
                coil = partial(line.connection.write, 'coil', lane.place.address, int(lane.wanted))
                self._ask(line, coil)
                lane.unsure = False
                self._tell(f'coil {lane.place.address}', None)
            finally:
                with self._changed:
                    self._busy.discard(name)
                    lane.writes += 1
                    self._changed.notify_all()

    def _digest(
        self,
        values: Mapping[tuple[str, int], int],
        written: Mapping[str, int],
        awaited: Iterable[_Awaited],
    ) -> None:
        """Take in what was read.

        Args:
            values: By (kind, address).
            written: How often each lane had been written to before it was read.
            awaited: What was awaited before it was read.
        """
        confirmed: list[_Command] = []
        with self._changed:
            for name, lane in self._lanes.items():
                current = name not in self._busy and written.get(name) == lane.writes
                feedback = values.get(lane.place.feedback_place)
                if not lane.place.register:
                    if current and not lane.wanted and feedback is not None:
                        lane.seen_back = feedback == 0
                    continue
                lane.echo = lane.echo if feedback is None else feedback
                if current or lane.number is None:
                    lane.number = values.get(lane.place.command_place, lane.number)
            for each in awaited:
                place = self._lanes[each.command.lane].place
                value = values.get(place.feedback_place)
                if value == (each.command.number if place.register else 1):
                    if each in self._awaited:
                        self._awaited.remove(each)
                        each.command.confirmed = True
                        confirmed.append(each.command)
        for command in confirmed:
            self._events.confirmed(command.lane, command.serial)
        self._watch_stuck(values)

    def _watch_stuck(self, values: Mapping[tuple[str, int], int]) -> None:
        for name, lane in self._lanes.items():
            if lane.place.register or lane.place.feedback < 0:
                continue
            out = values.get(lane.place.feedback_place)
            settled = time.monotonic() - lane.back_since > SETTLE
            if out == 0:
                lane.stuck = False
            elif out and settled and not lane.wanted and not lane.stuck:
                lane.stuck = True
                self._events.failed(
                    name,
                    None,
                    f'input {lane.place.feedback} of the {self._peer} says '
                    'out, though it was commanded back: the diverter or its switch is stuck',
                )

    # What is the matter.

    def _tell_busy(self, error: ModbusRefused) -> None:
        since = self._busy_since.setdefault(error.what, time.monotonic())
        if time.monotonic() - since >= BUSY_FOR:
            self._tell(error.what, str(error))
            self._tell(CONNECTION, None)

    def _tell(self, what: str, reason: str | None) -> None:
        """Note what is the matter with something that was asked for; None = it was answered."""
        with self._telling:
            if reason is None:
                self._troubles.pop(what, None)
                self._busy_since.pop(what, None)
            else:
                self._troubles[what] = reason
            trouble = next(iter(self._troubles.values()), None)
            if trouble == self._trouble:
                return
            if trouble is None:
                with self._changed:
                    self._limit = len(self._lines)
            self._trouble = trouble
            self._events.connected(trouble)


def next_number(number: int, echo: int | None = None) -> int:
    """Return the number after one, 1..65535 going round, that is not `echo` either.

    What the PLC copied last must not look like the copy of what is written next.
    """
    following = number % LARGEST_SERIAL + SMALLEST_SERIAL
    return following if following != echo else following % LARGEST_SERIAL + SMALLEST_SERIAL


def check(settings: ModbusSettings) -> None:
    """Refuse addresses that cannot be.

    Raises:
        ConfigError: Naming the parameter.
    """
    for name, values, least in (
        ('modbus_addresses', settings.modbus_addresses, 0),
        ('modbus_feedback', settings.modbus_feedback, 0 if _registers(settings) else -1),
    ):
        for address in values:
            if not least <= address <= 65535:
                raise ConfigError(f'{name}: {address} is not within {least}..65535')
        real = [address for address in values if address >= 0]
        if len(set(real)) < len(real):
            raise ConfigError(f'{name}: {list(values)} has an address twice')
    if not _registers(settings):
        return
    taken = {*settings.modbus_addresses, *settings.modbus_feedback}
    if len(taken) < len(settings.modbus_addresses) + len(settings.modbus_feedback):
        raise ConfigError(
            'modbus_feedback: a register of it is one of modbus_addresses, so that each stroke '
            'would confirm itself'
        )
    if settings.modbus_heartbeat in taken:
        raise ConfigError(
            f'modbus_heartbeat: register {settings.modbus_heartbeat} is one of modbus_addresses '
            'or modbus_feedback'
        )


def open_diverters(settings: ModbusSettings, site: Site) -> ModbusDiverters:
    """Begin to talk to the PLC."""
    places = zip(site.lanes, settings.modbus_addresses, settings.modbus_feedback)
    return ModbusDiverters(
        {
            lane: ModbusLane(address, feedback, _registers(settings))
            for lane, address, feedback in places
        },
        site.events,
        host=settings.modbus_host,
        port=settings.modbus_port,
        unit=settings.modbus_unit,
        timeout=settings.modbus_timeout,
        confirm_time=site.confirm_time,
        useful_time=site.useful_time,
        connections=settings.modbus_connections,
        heartbeat=settings.modbus_heartbeat,
        alive=site.alive,
    )


def _registers(settings: ModbusSettings) -> bool:
    return settings.modbus_kind == 'register'


OUTPUT = DirectOutput(
    settings=ModbusSettings,
    check=check,
    open=open_diverters,
    per_lane=('modbus_addresses', 'modbus_feedback'),
)
