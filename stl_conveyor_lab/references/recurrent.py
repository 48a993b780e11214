# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""A recurrent codec after Toderici et al. (CVPR 2017) as real byte strings.

Each iteration codes what the ones before have left over, with the same number of bits for every
block of 32 x 32 pixels; a prefix of whole iterations is an image. There is no header and no
entropy coding. Images whose side is no multiple of 32 are continued by their last row and
column, which are cut off again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from onnxruntime import InferenceSession

from stl_conveyor.errors import BadPacket
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor_lab.references.trained import TrainedCode, TrainedCodec, continued

#: A position of the code stands for so many pixels along each side.
STRIDE = 16
BLOCK = 32
#: States of prefixes that are kept, so that one more iteration is one more step.
_KEPT = 64


@dataclass(frozen=True)
class RecurrentCode(TrainedCode):
    """All that both sides share besides the networks."""

    trainer = 'recurrent'

    name: str
    image_size: int
    iterations: int
    #: Per position and iteration; a multiple of 8 keeps iterations on whole bytes.
    bits: int

    @property
    def side(self) -> int:
        """Pixels along the side that the networks see."""
        return -(-self.image_size // BLOCK) * BLOCK

    @property
    def grid(self) -> int:
        """Positions along the side."""
        return self.side // STRIDE

    @property
    def step_bytes(self) -> int:
        """Bytes of one iteration."""
        return -(-self.bits * self.grid**2 // 8)


class RecurrentCodec(TrainedCodec):
    """The recurrent codec of a reference folder."""

    def __init__(self, folder: ModelFolder, role: str = 'recurrent', threads: int = 1) -> None:
        """Load `role` of a reference folder; raises ModelFileError."""
        self._code = RecurrentCode.load(folder.path(f'{role}_code'))
        super().__init__(folder, role, self._code.name, threads)
        self._prefixes: OrderedDict[bytes, tuple[np.ndarray, dict[str, np.ndarray]]] = (
            OrderedDict()
        )

    @property
    def code(self) -> RecurrentCode:
        """Return what both sides share."""
        return self._code

    @staticmethod
    def _states(session: InferenceSession, first: str) -> dict[str, np.ndarray]:
        """Return the zero states that a network begins with."""
        return {
            value.name: np.zeros([1, *value.shape[1:]], np.float32)
            for value in session.get_inputs()
            if value.name != first
        }

    @staticmethod
    def _step(
        session: InferenceSession, feeds: dict[str, np.ndarray]
    ) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        """Run one iteration; returns what is no state, and the new states."""
        names = [value.name for value in session.get_outputs()]
        made = dict(zip(names, session.run(names, feeds)))
        states = {name[4:]: made.pop(name) for name in names if name.startswith('new_')}
        return list(made.values()), states

    def _encode(self, pixels: bytes, size: int) -> tuple[bytes, ...]:
        code = self._code
        image = continued(np.frombuffer(pixels, np.uint8).reshape(1, size, size, 3), BLOCK)
        rest = (image.transpose(0, 3, 1, 2) / np.float32(127.5) - 1).astype(np.float32)
        states, result = self._states(self._encoder, 'residual'), []
        for _ in range(code.iterations):
            (bits, rest), states = self._step(self._encoder, {'residual': rest, **states})
            result.append(np.packbits(bits.astype(bool).ravel()).tobytes())
        return tuple(result)

    def _prefix(self, data: bytes) -> tuple[np.ndarray, dict]:
        """Return (sum of the decoder's outputs, its states) after whole iterations."""
        code = self._code
        if not data:
            return (
                np.zeros((1, 3, code.side, code.side), np.float32),
                self._states(self._decoder, 'bits'),
            )
        if data in self._prefixes:
            self._prefixes.move_to_end(data)
            return self._prefixes[data]
        pixels, states = self._prefix(data[: -code.step_bytes])
        unpacked = np.unpackbits(np.frombuffer(data[-code.step_bytes :], np.uint8))
        shape = (1, code.bits, code.grid, code.grid)
        bits = unpacked[: int(np.prod(shape))].reshape(shape).astype(np.float32)
        (made,), states = self._step(self._decoder, {'bits': bits, **states})
        self._prefixes[data] = found = (pixels + made, states)
        if len(self._prefixes) > _KEPT:
            self._prefixes.popitem(last=False)
        return found

    def decode(self, data: bytes, size: int) -> np.ndarray:
        """Return the image of the iterations that arrived whole.

        Raises:
            BadPacket: If not one did, or if there are more than were sent.
        """
        steps = len(data) // self._code.step_bytes
        if not 1 <= steps <= self._code.iterations:
            raise BadPacket(
                f'{len(data)} bytes are {steps} iterations of '
                f'{self._code.step_bytes} bytes; there are 1 to '
                f'{self._code.iterations}'
            )
        pixels, _ = self._prefix(data[: steps * self._code.step_bytes])
        image = np.rint((pixels[0].transpose(1, 2, 0) + 1) * 127.5)
        return np.clip(image, 0, 255).astype(np.uint8)[:size, :size]
