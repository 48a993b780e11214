# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The training of the edge's network: what restores the image, then everything."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from stl_conveyor.vision.image_folder import LabelledImages
from stl_conveyor_lab.train.augment import Augmentation, mixed_with
from stl_conveyor_lab.train.averaging import average_of_steps
from stl_conveyor_lab.train.codec.edge_network import EdgeNetwork
from stl_conveyor_lab.train.codec.prefixes import PrefixSampler, draw_prefixes
from stl_conveyor_lab.train.codec.recipe import CodecRecipe, Distillation
from stl_conveyor_lab.train.lite0 import FoldedTrunk, normalised
from stl_conveyor_lab.train.timed_run import TimedRun


def parameter_groups(network: EdgeNetwork, recipe: CodecRecipe) -> list[dict[str, Any]]:
    """Return the groups of an optimiser: the trunk, and what is new; the synthesis is fixed."""
    trunk = list(network.trunk.parameters())
    known = {id(p) for p in trunk} | {id(network.synthesis)}
    rest = [p for p in network.parameters() if id(p) not in known]
    network.synthesis.requires_grad_(False)
    return [
        {'params': trunk, 'lr': recipe.rate, 'weight_decay': 1e-4},
        {'params': rest, 'lr': recipe.new_rate, 'weight_decay': 1e-4},
    ]


def rate_factor(step: int, done: float) -> float:
    """Return what the rates are multiplied by, from the step and the share that is done."""
    return min((step + 1) / 40, 0.02 + 0.49 * (1 + math.cos(math.pi * min(done, 1))))


def begin_training(
    network: EdgeNetwork, recipe: CodecRecipe, checkpoint: Path
) -> tuple[AveragedModel, TimedRun]:
    """Return the running average of a network that is to be trained, and the run.

    Args:
        network: It is changed, and lies already where it is trained.
        recipe: How long and how hard.
        checkpoint: The file to go on from and to write.
    """
    torch.manual_seed(recipe.seed)
    optimiser = torch.optim.AdamW(parameter_groups(network, recipe))
    average = average_of_steps(network, optimiser, recipe.average)
    run = TimedRun(
        checkpoint,
        {'network': network, 'average': average},
        optimiser,
        recipe.minutes,
        recipe.seed,
        rate_factor,
        clip=2.0,
        steps=recipe.steps,
    )
    return average, run


def picks(run: TimedRun, count: int, recipe: CodecRecipe) -> Iterator[np.ndarray]:
    """Yield the places of each step's images among so many, until the run is over."""
    order = np.random.default_rng(recipe.seed + 2).permutation(count)
    each = recipe.batch // recipe.repeat
    while run.goes_on():
        yield np.take(order, range(run.step * each, (run.step + 1) * each), mode='wrap')


def restoration_error(restored: Tensor, decoded: Tensor, original: Tensor) -> Tensor:
    """Return the squared error of restored images, as a share of that of the decoded ones."""
    left = (restored - original).square().mean((1, 2, 3))
    return (left / (decoded - original).square().mean((1, 2, 3)).clamp_min(1e-4)).mean()


def divergence_from(target: Tensor, logits: Tensor) -> Tensor:
    """Return the mean Kullback-Leibler divergence of answers from those on the originals."""
    return functional.kl_div(
        functional.log_softmax(logits, 1),
        functional.log_softmax(target, 1),
        reduction='batchmean',
        log_target=True,
    )


def loss_with_teacher(
    loss: Tensor,
    logits: Tensor,
    pooled: Tensor,
    target: Tensor,
    target_pooled: Tensor,
    recipe: Distillation,
) -> Tensor:
    """Return a loss plus what separates logits and pooled features from the strong model's."""
    loss = loss + recipe.distil * divergence_from(target, logits)
    return loss + recipe.feature * functional.mse_loss(pooled, target_pooled) / target_pooled.var()


@dataclass(frozen=True)
class Reading:
    """What a network makes of prefixes of images, beside what the strong model makes of these.

    Attributes:
        received: Bytes f32[N].
        logits: Of the network f32[N, C].
        pooled: Its features f32[N, F].
        target: Logits of the strong model on the originals f32[N, C].
        target_pooled: Its features f32[N, F].
        restored: Images f32[N, 3, S, S] as the network classifies them.
        decoded: The same before they were restored.
        original: The images that were encoded.
    """

    received: Tensor
    logits: Tensor
    pooled: Tensor
    target: Tensor
    target_pooled: Tensor
    restored: Tensor
    decoded: Tensor
    original: Tensor

    def with_teacher(self, loss: Tensor, recipe: CodecRecipe) -> Tensor:
        """Return a loss plus what separates answer, features and image from the strong model's."""
        loss = loss_with_teacher(
            loss, self.logits, self.pooled, self.target, self.target_pooled, recipe
        )
        if self.restored is not self.decoded and recipe.restore_weight:
            error = restoration_error(self.restored, self.decoded, self.original)
            loss = loss + recipe.restore_weight * error
        return loss


def read_prefixes(
    network: EdgeNetwork,
    sampler: PrefixSampler,
    strong: FoldedTrunk,
    images: np.ndarray,
    recipe: CodecRecipe,
    run: TimedRun,
) -> Reading:
    """Encode images, cut them at random lengths and have the network read what is left.

    Args:
        network: Reads the prefixes.
        sampler: Gives their latents.
        strong: Reads the originals.
        images: u8[N, S, S, 3].
        recipe: How many prefixes of each image, and of which lengths.
        run: The training, whose generator draws the lengths.
    """
    device = next(network.parameters()).device
    pixels = torch.from_numpy(images).to(device)
    original = normalised(pixels)
    with torch.no_grad():
        target, target_pooled = (
            part.repeat_interleave(recipe.repeat, 0) for part in strong(original)
        )
        pixels = pixels.repeat_interleave(recipe.repeat, 0)
        drawn = draw_prefixes(run.rng, len(pixels), recipe, device)
        latents, received = sampler(pixels, *drawn)
        decoded = network.image(latents)
    restored = network.restored(decoded, received)
    logits, pooled = network.logits(latents, received, run.done >= recipe.late_share, restored)
    return Reading(
        received,
        logits,
        pooled,
        target,
        target_pooled,
        restored,
        decoded,
        original.repeat_interleave(recipe.repeat, 0),
    )


def train_restoration(
    network: EdgeNetwork,
    sampler: PrefixSampler,
    train: LabelledImages,
    recipe: CodecRecipe,
    augment: Augmentation,
    checkpoint: Path,
) -> None:
    """Train the restoration alone, by squared error on pieces of up to four patches square.

    Args:
        network: Its restoration is changed.
        sampler: Gives the latents of prefixes; lies on the network's device.
        train: The images.
        recipe: How long, and which lengths.
        augment: Alters the images.
        checkpoint: The file to go on from and to write.

    Raises:
        ValueError: If the network has no restoration.
    """
    restoration = network.restoration
    if restoration is None:
        raise ValueError('this network has nothing that restores the image: give a width')
    device = next(network.parameters()).device
    torch.manual_seed(recipe.seed)
    patch, crop = network.patch, min(sampler.grid, 4)
    run = TimedRun(
        checkpoint,
        {'restoration': restoration},
        torch.optim.AdamW(restoration.parameters(), lr=2e-3, weight_decay=1e-4),
        recipe.restore_minutes,
        recipe.seed,
        rate_factor,
    )
    while run.goes_on():
        pick = run.rng.integers(0, len(train.images), 16)
        images = torch.from_numpy(augment(train.images[pick], run.rng)).to(device)
        top, left = run.rng.integers(0, sampler.grid - crop + 1, 2) * patch
        with torch.no_grad():
            latents, received = sampler(
                images, *draw_prefixes(run.rng, len(images), recipe, device)
            )
            decoded, original = (
                whole[:, :, top : top + crop * patch, left : left + crop * patch]
                for whole in (network.image(latents), normalised(images))
            )
        run.learn(restoration_error(restoration(decoded, received), decoded, original))


def train_edge(
    network: EdgeNetwork,
    sampler: PrefixSampler,
    strong: FoldedTrunk,
    train: LabelledImages,
    side: np.ndarray | None,
    recipe: CodecRecipe,
    augment: Augmentation,
    checkpoint: Path,
) -> tuple[EdgeNetwork, TimedRun]:
    """Fine-tune the edge's network on prefixes.

    Args:
        network: It is changed.
        sampler: Gives the latents of prefixes; lies, like `strong`, on the network's device.
        strong: Teaches on the original images.
        train: The images.
        side: The device's own probabilities f32[N, C] of them; None trains without.
        recipe: How long and how hard.
        augment: Alters the images.
        checkpoint: The file to go on from and to write.

    Returns:
        The running average of the network, and the finished run, whose curve has rows of (step,
        loss, cross-entropy, share of right answers).
    """
    device = next(network.parameters()).device
    average, run = begin_training(network, recipe, checkpoint)
    for pick in picks(run, len(train.classes), recipe):
        images = augment(train.images[pick], run.rng)
        mixed = min(int(recipe.mixed * len(images)), len(images) - 1)  # one at least has a class
        images[:mixed] = mixed_with(images[:mixed], images[np.arange(mixed) - 1], run.rng)
        reading = read_prefixes(network, sampler, strong, images, recipe, run)
        of_a_class = slice(mixed * recipe.repeat, None)
        logits, received = reading.logits[of_a_class], reading.received[of_a_class]
        pick = pick[mixed:].repeat(recipe.repeat)
        classes = torch.from_numpy(train.classes[pick]).to(device)
        entropy = functional.cross_entropy(logits, classes, label_smoothing=recipe.smoothing)
        loss = entropy
        if side is not None:
            log_side = torch.log(torch.from_numpy(side[pick]).clamp_min(1e-5)).to(device)
            fused = network.fuse(logits, received, log_side, torch.ones(len(pick), device=device))
            loss = loss + 0.5 * functional.cross_entropy(fused, classes)
        loss = reading.with_teacher(loss, recipe)
        run.learn(loss, entropy=entropy, right=(logits.argmax(1) == classes).float().mean())
    return cast(EdgeNetwork, average.module), run
