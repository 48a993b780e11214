# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Say within a second which node is gone and which item was lost, and whether the line may run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from std_msgs.msg import Bool

from stl_conveyor.cell.item_account import Finding, ItemAccount, Loss
from stl_conveyor.cell.presence import Absence, Presence, Roll
from stl_conveyor.errors import ConfigError
from stl_conveyor.hardware.pins import open_pin
from stl_conveyor.msg import Classification, Heartbeat, ItemCapture, SortOutcome
from stl_conveyor.nodes.base.clock import to_ns
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.health import Level
from stl_conveyor.nodes.base.items import item_key
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.settings import NodeSettings, parameter

ROLL_CALL = 0.1  # s between two looks at who is there
# Topics on which a second publisher would do an item's work twice, or forge it.
SINGLE = ('capture', 'classification', 'offload_decision', 'transfer', 'sort_outcome')
LOOK_AT_GRAPH = 0.5  # s
REMEDIES = {
    Absence.MISSING: 'it was not heard of since the start; is it started, in this ROS domain?',
    Absence.IDLE: 'it lives but is not active; see its own report',
    Absence.GONE: 'it is dead, frozen or cut off; its items go unsorted until it is back',
}
LOSSES = {
    Loss.CAPTURES_LOST: (Level.ERROR, 'were captured, by their numbers, but never heard of'),
    Loss.UNACTED: (Level.ERROR, 'had no outcome by their deadline: they passed unsorted'),
    Loss.UNCLASSIFIED: (Level.WARN, 'had no local answer by their deadline'),
    Loss.ACTED_TWICE: (Level.ERROR, 'had two outcomes; is there a second actuator?'),
    Loss.NEVER_CAPTURED: (Level.WARN, 'had an outcome but no capture; who published it?'),
}


@dataclass(frozen=True)
class CellGuardSettings(NodeSettings):
    """Parameters of the guard."""

    expected_nodes: tuple[str, ...] = parameter(
        ('camera', 'local_classifier', 'offload_policy', 'encoder', 'actuator'),
        'Names of the nodes that must be there, in the namespace of this node.',
    )
    essential_nodes: tuple[str, ...] = parameter(
        ('camera', 'local_classifier', 'actuator'),
        'Those of them without which items pass unsorted; safe_to_run falls when one is gone.',
    )
    silence: float = parameter(
        0.7,
        'Seconds without a sign of life after which a node counts as gone.',
        minimum=0.4,
        maximum=60.0,
    )
    patience: float = parameter(
        20.0, 'Seconds that the nodes may take to start.', minimum=1.0, maximum=600.0
    )
    grace: float = parameter(
        0.3,
        'Seconds after its deadline within which the outcome of an item must have been heard.',
        minimum=0.05,
        maximum=10.0,
    )
    unsafe_for: float = parameter(
        5.0,
        'Seconds for which safe_to_run stays down after an item was lost.',
        minimum=0.0,
        maximum=3600.0,
    )
    safe_pin: int = parameter(
        -1,
        'GPIO (BCM number) that is high while the line may run; -1 = none. It falls when this '
        'node ends, too.',
        minimum=-1,
        maximum=1000,
    )


class CellGuard(ConveyorNode):
    """See the module."""

    NAME = 'cell_guard'
    SETTINGS = CellGuardSettings

    def check_settings(self, settings: CellGuardSettings) -> None:
        """Refuse an essential node that nobody expects."""
        unknown = set(settings.essential_nodes) - set(settings.expected_nodes)
        if unknown:
            raise ConfigError(
                f'essential_nodes: {sorted(unknown)[0]!r} is not among the expected_nodes'
            )

    def activate(self) -> None:
        """Listen to all, and let the line run when all are there."""
        settings = self.settings
        now_ns = self.steady_clock.now().nanoseconds
        self._presence = Presence(
            settings.expected_nodes, round(settings.silence * 1e9), start_ns=now_ns
        )
        self._account = ItemAccount(round(settings.grace * 1e9))
        self._doubled: dict[str, tuple[str, ...]] = {}
        self._lost_ns: int | None = None
        self._safe: bool | None = None
        self._namespace = self.get_namespace().strip('/')
        self._pin: Any = None
        if settings.safe_pin >= 0:
            self._pin = open_pin('DigitalOutputDevice', settings.safe_pin, initial_value=False)
            self.resources.callback(self._pin.close)
            self.resources.callback(self._pin.off)
        self._safety = self.publish_on('safe_to_run')
        self.resources.callback(self._say_unsafe)
        jump = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=Duration(seconds=1),
                min_backward=Duration(nanoseconds=-1),
                on_clock_change=True,
            ),
            post_callback=self.guarded(lambda _: self._account.forget()),
        )
        self.resources.callback(jump.unregister)
        self.listen('heartbeat', self._on_heartbeat)
        self.listen('capture', self._on_capture)
        self.listen('classification', self._on_classification)
        self.listen('sort_outcome', self._on_outcome)
        self.every(ROLL_CALL, self._call_roll)
        self.every(LOOK_AT_GRAPH, self._look_at_graph)
        self._look_at_graph()
        self._call_roll()

    def refresh_health(self) -> None:
        """Report the totals of the account."""
        if not self.is_active:
            return
        self.health.set_value('safe_to_run', bool(self._safe))
        self.health.set_value('open_items', self._account.open_items)
        for name in ('items', *(loss.value for loss in Loss), 'not_accounted'):
            self.health.set_value(f'total.{name}', self._account.totals[name])

    def _on_heartbeat(self, message: Heartbeat) -> None:
        namespace, _, name = message.node.rpartition('/')
        if namespace == self._namespace:
            self._presence.heard(
                name, message.instance, message.active, self.steady_clock.now().nanoseconds
            )

    def _on_capture(self, message: ItemCapture) -> None:
        now_ns = self.schedule_clock.now_ns()
        deadline_ns = self.schedule_clock.from_ros_ns(to_ns(message.deadline))
        self._account.captured(item_key(message), deadline_ns, now_ns)

    def _on_classification(self, message: Classification) -> None:
        if message.source == Classification.SOURCE_LOCAL:
            self._account.classified(item_key(message), self.schedule_clock.now_ns())

    def _on_outcome(self, message: SortOutcome) -> None:
        self._account.acted(item_key(message), self.schedule_clock.now_ns())

    def _call_roll(self) -> None:
        now_ns = self.steady_clock.now().nanoseconds
        roll = self._presence.call(now_ns, round(self.settings.patience * 1e9))
        for name in self.settings.expected_nodes:
            self._report_node(name, roll)
        for finding in self._account.close(self.schedule_clock.now_ns()):
            self._report_loss(finding, now_ns)
        self._set_safe(self._may_run(roll, now_ns))

    def _report_node(self, name: str, roll: Roll) -> None:
        absence = roll.absent.get(name)
        if absence is None:
            self.clear_condition(f'absent.{name}', f'{name} is there')
        else:
            self.set_condition(
                f'absent.{name}', Level.ERROR, f'{name} is {absence.value}: {REMEDIES[absence]}'
            )
        if name in roll.doubled:
            self.set_condition(
                f'doubled.{name}',
                Level.ERROR,
                f'{name} is there twice: every item would be handled by both; end one of them',
            )
        else:
            self.clear_condition(f'doubled.{name}', f'{name} is there once')

    def _report_loss(self, finding: Finding, now_ns: int) -> None:
        level, words = LOSSES[finding.loss]
        numbers = ', '.join(map(str, finding.items[:20]))
        more = f' and {len(finding.items) - 20} more' if len(finding.items) > 20 else ''
        report = self.error if level is Level.ERROR else self.warn
        report(finding.loss.value, f'items {numbers}{more} {words}')
        if level is Level.ERROR:
            self._lost_ns = now_ns

    def _look_at_graph(self) -> None:
        for topic in SINGLE:
            publishers = sorted(
                f'{end.node_namespace.rstrip("/")}/{end.node_name}'
                for end in self.get_publishers_info_by_topic(topic)
            )
            if len(publishers) > 1:
                self._doubled[topic] = tuple(publishers)
                self.set_condition(
                    f'publishers.{topic}',
                    Level.ERROR,
                    f'{len(publishers)} publish on {topic}, {", ".join(publishers)}: one is right',
                )
            elif self._doubled.pop(topic, None):
                self.clear_condition(f'publishers.{topic}', f'one node publishes on {topic}')

    def _may_run(self, roll: Roll, now_ns: int) -> bool:
        essential = set(self.settings.essential_nodes)
        lost = self._lost_ns is not None and now_ns - self._lost_ns < round(
            self.settings.unsafe_for * 1e9
        )
        starting = not all(self._presence.is_active(name, now_ns) for name in essential)
        return not (
            lost or starting or essential & (set(roll.absent) | set(roll.doubled))
        ) and not self._doubled.keys() & {'capture', 'sort_outcome'}

    def _set_safe(self, safe: bool) -> None:
        if safe == self._safe:
            return
        self._safe = safe
        self._safety.publish(Bool(data=safe))
        if self._pin is not None:
            self._pin.value = safe
        if safe:
            self.clear_condition('not_safe_to_run', 'the line may run')
        else:
            self.set_condition(
                'not_safe_to_run', Level.WARN, 'items could pass unsorted: the line should stand'
            )

    def _say_unsafe(self) -> None:
        self._safety.publish(Bool(data=False))


def main(arguments: list[str] | None = None) -> int:
    """Run the node as a process."""
    return run_node(CellGuard, arguments)


if __name__ == '__main__':
    sys.exit(main())
