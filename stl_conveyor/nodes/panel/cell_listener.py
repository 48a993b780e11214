# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Hand what is said in a cell to its `LiveCell`, for whatever shows it or passes it on."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from std_msgs.msg import Bool

from stl_conveyor.errors import Level
from stl_conveyor.msg import (
    Actuation,
    BeltState,
    Classification,
    FeatureFeedback,
    ItemCapture,
    ItemTruth,
    OffloadDecision,
    SortOutcome,
    TokenBucketState,
)
from stl_conveyor.nodes.base.clock import to_ns
from stl_conveyor.nodes.base.connected_node import ConnectedNode
from stl_conveyor.nodes.base.health import fault_of_status
from stl_conveyor.nodes.base.items import rgb_image
from stl_conveyor.panel.items import Answer, Offload, Outcome, Stroke, Truth, ranking
from stl_conveyor.panel.live_cell import LINK, Bucket, LiveCell


def hear_cell(
    node: ConnectedNode,
    live: LiveCell,
    cell: str = '',
    *,
    topics: Collection[str] | None = None,
    crops: bool = True,
    also: Mapping[str, Callable[[Any], None]] = MappingProxyType({}),
) -> None:
    """Listen to a cell until the node is deactivated.

    Args:
        node: That listens, by the table of topics.
        cell: Namespace of the cell; empty: that of the node.
        topics: Those to listen to; None: all that tell of items, belt and bucket.
        crops: Whether the pictures of the items are kept.
        also: Topic → what else is called with its messages.
    """
    takes = {**_TAKES, **({} if crops else {'capture': _take_capture_alone})}
    for topic, take in takes.items():
        if topics is None or topic in topics:
            node.listen(topic, partial(_take_both, take, live, also.get(topic)), cell=cell)


def _take_capture(live: LiveCell, message: ItemCapture) -> None:
    live.take_capture(
        to_ns(message.header.stamp),
        message.item_id,
        to_ns(message.deadline),
        rgb_image(message.crop).copy(),
    )


def _take_both(
    take: Callable[[LiveCell, Any], None],
    live: LiveCell,
    other: Callable[[Any], None] | None,
    message: Any,
) -> None:
    take(live, message)
    if other is not None:
        other(message)


def _take_capture_alone(live: LiveCell, message: ItemCapture) -> None:
    live.take_capture(to_ns(message.header.stamp), message.item_id, to_ns(message.deadline), None)


def _take_local(live: LiveCell, message: Classification) -> None:
    live.take_local(to_ns(message.header.stamp), _answer(live, message))


def _take_edge(live: LiveCell, message: Classification) -> None:
    live.take_edge(to_ns(message.header.stamp), _answer(live, message))


def _take_decision(live: LiveCell, message: OffloadDecision) -> None:
    live.take_decision(
        to_ns(message.header.stamp),
        Offload(
            message.offload,
            message.reason,
            message.policy,
            message.expected_reward,
            message.threshold,
            message.tokens,
            message.byte_budget,
        ),
    )


def _take_transfer(live: LiveCell, message: FeatureFeedback) -> None:
    if message.status == FeatureFeedback.STATUS_TRANSFER_DONE:
        live.take_transfer(to_ns(message.header.stamp), message.bytes)


def _take_outcome(live: LiveCell, message: SortOutcome) -> None:
    live.take_outcome(
        to_ns(message.header.stamp),
        message.item_id,
        Outcome(
            message.lane,
            message.class_id,
            message.score,
            message.source,
            message.slack,
            message.missed,
            message.reason,
            message.detail,
            to_ns(message.stamp),
            message.local_delay,
            message.edge_delay,
            message.edge_bytes,
            message.unknown,
            message.expected_cost,
        ),
    )


def _take_stroke(live: LiveCell, message: Actuation) -> None:
    stroke = Stroke(message.status, message.lateness, message.detail)
    live.take_stroke(to_ns(message.header.stamp), stroke)


def _take_belt(live: LiveCell, message: BeltState) -> None:
    told = message.state != BeltState.STATE_UNKNOWN
    live.take_belt(
        to_ns(message.header.stamp),
        message.position,
        message.speed if told else float('nan'),
        message.origin,
    )


def _take_bucket(live: LiveCell, message: TokenBucketState) -> None:
    denominator = message.denominator or 1
    live.take_bucket(
        Bucket(
            tokens=message.tokens,
            rate=message.rate,
            depth=message.depth,
            time_unit=message.time_unit,
            reserved=message.reserved_numerator / denominator,
            spent=message.spent_numerator / denominator,
            edge_alive=message.edge_alive,
        )
    )


def _take_truth(live: LiveCell, message: ItemTruth) -> None:
    rest = message.rest_lane if message.event == ItemTruth.EVENT_RESTED else ''
    live.take_truth(to_ns(message.header.stamp), Truth(message.class_id, message.lane, rest))


def _take_safe(live: LiveCell, message: Bool) -> None:
    live.take_safe(message.data)


def hear_diagnostics(cells: Sequence[LiveCell], message: DiagnosticArray) -> None:
    """Take in what nodes say of themselves: each cell what its own nodes say.

    A node of ours names all of its faults beside what it says of itself.
    """
    named: dict[str, set[str]] = {}
    for status in message.status:
        if found := fault_of_status(status.name):
            named.setdefault(found[0], set()).add(found[1])
    for status in message.status:
        level = Level(min(status.level[0], Level.ERROR))
        values = {value.key: value.value for value in status.values}
        node, fault = fault_of_status(status.name) or (status.name, '')
        for live in cells:
            own = _within(node, live.name)
            if own is None:
                continue
            if fault:
                seconds, count = _number(values, 'seconds'), round(_number(values, 'count'))
                live.take_fault(own, fault, level, status.message, seconds, count)
            elif status.hardware_id == 'stl_conveyor':
                state = values.get('state')
                active = None if state is None else state == 'active'
                faults = named.get(node, set())
                live.take_node(own, level, status.message, active, faults)
                if own == LINK:
                    live.take_link(_kilobits(values.get('up.rate', '')))


def _answer(live: LiveCell, message: Classification) -> Answer:
    best = ranking(live.labels, message.probabilities)
    return Answer(message.class_id, message.score, best, message.bytes_used)


def _within(node: str, cell: str) -> str | None:
    """Return a node's name within a cell; None if it belongs to another one."""
    namespace, _, name = node.rpartition('/')
    return name if namespace == cell else None


def _number(values: dict[str, str], name: str) -> float:
    try:
        return float(values.get(name, '0'))
    except ValueError:
        return 0.0


def _kilobits(text: str) -> float | None:
    """Return the rate that a link tells, in kbit/s; infinite: it has no limit; None: none told.

    Examples:
        >>> _kilobits('12.5 kbit/s'), _kilobits('unlimited'), _kilobits('?')
        (12.5, inf, None)
    """
    if text == 'unlimited':
        return math.inf
    number, _, unit = text.partition(' ')
    try:
        rate = float(number)
    except ValueError:
        return None
    return rate if unit == 'kbit/s' and 0 <= rate < math.inf else None


_TAKES: dict[str, Callable[[LiveCell, Any], None]] = {
    'capture': _take_capture,
    'classification': _take_local,
    'edge_classification': _take_edge,
    'offload_decision': _take_decision,
    'transfer': _take_transfer,
    'sort_outcome': _take_outcome,
    'actuation': _take_stroke,
    'belt_state': _take_belt,
    'token_bucket': _take_bucket,
    'item_truth': _take_truth,
    'safe_to_run': _take_safe,
}
