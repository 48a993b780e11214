# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Codecs on which compiled code and Python code are compared."""

from __future__ import annotations

import pytest

from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor.errors import ConveyorError
from stl_conveyor.resources import share_path
from stl_conveyor_lab.train.codec.fit import fit_spec, pca_transform, spatial_transform, transform
from stl_conveyor_lab.train.tiny import tiny_images


def banded_spec(size: int = 160, fine: int = 2) -> CodecSpec:
    """Return a codec of 24 + 4 `fine` channels, the first five in bands, for a side of `size`."""
    images = tiny_images(24, 3, seed=2)[0][:, :size, :size]
    mean, analysis = pca_transform(images, 16, 24, fine, 8)
    offset, spatial = spatial_transform(transform(images, mean, analysis, 16), 5)
    return fit_spec(
        images, mean, analysis, labels=3, rings=2, max_groups=300, offset=offset, spatial=spatial
    )


def shipped_spec() -> CodecSpec:
    """Return the codec of the shipped models; skips the test where there is none."""
    try:
        return CodecSpec.load(share_path('models/items') / 'encoder.npz')
    except (ConveyorError, OSError, TypeError) as error:
        pytest.skip(f'no shipped codec: {error}')
