# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Pass messages between device and edge as a slow, lossy link would."""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rclpy.publisher import Publisher
from rclpy.serialization import deserialize_message

from stl_conveyor.assess.latency import EDGE_CLASSIFICATION, FEATURES, FEEDBACK
from stl_conveyor.cell.description import CellDescription
from stl_conveyor.nodes.base.clock import clock_ns
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.items import configured_path
from stl_conveyor.nodes.base.run_log import open_log
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.settings import NodeSettings, parameter
from stl_conveyor.sim.link import (
    LINKS,
    Bandwidth,
    BurstLoss,
    Delivery,
    LinkModel,
    LinkSettings,
    named_link,
    read_trace,
)
from stl_conveyor.sim.link_damage import damaged


@dataclass(frozen=True)
class LinkEmulatorSettings(NodeSettings):
    """Parameters of link_emulator; times in seconds, probabilities per message."""

    cell_file: str = parameter(
        '', 'Cell description (YAML). Empty: the one that the package ships.'
    )
    link: str = parameter(
        'light',
        'Bandwidth: none, light and heavy jamming (67.5, 52.0, 34.3 kbit/s), the '
        'published trace, or unlimited.',
        choices=LINKS,
        tunable=True,
    )
    trace_file: str = parameter(
        '', 'CSV with kbit/s in its last column, instead of what `link` names.', tunable=True
    )
    trace_hold: float = parameter(
        0.5,
        'Seconds for which each rate of a trace holds.',
        minimum=0.001,
        maximum=3600.0,
        tunable=True,
    )
    delay: float = parameter(
        0.002, 'Propagation delay (s).', minimum=0.0, maximum=10.0, tunable=True
    )
    jitter: float = parameter(
        0.001, 'Largest extra delay (s), uniform.', minimum=0.0, maximum=10.0, tunable=True
    )
    loss: float = parameter(0.0, 'Probability of loss.', minimum=0.0, maximum=1.0, tunable=True)
    burst_begin: float = parameter(
        0.0,
        'Probability of a burst of loss to begin; 0 = no bursts.',
        minimum=0.0,
        maximum=1.0,
        tunable=True,
    )
    burst_end: float = parameter(
        0.2, 'Probability of a burst of loss to end.', minimum=0.0, maximum=1.0, tunable=True
    )
    reorder: float = parameter(
        0.0,
        'Probability of being held back while others pass.',
        minimum=0.0,
        maximum=1.0,
        tunable=True,
    )
    reorder_delay: float = parameter(
        0.06, 'For how long (s).', minimum=0.0, maximum=10.0, tunable=True
    )
    duplicate: float = parameter(
        0.0, 'Probability of being sent twice.', minimum=0.0, maximum=1.0, tunable=True
    )
    corrupt: float = parameter(
        0.0, 'Probability of bytes being changed.', minimum=0.0, maximum=1.0, tunable=True
    )
    outage: bool = parameter(False, 'Nothing gets through.', tunable=True)
    queue_bytes: int = parameter(
        8192,
        'Bytes that may wait in each direction; what does not fit is dropped.',
        minimum=0,
        maximum=2**30,
        tunable=True,
    )
    seed: int = parameter(1, 'Seed of everything random.', minimum=0, maximum=2**62)
    log_path: str = parameter('', 'File for one CSV line per delivered message; empty = none.')


@dataclass(frozen=True)
class _Message:
    channel: str
    publisher: Publisher
    serialized: bytes


class LinkEmulator(ConveyorNode):
    """Two link models, towards the edge and back; every message waits for its release time.

    What is still on the link when the node is deactivated is lost.
    """

    NAME = 'link_emulator'
    SETTINGS = LinkEmulatorSettings

    def check_settings(self, settings: LinkEmulatorSettings) -> None:
        """Refuse what makes no link."""
        link_settings(settings)

    def configure(self) -> None:
        """Read the cell."""
        self.cell = CellDescription.load(
            configured_path(self.settings.cell_file, 'config/cell.yaml')
        )

    def settings_changed(self) -> None:
        """Put changed parameters into force at once."""
        if self.is_active:
            for model in (self._up, self._down):
                model.configure(self.schedule_clock.now_ns(), self._link())
            self._arm()

    def activate(self) -> None:
        """Join both ends of the link."""
        seeds = np.random.SeedSequence(self.settings.seed).generate_state(3)
        now_ns = self.schedule_clock.now_ns()
        link = self._link()
        self._up = LinkModel(link, int(seeds[0]), now_ns)
        self._down = LinkModel(link, int(seeds[1]), now_ns)
        self._damage = np.random.default_rng(seeds[2])
        self._log_file = open_log(
            self.resources,
            self.settings.log_path,
            'stamp_ns,channel,wire_bytes,sent_ns,delivered_ns',
        )
        self._timer = self.once(self._release, clock=self.schedule_clock.timer_clock)
        self._connect(self._up, FEATURES, 'features_tx', 'features_rx')
        self._connect(self._down, FEEDBACK, 'feedback_tx', 'feedback_rx')
        self._connect(
            self._down, EDGE_CLASSIFICATION, 'edge_classification_tx', 'edge_classification'
        )

    def _link(self) -> LinkSettings:
        overhead = self.cell.edge.overhead_bytes
        return replace(link_settings(self.settings), overhead_bytes=overhead)

    def refresh_health(self) -> None:
        """Report both directions, and that faults are switched on."""
        if not self.is_active:
            return
        self.watch_log(self._log_file)
        for name, model in (('up', self._up), ('down', self._down)):
            rate = model.rate(self.schedule_clock.now_ns())
            self.health.set_value(
                f'{name}.rate', 'unlimited' if rate is None else f'{rate / 1000:.1f} kbit/s'
            )
            self.health.set_value(f'{name}.queue', f'{model.queued_bytes} B')
            counters = model.counters
            for key in (
                'sent',
                'delivered',
                'lost',
                'outage_lost',
                'queue_dropped',
                'duplicated',
                'reordered',
                'corrupted',
                'wire_bytes',
            ):
                self.health.set_value(f'{name}.{key}', getattr(counters, key))

    def _connect(self, model: LinkModel, channel: str, source: str, target: str) -> None:
        publisher = self.publish_on(target)

        def take(serialized: bytes) -> None:
            self.health.tick(channel, clock_ns(self.steady_clock))
            message = _Message(channel, publisher, serialized)
            model.send(self.schedule_clock.now_ns(), len(serialized), message)
            self._release()

        self.listen(source, take, raw=True)

    def _release(self) -> None:
        """Publish what is due, and sleep until the next is."""
        now_ns = self.schedule_clock.now_ns()
        try:
            for model in (self._up, self._down):
                for delivery in model.advance(now_ns):
                    self._deliver(delivery, model.settings.overhead_bytes)
        finally:
            self._arm()

    def _arm(self) -> None:
        due = [t for t in (self._up.next_event_ns(), self._down.next_event_ns()) if t is not None]
        if due:
            self._timer.after(min(due) - self.schedule_clock.now_ns())
        else:
            self._timer.cancel()

    def _deliver(self, delivery: Delivery, overhead: int) -> None:
        message: _Message = delivery.payload
        serialized = message.serialized
        if delivery.corrupt:
            serialized = damaged(serialized, self._damage)
            try:
                deserialize_message(serialized, message.publisher.msg_type)
            except Exception:  # whatever it is called, a receiver would drop the datagram
                self.health.count('undecodable')
                return
        message.publisher.publish(serialized)
        self.health.sample(
            f'{message.channel}.release_lag_ms',
            (self.schedule_clock.now_ns() - delivery.time_ns) / 1e6,
        )
        if self._log_file is not None:
            to_ros = self.schedule_clock.ros_now_ns() - self.schedule_clock.now_ns()
            self._log_file.write(
                f'{capture_stamp_ns(message.serialized)},{message.channel},'
                f'{delivery.size + overhead},{delivery.sent_ns + to_ros},'
                f'{delivery.time_ns + to_ros}'
            )


def link_settings(settings: LinkEmulatorSettings) -> LinkSettings:
    """Return the link that the parameters describe; its overhead is that of the cell.

    Raises:
        ConfigError: If the trace cannot be read.
    """
    base = named_link(settings.link)
    if settings.trace_file:
        base = replace(base, bandwidth=Bandwidth(read_trace(Path(settings.trace_file))))
    if base.bandwidth is not None:
        base = replace(
            base, bandwidth=replace(base.bandwidth, hold_ns=round(settings.trace_hold * 1e9))
        )
    return replace(
        base,
        delay_ns=round(settings.delay * 1e9),
        jitter_ns=round(settings.jitter * 1e9),
        loss=settings.loss,
        reorder=settings.reorder,
        burst_loss=BurstLoss(settings.burst_begin, settings.burst_end)
        if settings.burst_begin
        else None,
        reorder_ns=round(settings.reorder_delay * 1e9),
        duplicate=settings.duplicate,
        corrupt=settings.corrupt,
        outage=settings.outage,
        queue_bytes=settings.queue_bytes,
    )


def capture_stamp_ns(serialized: bytes) -> int:
    """Return the header stamp, which comes first in every message here (CDR, either order)."""
    order = '<' if serialized[1] & 1 else '>'
    seconds, nanoseconds = struct.unpack_from(order + 'iI', serialized, 4)
    return seconds * 1_000_000_000 + nanoseconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node."""
    return run_node(LinkEmulator, arguments)


if __name__ == '__main__':
    sys.exit(main())
