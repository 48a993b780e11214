# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Codecs to compare with, all behind one interface and as real byte strings.

Image files need no training. What is trained (ST, LimitNet, the recurrent codec, classifiers tuned
on a codec's output) lies in a reference folder: files and manifest as in a model folder, with the
roles `<codec>_encoder`, `<codec>_decoder`, `<codec>_code` and `tuned_<codec>`.
"""

from __future__ import annotations

from pathlib import Path

from stl_conveyor.errors import ConfigError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor_lab.references.base import ReferenceCodec
from stl_conveyor_lab.references.image_files import BestQuality, ProgressivePrefix
from stl_conveyor_lab.references.limitnet import LimitNetCodec
from stl_conveyor_lab.references.recurrent import RecurrentCodec
from stl_conveyor_lab.references.st import StCodec

__all__ = [
    'BestQuality',
    'find_codec',
    'image_codecs',
    'LimitNetCodec',
    'ProgressivePrefix',
    'RecurrentCodec',
    'ReferenceCodec',
    'StCodec',
    'trained_codecs',
]


#: Codecs by the first word of their role; all others are ST.
_TRAINED = {'limitnet': LimitNetCodec, 'recurrent': RecurrentCodec}


def image_codecs() -> tuple[ReferenceCodec, ...]:
    """Return the codecs that need no training, in the order of the benchmark's table."""
    return (
        BestQuality('JPEG'),
        BestQuality('JPEG', progressive=True),
        ProgressivePrefix(30),
        BestQuality('WEBP', method=0),
        BestQuality('WEBP', method=6),
        BestQuality('JPEG', downscale=True),
        BestQuality('WEBP', method=6, downscale=True),
    )


def trained_codecs(references: ModelFolder, threads: int = 1) -> tuple[ReferenceCodec, ...]:
    """Return the codecs of a reference folder."""
    suffix = '_code'
    roles = sorted(role[: -len(suffix)] for role in references.roles if role.endswith(suffix))
    return tuple(
        _TRAINED.get(role.split('_')[0], StCodec)(references, role, threads) for role in roles
    )


def find_codec(slug: str, references: Path | None = None) -> ReferenceCodec:
    """Return a codec by its slug; raises ConfigError with those that there are."""
    known = list(image_codecs())
    if references is not None and (Path(references) / 'manifest.json').exists():
        known += trained_codecs(ModelFolder(references))
    for codec in known:
        if codec.slug == slug:
            return codec
    raise ConfigError(
        f"codec '{slug}' is unknown: choose one of "
        f'{", ".join(codec.slug for codec in known)}, or train it into the '
        'reference folder first'
    )
