# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The edge's half of the codec: whatever packets arrived become class probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stl_conveyor.codec.entropy import GroupCoder
from stl_conveyor.codec.group_order import MAX_PLANES
from stl_conveyor.codec.identity import codec_identity
from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor.codec.wire import side_probabilities, unpack
from stl_conveyor.errors import ModelFileError
from stl_conveyor.models.classifier import make_session, read_model
from stl_conveyor.models.engines import Engine, LocalEngine
from stl_conveyor.models.graph_outputs import with_outputs
from stl_conveyor.models.model_folder import ModelFolder

EDGE_INPUTS = {'latents': 4, 'bytes_received': 1, 'side': 2, 'has_side': 1}


class DecoderSession:
    """What arrived of one item so far. Not safe for several threads at once."""

    def __init__(self, coder: GroupCoder, identity: int) -> None:
        """Start with nothing received."""
        self._coder = coder
        self._spec = spec = coder.spec
        self._identity = identity
        positions = len(spec.region_map)
        self._point_row = (
            np.arange(spec.channels) * spec.bin_points.shape[2] + spec.bin_points.shape[2] // 2
        )[:, None]
        self._planes = np.zeros((MAX_PLANES, spec.channels, positions), np.int8)
        self._known = np.zeros((MAX_PLANES, spec.channels, positions), bool)
        self._have = np.zeros(spec.groups, bool)
        self._side: np.ndarray | None = None
        self.bytes_received = 0
        self.packets_received = 0

    @property
    def side(self) -> np.ndarray | None:
        """Return the local probabilities f32[C] as they arrived, or None."""
        return self._side

    def add(self, packet: bytes) -> None:
        """Take in a packet; order does not matter, what came before changes nothing.

        `bytes_received` grows by the packet's size, or where some of it had come in other packets,
        cut elsewhere, by the share of its groups that is new; the side information counts as one.

        Raises:
            BadPacket: (nothing is taken in) or CodecMismatch.
        """
        spec = self._spec
        parsed = unpack(bytes(packet), self._identity)
        end = parsed.first_group + parsed.groups
        parts = parsed.groups + parsed.has_side
        fresh = int(np.count_nonzero(~self._have[parsed.first_group : end]))
        fresh += parsed.has_side and self._side is None
        if parts and not fresh and end <= spec.groups:
            return
        side, symbols = self._coder.decode(
            parsed.first_group, parsed.groups, parsed.has_side, parsed.body
        )
        if side is not None:
            self._side = side_probabilities(side)
        at = spec.order.flat_index[
            spec.order.offsets[parsed.first_group] : spec.order.offsets[end]
        ]
        self._planes.reshape(-1)[at] = symbols
        self._known.reshape(-1)[at] = True
        self._have[parsed.first_group : end] = True
        self.bytes_received += -(-len(packet) * fresh // max(parts, 1))
        self.packets_received += 1

    def latents(self) -> np.ndarray:
        """Return the reconstructed transform coefficients f32[K, grid, grid].

        A plane counts only together with all coarser ones of the same coefficient; what is not
        known is its mean.
        """
        spec = self._spec
        value = np.zeros(self._known.shape[1:], np.float32)
        known = self._known[0]
        channels = int(np.flatnonzero(known.any(1)).max(initial=-1)) + 1
        joined = np.zeros((channels, known.shape[1]), np.int16)
        for plane in range(MAX_PLANES):
            known = known[:channels] & self._known[plane, :channels]
            # Finer planes reach fewer and fewer channels.
            channels = int(np.flatnonzero(known.any(1)).max(initial=-1)) + 1
            if not channels:
                break
            known = known[:channels]
            joined = 3 * joined[:channels] + self._planes[plane, :channels]
            points = spec.bin_points[plane][:channels].ravel()
            here = points[joined + self._point_row[:channels]]
            np.copyto(value[:channels], here, where=known)
        banded = len(spec.spatial)
        if banded:
            value[:banded] = np.matmul(value[:banded, None], spec.spatial_inverse)[:, 0]
        shape = (spec.channels, spec.grid, spec.grid)
        return np.asarray(value + spec.offset, np.float32).reshape(shape)


class Decoder:
    """Classify what arrived of one or many items.

    Examples:
        >>> from stl_conveyor import Decoder, Encoder, ModelFolder, read_image, share_path
        >>> folder = ModelFolder(share_path('models/items'))
        >>> encoder, decoder = Encoder(folder), Decoder(folder)
        >>> image = read_image(share_path('models/items/sample.png'))  # a hex screw
        >>> first, lost, last = encoder.encode(image, packet_bytes=100, max_bytes=250).packets
        >>> session = decoder.start()
        >>> for packet in (last, first):  # in any order, and not all of them
        ...     session.add(packet)
        >>> probabilities = decoder.classify([session])[0]
        >>> folder.labels[probabilities.argmax()], session.bytes_received
        ('hex_screw_m8x35', 151)
    """

    def __init__(
        self,
        model_folder: ModelFolder,
        threads: int = 1,
        inside: Sequence[str] = (),
        engine: Engine | None = None,
    ) -> None:
        """Load codec file and edge model; raise ModelFileError when they cannot be used.

        Args:
            inside: Tensors of the edge model that `look_inside` tells, too.
            engine: What computes the edge model; None: onnxruntime in this process.
        """
        self._spec = CodecSpec.load(model_folder.path('encoder'))
        self._identity = codec_identity(model_folder)
        if self._spec.labels != len(model_folder.labels):
            raise ModelFileError(
                f'the codec of {model_folder.name} knows {self._spec.labels} labels, the '
                f'manifest {len(model_folder.labels)}; export the folder again'
            )
        self._inside = tuple(inside)
        self._edge = edge_engine(model_folder, threads, inside) if engine is None else engine
        # Derives all tables and warms the model up, so that the first item is not the slowest.
        self._coder = GroupCoder(self._spec)
        self._coder.decode(0, min(8, self._spec.groups), False, b'')
        self.classify([self.start()])

    @property
    def identity(self) -> int:
        """64-bit identity of encoder and decoder together."""
        return self._identity

    @property
    def spec(self) -> CodecSpec:
        """Return the constants of the codec."""
        return self._spec

    def start(self) -> DecoderSession:
        """Return an empty session for a new item."""
        return DecoderSession(self._coder, self._identity)

    def classify(self, sessions: Sequence[DecoderSession]) -> np.ndarray:
        """Return calibrated probabilities f32[N, C] for N sessions, in one batch.

        A session may be classified at any time, also before its first packet.
        """
        if not sessions:
            return np.zeros((0, self._spec.labels), np.float32)
        answers: NDArray[np.float32] = self._run(sessions, ())[0]
        return answers

    def look_inside(
        self, sessions: Sequence[DecoderSession], within: float | None = None
    ) -> tuple[NDArray[np.float32], list[NDArray[Any]]]:
        """Return probabilities of one session at least, as `classify`, and the tensors inside.

        Args:
            within: Seconds after which nobody needs them any more; None: no limit.
        """
        answers = self._run(sessions, self._inside, within)
        # A network that looks at the mirror image, too, has its rows behind those of the image.
        return answers[0], [tensor[: len(sessions)] for tensor in answers[1:]]

    def _run(
        self,
        sessions: Sequence[DecoderSession],
        inside: Sequence[str],
        within: float | None = None,
    ) -> list[NDArray[np.float32]]:
        labels = self._spec.labels
        uniform = np.full(labels, 1 / labels, np.float32)
        feeds = {
            'latents': np.stack([s.latents() for s in sessions]),
            'bytes_received': np.array([s.bytes_received for s in sessions], np.float32),
            'side': np.stack([uniform if s.side is None else s.side for s in sessions]),
            'has_side': np.array([s.side is not None for s in sessions], np.float32),
        }
        return self._edge.run(['probabilities', *inside], feeds, within)


def edge_engine(
    model_folder: ModelFolder, threads: int = 1, inside: Sequence[str] = ()
) -> LocalEngine:
    """Return what computes a folder's edge model in this process.

    Args:
        inside: Tensors that it tells beside the probabilities.

    Raises:
        ModelFileError: If the model cannot be used.
    """
    path = model_folder.path('edge')
    session = make_session(with_outputs(read_model(path), inside) if inside else path, threads)
    inputs = {i.name: len(i.shape) for i in session.get_inputs()}
    if inputs != EDGE_INPUTS:
        raise ModelFileError(
            f'{path} has inputs {inputs}, expected {EDGE_INPUTS}; '
            'export it again with python -m stl_conveyor_lab.train.codec.codec'
        )
    return LocalEngine(session)
