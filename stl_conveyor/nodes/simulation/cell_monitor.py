# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Watch a cell: join what is said about each item, and score where the items really landed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray

from stl_conveyor.assess.live_table import LiveTable
from stl_conveyor.assess.scoring import (
    Action,
    AnswerRecord,
    Decision,
    ItemRecord,
    ScoreBoard,
    Transfer,
    score,
    slack_ms,
)
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.msg import (
    Classification,
    FeatureFeedback,
    ItemCapture,
    ItemTruth,
    OffloadDecision,
    SortOutcome,
    TokenBucketState,
)
from stl_conveyor.nodes.base.clock import clock_ns, to_ns, to_stamp
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.health import fault_of_status
from stl_conveyor.nodes.base.items import configured_path, rgb_image
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.settings import NodeSettings, onlooker_niceness, parameter
from stl_conveyor.nodes.simulation.outcome_markers import outcome_markers

MARKER_PERIOD = 0.5  # s


@dataclass(frozen=True)
class CellMonitorSettings(NodeSettings):
    """Parameters of cell_monitor."""

    niceness: int = onlooker_niceness()
    cell_file: str = parameter('', 'Description of the cell (YAML); empty = config/cell.yaml.')
    display: str = parameter(
        'auto',
        'A live table on a terminal, one plain line per item, or nothing; auto: a table '
        'if standard output is a terminal, else lines.',
        choices=('auto', 'table', 'lines', 'none'),
    )
    keep_crops: bool = parameter(False, 'Keep every crop in memory, for scoring afterwards.')


class CellMonitor(ConveyorNode):
    """Listens to everything and changes nothing; `board` holds the records.

    `news` is set after each message, for who waits in another thread.
    """

    NAME = 'cell_monitor'
    SETTINGS = CellMonitorSettings

    def __init__(self, **arguments: Any) -> None:
        """See `ConveyorNode`.

        Raises:
            ConfigError: Naming the parameter that is unknown or has a wrong value.
        """
        self.news = threading.Event()
        self._begin()  # another thread may look before this one is configured
        super().__init__(**arguments)

    def configure(self) -> None:
        """Load the cell and begin a new score."""
        self.cell = CellDescription.load(
            configured_path(self.settings.cell_file, 'config/cell.yaml')
        )
        self._begin()

    def _begin(self) -> None:
        """Have heard nothing yet."""
        self.board = ScoreBoard()
        self.crops: dict[int, np.ndarray] = {}  # by capture stamp, uint8 [S, S, 3]
        self.bucket: TokenBucketState | None = None
        self.troubles: dict[tuple[str, str], int] = {}  # (node, what it said) -> level, not OK
        self.reports: dict[str, dict[str, str]] = {}  # the latest values of every node

    def activate(self) -> None:
        """Listen."""
        display = self.settings.display
        if display == 'auto':
            display = 'table' if sys.stdout.isatty() else 'lines'
        self._table = LiveTable(self.board) if display == 'table' else None
        self._lines = display == 'lines'
        if self._table is not None:
            self.resources.callback(self._table.stop)  # leaves the terminal in order in any case
            self._table.start()
        for topic, callback in (
            ('item_truth', self._on_truth),
            ('capture', self._on_capture),
            ('classification', self._on_local),
            ('edge_classification', self._on_edge),
            ('offload_decision', self._on_decision),
            ('transfer', self._on_transfer),
            ('sort_outcome', self._on_outcome),
            ('token_bucket', self._on_bucket),
            ('/diagnostics', self._on_diagnostics),
        ):
            self.listen(topic, self._then_show(callback))
        self._markers = self.publish_on('outcome_markers')
        self._watchers, self._outcomes_shown = 0, -1
        self.every(MARKER_PERIOD, self._show_outcomes)

    def refresh_health(self) -> None:
        """Report the score so far."""
        if not self.is_active:
            return
        records = self.board.records
        result, slack = score(records, self.cell), slack_ms(records)
        for name in (
            'items',
            'outcomes',
            'unacted',
            'missed_deadlines',
            'correct',
            'offloaded',
            'bytes_sent',
        ):
            self.health.set_value(name, getattr(result, name))
        self.health.set_value('slack_p01_ms', f'{slack.p01:.1f}')

    def now_ns(self) -> int:
        """Return the present ROS time."""
        return clock_ns(self.get_clock())

    def _then_show(
        self, callback: Callable[[object], ItemRecord | None]
    ) -> Callable[[object], None]:
        def call(message: object) -> None:
            callback(message)
            if self._table is not None:
                self._table.changed()
            self.news.set()

        return call

    def _show_outcomes(self) -> None:
        """Publish the outcomes, when there are new ones or somebody new looks on."""
        watchers, outcomes = (
            self._markers.get_subscription_count(),
            (self.board.acted + self.board.rested),
        )
        if watchers and (outcomes != self._outcomes_shown or watchers > self._watchers):
            self._markers.publish(
                outcome_markers(self.board.records, self.cell, to_stamp(self.now_ns()))
            )
            self._outcomes_shown = outcomes
        self._watchers = watchers

    def _on_truth(self, message: ItemTruth) -> None:
        stamp = to_ns(message.header.stamp)
        about = (stamp, message.serial, message.class_id, message.lane, message.difficulty)
        if message.event == ItemTruth.EVENT_CAPTURED:
            self.board.add_exposure(*about, self.now_ns())
        elif message.event == ItemTruth.EVENT_RESTED:
            self.board.add_rest(*about, message.rest_lane)
            record = self.board.get(stamp)
            if self._lines and record is not None:
                LiveTable.print_line(record)

    def _on_capture(self, message: ItemCapture) -> None:
        stamp = to_ns(message.header.stamp)
        self.board.add_capture(stamp, message.item_id, to_ns(message.deadline), self.now_ns())
        if self.settings.keep_crops:
            self.crops[stamp] = rgb_image(message.crop)

    def _on_local(self, message: Classification) -> None:
        self.board.add_local(to_ns(message.header.stamp), message.item_id, self._answer(message))

    def _on_edge(self, message: Classification) -> None:
        self.board.add_edge(to_ns(message.header.stamp), message.item_id, self._answer(message))

    def _answer(self, message: Classification) -> AnswerRecord:
        return AnswerRecord(
            message.class_id,
            message.score,
            self.now_ns(),
            message.compute_time,
            message.bytes_used,
            message.final,
        )

    def _on_decision(self, message: OffloadDecision) -> None:
        self.board.add_decision(
            to_ns(message.header.stamp),
            message.item_id,
            Decision(
                message.offload,
                message.reason,
                message.expected_reward,
                message.threshold,
                message.tokens,
                message.byte_budget,
                self.now_ns(),
            ),
        )

    def _on_transfer(self, message: FeatureFeedback) -> None:
        if message.status == FeatureFeedback.STATUS_TRANSFER_DONE:
            self.board.add_transfer(
                to_ns(message.header.stamp),
                message.item_id,
                Transfer(
                    message.bytes,
                    message.packets,
                    message.stop_reason,
                    message.compute_time,
                    self.now_ns(),
                ),
            )

    def _on_outcome(self, message: SortOutcome) -> None:
        self.board.add_action(
            to_ns(message.header.stamp),
            message.item_id,
            Action(
                message.lane,
                message.class_id,
                message.score,
                message.source,
                message.slack,
                message.missed,
                message.detail,
                to_ns(message.stamp),
                message.local_delay,
                message.edge_delay,
                message.edge_bytes,
                message.reason,
                message.unknown,
                message.lane_probability,
                message.expected_cost,
            ),
        )

    def _on_bucket(self, message: TokenBucketState) -> None:
        self.bucket = message

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if fault_of_status(status.name):
                continue  # the node's own status tells of it, too
            self.reports[status.name] = {value.key: value.value for value in status.values}
            level = status.level[0]
            if level:
                key = (status.name, status.message)
                self.troubles[key] = max(level, self.troubles.get(key, 0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run_node(CellMonitor, arguments)


if __name__ == '__main__':
    sys.exit(main())
