# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Temperatures of the edge's answer, and the weight of the local one, on validation images."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stl_conveyor.vision.image_folder import LabelledImages
from stl_conveyor_lab.train.codec.edge_network import EdgeNetwork, byte_features
from stl_conveyor_lab.train.codec.prefixes import PrefixSampler
from stl_conveyor_lab.train.codec.recipe import CodecRecipe
from stl_conveyor_lab.train.time_plan import UNLIMITED, Allowance

#: Fewest images that the temperatures are fitted on.
LEAST_IMAGES = 64


def _smooth_knots(values: Tensor) -> Tensor:
    return (values[1:] - values[:-1]).square().sum()


@torch.no_grad()
def keep_to_the_local_answer(
    network: EdgeNetwork,
    logits: Tensor,
    received: Tensor,
    log_side: Tensor,
    classes: Tensor,
    most: float = 3.0,
) -> None:
    """Trust the network less where the side information alone is right more often.

    Likelihood sets both weights, but what is right most often may want less of the network where
    little has arrived: there the answer is to start at the local one's accuracy. Each knot counts
    the images around it, the longest first because a weight reaches to the next knot. At most
    the network's weight is divided by `most`: validation images are few, and on too few of them
    the local answer alone would win at lengths where it should not.
    """
    nearness, everywhere = byte_features(received), torch.ones(len(classes))
    local = (log_side.argmax(1) == classes).float() @ nearness
    steps = 5
    for knot in reversed(range(nearness.shape[1])):
        for _ in range(steps):
            fused = network.fuse(logits, received, log_side, everywhere)
            if (fused.argmax(1) == classes).float() @ nearness[:, knot] >= local[knot]:
                break
            network.fused_temperature[knot] -= math.log(most) / steps


def fit_temperatures(
    network: EdgeNetwork,
    sampler: PrefixSampler,
    validation: LabelledImages,
    side: np.ndarray | None,
    recipe: CodecRecipe,
    draws: int = 3,
    allowance: Allowance = UNLIMITED,
) -> None:
    """Fit temperatures and the weight of the side information on validation images.

    Args:
        network: Its temperatures and weights by length are changed, nothing else.
        sampler: Gives the latents of prefixes.
        validation: Images that the network was not trained on.
        side: The device's own probabilities f32[N, C] of them; None leaves their weight.
        recipe: Its seed, and the range of the lengths.
        draws: Prefixes of each image.
        allowance: Time for what the network makes of the prefixes; the weights are fitted on
            those that it reached.
    """
    rng = np.random.default_rng(recipe.seed + 1)
    torch.manual_seed(recipe.seed + 1)
    answers: list[Tensor] = []
    sizes: list[Tensor] = []
    numbers: list[np.ndarray] = []
    network.eval()
    with torch.no_grad():
        for draw in range(draws):
            if draw and allowance.is_over:
                break
            for part in allowance.blocks(len(validation.classes), 32, least=LEAST_IMAGES):
                images = torch.from_numpy(validation.images[part])
                lengths = torch.from_numpy(
                    np.exp(
                        rng.uniform(
                            math.log(recipe.shortest), math.log(1.5 * recipe.longest), len(images)
                        )
                    )
                ).float()
                latents, arrived = sampler(images, lengths)
                answers.append(network.logits(latents, arrived)[0])
                sizes.append(arrived)
                numbers.append(np.arange(part.start, part.stop))
    logits, received = torch.cat(answers), torch.cat(sizes)
    picks = np.concatenate(numbers)
    classes = torch.from_numpy(validation.classes[picks])
    log_side = None if side is None else torch.log(torch.from_numpy(side[picks]).clamp_min(1e-5))
    parameters = [network.temperature, network.fused_temperature, network.side_weight]
    optimiser = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn='strong_wolfe')
    none, whole = torch.zeros(len(classes)), torch.ones(len(classes))

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = functional.cross_entropy(
            network.fuse(logits, received, torch.zeros_like(logits), none), classes
        )
        if log_side is not None:
            loss = loss + functional.cross_entropy(
                network.fuse(logits, received, log_side, whole), classes
            )
        loss = loss + 0.02 * sum(map(_smooth_knots, parameters))
        loss.backward()
        return loss

    optimiser.step(closure)
    if log_side is not None:
        keep_to_the_local_answer(network, logits, received, log_side, classes)
    for name in ('temperature', 'fused_temperature', 'side_weight'):
        print(name, np.round(getattr(network, name).detach().numpy(), 2).tolist(), flush=True)
