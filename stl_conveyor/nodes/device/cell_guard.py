# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Say within a second which node is gone and which item was lost, and whether the line may run."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from std_msgs.msg import Bool

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.cell.item_account import Finding, ItemAccount, Loss
from stl_conveyor.cell.presence import Absence, Presence, Roll
from stl_conveyor.cell.topic_claims import TopicClaims
from stl_conveyor.decision.lane_time import useful_until_ns
from stl_conveyor.errors import ConfigError
from stl_conveyor.hardware.safe_output import SafeOutputSettings, open_safe_outputs
from stl_conveyor.msg import Actuation, Classification, Heartbeat, ItemCapture, SortOutcome
from stl_conveyor.nodes.base.clock import clock_ns, to_ns
from stl_conveyor.nodes.base.connected_node import WATCH_S
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.health import Level
from stl_conveyor.nodes.base.heart import PERIOD_S, but_its_age
from stl_conveyor.nodes.base.items import MOST_NAMED, configured_path, item_key, named
from stl_conveyor.nodes.base.polled_topic import PolledTopic, arrived_ns
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.settings import NodeSettings, parameter
from stl_conveyor.nodes.device.graph_ends import GraphEnds, Surplus

# On these a second publisher moves items, or makes them.
DANGEROUS = {'capture', 'sort_outcome'}
CLOCK_SETTLES_NS = 2_000_000_000  # after which what was stamped before a clock was set has come
LOOKS_AT_GRAPH = 4  # from one of them at the graph to the next
WATCH_NS = round(WATCH_S * 1e9)
# Nodes that a cell need not have, but that are missed once they were there.
BESIDE = ('link_emulator',)
# Absence -> the name of the fault, and the remedy.
ABSENCES = {
    Absence.MISSING: (
        'node_missing',
        'it was not heard of since the start; is it started, in this ROS domain?',
    ),
    Absence.IDLE: ('node_not_active', 'it lives but is not active; see its own report'),
    Absence.STUCK: (
        'node_stuck',
        'it lives, and its executor does not come back from a callback; end it if this lasts',
    ),
    Absence.UNABLE: (
        'node_unable',
        'it lives, and cannot do its work at present, so that items pass unsorted; its own report '
        'says why',
    ),
    Absence.GONE: (
        'node_gone',
        'it is dead, frozen or cut off; its items go unsorted until it is back',
    ),
}
# Loss -> its level, and what is said of the items.
LOSSES = {
    Loss.CAPTURES_LOST: (Level.ERROR, 'were captured, by their numbers, but never heard of'),
    Loss.UNACTED: (Level.ERROR, 'had no outcome by their deadline: they passed unsorted'),
    Loss.UNCLASSIFIED: (Level.WARN, 'had no local answer by their deadline'),
    Loss.ACTED_TWICE: (Level.ERROR, 'had two outcomes; is there a second actuator?'),
    Loss.NEVER_CAPTURED: (Level.WARN, 'had an outcome but no capture; who published it?'),
    Loss.UNCONFIRMED: (
        Level.ERROR,
        'were sent to a lane, and of their strokes nothing was heard, though of later ones: they '
        'may have passed',
    ),
}


SAID_NS = 5_000_000_000  # for which a loss is said after the last item, at least


@dataclass(frozen=True)
class CellGuardSettings(NodeSettings, SafeOutputSettings):
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
        0.6,
        'Seconds that a sign of life may be late, or one callback take, before a node counts as '
        'gone.',
        minimum=0.4,
        maximum=60.0,
    )
    patience: float = parameter(
        20.0, 'Seconds that the nodes may take to start.', minimum=1.0, maximum=600.0
    )
    cell_file: str = parameter(
        '', 'Cell description (YAML). Empty: the one that the package ships.'
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

    def configure(self) -> None:
        """Read the cell, whose lanes may have deadlines of their own."""
        self.cell = CellDescription.load(
            configured_path(self.settings.cell_file, 'config/cell.yaml')
        )

    def activate(self) -> None:
        """Listen to all, and let the line run when all are there."""
        settings = self.settings
        now_ns = clock_ns(self.steady_clock)
        silence_ns = round(settings.silence * 1e9)
        late_ns = silence_ns + round(PERIOD_S * 1e9)
        self._presence = Presence(
            settings.expected_nodes, late_ns, start_ns=now_ns, busy_ns=silence_ns
        )
        beside = set(BESIDE) - set(settings.expected_nodes)
        self._beside = Presence(sorted(beside), late_ns, start_ns=now_ns, busy_ns=silence_ns)
        self._missed: set[str] = set()
        self._claims = TopicClaims(silence_ns)
        self._account = ItemAccount(round(settings.grace * 1e9))
        self._ends = GraphEnds(self, settings.expected_nodes, settle=2)
        self._roll: Roll | None = None
        self._surplus: dict[str, Surplus] = {}
        self._wrong_ends: dict[str, str] = {}
        self._losses: dict[Loss, list[int]] = {}
        self._lost_ns: dict[Loss, int] = {}
        self._safe = self._was_safe = False
        self._begun_ns = now_ns
        self._namespace = self.get_namespace().strip('/')
        self._outputs = open_safe_outputs(settings)
        for output in self._outputs:
            self.resources.callback(output.close)
        self._safety = self.publish_on('safe_to_run')
        self.resources.callback(self._say_unsafe)
        self._clock_set_ns = -CLOCK_SETTLES_NS
        number = itertools.count()
        self._topics = [
            self.look(
                'heartbeat', self._on_heartbeat, alike=but_its_age, period=None, remembers=True
            ),
            self._polled('capture', self._on_capture, lambda _: next(number), sole=True),
            self._polled(
                'classification', self._on_classification, lambda _: next(number), sole=True
            ),
            self._polled('sort_outcome', self._on_outcome, lambda _: next(number)),
            self._polled('actuation', self._on_actuation, lambda _: next(number)),
        ]
        self._rounds = 0
        self.watch_clock()
        self.watch(self._look)  # one timer for all: to be woken costs more than to look
        # Set when somebody will have been silent for too long before the next look.
        self._silence = self.once(self._look)
        self._look()

    def clock_jumped(self, jump_ns: int) -> None:
        """Hold nothing against anybody for which a clock that was set may stand."""
        self._clock_set_ns = clock_ns(self.steady_clock)
        if self.schedule_clock.simulated:  # else deadlines are kept by a clock that nobody sets
            self._account.forget()

    def refresh_health(self) -> None:
        """Report the totals of the account."""
        if not self.is_active:
            return
        self.health.set_value('safe_to_run', self._safe)
        self.health.set_value('open_items', self._account.open_items)
        for name in ('items', *(loss.value for loss in Loss), 'acted_late', 'not_accounted'):
            self.health.set_value(f'total.{name}', self._account.totals[name])

    def _polled(
        self,
        topic: str,
        callback: Callable[[Any], None],
        alike: Callable[[bytes], Hashable],
        sole: bool = False,
    ) -> PolledTopic:
        return self.look(
            topic, lambda message, _: callback(message), alike=alike, period=None, sole=sole
        )

    def _look(self) -> None:
        self._silence.cancel()
        for topic in self._topics:
            topic.look()
            if 'capture' in self._surplus:
                self._account.forget_numbers()
        if self._rounds % LOOKS_AT_GRAPH == 0:
            self._look_at_graph()
        self._rounds += 1
        self._call_roll()
        self._await_silence()
        self.report_news()

    def _await_silence(self) -> None:
        now_ns = clock_ns(self.steady_clock)
        ends = (self._presence.falls_silent_ns(now_ns), self._beside.falls_silent_ns(now_ns))
        left_ns = min((end - now_ns for end in ends if end is not None), default=WATCH_NS)
        if left_ns < WATCH_NS:
            self._silence.after(left_ns + 1_000_000)

    def _on_heartbeat(self, message: Heartbeat, info: Any) -> None:
        namespace, _, name = message.node.rpartition('/')
        if namespace == self._namespace and message.busy >= 0:
            now_ns = clock_ns(self.steady_clock)
            came_ns = arrived_ns(info, now_ns, WATCH_NS)
            if message.active:
                self._beside.heard(name, message.instance, True, came_ns)
            else:
                self._beside.left(name, message.instance)
            stands_by = bool(message.sole_topic) and message.sole_for <= 0
            self._presence.heard(
                name,
                message.instance,
                message.active,
                came_ns,
                round(min(message.busy, 1e6) * 1e9),
                unable=message.unable,
                stands_by=stands_by,
            )
            if message.active and message.sole_topic:
                topic = message.sole_topic.rpartition('/')[2]
                self._claims.heard(message.instance, topic, now_ns, stands_by=stands_by)
            else:
                self._claims.left(message.instance)

    def _on_capture(self, message: ItemCapture) -> None:
        now_ns = self.schedule_clock.now_ns()
        # Where each lane has its own time, the outcome may come at that of the last.
        stamp_ns = to_ns(message.header.stamp)
        last_ns = useful_until_ns(stamp_ns, to_ns(message.deadline), self.cell)
        if clock_ns(self.steady_clock) - self._clock_set_ns < CLOCK_SETTLES_NS:
            deadline_ns = now_ns + last_ns - stamp_ns  # its stamp may be of before
        else:
            deadline_ns = self.schedule_clock.from_ros_ns(last_ns)
        self._account.captured(item_key(message), deadline_ns, now_ns)

    def _on_classification(self, message: Classification) -> None:
        if message.source == Classification.SOURCE_LOCAL:
            self._account.classified(item_key(message), self.schedule_clock.now_ns())

    def _on_outcome(self, message: SortOutcome) -> None:
        self._account.acted(item_key(message), self.schedule_clock.now_ns(), message.lane)

    def _on_actuation(self, message: Actuation) -> None:
        self._account.confirmed(item_key(message), message.lane, self.schedule_clock.now_ns())

    def _call_roll(self) -> None:
        now_ns = clock_ns(self.steady_clock)
        roll = self._presence.call(now_ns, round(self.settings.patience * 1e9))
        if roll != self._roll:
            self._roll = roll
            for name in self.settings.expected_nodes:
                self._report_node(name, roll)
        self._report_beside(now_ns)
        self._report_losses(self._account.close(self.schedule_clock.now_ns()), now_ns)
        self._set_safe(self._may_run(roll, now_ns), now_ns)

    def _report_beside(self, now_ns: int) -> None:
        absent = self._beside.call(now_ns, 2 * (now_ns + 1)).absent
        gone = {name for name, absence in absent.items() if absence is Absence.GONE}
        for name in gone - self._missed:
            self.set_condition(
                f'node_gone.{name}',
                Level.WARN,
                f'node_gone: {name} is gone: it is dead, frozen or cut off; what it passes on '
                'does not come until it is back',
            )
        for name in self._missed - gone:
            self.clear_condition(f'node_gone.{name}', f'{name} is no longer gone')
        self._missed = gone

    def _report_node(self, name: str, roll: Roll) -> None:
        absence = roll.absent.get(name)
        # Somebody has paused it. What went wrong with one that did so itself is its own report.
        paused = absence is Absence.IDLE and self._presence.has_been_active(name)
        level = Level.WARN if paused else Level.ERROR
        for each, (fault, remedy) in ABSENCES.items():
            if each is absence:
                self.set_condition(
                    f'{fault}.{name}', level, f'{fault}: {name} is {each.value}: {remedy}'
                )
            else:
                self.clear_condition(f'{fault}.{name}', f'{name} is no longer {each.value}')
        if name in roll.doubled:
            self.set_condition(
                f'node_twice.{name}',
                Level.ERROR,
                f'node_twice: {name} is there twice: '
                + (
                    'every item is handled by both; end one of them'
                    if name in roll.rivals
                    else 'one of them stands by until the other is gone; end one'
                ),
            )
        else:
            self.clear_condition(f'node_twice.{name}', f'{name} is there once')

    def _report_losses(self, findings: list[Finding], now_ns: int) -> None:
        """Name the items that were lost since the losses of that kind were last over."""
        for finding in findings:
            self._losses.setdefault(finding.loss, []).extend(finding.items)
            self._lost_ns[finding.loss] = now_ns
            level, words = LOSSES[finding.loss]
            numbers = self._losses[finding.loss]
            self.health.set_value(f'{finding.loss.value}.items', named(numbers[-MOST_NAMED:]))
            self.set_condition(
                finding.loss.value, level, f'{finding.loss.value}: items {named(numbers)} {words}'
            )
        for loss, at_ns in list(self._lost_ns.items()):
            if now_ns - at_ns > max(SAID_NS, round(self.settings.unsafe_for * 1e9)):
                del self._lost_ns[loss], self._losses[loss]
                self.clear_condition(loss.value, f'{loss.value}: no more')

    def _look_at_graph(self) -> None:
        now_ns = clock_ns(self.steady_clock)
        active = [
            name for name in self.settings.expected_nodes if self._presence.is_active(name, now_ns)
        ]
        self._surplus = self._ends.surplus(self._claims.ghosts(now_ns))
        wrong = {
            **{f'surplus_publisher.{topic}': one.text for topic, one in self._surplus.items()},
            **self._ends.missing(active, self._namespace),
        }
        for end, text in wrong.items():
            self.set_condition(end, Level.ERROR, text)
        for end in self._wrong_ends.keys() - wrong.keys():
            self.clear_condition(end, f'{end}: no more')
        self._wrong_ends = wrong

    def _may_run(self, roll: Roll, now_ns: int) -> bool:
        essential = set(self.settings.essential_nodes)
        unsafe_ns = round(self.settings.unsafe_for * 1e9)
        lost = any(
            LOSSES[loss][0] is Level.ERROR and now_ns - at_ns < unsafe_ns
            for loss, at_ns in self._lost_ns.items()
        )
        starting = not all(self._presence.is_active(name, now_ns) for name in essential)
        idle = self._claims.idle(now_ns)
        crowded = any(
            one.publishers - idle[topic] > 1
            for topic, one in self._surplus.items()
            if topic in DANGEROUS
        )
        absent = essential & (set(roll.absent) | set(roll.rivals))
        return not (lost or starting or absent or crowded)

    def _set_safe(self, safe: bool, now_ns: int) -> None:
        self._safety.publish(Bool(data=safe))
        for output in self._outputs:
            output.tell(safe)
        trouble = '; '.join(output.trouble for output in self._outputs if output.trouble)
        if trouble:
            self.set_condition('safe_output', Level.ERROR, f'safe_output: {trouble}')
        else:
            self.clear_condition('safe_output', 'it can be told whether the line may run')
        self._safe = safe
        self._was_safe |= safe
        starting = not self._was_safe and now_ns - self._begun_ns < self.settings.patience * 1e9
        if safe:
            self.clear_condition('not_safe_to_run', 'the line may run')
        elif not starting:  # nor has it been safe, and nobody need be told what each start is like
            self.set_condition(
                'not_safe_to_run',
                Level.WARN,
                'not_safe_to_run: items could pass unsorted; the line should stand',
            )

    def _say_unsafe(self) -> None:
        self._safety.publish(Bool(data=False))


def main(arguments: list[str] | None = None) -> int:
    """Run the node as a process."""
    return run_node(CellGuard, arguments)


if __name__ == '__main__':
    sys.exit(main())
