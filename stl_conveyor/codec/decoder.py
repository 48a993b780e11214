# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The edge's half of the codec: whatever packets arrived become class probabilities."""
from collections.abc import Sequence

import numpy as np

from stl_conveyor.codec.entropy import decode_body
from stl_conveyor.codec.identity import codec_identity
from stl_conveyor.codec.spec import CodecSpec, MAX_PLANES
from stl_conveyor.codec.wire import side_probabilities, unpack
from stl_conveyor.errors import ModelFileError
from stl_conveyor.vision.classifier import make_session
from stl_conveyor.vision.model_folder import ModelFolder

EDGE_INPUTS = {'latents': 4, 'bytes_received': 1, 'side': 2, 'has_side': 1}


class DecoderSession:
    """What arrived of one item so far. Not safe for several threads at once."""

    def __init__(self, spec: CodecSpec, identity: int) -> None:
        """Start with nothing received."""
        self._spec = spec
        self._identity = identity
        positions = len(spec.region_map)
        self._planes = np.zeros((MAX_PLANES, spec.channels, positions), np.int8)
        self._known = np.zeros((MAX_PLANES, spec.channels, positions), bool)
        self._have: set[tuple[int, int]] = set()
        self._side: np.ndarray | None = None
        self.bytes_received = 0
        self.packets_received = 0

    @property
    def side(self) -> np.ndarray | None:
        """Return the local probabilities f32[C] as they arrived, or None."""
        return self._side

    def add(self, packet: bytes) -> None:
        """
        Take in a packet; order does not matter, a duplicate changes nothing.

        Raises BadPacket (nothing is taken in) or CodecMismatch.
        """
        spec = self._spec
        parsed = unpack(bytes(packet), self._identity)
        key = (parsed.first_group, parsed.groups)
        if key in self._have and not (parsed.has_side and self._side is None):
            return
        side, symbols = decode_body(
            spec, parsed.first_group, parsed.groups, parsed.has_side, parsed.body)
        if side is not None:
            self._side = side_probabilities(side)
        for group, values in enumerate(symbols, parsed.first_group):
            at = (int(spec.group_plane[group]), int(spec.group_channel[group]),
                  spec.positions[spec.group_region[group]])
            self._planes[at] = values
            self._known[at] = True
        self._have.add(key)
        self.bytes_received += len(packet)
        self.packets_received += 1

    def latents(self) -> np.ndarray:
        """
        Return the reconstructed transform coefficients f32[K, grid, grid].

        A plane counts only together with all coarser ones of the same coefficient; what is not
        known is zero.
        """
        spec = self._spec
        known = np.logical_and.accumulate(self._known, axis=0)
        value = np.zeros(known.shape[1:], np.float32)
        joined = np.zeros(known.shape[1:], np.int32)
        for plane in range(MAX_PLANES):
            if not known[plane].any():
                break
            joined = 3 * joined + self._planes[plane]
            size = np.abs(joined)
            shrink = np.where(size == 1, spec.shrink[:, plane, :1], spec.shrink[:, plane, 1:])
            here = (joined - np.sign(joined) * shrink) * spec.plane_step[:, plane:plane + 1]
            value = np.where(known[plane], here.astype(np.float32), value)
        return value.reshape(spec.channels, spec.grid, spec.grid)


class Decoder:
    """Classify what arrived of one or many items."""

    def __init__(self, model_folder: ModelFolder, threads: int = 1) -> None:
        """Load codec file and edge model; raise ModelFileError when they cannot be used."""
        self._spec = CodecSpec.load(model_folder.path('encoder'))
        self._identity = codec_identity(model_folder)
        if self._spec.labels != len(model_folder.labels):
            raise ModelFileError(
                f'the codec of {model_folder.name} knows {self._spec.labels} labels, the '
                f'manifest {len(model_folder.labels)}; export the folder again')
        path = model_folder.path('edge')
        self._edge = make_session(path, threads)
        inputs = {i.name: len(i.shape) for i in self._edge.get_inputs()}
        if inputs != EDGE_INPUTS:
            raise ModelFileError(f'{path} has inputs {inputs}, expected {EDGE_INPUTS}; '
                                 'export it again with python -m stl_conveyor.training.codec')
        # Derives all tables and warms the model up, so that the first item is not the slowest.
        session = self.start()
        decode_body(self._spec, 0, min(8, self._spec.groups), False, b'')
        self.classify([session])

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
        return DecoderSession(self._spec, self._identity)

    def classify(self, sessions: Sequence[DecoderSession]) -> np.ndarray:
        """
        Return calibrated probabilities f32[N, C] for N sessions, in one batch.

        A session may be classified at any time, also before its first packet.
        """
        labels = self._spec.labels
        if not sessions:
            return np.zeros((0, labels), np.float32)
        uniform = np.full(labels, 1 / labels, np.float32)
        feeds = {
            'latents': np.stack([s.latents() for s in sessions]),
            'bytes_received': np.array([s.bytes_received for s in sessions], np.float32),
            'side': np.stack([uniform if s.side is None else s.side for s in sessions]),
            'has_side': np.array([s.side is not None for s in sessions], np.float32)}
        return self._edge.run(['probabilities'], feeds)[0]
