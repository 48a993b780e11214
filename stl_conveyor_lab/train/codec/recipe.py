# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Everything that decides on the codec, apart from the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

SIZES = (64, 128, 256, 512, 1024, 2048)

#: Sizes of packets that the edge's network learns to miss.
PACKET_BYTES = (128, 256, 512)


class LengthRange(Protocol):
    """A recipe that says how many bytes of an image the classifier is trained on."""

    @property
    def shortest(self) -> float:
        """Return the fewest bytes."""
        ...

    @property
    def longest(self) -> float:
        """Return the most bytes."""
        ...

    @property
    def lengthen(self) -> float:
        """Return 1 for lengths that are drawn log-uniformly, less for more of the long ones."""
        ...


class Distillation(Protocol):
    """A recipe that says how much the strong classifier teaches."""

    @property
    def distil(self) -> float:
        """Return the weight of the divergence from its answer."""
        ...

    @property
    def feature(self) -> float:
        """Return the weight of the squared error against its pooled features."""
        ...


@dataclass(frozen=True)
class CodecRecipe:
    """Everything that decides what comes out, apart from the data."""

    seed: int = 7
    coarse: int = 192  # channels of the whole-patch basis
    fine: int = 24  # channels of the sub-patch basis
    patch: int = 32
    fine_patch: int = 16
    banded: int = 8  # leading channels that are transformed over the whole image too
    rings: int = 3  # regions of the grid, from the centre out
    groups: int = 3000
    fit_images: int = 1600
    importance_images: int = 192
    importance_power: float = 0.75
    steps: int = 2400
    minutes: float = 0.0  # if not 0, training ends after this time at the latest
    restore: int = 96  # channels that restore the decoded image; 0: it stays as it is
    restore_minutes: float = 4.0  # of its training alone
    restore_weight: float = 0.5  # of its squared error afterwards
    late_share: float = 0.0  # part of the steps with the early blocks frozen
    batch: int = 48
    rate: float = 1.5e-4  # of the trunk
    new_rate: float = 1e-3  # of restoration, branch and fusion
    shortest: float = 40.0
    longest: float = 4300.0
    lengthen: float = 0.7  # 1: lengths are drawn log-uniformly; less: more of the long ones
    smoothing: float = 0.05
    distil: float = 2.0
    feature: float = 1.0
    average: float = 0.99
    strong_share: float = 0.2  # of the strong classifier's own weights in the trunk at the end
    repeat: int = 2  # prefixes of each image in a batch
    mixed: float = 0.0  # part of the images that are mixed with another, for the teacher alone
    mirror: int = 1  # 1: answer with the mean over the image and its mirror image
