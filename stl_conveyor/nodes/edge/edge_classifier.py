# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Classify, for many cells at once, what has arrived of each item's stream."""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from rclpy.publisher import Publisher
from std_msgs.msg import Header

from stl_conveyor.cell.edge_admission import EdgeAdmission
from stl_conveyor.cell.fair_streams import FairStreams
from stl_conveyor.cell.ledger import ItemKey
from stl_conveyor.codec import Decoder, DecoderSession
from stl_conveyor.codec.decoder import edge_engine
from stl_conveyor.decision.of_folder import detector_of
from stl_conveyor.decision.stranger_detector import EDGE
from stl_conveyor.errors import BadPacket, CodecMismatch, ConfigError, Level
from stl_conveyor.models.classifier import check_probabilities
from stl_conveyor.models.engines import ServerGroup
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.models.open_inference import OpenInferenceServer, served_name, server_address
from stl_conveyor.msg import Classification, EdgeState, FeatureFeedback, ProgressiveFeature
from stl_conveyor.nodes.base.clock import clock_ns, to_ns, to_stamp
from stl_conveyor.nodes.base.conveyor_node import ConveyorNode
from stl_conveyor.nodes.base.decoding import endpoint_name
from stl_conveyor.nodes.base.items import configured_path, float_array, item_key
from stl_conveyor.nodes.base.runner import run_node, share_the_interpreter
from stl_conveyor.nodes.base.settings import NodeSettings, parameter
from stl_conveyor.nodes.base.topics import GATEWAYS
from stl_conveyor.nodes.edge.pool_watch import PoolWatch

# No honest item has more time; a stream that claims more is dropped after this.
LONGEST_STREAM_NS = 10_000_000_000
# For so long after a cell came (back) to an edge, items that it hears of in their midst are those
# that the one before it has begun.
HANDOVER_NS = 2_000_000_000
MOST_WAITING = 64  # packets that are kept of an item before they are decoded
FULL_PRICE = 0.1  # from which on it is said that the edge is full


@dataclass(frozen=True)
class EdgeClassifierSettings(NodeSettings):
    """Parameters of the edge classifier."""

    models_dir: str = parameter('', 'Model folder. Empty: the one that the package ships.')
    threads: int = parameter(1, 'Threads that compute one batch together.', minimum=1, maximum=256)
    workers: int = parameter(
        0,
        'Batches that are computed at the same time; 0 = one for each core that the node may use. '
        'Several workers of one thread give more answers than one of several threads.',
        minimum=0,
        maximum=256,
    )
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
        0.5,
        'Seconds between signs of life; half of that to a cell behind a gateway, since a slow '
        'link may lose one.',
        minimum=0.05,
        maximum=10.0,
    )
    max_batch: int = parameter(
        4,
        'Most items that are classified at once. More of them gain little on a processor, and the '
        'first waits for the last; a GPU behind open_inference gains by more.',
        minimum=1,
        maximum=256,
    )
    max_items: int = parameter(
        256,
        'Most items whose streams are kept; beyond, the cell that has the most loses the one '
        'that was silent for longest.',
        minimum=1,
        maximum=100_000,
    )
    inference: str = parameter(
        'onnxruntime',
        'What computes the network: onnxruntime in this process, or open_inference: servers that '
        'speak the open inference protocol (V2) over gRPC.',
        choices=('onnxruntime', 'open_inference'),
    )
    inference_urls: tuple[str, ...] = parameter(
        ('',),
        'Addresses of the servers, host:port, with inference open_inference. Any of them may die.',
    )
    inference_fallback: bool = parameter(
        True, 'With open_inference: compute here what no server answers in time.'
    )
    hedge_after: float = parameter(
        0.03,
        'With open_inference: seconds after which a second server is asked, too, at the earliest.',
        minimum=0.001,
        maximum=10.0,
    )
    cell_quota: float = parameter(
        0.0,
        'Answers per second that a cell is given before others get more than theirs, while the '
        'edge is full; 0 = an equal share.',
        minimum=0.0,
        maximum=10_000.0,
        tunable=True,
    )
    takeover: float = parameter(
        1.0,
        'Seconds without a sign of life of another edge of the same cells, after which this one '
        'answers in its place. Use the same value in all of them.',
        minimum=0.2,
        maximum=60.0,
    )


@dataclass
class _Stream:
    """What is known of one item; touched under the node's lock, or by who occupies it."""

    cell: int
    key: ItemKey
    header: Header
    deadline: Time
    start: Callable[[], DecoderSession]
    expires_ns: int  # of ROS time
    asleep: bool = False  # another edge answers
    waiting: list[ProgressiveFeature] = field(default_factory=list)
    occupied: bool = False  # somebody decodes its packets or computes its answer
    fresh: bool = False  # something has come since the last answer
    last: bool = False
    satisfied: bool = False
    score: float = 0.0
    decode_time: float = 0.0  # s, of the packets since the last answer
    compute_time: float = 0.0  # s, of the last answer
    sequence: int = 0

    @functools.cached_property
    def session(self) -> DecoderSession:
        """Return what was decoded; of an item that another edge answers nothing is."""
        return self.start()

    @property
    def changed(self) -> bool:
        """Return whether it waits for an answer."""
        return self.fresh and not self.occupied

    @property
    def put_off(self) -> bool:
        """Return whether packets of it wait to be decoded."""
        return bool(self.waiting) and not self.occupied and not self.asleep


class EdgeClassifier(ConveyorNode):
    """Take packets in one thread and classify in others, so that acknowledgements do not wait.

    Packets that arrive while their item is being classified are taken in together afterwards. Of
    the items that changed meanwhile the one with the earliest deadline is next, among those of
    cells that have not had their share. A cell whose packets take too long to decode has them
    decoded one at a time, when nothing waits for an answer. Of several edges with the same cells
    each answers for its own, and keeps what comes of those whose standby it is.
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
        urls = [url for url in settings.inference_urls if url]
        if settings.inference == 'open_inference' and not urls:
            raise ConfigError('inference_urls: is empty; open_inference needs an address at least')
        if len({server_address(url) for url in urls}) != len(urls):
            raise ConfigError(f'inference_urls: {urls} must be different addresses')

    def configure(self) -> None:
        """Load and check the codec and the strong model behind it."""
        folder = ModelFolder(configured_path(self.settings.models_dir, 'models/items'))
        self.strangers = detector_of(folder, EDGE)
        self.labels = folder.labels
        self.model_id = folder.model_id('edge')
        inside = () if self.strangers is None else self.strangers.tensors
        self._servers = self._server_group(folder, inside)
        try:
            self.decoder = Decoder(folder, self.settings.threads, inside, self._servers)
            # The first run is the slowest.
            self.decoder.look_inside([self.decoder.start()])
        except Exception:
            self._close_servers()
            raise
        self._model = folder.name
        self.health.set_value('codec', f'{self.decoder.identity:016x}')

    def activate(self) -> None:
        """Serve the cells."""
        self._workers = workers = self.settings.workers or len(os.sched_getaffinity(0))
        self._lock = threading.Condition()
        self._streams: FairStreams[_Stream] = FairStreams(self.settings.max_items)
        cells = len(self.settings.cells)
        self._admission = EdgeAdmission(workers, self.settings.cell_quota, cells)
        self._prices = [0.0] * cells
        self._is_decoding = False  # whether a worker decodes what was put off
        self._compute_time = 0.0
        self._stopping = False
        self._feedback: list[Publisher] = []
        self._answers: list[Publisher] = []
        for cell in self.settings.cells:
            self._feedback.append(self.publish_on('feedback_tx', cell=cell))
            self._answers.append(self.publish_on('edge_classification_tx', cell=cell))
        self._pool = PoolWatch(
            self,
            self.settings.cells,
            (self.decoder.identity, self.model_id),
            self.settings.takeover,
            self._describe,
            self._gained,
        )
        for index, cell in enumerate(self.settings.cells):
            self.listen(
                'features_rx',
                lambda message, index=index: self._on_packet(index, message),
                cell=cell,
                sole=True,
            )
        self._gateways: dict[int, bool] = {}  # whether one hears what a cell is told
        self._hearers: dict[int, int] = {}  # how many do, at the last look
        self.watch(self._look_for_gateways)
        self._is_between = False
        self.every(self.settings.heartbeat_period / 2, self._half_beat)
        share_the_interpreter()
        threads: list[threading.Thread] = []
        self.resources.callback(self._stop, threads)
        for number in range(workers):
            name = f'edge batches {number}'
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            thread.start()
            threads.append(thread)  # to be waited for once it runs
        self._pool.beat()
        self._heartbeat()

    def cleanup(self) -> None:
        """Drop the models."""
        self._close_servers()
        self.forget('decoder', 'strangers')

    def _server_group(self, folder: ModelFolder, inside: Sequence[str]) -> ServerGroup | None:
        """Return the servers that compute the network; None where this process does."""
        settings = self.settings
        if settings.inference == 'onnxruntime':
            return None
        model = served_name(self.model_id)
        self.health.set_value('inference_model', model)
        servers = [OpenInferenceServer(url, model) for url in settings.inference_urls if url]
        local = None
        if settings.inference_fallback:
            local = edge_engine(folder, settings.threads, inside)
        return ServerGroup(
            servers, local, hedge=settings.hedge_after, changed=self._on_server_changed
        )

    def _on_server_changed(self, name: str, is_well: bool, why: str) -> None:
        if is_well:
            self.clear_condition(
                f'inference_server.{name}', f'the inference server {name} answers again'
            )
        else:
            self.set_condition(
                f'inference_server.{name}',
                Level.WARN,
                f'inference_server: {name} does not answer ({why[:200]}): others do, or this '
                'machine; is it running, with the model repository of '
                'stl-conveyor export --for triton?',
            )

    def _close_servers(self) -> None:
        servers, self._servers = getattr(self, '_servers', None), None
        if servers is not None:
            servers.close()

    def settings_changed(self) -> None:
        """Put a changed quota into force."""
        if self.is_active:
            with self._lock:
                self._admission.quota = self.settings.cell_quota

    def _heartbeat(self) -> None:
        now_ns = self.schedule_clock.ros_now_ns()
        with self._lock:
            self._streams.drop_expired(now_ns)
            self.health.set_value('streams', len(self._streams))
            backlog = sum(stream.changed for stream in self._streams)
            self._admission.look(backlog, clock_ns(self.steady_clock))
            self._prices = [self._admission.price(cell) for cell in range(len(self._prices))]
        self._report_load()
        self._greet(self._pool.served)

    def _half_beat(self) -> None:
        """Beat every second time, and greet those behind a gateway also in between."""
        self._is_between = not self._is_between
        if self._is_between:
            self._greet([cell for cell in self._pool.served if self._gateways.get(cell)])
        else:
            self._heartbeat()

    def _look_for_gateways(self) -> None:
        for cell, publisher in enumerate(self._feedback):
            listeners = publisher.get_subscription_count()
            if listeners == self._hearers.get(cell):
                continue
            ends = self.get_subscriptions_info_by_topic(publisher.topic_name)
            self._gateways[cell] = any(end.node_name in GATEWAYS for end in ends)
            if all(endpoint_name(end) for end in ends):
                self._hearers[cell] = listeners

    def _greet(self, cells: Sequence[int]) -> None:
        """Show the devices of some cells that their edge lives."""
        message = FeatureFeedback(
            codec_id=self.decoder.identity,
            status=FeatureFeedback.STATUS_ALIVE,
            compute_time=self._compute_time,
        )
        message.header.stamp = to_stamp(self.schedule_clock.ros_now_ns())
        for cell in cells:
            message.price = self._prices[cell]
            self._feedback[cell].publish(message)

    def _report_load(self) -> None:
        admission, price = self._admission, max(self._prices)
        self.health.set_value('load', f'{admission.load:.2f}')
        self.health.set_value('capacity', f'{admission.capacity:.0f}/s')
        self.health.set_value('price', f'{price:.2f}')
        if self._servers is not None:
            self.health.set_value('inference_servers', ' '.join(self._servers.well) or 'none')
            self.health.set_value('inference_hedged', self._servers.hedged)
            self.health.set_value('inference_local', self._servers.used_local)
        if price >= FULL_PRICE:
            self.set_condition(
                'edge_full',
                Level.WARN,
                'edge_full: the cells ask for more answers than this edge can give; devices hear '
                'its price and send what gains most. Add an edge, or take cells away',
            )
        elif not price:
            self.clear_condition('edge_full', 'the edge has room again')

    def _describe(self, state: EdgeState) -> None:
        """Fill in what a sign of life tells of the work."""
        state.model = self._model
        with self._lock:
            state.load = self._admission.load
            state.answers = self._admission.answers
            state.capacity = self._admission.capacity
        state.price = max(self._prices)

    def _gained(self, cells: Sequence[int]) -> None:
        """Answer from now on for cells, and for what another edge has left of their items."""
        with self._lock:
            woken = [
                stream
                for stream in self._streams
                if stream.asleep and stream.cell in cells and not self._is_anothers(stream)
            ]
            for stream in woken:
                stream.asleep, stream.occupied = False, True
        if woken:
            self.health.count('taken_over', len(woken))
        self._greet(cells)
        for stream in woken:
            self._take_in(stream)

    def _on_packet(self, cell: int, message: ProgressiveFeature) -> None:
        key = item_key(message)
        self.tick('packets')
        self._pool.reached(cell)
        if not self._pool.serves(cell) and not self._is_begun(cell, key):
            self._stand_by(cell, key, message)
            return
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
            stream.waiting.append(message)
            stream.asleep = stream.asleep and self._is_anothers(stream)
            if stream.asleep or stream.occupied:
                del stream.waiting[:-MOST_WAITING]
                return
            stream.occupied = True
        self._take_in(stream)

    def _stand_by(self, cell: int, key: ItemKey, message: ProgressiveFeature) -> None:
        """Keep a packet that another edge answers, in case that it does not."""
        if not self._pool.stands_by(cell) or message.codec_id != self.decoder.identity:
            return
        if to_ns(message.deadline) <= self.schedule_clock.ros_now_ns():
            return
        self._pool.asked(cell)
        with self._lock:
            stream = self._stream(cell, key, message)
            stream.waiting.append(message)
            del stream.waiting[:-MOST_WAITING]

    def _is_begun(self, cell: int, key: ItemKey) -> bool:
        """Return whether this edge answers an item, which it then does to the end."""
        with self._lock:
            stream = self._streams.get(cell, key)
            return stream is not None and not stream.asleep

    def _is_anothers(self, stream: _Stream) -> bool:
        """Return whether another edge has begun with an item of a cell that is ours again."""
        since_ns = self._pool.serves_since_ns(stream.cell)
        return (
            clock_ns(self.steady_clock) - since_ns < HANDOVER_NS
            and not self._pool.is_alone
            and all(message.sequence for message in stream.waiting)
        )

    def _stream(self, cell: int, key: ItemKey, message: ProgressiveFeature) -> _Stream:
        def make() -> _Stream:
            expires_ns = min(
                to_ns(message.deadline), self.schedule_clock.ros_now_ns() + LONGEST_STREAM_NS
            )
            return _Stream(
                cell,
                key,
                message.header,
                message.deadline,
                self.decoder.start,
                expires_ns,
                asleep=True,
            )

        return self._streams.touch(cell, key, make)

    def _take_in(self, stream: _Stream) -> None:
        """Decode what waits of an item that the caller occupies, or put it off, and leave it."""
        while True:
            with self._lock:
                now_ns = clock_ns(self.steady_clock)
                if not stream.waiting or self._admission.puts_off(stream.cell, now_ns):
                    del stream.waiting[:-MOST_WAITING]
                    stream.occupied = False
                    if stream.changed or stream.put_off:
                        self._lock.notify()
                    return
                message = stream.waiting.pop(0)
            self.guarded(self._take)(stream, message)

    def _take(self, stream: _Stream, message: ProgressiveFeature) -> None:
        worked = time.thread_time()
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
        finally:
            # Without the waiting for other threads, which may be another cell's doing.
            worked = time.thread_time() - worked
            with self._lock:
                self._admission.decoded(stream.cell, worked, clock_ns(self.steady_clock))
        stream.decode_time += time.perf_counter() - started
        stream.sequence = max(stream.sequence, message.sequence)
        stream.last = stream.last or message.last
        self._reply(stream.cell, message, FeatureFeedback.STATUS_OK, stream)
        if stream.session.bytes_received > before and not stream.satisfied:
            stream.fresh = True

    def _reply(
        self, cell: int, message: ProgressiveFeature, status: int, stream: _Stream | None = None
    ) -> None:
        self._feedback[cell].publish(
            self._account(cell, message.header, message.item_id, message.sequence, status, stream)
        )

    def _account(
        self,
        cell: int,
        header: Header,
        item_id: int,
        sequence: int,
        status: int,
        stream: _Stream | None,
    ) -> FeatureFeedback:
        message = FeatureFeedback(
            header=header,
            item_id=item_id,
            codec_id=self.decoder.identity,
            status=status,
            sequence=sequence,
            compute_time=self._compute_time,
            price=self._prices[cell],
        )
        if stream is not None:
            message.satisfied = stream.satisfied
            message.packets = min(stream.session.packets_received, 65535)
            message.bytes = min(stream.session.bytes_received, 2**32 - 1)
            message.score = stream.score
        return message

    # The threads that classify.

    def _work(self) -> None:
        while work := self._next_work():
            work()

    def _answer_all(self, batch: Sequence[_Stream]) -> None:
        self.guarded(self._classify)(batch)
        for stream in batch:
            self._take_in(stream)

    def _take_put_off(self, stream: _Stream, message: ProgressiveFeature) -> None:
        self.guarded(self._take)(stream, message)
        with self._lock:
            self._is_decoding = False
        self._take_in(stream)

    def _stop(self, workers: Sequence[threading.Thread]) -> None:
        """Finish the batches under way; the next activation's workers must be the only ones."""
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        for worker in workers:
            worker.join()

    def _next_work(self) -> Callable[[], None] | None:
        """Return what a worker does next; None at the end."""
        with self._lock:
            while not self._stopping:
                now_ns = clock_ns(self.steady_clock)
                batch = self._streams.next_batch(
                    self.settings.max_batch,
                    lambda cell: self._admission.is_over(cell, now_ns),
                    self._workers,
                )
                if batch:
                    for stream in batch:
                        stream.fresh, stream.occupied = False, True
                    return functools.partial(self._answer_all, batch)
                # One worker alone: the interpreter is held while a packet is decoded.
                put_off = None if self._is_decoding else self._next_put_off(now_ns)
                if put_off is not None:
                    self._is_decoding = put_off.occupied = True
                    self.health.count('put_off')
                    return functools.partial(self._take_put_off, put_off, put_off.waiting.pop(0))
                self._lock.wait()
        return None

    def _next_put_off(self, now_ns: int) -> _Stream | None:
        return self._streams.next_put_off(
            self.schedule_clock.ros_now_ns(), lambda cell: self._admission.decoding(cell, now_ns)
        )

    def _classify(self, batch: Sequence[_Stream]) -> None:
        now_ns = self.schedule_clock.ros_now_ns()
        by_ns = now_ns + self._admission.needed_ns(len(batch))
        in_time = [stream for stream in batch if stream.expires_ns > by_ns]
        if len(in_time) < len(batch):
            self.health.count('given_up', len(batch) - len(in_time))
        batch = in_time
        if not batch:
            return
        started = time.perf_counter()
        sessions = [stream.session for stream in batch]
        left = (min(stream.expires_ns for stream in batch) - now_ns) / 1e9
        answers, inside = self.decoder.look_inside(sessions, left)
        unknown = np.zeros(len(batch))
        if self.strangers is not None:
            received = [session.bytes_received for session in sessions]
            unknown = self.strangers.unknown(inside, received)
        classify_time = time.perf_counter() - started
        self.health.sample('classify_time', classify_time)
        self.health.sample('batch', len(batch))
        for stream, probabilities, strange in zip(batch, answers, unknown):
            stream.compute_time = classify_time + stream.decode_time
            stream.decode_time = 0.0
            self._compute_time = stream.compute_time
            self.health.sample('compute_time', stream.compute_time)
            self._answer(
                stream, check_probabilities(probabilities, len(self.labels)), float(strange)
            )
        taken = (time.perf_counter() - started) / len(batch)
        now_ns = clock_ns(self.steady_clock)
        with self._lock:
            for stream in batch:
                self._admission.served(stream.cell, taken, now_ns)

    def _answer(self, stream: _Stream, probabilities: NDArray[np.float32], unknown: float) -> None:
        best = int(probabilities.argmax())
        stream.score = min(1.0, float(probabilities[best]))
        stream.satisfied = stream.score >= self.settings.satisfied_score
        feedback = self._account(
            stream.cell,
            stream.header,
            stream.key.item_id,
            stream.sequence,
            FeatureFeedback.STATUS_OK,
            stream,
        )
        feedback.answered = True
        feedback.compute_time = stream.compute_time
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
                compute_time=stream.compute_time,
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
