# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the codecs of a reference folder share: three files of one role, and streams of parts."""

from __future__ import annotations

import json
from abc import abstractmethod
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np

from stl_conveyor.errors import ModelFileError
from stl_conveyor.models.classifier import make_session
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor_lab.references.base import ReferenceCodec

Code = TypeVar('Code', bound='TrainedCode')


def continued(images: np.ndarray, multiple: int) -> np.ndarray:
    """Return u8[N, S, S, 3] whose last row and column are repeated to a multiple of some side."""
    more = -images.shape[1] % multiple
    return np.pad(images, ((0, 0), (0, more), (0, more), (0, 0)), mode='edge') if more else images


class TrainedCode:
    """What encoder and decoder share besides the networks; a dataclass kept as JSON."""

    #: The module that trains it.
    trainer: ClassVar[str]

    #: Side of the images in pixels.
    image_size: int

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self)) + '\n', encoding='utf-8')  # type: ignore

    @classmethod
    def load(cls: type[Code], path: Path) -> Code:
        """Read what `save` wrote; raises ModelFileError."""
        try:
            return cls(**json.loads(path.read_text(encoding='utf-8')))
        except (OSError, TypeError, ValueError) as error:
            raise ModelFileError(
                f'{path}: {error}; train it again with python -m '
                f'stl_conveyor_lab.train.references.{cls.trainer}'
            ) from error


class TrainedCodec(ReferenceCodec):
    """A codec of which a reference folder has encoder, decoder and code."""

    streams = has_parts = True
    parallel = False

    def __init__(self, folder: ModelFolder, role: str, name: str, threads: int) -> None:
        """Open the networks of a role; raises ModelFileError."""
        self._encoder = make_session(folder.path(f'{role}_encoder'), threads)
        self._decoder = make_session(folder.path(f'{role}_decoder'), threads)
        ids = [folder.model_id(f'{role}_{kind}') for kind in ('encoder', 'decoder', 'code')]
        self._role, self._key = role, f'{role}-{ids[0] ^ ids[1] ^ ids[2]:016x}'
        self._name = name
        self._parts = lru_cache(maxsize=64)(self._encode)

    @property
    def name(self) -> str:
        """Name for tables."""
        return self._name

    @property
    def slug(self) -> str:
        """Return the role."""
        return self._role

    @property
    def key(self) -> str:
        """Name for files."""
        return self._key

    @abstractmethod
    def _encode(self, pixels: bytes, size: int) -> tuple[bytes, ...]:
        """Return all parts of the stream for the bytes of an image u8[size, size, 3]."""

    def parts(self, image: np.ndarray) -> tuple[bytes, ...]:
        """Return all parts of the stream; those of the last images are kept."""
        return self._parts(np.ascontiguousarray(image).tobytes(), len(image))

    def packets(
        self, image: np.ndarray, max_bytes: int, packet_bytes: int = 512
    ) -> tuple[bytes, ...]:
        """Return one packet for each part, as many as fit."""
        del packet_bytes
        kept, left = [], max_bytes
        for part in self.parts(image):
            left -= len(part)
            if left < 0:
                break
            kept.append(part)
        return tuple(kept)

    def encode(self, image: np.ndarray, max_bytes: int) -> bytes | None:
        """Return as many whole parts as fit."""
        return b''.join(self.packets(image, max_bytes)) or None
