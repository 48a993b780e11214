# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The one description of the cell, from which simulators and deadlines are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from stl_conveyor.errors import ConfigError
from stl_conveyor.outside_files import UnusableFile, read_yaml

NS_PER_SECOND = 1_000_000_000
# What several nodes of a cell work with, and the range of each; a description that says nothing
# of it has the default.
SHARED: Mapping[str, tuple[float, float]] = {
    'guard': (0, 1),
    'belt.speed_tolerance': (0, 0.9),
    'belt.counter_length': (0, 1e9),
    'edge.timeout': (0.1, 60),
    'edge.overhead_bytes': (0, 10_000),
}
LONGEST_SECONDS = 2**31  # that a stamp of ROS can tell
OVERHEAD_BYTES = 150  # of RTPS, UDP and IP, beside the payload of a message
FOREIGN = 'foreign'  # in a lane's costs: what belongs to none of the cell's classes
LARGEST_COST = 1e6
# A lane with a purity target below the first is no lane; to promise more than the second takes
# more calibration items than anybody renders or photographs (30,000 without one mistake).
LEAST_PURITY, LARGEST_PURITY = 0.5, 0.9999


@dataclass(frozen=True)
class Belt:
    """The conveyor's moving surface; metres and metres per second.

    Attributes:
        speed_tolerance: Fraction by which the measured speed may differ from `speed` before that
            is reported; deadlines keep to what is tolerated.
        counter_length: Metres after which the position on `belt_state` starts again; 0 = not
            told.
    """

    speed: float
    width: float
    start: float
    end: float
    speed_tolerance: float = 0.25
    counter_length: float = 0.0


@dataclass(frozen=True)
class BreakBeam:
    """The light barrier across the belt at `x` (m)."""

    x: float


@dataclass(frozen=True)
class Camera:
    """The camera that looks straight down on the belt; metres, pixels, seconds."""

    x: float
    height: float
    field_of_view: float
    image_width: int
    image_height: int
    exposure: float
    crop_size: int

    @property
    def pixels_per_metre(self) -> float:
        """Return the scale of the image on the belt's surface."""
        return self.image_height / self.field_of_view


@dataclass(frozen=True)
class Diverter:
    """The pusher that every lane has; seconds and metres."""

    lead_time: float
    stroke: float
    paddle_width: float


@dataclass(frozen=True)
class Lane:
    """A bin with its diverter at `diverter_x` (m) and the classes that belong in it.

    Attributes:
        purity: The share of what goes into the lane that must belong there, or None.
        costs: Of an item in this lane by its class, or of a foreign item (FOREIGN), where it is
            another than the cell's; pairs, in the order of the file.
    """

    name: str
    diverter_x: float
    classes: tuple[str, ...]
    purity: float | None = None
    costs: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Costs:
    """What a decision costs where its lane says nothing else; the unit is free.

    Attributes:
        wrong: An item in a lane that is not its own.
        reject: An item of the cell in the reject lane: somebody must look at it.
        foreign: An item in a lane that belongs to none of the cell's classes.
    """

    wrong: float = 1.0
    reject: float = 0.5
    foreign: float = 1.0


@dataclass(frozen=True)
class Strangers:
    """How the cell treats what it was not taught.

    Attributes:
        rejects: Share of the cell's own items that may be taken for strangers; 0 rejects none.
        share: Of foreign items among all, as far as one knows beforehand.
    """

    rejects: float = 0.02
    share: float = 0.01


@dataclass(frozen=True)
class Edge:
    """The machine with the strong classifier, as the device and the link see it.

    Attributes:
        timeout: Seconds without a sign of life after which the edge counts as gone.
        overhead_bytes: What a message costs on the wire beside its payload.
    """

    timeout: float = 1.6
    overhead_bytes: int = OVERHEAD_BYTES


@dataclass(frozen=True)
class CellDescription:
    """A conveyor cell.

    Examples:
        >>> from stl_conveyor import CellDescription, share_path
        >>> cell = CellDescription.load(share_path('config/cell.yaml'))
        >>> cell.lane_of('hex_nut_m8'), cell.lane_of('a thing that no lane lists')
        ('A', 'reject')
        >>> cell.decision_time_ns / 1e9  # seconds from the capture to the deadline
        0.78

    Frame: x along the belt, y to its left, z up, the origin on the belt's top surface below the
    camera (REP-103). Metres, seconds.
    """

    belt: Belt
    break_beam: BreakBeam
    camera: Camera
    diverter: Diverter
    lanes: tuple[Lane, ...]
    reject_lane: str
    guard: float = 0.04  # s before the deadline at which the actuator acts
    edge: Edge = Edge()
    costs: Costs | None = None  # None and no lane with a target: the likeliest class decides
    strangers: Strangers = Strangers()
    purity_confidence: float = 0.95  # with which a lane's purity is promised

    @classmethod
    def load(cls, path: str | Path) -> CellDescription:
        """Read a cell description from a YAML file.

        Raises:
            ConfigError: Naming the file and the key that is missing, unknown or wrong.
        """
        try:
            content = read_yaml(path)
        except UnusableFile as error:
            raise ConfigError(
                f'{path}: cannot read the cell description ({error}); '
                'set cell_file to a file like config/cell.yaml'
            ) from error
        try:
            return cls.from_mapping(content)
        except ConfigError as error:
            raise ConfigError(f'{path}: {error}') from error

    @classmethod
    def from_mapping(cls, content: Any) -> CellDescription:
        """Build a description from the parsed YAML.

        Raises:
            ConfigError: Naming the key that is missing, unknown or wrong.
        """
        _check_keys(content, cls, 'the cell description')
        lanes = content['lanes']
        if not isinstance(lanes, list) or not lanes:
            raise ConfigError('lanes: give a list of at least one lane')
        reject_lane = _text(content['reject_lane'], 'reject_lane')
        cell = cls(
            belt=_section(Belt, content['belt'], 'belt'),
            break_beam=_section(BreakBeam, content['break_beam'], 'break_beam'),
            camera=_section(Camera, content['camera'], 'camera'),
            diverter=_section(Diverter, content['diverter'], 'diverter'),
            lanes=tuple(_lane(lane, f'lanes[{i}]') for i, lane in enumerate(lanes)),
            reject_lane=reject_lane,
            guard=_number(content.get('guard', cls.guard), 'guard'),
            edge=_section(Edge, content.get('edge', {}), 'edge'),
            costs=_section(Costs, content['costs'], 'costs') if 'costs' in content else None,
            strangers=_section(Strangers, content.get('strangers', {}), 'strangers'),
            purity_confidence=_number(
                content.get('purity_confidence', cls.purity_confidence), 'purity_confidence'
            ),
        )
        cell._check_geometry()
        cell._check_shared()
        cell._check_costs()
        return cell

    @cached_property
    def _lane_by_class(self) -> Mapping[str, Lane]:
        return {class_id: lane for lane in self.lanes for class_id in lane.classes}

    @property
    def classes(self) -> tuple[str, ...]:
        """Return every class that the cell sorts, in the order of the lanes."""
        return tuple(self._lane_by_class)

    def lane_of(self, class_id: str) -> str:
        """Return the name of the lane of a class; a class that no lane lists is rejected."""
        lane = self._lane_by_class.get(class_id)
        return self.reject_lane if lane is None else lane.name

    def lane(self, name: str) -> Lane:
        """Return the lane with this name.

        Raises:
            ConfigError: If there is none (the reject lane has no diverter).
        """
        for lane in self.lanes:
            if lane.name == name:
                return lane
        known = ', '.join(lane.name for lane in self.lanes)
        raise ConfigError(f'lane {name!r}: the cell has no such diverter; it has {known}')

    @property
    def first_diverter_x(self) -> float:
        """Return x (m) of the diverter that sets the deadline."""
        return min(lane.diverter_x for lane in self.lanes)

    @property
    def decision_time_ns(self) -> int:
        """Return the nanoseconds from the capture stamp to the deadline."""
        return self._travel_ns(self.first_diverter_x) - round(
            self.diverter.lead_time * NS_PER_SECOND
        )

    @property
    def guard_ns(self) -> int:
        """Return how long (ns) before its deadline an item is decided."""
        return round(self.guard * NS_PER_SECOND)

    def fire_time_ns(self, capture_ns: int, lane_name: str) -> int:
        """Return when (ns, clock of the capture) the diverter of a lane must be fired.

        Raises:
            ConfigError: For a lane without a diverter.
        """
        travel = self._travel_ns(self.lane(lane_name).diverter_x)
        return capture_ns + travel - round(self.diverter.lead_time * NS_PER_SECOND)

    def _travel_ns(self, x: float) -> int:
        return round((x - self.camera.x) / self.belt.speed * NS_PER_SECOND)

    def _check_geometry(self) -> None:
        positive = {
            'belt.speed': self.belt.speed,
            'belt.width': self.belt.width,
            'camera.height': self.camera.height,
            'camera.field_of_view': self.camera.field_of_view,
            'camera.image_width': self.camera.image_width,
            'camera.image_height': self.camera.image_height,
            'camera.crop_size': self.camera.crop_size,
            'diverter.stroke': self.diverter.stroke,
            'diverter.paddle_width': self.diverter.paddle_width,
        }
        for key, value in positive.items():
            if value <= 0:
                raise ConfigError(f'{key}: {value} is not positive')
        for key, value in (
            ('camera.exposure', self.camera.exposure),
            ('diverter.lead_time', self.diverter.lead_time),
        ):
            if value < 0:
                raise ConfigError(f'{key}: {value} is negative')
        if not self.belt.start < self.break_beam.x < self.camera.x < self.belt.end:
            raise ConfigError(
                'break_beam.x, camera.x: along the belt must come start, beam, camera, end'
            )
        largest = min(self.camera.image_width, self.camera.image_height)
        if self.camera.crop_size > largest:
            raise ConfigError(
                f'camera.crop_size: {self.camera.crop_size} does not fit the image ({largest})'
            )
        names = [lane.name for lane in self.lanes]
        for i, lane in enumerate(self.lanes):
            if lane.name == self.reject_lane or lane.name in names[:i]:
                raise ConfigError(f'lanes[{i}].name: {lane.name!r} names two lanes')
            if not self.camera.x < lane.diverter_x <= self.belt.end:
                raise ConfigError(
                    f'lanes[{i}].diverter_x: {lane.diverter_x} is not between the camera '
                    'and the end of the belt'
                )
        classes = [class_id for lane in self.lanes for class_id in lane.classes]
        for class_id in classes:
            if classes.count(class_id) > 1:
                raise ConfigError(f'lanes: class {class_id!r} belongs to two lanes')
        furthest = max(lane.diverter_x for lane in self.lanes) - self.camera.x
        for key, seconds in (
            ('belt.speed', furthest / self.belt.speed),
            ('diverter.lead_time', self.diverter.lead_time),
        ):
            if seconds > LONGEST_SECONDS:
                raise ConfigError(f'{key}: {seconds:g} s is longer than a stamp can tell')
        if self.decision_time_ns <= 0:
            raise ConfigError(
                'diverter.lead_time: the first diverter must be commanded before the item is '
                'seen; move it away from the camera or slow the belt'
            )

    @property
    def decides_by_cost(self) -> bool:
        """Return whether costs or targets are set, by which lanes are chosen."""
        return self.costs is not None or any(lane.purity or lane.costs for lane in self.lanes)

    def _check_costs(self) -> None:
        costs = self.costs or Costs()
        named = {f'costs.{field.name}': getattr(costs, field.name) for field in fields(Costs)}
        for i, lane in enumerate(self.lanes):
            for name, cost in lane.costs:
                if name != FOREIGN and name not in self._lane_by_class:
                    raise ConfigError(
                        f'lanes[{i}].costs: {name!r} is no class of the cell; give classes that '
                        f'a lane lists, or {FOREIGN}'
                    )
                named[f'lanes[{i}].costs.{name}'] = cost
            if lane.purity is not None and not LEAST_PURITY <= lane.purity <= LARGEST_PURITY:
                raise ConfigError(
                    f'lanes[{i}].purity: {lane.purity} is not within '
                    f'{LEAST_PURITY}..{LARGEST_PURITY}; no number of items proves that a lane '
                    'is never wrong'
                )
        for key, value in named.items():
            if not 0.0 <= value <= LARGEST_COST:
                raise ConfigError(f'{key}: {value} is not within 0..{LARGEST_COST:.0f}')
        for key, value, most in (
            ('strangers.rejects', self.strangers.rejects, 0.5),
            ('strangers.share', self.strangers.share, 0.5),
        ):
            if not 0.0 <= value <= most:
                raise ConfigError(f'{key}: {value} is not within 0..{most}')
        if not 0.5 <= self.purity_confidence <= 0.999:
            raise ConfigError(
                f'purity_confidence: {self.purity_confidence} is not within 0.5..0.999'
            )

    def shared(self, key: str) -> float:
        """Return one of the values of SHARED by its key."""
        section, dot, name = key.partition('.')
        value = getattr(self, section)
        return float(getattr(value, name) if dot else value)

    def _check_shared(self) -> None:
        for key, (least, most) in SHARED.items():
            value = self.shared(key)
            if not least <= value <= most:
                raise ConfigError(f'{key}: {value} is not within {least}..{most}')
        if self.guard_ns >= self.decision_time_ns:
            raise ConfigError(
                f'guard: {self.guard} s is not less than the '
                f'{self.decision_time_ns / NS_PER_SECOND} s between camera and diverter'
            )


def _check_keys(content: Any, cls: type, where: str) -> None:
    if not isinstance(content, Mapping):
        raise ConfigError(f'{where}: give keys and values')
    known = [field.name for field in fields(cls)]
    for key in content:
        if key not in known:
            raise ConfigError(f'{where}: unknown key {key!r}; known are {", ".join(known)}')
    for field in fields(cls):
        if field.name not in content and field.default is MISSING:
            raise ConfigError(f'{where}: key {field.name!r} is missing')


def _section(cls: type, content: Any, where: str) -> Any:
    _check_keys(content, cls, where)
    values = {}
    for field in fields(cls):
        if field.name not in content:
            continue  # it has a default
        key = f'{where}.{field.name}'
        values[field.name] = (_integer if field.type == 'int' else _number)(
            content[field.name], key
        )
    return cls(**values)


def _lane(content: Any, where: str) -> Lane:
    _check_keys(content, Lane, where)
    classes = content['classes']
    if not isinstance(classes, list) or not classes:
        raise ConfigError(f'{where}.classes: give a list of at least one class')
    lane_costs = content.get('costs', {})
    if not isinstance(lane_costs, Mapping):
        raise ConfigError(f'{where}.costs: give classes and their costs')
    return Lane(
        name=_text(content['name'], f'{where}.name'),
        diverter_x=_number(content['diverter_x'], f'{where}.diverter_x'),
        classes=tuple(_text(name, f'{where}.classes') for name in classes),
        purity=_number(content['purity'], f'{where}.purity') if 'purity' in content else None,
        costs=tuple(
            (_text(name, f'{where}.costs'), _number(cost, f'{where}.costs.{name}'))
            for name, cost in lane_costs.items()
        ),
    )


def _number(value: Any, key: str) -> float:
    number = math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # an integer of hundreds of digits
            number = math.inf
    if not math.isfinite(number):
        raise ConfigError(f'{key}: {value!r} is not a finite number')
    return number


def _integer(value: Any, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f'{key}: {value!r} is not a whole number')
    _number(value, key)  # what is made of it is reckoned with as a float
    return value


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f'{key}: {value!r} is not a name')
    return value
