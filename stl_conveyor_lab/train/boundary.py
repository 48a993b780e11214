# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Learn a boundary between the cell's own items and things that do not belong.

Things that do not belong are decoys (`stl_conveyor_lab.data.decoys`); the boundary is the mean of
some small networks on features that are computed anyway (`decision/stranger_detector.py` says
which).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

#: Units of a network, and networks whose mean the boundary is.
HIDDEN, MEMBERS = 32, 3
STEPS = 1500
BATCH = 128
RATE = 4e-3
DECAY = 0.1
#: Standard deviation of what is added to the standardised features while it learns.
NOISE = 0.15
#: Of the median of all features' spread, that each is taken for at least.
LEAST_SHARE = 0.02
#: Belts are left out in so many parts, so that own items are ranked by boundaries that have not
#: seen their belt.
PARTS = 4

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Boundary:
    """One hidden layer: [F, H], [H], [H]."""

    hidden: Floats
    bias: Floats
    outward: Floats

    @classmethod
    def none(cls, features: int) -> Boundary:
        """Return what stands for a boundary where none was learned."""
        empty = np.zeros(0, np.float32)
        return cls(np.zeros((features, 0), np.float32), empty, empty)


def fit_boundary(own: Floats, decoys: Floats, seed: int) -> Boundary:
    """Return a boundary between features [N, F] of own items and [M, F] of decoys.

    Both sides count alike, however many there are.
    """
    values = np.concatenate([own, decoys])
    mean, spread = values.mean(axis=0), values.std(axis=0)
    # What hardly differs must not decide.
    spread = np.maximum(spread, LEAST_SHARE * np.median(spread)) + 1e-9
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.from_numpy((values - mean) / spread)
    width = inputs.shape[1]
    outside = torch.zeros(len(values))
    outside[len(own) :] = 1.0
    weights = torch.where(outside > 0, len(own) / max(1, len(decoys)), 1.0)
    first = torch.randn(MEMBERS, width, HIDDEN, generator=generator) / width**0.5
    hidden, bias = first.requires_grad_(), torch.zeros(MEMBERS, 1, HIDDEN, requires_grad=True)
    last = torch.randn(MEMBERS, HIDDEN, 1, generator=generator) / HIDDEN**0.5
    outward = last.requires_grad_()
    optimiser = torch.optim.AdamW([hidden, bias, outward], lr=RATE, weight_decay=DECAY)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for pick in _batches(len(inputs), STEPS, generator):
        noise = NOISE * torch.randn(len(pick), width, generator=generator)
        sides = (torch.tanh((inputs[pick] + noise) @ hidden + bias) @ outward)[..., 0]
        loss = functional.binary_cross_entropy_with_logits(
            sides, outside[pick].expand_as(sides), weights[pick].expand_as(sides)
        )
        optimiser.zero_grad()
        (MEMBERS * loss).backward()
        optimiser.step()
        rates.step()
    # The mean of the members is one layer in which all their units lie beside each other.
    beside = hidden.detach().permute(1, 0, 2).reshape(width, -1).numpy() / spread[:, None]
    return Boundary(
        beside.astype(np.float32),
        (bias.detach().reshape(-1).numpy() - mean @ beside).astype(np.float32),
        outward.detach().reshape(-1).numpy().astype(np.float32) / np.float32(MEMBERS),
    )


def _batches(count: int, steps: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    order = torch.randperm(count, generator=generator)
    at = 0
    for _ in range(steps):
        if at + BATCH > count:
            order, at = torch.randperm(count, generator=generator), 0
        yield order[at : at + BATCH]
        at += BATCH


def belts_apart(belts: NDArray[np.int64], seed: int) -> list[NDArray[np.bool_]]:
    """Return which items [N] belong to each of some parts of the belts."""
    found = np.random.default_rng((seed, 67)).permutation(np.unique(belts))
    return [np.isin(belts, part) for part in np.array_split(found, min(PARTS, len(found)))]
