# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The training of a classifier: its last layer first, then the whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stl_conveyor.vision.image_folder import LabelledImages
from stl_conveyor_lab.train.augment import AUGMENT, augment_parts
from stl_conveyor_lab.train.averaging import average_of_steps
from stl_conveyor_lab.train.classifiers.networks import FoldedStrongNet
from stl_conveyor_lab.train.classifiers.recipe import SEED, ClassifierRecipe
from stl_conveyor_lab.train.time_plan import UNLIMITED, Allowance
from stl_conveyor_lab.train.timed_run import TimedRun

#: Most validation images on which the accuracy in a line of progress is measured, about.
JUDGED = 250


def augment(images: np.ndarray, recipe: ClassifierRecipe, rng: np.random.Generator) -> np.ndarray:
    """Return altered copies of images uint8 [N, S, S, 3], as the recipe says."""
    if recipe.augmentation == 'parts':
        return augment_parts(images, rng, recipe.shift)
    return AUGMENT[recipe.augmentation](images, rng)


def predict(network: nn.Module, pixels: np.ndarray, batch: int = 64) -> np.ndarray:
    """Return logits float32 [N, C] of images uint8 [N, S, S, 3]."""
    network.eval()
    device = next(network.parameters()).device
    with torch.no_grad():
        return np.concatenate(
            [
                network(torch.from_numpy(pixels[i : i + batch]).to(device)).cpu().numpy()
                for i in range(0, len(pixels), batch)
            ]
        )


def accuracy(network: nn.Module, images: LabelledImages, stride: int = 1) -> float:
    """Return the share of right answers to every `stride`-th image."""
    answers = predict(network, images.images[::stride]).argmax(1)
    return float((answers == images.classes[::stride]).mean())


def fit_last_layer(
    network: FoldedStrongNet,
    images: LabelledImages,
    seed: int = SEED,
    decay: float = 0.1,
    allowance: Allowance = UNLIMITED,
) -> None:
    """Fit the last layer of a pretrained network before anything else of it is changed.

    A pass over the images and a logistic regression on what it finds win most of what a
    fine-tuning wins, in a fraction of the time; and the fine-tuning then need not undo what a
    random layer would do to the features (Kumar et al., ICLR 2022).

    Args:
        network: Its last layer is changed.
        images: Of the training split.
        seed: Of the regression, and of the order in which the images are taken.
        decay: Weight of the squared weights in the loss.
        allowance: Time for the pass over the images; the layer is fitted on those that it
            reached.
    """
    network.eval()
    device = next(network.parameters()).device
    order = np.random.default_rng(seed).permutation(len(images.classes))
    found = []
    with torch.no_grad():
        for part in allowance.blocks(
            len(order), 64, least=4 * network.trunk.classifier.out_features
        ):
            pixels = torch.from_numpy(images.images[order[part]]).to(device)
            found.append(network.pooled(pixels).cpu())
            if part.stop % 1024 == 0:
                print(f'features of {part.stop} of {len(order)} images', flush=True)
    features = torch.cat(found)
    classes = torch.from_numpy(images.classes[order[: len(features)]])
    mean, spread = features.mean(0), features.std(0).mean().clamp_min(1e-6)
    features = (features - mean) / spread
    torch.manual_seed(seed)
    layer = nn.Linear(features.shape[1], network.trunk.classifier.out_features)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=60, line_search_fn='strong_wolfe')

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = (
            functional.cross_entropy(layer(features), classes)
            + decay * layer.weight.square().sum()
        )
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        weight = layer.weight / spread
        network.trunk.classifier.weight.copy_(weight)
        network.trunk.classifier.bias.copy_(layer.bias - weight @ mean)
        right = (layer(features).argmax(1) == classes).float().mean()
    print(
        f'last layer fitted: right on {float(right):.3f} of {len(features)} training images',
        flush=True,
    )


def _parameter_groups(network: nn.Module, recipe: ClassifierRecipe) -> list[dict[str, Any]]:
    new = {id(p) for layer in getattr(network, 'new_layers', ()) for p in layer.parameters()}
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        ([p for p in parameters if id(p) not in new], recipe.rate),
        ([p for p in parameters if id(p) in new], recipe.rate * recipe.new_rate),
    ]
    return [{'params': part, 'lr': rate} for part, rate in groups if part]


def _batches(count: int, batch: int, seed: int) -> Iterator[np.ndarray]:
    """Yield indices int64 [batch] without end: pass after pass, each in an order of its own."""
    order = np.random.default_rng(seed)
    queue = np.array([], np.int64)
    while True:
        while len(queue) < batch:
            queue = np.concatenate([queue, order.permutation(count)])
        yield queue[:batch]
        queue = queue[batch:]


def fit_classifier(
    network: nn.Module,
    recipe: ClassifierRecipe,
    train: LabelledImages,
    validation: LabelledImages,
    checkpoint: Path,
    seed: int = SEED,
) -> tuple[nn.Module, TimedRun]:
    """Fit a network where it lies; a training that was stopped goes on from its checkpoint.

    Args:
        network: Takes images uint8 [N, S, S, 3] and returns logits [N, C].
        recipe: How long and how hard.
        train: Images to learn from.
        validation: Images for the accuracy in progress and curve; nothing is learned from them.
        checkpoint: The file to go on from and to write.
        seed: Of the order of the images and of their augmentation.

    Returns:
        The network (the average of its weights, if the recipe says so), and the finished run,
        whose curve has rows of (step, loss, validation accuracy).
    """
    torch.manual_seed(seed)
    device = next(network.parameters()).device
    count = len(train.classes)
    batch = min(recipe.batch, count)
    steps = max(1, int(recipe.epochs * count / batch))
    warm_up = max(1, min(steps // 20, 100))
    stride = max(1, len(validation.classes) // JUDGED)
    optimiser = torch.optim.AdamW(_parameter_groups(network, recipe), weight_decay=recipe.decay)
    modules: dict[str, nn.Module] = {'network': network}
    result = network
    if recipe.average:
        average = modules['average'] = average_of_steps(network, optimiser, recipe.average)
        result = average.module
    run = TimedRun(
        checkpoint,
        modules,
        optimiser,
        recipe.minutes,
        seed,
        lambda step, done: min((step + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * done))),
        clip=2.0,
        steps=steps,
        judge=lambda last: {'validation': accuracy(network, validation, 1 if last else stride)},
    )
    picks = islice(_batches(count, batch, seed + 1), run.step, None)
    while run.goes_on():
        pick = next(picks)
        pixels = torch.from_numpy(augment(train.images[pick], recipe, run.rng)).to(device)
        classes = torch.from_numpy(train.classes[pick]).to(device)
        network.train()
        run.learn(
            functional.cross_entropy(network(pixels), classes, label_smoothing=recipe.smoothing)
        )
    passes = run.step * batch / count
    print(
        f'{passes:.1f} passes over the images'
        + ('; that is little, give it more minutes' if passes < 2 else ''),
        flush=True,
    )
    return result, run
