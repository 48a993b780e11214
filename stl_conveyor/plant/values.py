# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Every value that the plant can read of a cell, with name and unit; the one table of them.

OPC UA, MQTT and Prometheus take names, units and texts from here, the Grafana dashboard and
docs/plant.md are compared with it by tests.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# A number, truth or text; of some values one for each lane, class or reason.
Value = float | int | bool | str
Reading = Value | dict[str, Value] | None
Readings = Mapping[str, Reading]


class Kind(enum.Enum):
    """What a value is."""

    COUNTER = 'counter'  # rises only, until the gateway starts again
    GAUGE = 'gauge'
    FLAG = 'flag'
    TEXT = 'text'


@dataclass(frozen=True)
class Unit:
    """A unit.

    Attributes:
        symbol: As UCUM and OPC UA's EngineeringUnits write it.
        code: UNECE common code, by which OPC UA tells units apart.
        suffix: Of a Prometheus name.
    """

    symbol: str
    code: str
    suffix: str = ''


ONE = Unit('1', 'C62')
BYTES = Unit('By', 'AD', '_bytes')
SECONDS = Unit('s', 'SEC', '_seconds')
SPEED = Unit('m/s', 'MTS', '_metres_per_second')
PER_MINUTE = Unit('1/min', 'C94', '_per_minute')


@dataclass(frozen=True)
class PlantValue:
    """A row of the table.

    Attributes:
        name: As summary.json has it, where that has the same.
        by: What it is told apart by, a label: 'lane', 'class', 'reason' or nothing.
        find: Returns it from what `LiveCell.figures` tells.
        label: Returns what of a text stands in a label of Prometheus, which makes a time series of
            each that there ever was: so there must be few.
    """

    name: str
    kind: Kind
    unit: Unit
    text: str
    find: Callable[[Mapping[str, Any]], Reading]
    by: str = ''
    label: Callable[[str], str] = str

    @property
    def prometheus_name(self) -> str:
        """Return the name by the rules of Prometheus: unit and `_total` at its end."""
        end = '_total' if self.kind is Kind.COUNTER else ''
        return f'stl_conveyor_{self.name}{self.unit.suffix}{end}'

    @property
    def camel_name(self) -> str:
        """Return the name as OPC UA and Sparkplug write one.

        Examples:
            >>> VALUES['missed_deadlines'].camel_name
            'MissedDeadlines'
        """
        return ''.join(word.capitalize() for word in self.name.split('_'))


def _count(name: str) -> Callable[[Mapping[str, Any]], Reading]:
    return lambda told: int(told['counts'][name])


def _by(name: str) -> Callable[[Mapping[str, Any]], Reading]:
    return lambda told: {str(key): int(value) for key, value in told['counts'][name].items()}


def _share(name: str) -> Callable[[Mapping[str, Any]], Reading]:
    def find(told: Mapping[str, Any]) -> Reading:
        return {
            lane: share['part'] / share['whole']
            for lane, share in told['counts'][name].items()
            if share['whole']
        }

    return find


def _network(name: str) -> Callable[[Mapping[str, Any]], Reading]:
    return lambda told: None if told['network'] is None else told['network'][name]


def _oee(name: str) -> Callable[[Mapping[str, Any]], Reading]:
    return lambda told: told['counts']['oee'][name]


def _slack(name: str) -> Callable[[Mapping[str, Any]], Reading]:
    def find(told: Mapping[str, Any]) -> Reading:
        slack = told['counts']['slack']
        return None if slack is None else slack[name] / 1e3

    return find


def _without_message(worst: str) -> str:
    """Return NODE: FAULT of the text of a fault, whose message may have figures that change."""
    return ': '.join(worst.split(': ', 2)[:2])


_C, _G, _F, _T = Kind.COUNTER, Kind.GAUGE, Kind.FLAG, Kind.TEXT

_TABLE = (
    PlantValue('captures', _C, ONE, 'Items that the camera captured', _count('captures')),
    PlantValue('outcomes', _C, ONE, 'Items that were sorted', _count('outcomes')),
    PlantValue(
        'missed_deadlines', _C, ONE, 'Items that were commanded late', _count('missed_deadlines')
    ),
    PlantValue('rejected', _C, ONE, 'Items that were sent to reject', _count('rejected')),
    PlantValue(
        'offloaded', _C, ONE, 'Items for which the edge was to be asked', _count('offloaded')
    ),
    PlantValue('bytes_sent', _C, BYTES, 'Payload sent to the edge', _count('bytes_sent')),
    PlantValue(
        'items', _C, ONE, 'Items of which the truth is known (simulation)', _count('items')
    ),
    PlantValue(
        'edge_answers', _C, ONE, 'Of those, items that the edge answered', _count('edge_answers')
    ),
    PlantValue('rested', _C, ONE, 'Of those, items that came to rest', _count('rested')),
    PlantValue(
        'correct', _C, ONE, 'Of those, items that lie where they belong', _count('correct')
    ),
    PlantValue('lost', _C, ONE, 'Of those, items that lie in no bin', _count('lost')),
    PlantValue('sorted_by_lane', _C, ONE, 'Items that were sent to a lane', _by('lanes'), 'lane'),
    PlantValue(
        'sorted_by_class', _C, ONE, 'Items that were taken for a class', _by('classes'), 'class'
    ),
    PlantValue(
        'rejects_by_reason',
        _C,
        ONE,
        'Items in reject, by SortOutcome.reason',
        _by('rejects'),
        'reason',
    ),
    PlantValue(
        'purity',
        _G,
        ONE,
        'Share of what lies in a lane that belongs there',
        _share('purity'),
        'lane',
    ),
    PlantValue(
        'yield',
        _G,
        ONE,
        'Share of what belongs in a lane that lies there',
        _share('yield'),
        'lane',
    ),
    PlantValue(
        'items_rate',
        _G,
        PER_MINUTE,
        'Items sorted over the last minute',
        lambda told: float(told['counts']['per_minute']),
    ),
    PlantValue(
        'slack_median',
        _G,
        SECONDS,
        'Time left at the command, of the last 200 items',
        _slack('median'),
    ),
    PlantValue('slack_least', _G, SECONDS, 'The least of them', _slack('least')),
    PlantValue(
        'availability',
        _G,
        ONE,
        'OEE: share of the time in which the line could sort',
        _oee('availability'),
    ),
    PlantValue(
        'performance',
        _G,
        ONE,
        'OEE: items against the most the line is made for',
        _oee('performance'),
    ),
    PlantValue('quality', _G, ONE, 'OEE: share of the items that are right', _oee('quality')),
    PlantValue('oee', _G, ONE, 'Product of the three', _oee('product')),
    PlantValue(
        'belt_speed',
        _G,
        SPEED,
        'Speed of the belt; 0 where it stands or is not known',
        lambda told: float(told['belt']['speed']),
    ),
    PlantValue(
        'belt_known',
        _F,
        ONE,
        'Whether the belt is measured, or its described speed stands',
        lambda told: told['belt']['state'] != 'unknown',
    ),
    PlantValue('tokens', _G, ONE, 'Tokens in the bucket', _network('tokens')),
    PlantValue('token_rate', _G, ONE, 'Tokens that come back each time unit', _network('rate')),
    PlantValue('token_depth', _G, ONE, 'Most tokens that are kept', _network('depth')),
    PlantValue(
        'token_price', _G, ONE, 'Expected gain for which a token is spent now', _network('price')
    ),
    PlantValue(
        'tokens_spent', _G, ONE, 'Tokens spent since the policy was activated', _network('spent')
    ),
    PlantValue(
        'edge_alive', _F, ONE, 'Whether the edge shows signs of life', _network('edge_alive')
    ),
    PlantValue(
        'safe_to_run',
        _F,
        ONE,
        'Whether cell_guard says that the line may run',
        lambda told: told['safe'],
    ),
    PlantValue('alarms', _G, ONE, 'Faults that last', lambda told: len(told['faults'])),
    PlantValue(
        'worst_fault',
        _T,
        ONE,
        'The worst of them, NODE: FAULT, and its text',
        lambda told: _worst(told),
        label=_without_message,
    ),
    PlantValue('state', _T, ONE, 'State by OPC 40100-1', lambda told: machine_state(told).value),
    PlantValue(
        'recipe',
        _T,
        ONE,
        'Cell description and model folder that hold',
        lambda told: told['recipe'],
    ),
)

#: By name, in the order in which they are told.
VALUES: Mapping[str, PlantValue] = {value.name: value for value in _TABLE}


class MachineState(enum.Enum):
    """States of a machine-vision system by OPC 40100-1, as far as a sorting line has them."""

    HALTED = 'Halted'  # no node reports
    PREOPERATIONAL = 'Preoperational'  # nodes are there, and not all can work yet
    ERROR = 'Error'  # a node reports an error that lasts
    READY = 'Ready'  # paused: the camera takes no items
    CONTINUOUS = 'ContinuousExecution'


def machine_state(told: Mapping[str, Any]) -> MachineState:
    """Return the state of a cell.

    Args:
        told: By `LiveCell.figures`.
    """
    if not told['nodes']:
        return MachineState.HALTED
    if told['faults'] and told['faults'][0]['level'] >= 2:
        starting = all(
            fault['fault'] in ('configure', 'activate', 'wait_for')
            for fault in told['faults']
            if fault['level'] >= 2
        )
        return MachineState.PREOPERATIONAL if starting else MachineState.ERROR
    if told['nodes'].get('camera') is None:
        return MachineState.PREOPERATIONAL
    return MachineState.CONTINUOUS if told['nodes']['camera'] else MachineState.READY


@dataclass(frozen=True)
class Fault:
    """A fault that lasts.

    Attributes:
        key: NODE: FAULT, by which it is told apart.
        level: The worst since it was raised: 1 warning, 2 error.
        since: Seconds since 1970.
    """

    key: str
    level: int
    message: str
    since: float

    @property
    def text(self) -> str:
        """Return it in one line."""
        return f'{self.key}: {self.message}'


def faults(told: Mapping[str, Any]) -> tuple[Fault, ...]:
    """Return every fault of a cell that lasts, the worst and newest first.

    Args:
        told: By `LiveCell.figures`.
    """
    return tuple(
        Fault(fault['key'], fault['level'], fault['message'], fault['since'] / 1e3)
        for fault in told['faults']
    )


def _worst(told: Mapping[str, Any]) -> str:
    return next((fault.text for fault in faults(told)), '')


def readings(told: Mapping[str, Any]) -> dict[str, Reading]:
    """Return every value of a cell, in the order of the table; None: nobody knows it.

    Args:
        told: By `LiveCell.figures`.
    """
    return {name: value.find(told) for name, value in VALUES.items()}


def plain(found: Readings) -> dict[str, Any]:
    """Return readings as JSON: what nobody knows is left out."""
    return {name: value for name, value in found.items() if value is not None}
