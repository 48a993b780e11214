# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A cell as it is now: its items, belt, counts, network and alarms, and what is new of them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConfigError, ConveyorError, Level
from stl_conveyor.panel.accounts import User
from stl_conveyor.panel.alarms import AlarmBook
from stl_conveyor.panel.belt_follower import STOPPED, UNKNOWN, BeltFollower
from stl_conveyor.panel.changes import Change, ChangeBook, Control, Values
from stl_conveyor.panel.counts import HOUR_S, SHIFTS, ShiftCounts
from stl_conveyor.panel.counts_file import read_counts, write_counts
from stl_conveyor.panel.items import Answer, Item, Offload, Outcome, Stroke, Truth
from stl_conveyor.resources import named_path

KEPT_ITEMS = 512
KEPT_CROPS = 96
SHOWN_ITEMS = 60
CAMERA = 'camera'  # which takes no items while the line is paused
LINK = 'link_emulator'  # which says how fast it is; a real link says nothing
GUARD = 'cell_guard'  # which says whether the line may run
FOLLOWS = ('node_not_active.', 'not_safe_to_run')  # what it says where somebody pauses nodes
SILENT_S = 4.0  # after which a node that reported is gone
FOUND_S = 15.0  # by which a page has found whoever is there, and heard what is the matter
SETTLED_S = 5.0  # after a change, by which all that follows from it has been said
LONGEST_WAY_NS = 30_000_000_000  # after which nobody waits for an item's outcome any more
BEGUN_ANEW_NS = 60_000_000_000  # by which stamps that go back tell of another run


@dataclass(frozen=True)
class Bucket:
    """What the token bucket says."""

    tokens: float
    rate: float
    depth: float
    time_unit: float
    reserved: float
    spent: float
    edge_alive: bool


@dataclass(frozen=True)
class NodeState:
    """What a node said last; `heard` in seconds of a clock that nobody sets."""

    level: Level
    message: str
    heard: float
    active: bool | None = None  # None: it does not say


def file_of_cell(text: str, cell: str, cells: Collection[str]) -> Path | None:
    """Return the file that a parameter names, one for each cell where there are several.

    Args:
        text: Of the parameter; empty: no file.
        cell: Whose name is put before that of the file.
        cells: All that there are.
    """
    path = named_path(text)
    if path is None or len(cells) == 1:
        return path
    return path.with_name(f'{cell.strip("/").replace("/", "_")}_{path.name}')


class LiveCell:
    """The state of one cell, kept within bounds however long it runs. Any thread may use it.

    Every change raises `revision`; `news` tells what is newer than a revision.

    Attributes:
        changed: Called after each change, without the lock; with whether somebody waits for it.
        recipe: Name of the cell description and model folder that hold; empty: not known.
        labels: Of the model folder that holds, in its order; empty: not known.
        models: That folder; None: it cannot be read here.
        counts_trouble: Why the file of the counts could not be read or written; empty: it could.
    """

    def __init__(
        self,
        cell: CellDescription,
        *,
        name: str = '',
        labels: tuple[str, ...] = (),
        models: Path | None = None,
        alarm_log: Path | None = None,
        change_log: Path | None = None,
        counts_file: Path | None = None,
        shifts: Sequence[int] = SHIFTS,
        now_ns: Callable[[], int] = time.time_ns,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing heard.

        Args:
            name: Of the cell, its namespace.
            labels: Of the model folder, in its order; empty: not known.
            models: The folder; None: not known.
            alarm_log: File of the alarms; None keeps none.
            change_log: File of what people change; None keeps none.
            counts_file: File of the hours that were counted; None: they end with the process.
            shifts: Hours of the day (local time) at which shifts begin.
            now_ns: ROS time, in which the stamps are.
            wall: Seconds since 1970.
            steady: Seconds of a clock that nobody sets.
        """
        self.cell = cell
        self.name = name
        self.labels, self.models = labels, models
        self.counts = ShiftCounts(cell, shifts)
        self._counts_file = counts_file
        self.counts_trouble = '' if counts_file is None else read_counts(counts_file, self.counts)
        self.alarms = AlarmBook(alarm_log)
        self.changes = ChangeBook(change_log)
        self.control: Control | None = None  # None: nothing can be changed from here
        self.changed: Callable[[bool], None] = lambda _: None
        self.recipe = ''
        self.revision = 0
        self._now_ns, self._wall, self._steady = now_ns, wall, steady
        self._lock = threading.RLock()
        self._items: dict[int, Item] = {}
        self._forgotten_ns = -1
        self._belt = BeltFollower(cell)
        self._bucket: Bucket | None = None
        self._price: float | None = None  # the gain that the policy asked for last
        self._link: float | None = None  # kbit/s, infinite: unlimited; None: it does not say
        self._payload_kbit = 0.0  # that was told last
        self._edge_gone_since: float | None = None
        self._nodes: dict[str, NodeState] = {}
        self._safe: bool | None = None
        self._begun: float | None = None  # when time passed for the first time
        self._slack_ms: list[float] = []
        self._values: Values = {}
        self._changer, self._change_began = '', math.inf  # the latest from here: who, and when
        self._settled = -math.inf  # until when alarms follow from that; infinite: it is paused
        self._times = {
            **dict.fromkeys(
                ('counts', 'hours', 'network', 'alarms', 'nodes', 'safe', 'control'), 0
            ),
            'scene': -1,  # it was told with the page
        }

    # What is heard.

    def take_capture(
        self, stamp_ns: int, item_id: int, deadline_ns: int, crop: np.ndarray | None
    ) -> None:
        """Take in a capture; the crop is uint8 [S, S, 3] RGB."""
        with self._lock:
            if stamp_ns < self._forgotten_ns - BEGUN_ANEW_NS:
                self._items, self._forgotten_ns = {}, -1
        with self._item(stamp_ns) as item:
            item.item_id, item.deadline_ns = item_id, deadline_ns
            item.captured, item.crop, item.models = True, crop, self.models
        with self._lock:
            stamps = sorted(stamp for stamp, i in self._items.items() if i.crop is not None)
            for stamp in stamps[:-KEPT_CROPS]:
                self._items[stamp].crop = None

    def take_local(self, stamp_ns: int, answer: Answer) -> None:
        """Take in the device's answer."""
        with self._item(stamp_ns) as item:
            item.local = answer

    def take_edge(self, stamp_ns: int, answer: Answer) -> None:
        """Take in an answer of the edge; the one that rests on most bytes stands."""
        with self._item(stamp_ns) as item:
            if item.edge is None or answer.bytes_used >= item.edge.bytes_used:
                item.edge = answer

    def take_decision(self, stamp_ns: int, decision: Offload) -> None:
        """Take in what the policy decided."""
        with self._item(stamp_ns) as item:
            item.decision = decision
            if math.isfinite(decision.threshold) and decision.threshold != self._price:
                self._price = decision.threshold
                self._touch('network')

    def take_transfer(self, stamp_ns: int, bytes_sent: int) -> None:
        """Take in what was sent."""
        with self._item(stamp_ns) as item:
            item.bytes_sent = bytes_sent

    def take_outcome(self, stamp_ns: int, item_id: int, outcome: Outcome) -> None:
        """Take in an outcome; the first stands."""
        with self._item(stamp_ns) as item:
            item.item_id = item.item_id or item_id
            if item.outcome is None:
                item.outcome = outcome
                self._slack_ms = [*self._slack_ms[-199:], 1e3 * outcome.slack]

    def take_stroke(self, stamp_ns: int, stroke: Stroke) -> None:
        """Take in what a diverter did."""
        with self._item(stamp_ns) as item:
            item.stroke = stroke

    def take_truth(self, stamp_ns: int, truth: Truth) -> None:
        """Take in what a simulated item is, or where it lies."""
        with self._item(stamp_ns) as item:
            if item.truth is None or truth.rest_lane:
                item.truth = truth

    def take_belt(self, time_ns: int, position: float, speed: float, origin: int) -> None:
        """Take in what counts the way of the belt: metres and m/s."""
        with self._lock:
            self._belt.add(time_ns, position, speed, origin)
        self.changed(False)

    def take_bucket(self, bucket: Bucket) -> None:
        """Take in the state of the token bucket."""
        with self._lock:
            if bucket.edge_alive:
                self._edge_gone_since = None
            elif self._edge_gone_since is None:
                self._edge_gone_since = self._wall()
            self._bucket = bucket
            self._touch('network')
        self.changed(False)

    def take_node(
        self,
        node: str,
        level: Level,
        message: str,
        active: bool | None = None,
        faults: Collection[str] | None = None,
    ) -> None:
        """Take in that a node reported on itself.

        Args:
            active: Whether it is; None: it does not say.
            faults: Names of all that it has, and may be of those that are over; None: not told.
        """
        with self._lock:
            before = self._nodes.get(node)
            self._nodes[node] = state = NodeState(level, message, self._steady(), active)
            if before is None or replace(before, heard=state.heard) != state:
                self._touch('nodes')
            if faults is not None:
                with self._alarms_change():
                    self.alarms.only(node, faults, now=self._wall(), steady=state.heard)
        self.changed(False)

    def take_link(self, rate: float | None) -> None:
        """Take in how fast an emulated link is: kbit/s, infinite: unlimited; None: unknown."""
        with self._lock:
            if rate != self._link:
                self._link = rate
                self._touch('network')
        self.changed(False)

    def take_safe(self, safe: bool) -> None:
        """Take in whether the guard says that the line may run."""
        with self._lock:
            if safe != self._safe:
                self._safe = safe
                self._touch('safe')
        self.changed(True)

    def take_fault(
        self, node: str, fault: str, level: Level, message: str, seconds: float, count: int
    ) -> None:
        """Take in what a node said of one of its faults."""
        with self._lock, self._alarms_change():
            self.alarms.heard(node, fault, level, message, seconds, count, now=self._wall())
            if level is not Level.OK and self._steady() < self._settled:
                self._acknowledge_what_follows()
        self.changed(True)

    def acknowledge(self, key: str, who: str) -> bool:
        """Take in that somebody has seen an alarm; return whether there was one."""
        with self._lock:
            done = self.alarms.acknowledge(key, who, self._wall())
            if done:
                self._touch('alarms')
        self.changed(True)
        return done

    def change(self, user: User, values: Any, *, undo: int = 0) -> Change:
        """Make a change in somebody's name, or undo one by its number. It blocks.

        Raises:
            ConveyorError: If they may not, a value cannot be, or nothing can be changed here.
        """
        if self.control is None:
            raise ConfigError('nothing can be changed from here')
        now = self._wall()
        if undo:
            made = self.changes.undo(self.control, user, undo, now)
        else:
            made = self.changes.make(self.control, user, values, now)
        self.look_at_control()
        with self._lock, self._alarms_change():
            paused = self._values.get('running') is False
            self._changer, self._change_began = user.name, now
            self._settled = math.inf if paused else self._steady() + SETTLED_S
            self._acknowledge_what_follows()
        return made

    def look_at_control(self) -> None:
        """Ask what holds now of what can be changed. It blocks."""
        if self.control is None:
            return
        try:
            values = self.control.values()
        except ConveyorError:
            values = {}
        with self._lock:
            self._values = values
            self._touch('control')
        self.changed(True)

    def advance(self) -> None:
        """Take in that time has passed; called about once a second."""
        with self._lock:
            now = self._steady()
            self._begun = now if self._begun is None else self._begun
            if now - self._begun >= FOUND_S:
                with self._alarms_change():
                    self.alarms.log_is_old(self._wall())
            for node, state in list(self._nodes.items()):
                if now - state.heard > SILENT_S:
                    del self._nodes[node]
                    if node == GUARD:
                        self._safe = None
                        self._touch('safe')
                    if node == LINK:
                        self._link = None
                        self._touch('network')
                    self.alarms.node_ended(node, self._wall())
                    self._touch('nodes')
                    self._touch('alarms')
            stands = self._belt.motion(self._now_ns()).state in (STOPPED, UNKNOWN)
            camera = self._nodes.get(CAMERA)
            paused = camera is not None and camera.active is False
            able = bool(self._nodes) and not stands and not paused
            runs = able and not self.alarms.lasting(Level.ERROR)
            self.counts.advance(now, runs=runs, hour=int(self._wall() // HOUR_S))
            self._touch('counts')
            self._touch('hours')
            if self._payload_kbit != (payload := self._payload()):
                self._payload_kbit = payload
                self._touch('network')

    # What is told.

    def item(self, stamp_ns: int) -> Item | None:
        """Return an item as it is now, or None."""
        with self._lock:
            found = self._items.get(stamp_ns)
            return None if found is None else replace(found)

    def under_way(self) -> int:
        """Return how many items were captured lately and have no outcome yet."""
        with self._lock:
            oldest = self._now_ns() - LONGEST_WAY_NS
            return sum(
                item.captured and item.outcome is None and item.stamp_ns > oldest
                for item in self._items.values()
            )

    def use(
        self, cell: CellDescription, recipe: str, labels: tuple[str, ...], models: Path | None
    ) -> None:
        """Take in that another description, or other models, hold from now on."""
        with self._lock:
            self.cell, self.recipe, self.labels, self.models = cell, recipe, labels, models
            self.counts.use(cell)
            self._belt.use(cell)
            self._touch('scene')
        self.changed(True)

    def keep_counts(self) -> None:
        """Write the hours that were counted into their file, if there is one."""
        if self._counts_file is None:
            return
        with self._lock:
            kept = self.counts.kept()
        self.counts_trouble = write_counts(self._counts_file, kept)

    def csv(self, *, by_shift: bool = False) -> str:
        """Return the hours, or the shifts, as a table (CSV)."""
        with self._lock:
            unit = self._time_unit()
            return self.counts.shifts_csv(unit) if by_shift else self.counts.csv(unit)

    def figures(self) -> dict[str, Any]:
        """Return counts, belt, network and faults as they are now; no items, hours or shifts.

        `nodes` tells of each node whether it is active, or None; `safe` whether the line may run,
        or None; `faults` the worst and newest first.
        """
        with self._lock:
            motion = self._belt.motion(self._now_ns())
            return {
                'counts': self._counts_now(),
                'belt': {'speed': motion.speed, 'state': motion.state},
                'network': self._network_news(),
                'faults': [alarm.as_json() for alarm in self.alarms.open() if alarm.ended is None],
                'nodes': {node: state.active for node, state in self._nodes.items()},
                'safe': self._safe,
                'recipe': self.recipe,
            }

    def on_belt(self) -> list[tuple[float, Item]]:
        """Return where the items are now (m, x of the cell), and what is known of each."""
        with self._lock:
            places = self._belt_news(self._now_ns())['places']
            return [(x, replace(self._items[int(stamp)])) for stamp, x in places]

    def scene(self) -> dict[str, Any]:
        """Return what only a recipe changes: geometry in metres, lanes and classes.

        `sees` is whether it can be shown what the edge saw of a crop.
        """
        cell = self.cell
        return {
            'name': self.name,
            'belt': {'start': cell.belt.start, 'end': cell.belt.end, 'width': cell.belt.width},
            'camera': {
                'x': cell.camera.x,
                'view': cell.camera.field_of_view
                * cell.camera.image_width
                / cell.camera.image_height,
                'crop': cell.camera.crop_size / cell.camera.pixels_per_metre,
            },
            'barrier': cell.break_beam.x,
            'lanes': [
                {'name': lane.name, 'x': lane.diverter_x, 'classes': list(lane.classes)}
                for lane in cell.lanes
            ],
            'paddle': cell.diverter.paddle_width,
            'reject': cell.reject_lane,
            'sees': self.models is not None,
        }

    def news(self, since: int = -1) -> dict[str, Any]:
        """Return what is newer than a revision; -1: everything.

        The belt is in every one. Items are told up to SHOWN_ITEMS, the newest; the hours and
        shifts of the counts as often as `advance` is called.
        """
        with self._lock:
            now_ns = self._now_ns()
            told: dict[str, Any] = {'revision': self.revision, 'belt': self._belt_news(now_ns)}
            newest = sorted(self._items)[-SHOWN_ITEMS:]
            items = [self._items[stamp] for stamp in newest]
            changed = [item.as_json() for item in items if item.revision > since]
            if changed:
                told['items'] = changed
            if self._times['counts'] > since or changed:
                told['counts'] = self._counts_now()
                if self._times['hours'] > since:
                    told['counts'] |= self._hour_news()
            for name, tell in (
                ('network', self._network_news),
                ('alarms', self._alarm_news),
                ('nodes', self._node_news),
                ('safe', self._safe_news),
                ('control', self._control_news),
                ('scene', self.scene),
            ):
                if self._times[name] > since:
                    told[name] = tell()
            return told

    def _belt_news(self, now_ns: int) -> dict[str, Any]:
        motion = self._belt.motion(now_ns)
        places: list[list[Any]] = []
        for stamp in sorted(self._items)[-SHOWN_ITEMS:]:
            x = self._belt.x_of(stamp, now_ns)
            if x is not None and self.cell.belt.start <= x <= self.cell.belt.end + 0.5:
                places.append([str(stamp), round(x, 4)])
        return {
            'now': now_ns / 1e6,
            'speed': round(motion.speed, 4),
            'state': motion.state,
            'places': places,
        }

    def _hour_news(self) -> dict[str, Any]:
        time_unit = self._time_unit()
        return {'hours': self.counts.hours(time_unit), 'shifts': self.counts.shifts(time_unit)}

    def _time_unit(self) -> float | None:
        return None if self._bucket is None else self._bucket.time_unit

    def _counts_now(self) -> dict[str, Any]:
        counts = self.counts
        lanes = [*(lane.name for lane in self.cell.lanes), self.cell.reject_lane]
        names = (
            'items',
            'captures',
            'outcomes',
            'missed_deadlines',
            'rejected',
            'offloaded',
            'edge_answers',
            'bytes_sent',
            'rested',
            'correct',
            'lost',
        )
        oee = counts.effectiveness(self._time_unit())
        slack = sorted(self._slack_ms)
        return {
            **{name: counts.of(name) for name in names},
            'per_minute': round(counts.per_minute(self._steady()), 1),
            'lanes': {lane: counts.of('lane', lane) for lane in lanes},
            # Nothing belongs into reject by itself: it takes what nobody was sure of.
            'purity': {lane: counts.purity(lane).as_json() for lane in lanes[:-1]},
            'yield': {lane: counts.yield_of(lane).as_json() for lane in lanes[:-1]},
            'classes': counts.by('class'),
            'rejects': counts.by('reject'),
            'slack': {'least': slack[0], 'median': slack[len(slack) // 2]} if slack else None,
            'oee': {
                'availability': oee.availability,
                'performance': oee.performance,
                'quality': oee.quality,
                'product': oee.product,
                'truth': counts.of('rested') > 0,
            },
        }

    def _network_news(self) -> dict[str, Any] | None:
        if self._bucket is None:
            return None
        gone = self._edge_gone_since
        return {
            'tokens': round(self._bucket.tokens, 3),
            'rate': self._bucket.rate,
            'depth': self._bucket.depth,
            'time_unit': self._bucket.time_unit,
            'reserved': round(self._bucket.reserved, 3),
            'spent': round(self._bucket.spent, 3),
            'price': None if self._price is None else round(self._price, 4),
            'edge_alive': self._bucket.edge_alive,
            'edge_gone_since': None if gone is None else gone * 1e3,
            'link': self._link if self._link is not None and math.isfinite(self._link) else None,
            'unlimited': self._link == math.inf,
            'payload': self._payload_kbit,
        }

    def _payload(self) -> float:
        """Return what was sent to the edge over the last minute, in kbit/s."""
        return round(self.counts.bytes_per_second(self._steady()) * 8 / 1e3, 2)

    def _alarm_news(self) -> dict[str, Any]:
        return {
            'open': [alarm.as_json() for alarm in self.alarms.open()],
            'log': [
                {
                    'time': entry.time * 1e3,
                    'event': entry.event,
                    'key': f'{entry.node}: {entry.fault}',
                    'level': entry.level,
                    'message': entry.message,
                    'by': entry.by,
                }
                for entry in self.alarms.entries()[:50]
            ],
            'trouble': self.alarms.trouble,
        }

    def _node_news(self) -> list[dict[str, Any]]:
        return [
            {'name': node, 'level': int(state.level), 'message': state.message}
            for node, state in sorted(self._nodes.items())
        ]

    def _safe_news(self) -> bool | None:
        return self._safe

    def _control_news(self) -> dict[str, Any]:
        return {
            'values': dict(self._values),
            'changes': [
                {**asdict(change), 'time': change.time * 1e3}
                for change in self.changes.changes()[:20]
            ],
            'trouble': self.changes.trouble,
            'recipes': list(getattr(self.control, 'recipes', ())),
        }

    # Details.

    def _acknowledge_what_follows(self) -> None:
        """Have whoever paused nodes have seen what the guard says of that since."""
        for alarm in self.alarms.open():
            follows = alarm.node == GUARD and alarm.fault.startswith(FOLLOWS)
            if follows and alarm.since >= self._change_began:
                self.alarms.acknowledge(alarm.key, self._changer, self._wall())

    @contextmanager
    def _alarms_change(self) -> Iterator[None]:
        """Tell of the alarms if they are others afterwards."""
        before = self.alarms.revision
        yield
        if self.alarms.revision != before:
            self._touch('alarms')

    @contextmanager
    def _item(self, stamp_ns: int) -> Iterator[Item]:
        """Yield an item to be changed, and count what it adds afterwards."""
        with self._lock:
            item = self._items.get(stamp_ns)
            known = item is not None
            if item is None:
                item = Item(stamp_ns, hour=int(self._wall() // HOUR_S))
                if stamp_ns > self._forgotten_ns:
                    self._items[stamp_ns] = item
            before = item.counts(self.cell.reject_lane)
            new = not item.captured
            yield item
            after = item.counts(self.cell.reject_lane)
            # Who stands beside the belt sees it come, and be sorted.
            shows = (new and item.captured) or after['outcomes', ''] > before['outcomes', '']
            if known or stamp_ns > self._forgotten_ns:
                self.counts.replace(before, after, item.hour, self._steady())
                self._touch('counts')
            item.revision = self.revision
            while len(self._items) > KEPT_ITEMS:
                oldest = min(self._items)
                del self._items[oldest]
                self._forgotten_ns = max(self._forgotten_ns, oldest)
        self.changed(shows)

    def _touch(self, name: str) -> None:
        self.revision += 1
        self._times[name] = self.revision
