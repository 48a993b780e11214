# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Classify, for many cells at once, what has arrived of each item's stream."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from rclpy.publisher import Publisher
from std_msgs.msg import Header

from stl_conveyor.cell.fair_streams import FairStreams
from stl_conveyor.cell.ledger import ItemKey
from stl_conveyor.codec import Decoder, DecoderSession
from stl_conveyor.decision.of_folder import detector_of
from stl_conveyor.decision.stranger_detector import EDGE
from stl_conveyor.errors import BadPacket, CodecMismatch, ConfigError
from stl_conveyor.models.classifier import check_probabilities
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.msg import Classification, FeatureFeedback, ProgressiveFeature
from stl_conveyor.nodes.base.clock import to_ns, to_stamp
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.items import configured_path, float_array, item_key
from stl_conveyor.nodes.base.runner import run_node
from stl_conveyor.nodes.base.settings import NodeSettings, parameter

# No honest item has more time; a stream that claims more is dropped after this.
LONGEST_STREAM_NS = 10_000_000_000


@dataclass(frozen=True)
class EdgeClassifierSettings(NodeSettings):
    """Parameters of the edge classifier."""

    models_dir: str = parameter('', 'Model folder. Empty: the one that the package ships.')
    threads: int = parameter(1, 'Threads of the model.', minimum=1, maximum=256)
    cells: tuple[str, ...] = parameter(
        ('',),
        'Namespaces of the cells that are served; an empty one is the namespace of this node.',
    )
    satisfied_score: float = parameter(
        0.97,
        'Confidence from which the edge asks for no more of an item.',
        minimum=0.0,
        maximum=1.0,
        tunable=True,
    )
    heartbeat_period: float = parameter(
        0.5, 'Seconds between signs of life.', minimum=0.05, maximum=10.0
    )
    max_batch: int = parameter(
        16, 'Most items that are classified at once.', minimum=1, maximum=256
    )
    max_items: int = parameter(
        256,
        'Most items whose streams are kept; beyond, the cell that has the most loses the one '
        'that was silent for longest.',
        minimum=1,
        maximum=100_000,
    )


@dataclass
class _Stream:
    """What is known of one item; touched under the node's lock."""

    cell: int
    key: ItemKey
    header: Header
    deadline: Time
    session: DecoderSession
    expires_ns: int  # of ROS time
    waiting: list[ProgressiveFeature] = field(default_factory=list)
    computing: bool = False
    changed: bool = False
    last: bool = False
    satisfied: bool = False
    score: float = 0.0
    decode_time: float = 0.0  # s, of the packets since the last answer
    sequence: int = 0


class EdgeClassifier(ConveyorNode):
    """Take packets in one thread and classify in another, so that acknowledgements do not wait.

    Packets that arrive while their item is being classified are taken in together afterwards,
    and all items that changed meanwhile form the next batch.
    """

    NAME = 'edge_classifier'
    SETTINGS = EdgeClassifierSettings
    HEARTBEATS = False

    def check_settings(self, settings: EdgeClassifierSettings) -> None:
        """Refuse a cell that is named twice."""
        if not settings.cells:
            raise ConfigError(
                "cells: an empty list serves nobody; [''] is the namespace of this node"
            )
        if len(set(settings.cells)) != len(settings.cells):
            raise ConfigError(f'cells: {list(settings.cells)} must be different names')

    def configure(self) -> None:
        """Load and check the codec and the strong model behind it."""
        folder = ModelFolder(configured_path(self.settings.models_dir, 'models/items'))
        self.strangers = detector_of(folder, EDGE)
        self.decoder = Decoder(
            folder, self.settings.threads, () if self.strangers is None else self.strangers.tensors
        )
        self.decoder.classify([self.decoder.start()])  # the first run is the slowest
        self.labels = folder.labels
        self.model_id = folder.model_id('edge')
        self.health.set_value('codec', f'{self.decoder.identity:016x}')

    def activate(self) -> None:
        """Serve the cells."""
        self._lock = threading.Condition()
        self._streams: FairStreams[_Stream] = FairStreams(self.settings.max_items)
        self._compute_time = 0.0
        self._stopping = False
        self._feedback: list[Publisher] = []
        self._answers: list[Publisher] = []
        for index, cell in enumerate(self.settings.cells):
            self._feedback.append(self.publish_on('feedback_tx', cell=cell))
            self._answers.append(self.publish_on('edge_classification_tx', cell=cell))
            self.listen(
                'features_rx',
                lambda message, index=index: self._on_packet(index, message),
                cell=cell,
            )
        self.every(self.settings.heartbeat_period, self._heartbeat)
        worker = threading.Thread(target=self._work, name='edge batches', daemon=True)
        worker.start()
        self.resources.callback(self._stop, worker)
        self._heartbeat()

    def cleanup(self) -> None:
        """Drop the models."""
        self.forget('decoder', 'strangers')

    def _heartbeat(self) -> None:
        message = FeatureFeedback(
            codec_id=self.decoder.identity,
            status=FeatureFeedback.STATUS_ALIVE,
            compute_time=self._compute_time,
        )
        now_ns = self.schedule_clock.ros_now_ns()
        with self._lock:
            self._streams.drop_expired(now_ns)
            self.health.set_value('streams', len(self._streams))
        message.header.stamp = to_stamp(now_ns)
        for publisher in self._feedback:
            publisher.publish(message)

    def _on_packet(self, cell: int, message: ProgressiveFeature) -> None:
        key = item_key(message)
        self.tick('packets')
        if message.codec_id != self.decoder.identity:
            self.error(
                'codec_mismatch',
                f'item {key.item_id} comes from codec '
                f'{message.codec_id:016x}, this is {self.decoder.identity:016x}; give '
                'device and edge the same model folder',
            )
            self._reply(cell, message, FeatureFeedback.STATUS_CODEC_MISMATCH)
            return
        if to_ns(message.deadline) <= self.schedule_clock.ros_now_ns():
            self.warn('too_late', f'item {key.item_id}: a packet came after the deadline')
            self._reply(cell, message, FeatureFeedback.STATUS_TOO_LATE)
            return
        with self._lock:
            stream = self._stream(cell, key, message)
            if stream.computing:
                stream.waiting.append(message)
            else:
                self._take(stream, message)

    def _stream(self, cell: int, key: ItemKey, message: ProgressiveFeature) -> _Stream:
        def make() -> _Stream:
            expires_ns = min(
                to_ns(message.deadline), self.schedule_clock.ros_now_ns() + LONGEST_STREAM_NS
            )
            return _Stream(
                cell, key, message.header, message.deadline, self.decoder.start(), expires_ns
            )

        return self._streams.touch(cell, key, make)

    def _take(self, stream: _Stream, message: ProgressiveFeature) -> None:
        before = stream.session.bytes_received
        started = time.perf_counter()
        try:
            stream.session.add(bytes(message.data))
        except CodecMismatch as error:
            self.error('codec_mismatch', f'item {message.item_id}: {error}')
            self._reply(stream.cell, message, FeatureFeedback.STATUS_CODEC_MISMATCH, stream)
            return
        except BadPacket as error:
            self.warn('bad_packet', f'item {message.item_id}: {error}')
            self._reply(stream.cell, message, FeatureFeedback.STATUS_BAD_PACKET, stream)
            return
        stream.decode_time += time.perf_counter() - started
        stream.sequence = max(stream.sequence, message.sequence)
        stream.last = stream.last or message.last
        self._reply(stream.cell, message, FeatureFeedback.STATUS_OK, stream)
        if stream.session.bytes_received > before and not stream.satisfied:
            stream.changed = True
            self._lock.notify()

    def _reply(
        self, cell: int, message: ProgressiveFeature, status: int, stream: _Stream | None = None
    ) -> None:
        self._feedback[cell].publish(
            self._account(message.header, message.item_id, message.sequence, status, stream)
        )

    def _account(
        self, header: Header, item_id: int, sequence: int, status: int, stream: _Stream | None
    ) -> FeatureFeedback:
        message = FeatureFeedback(
            header=header,
            item_id=item_id,
            codec_id=self.decoder.identity,
            status=status,
            sequence=sequence,
            compute_time=self._compute_time,
        )
        if stream is not None:
            message.satisfied = stream.satisfied
            message.packets = min(stream.session.packets_received, 65535)
            message.bytes = min(stream.session.bytes_received, 2**32 - 1)
            message.score = stream.score
        return message

    # The thread that classifies.

    def _work(self) -> None:
        while batch := self._next_batch():
            self.guarded(self._classify)(batch)
            with self._lock:
                for stream in batch:
                    stream.computing = False
                    waiting, stream.waiting = stream.waiting, []
                    for message in waiting:
                        self.guarded(self._take)(stream, message)

    def _stop(self, worker: threading.Thread) -> None:
        """Finish the batch under way; the next activation's worker must be the only one."""
        with self._lock:
            self._stopping = True
            self._lock.notify()
        worker.join()

    def _next_batch(self) -> list[_Stream]:
        with self._lock:
            while not self._stopping:
                batch = self._streams.next_batch(self.settings.max_batch)
                if batch:
                    for stream in batch:
                        stream.changed, stream.computing = False, True
                    return batch
                self._lock.wait()
        return []

    def _classify(self, batch: list[_Stream]) -> None:
        now_ns = self.schedule_clock.ros_now_ns()
        batch = [stream for stream in batch if stream.expires_ns > now_ns]
        if not batch:
            return
        started = time.perf_counter()
        sessions = [stream.session for stream in batch]
        answers, inside = self.decoder.look_inside(sessions)
        unknown = np.zeros(len(batch))
        if self.strangers is not None:
            received = [session.bytes_received for session in sessions]
            unknown = self.strangers.unknown(inside, received)
        classify_time = time.perf_counter() - started
        self.health.sample('classify_time', classify_time)
        self.health.sample('batch', len(batch))
        for stream, probabilities, strange in zip(batch, answers, unknown):
            self._compute_time = classify_time + stream.decode_time
            stream.decode_time = 0.0
            self.health.sample('compute_time', self._compute_time)
            self._answer(
                stream, check_probabilities(probabilities, len(self.labels)), float(strange)
            )

    def _answer(self, stream: _Stream, probabilities: NDArray[np.float32], unknown: float) -> None:
        best = int(probabilities.argmax())
        stream.score = min(1.0, float(probabilities[best]))
        stream.satisfied = stream.score >= self.settings.satisfied_score
        feedback = self._account(
            stream.header, stream.key.item_id, stream.sequence, FeatureFeedback.STATUS_OK, stream
        )
        feedback.answered = True
        if not stream.satisfied:  # the encoder waits for it: it goes first
            self._feedback[stream.cell].publish(feedback)
        self._answers[stream.cell].publish(
            Classification(
                header=stream.header,
                item_id=stream.key.item_id,
                deadline=stream.deadline,
                source=Classification.SOURCE_EDGE,
                class_id=self.labels[best],
                score=stream.score,
                probabilities=float_array(probabilities),
                model_id=self.model_id,
                bytes_used=stream.session.bytes_received,
                final=stream.satisfied or stream.last,
                compute_time=self._compute_time,
                unknown=unknown,
            )
        )
        self.tick('answers')
        if stream.satisfied:
            self._feedback[stream.cell].publish(feedback)


def main(arguments: list[str] | None = None) -> int:
    """Run the node as a process."""
    return run_node(EdgeClassifier, arguments)


if __name__ == '__main__':
    sys.exit(main())
