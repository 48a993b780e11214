# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The training of the edge's network: what restores the image, then everything."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from stl_conveyor_lab.train.averaging import running_average
from stl_conveyor_lab.train.codec.prefixes import draw_prefixes
from stl_conveyor_lab.train.lite0 import normalised
from stl_conveyor_lab.train.timed_run import TimedRun


def _parameter_groups(network, recipe):
    trunk = list(network.trunk.parameters())
    known = {id(p) for p in trunk} | {id(network.synthesis)}
    rest = [p for p in network.parameters() if id(p) not in known]
    network.synthesis.requires_grad_(False)
    return [
        {'params': trunk, 'lr': recipe.rate, 'weight_decay': 1e-4},
        {'params': rest, 'lr': recipe.new_rate, 'weight_decay': 1e-4},
    ]


def rate_factor(step, done):
    """Return what the rates are multiplied by, from the step and the share that is done."""
    return min((step + 1) / 40, 0.02 + 0.49 * (1 + math.cos(math.pi * min(done, 1))))


def restoration_error(restored, decoded, original):
    """Return the squared error of restored images, as a share of that of the decoded ones."""
    left = (restored - original).square().mean((1, 2, 3))
    return (left / (decoded - original).square().mean((1, 2, 3)).clamp_min(1e-4)).mean()


def loss_with_teacher(loss, logits, pooled, target, target_pooled, recipe):
    """Return a loss and what parts logits and pooled features from the strong classifier's."""
    loss = loss + recipe.distil * functional.kl_div(
        functional.log_softmax(logits, 1),
        functional.log_softmax(target, 1),
        reduction='batchmean',
        log_target=True,
    )
    return loss + recipe.feature * functional.mse_loss(pooled, target_pooled) / target_pooled.var()


def train_restoration(network, sampler, train, recipe, augment, checkpoint):
    """Train the restoration alone, by squared error on pieces of up to four patches square."""
    device = next(network.parameters()).device
    torch.manual_seed(recipe.seed)
    patch, crop = network.patch, min(sampler.grid, 4)
    run = TimedRun(
        checkpoint,
        {'restoration': network.restoration},
        torch.optim.AdamW(network.restoration.parameters(), lr=2e-3, weight_decay=1e-4),
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
        run.learn(restoration_error(network.restoration(decoded, received), decoded, original))


def train_edge(network, sampler, strong, train, side, recipe, augment, checkpoint):
    """Fine-tune the edge's network on prefixes; returns (its running average, the finished run).

    Resumes from `checkpoint`. Network, sampler and strong classifier lie on the same device.
    """
    torch.manual_seed(recipe.seed)
    device = next(network.parameters()).device
    average = running_average(network, recipe.average)
    optimiser = torch.optim.AdamW(_parameter_groups(network, recipe))
    optimiser.register_step_post_hook(lambda *_: average.update_parameters(network))
    run = TimedRun(
        checkpoint,
        {'network': network, 'average': average},
        optimiser,
        recipe.minutes,
        recipe.seed,
        rate_factor,
        2.0,
        recipe.steps,
    )
    order = np.random.default_rng(recipe.seed + 2).permutation(len(train.classes))
    each = recipe.batch // recipe.repeat
    while run.goes_on():
        pick = np.take(order, range(run.step * each, (run.step + 1) * each), mode='wrap')
        images = torch.from_numpy(augment(train.images[pick], run.rng)).to(device)
        original = normalised(images)
        with torch.no_grad():
            target, target_pooled = (
                part.repeat_interleave(recipe.repeat, 0) for part in strong(original)
            )
        images = images.repeat_interleave(recipe.repeat, 0)
        pick = pick.repeat(recipe.repeat)
        classes = torch.from_numpy(train.classes[pick]).to(device)
        count = len(pick)
        with torch.no_grad():
            latents, received = sampler(images, *draw_prefixes(run.rng, count, recipe, device))
            decoded = network.image(latents)
        restored = network.restored(decoded, received)
        logits, pooled = network.logits(latents, received, run.done >= recipe.late_share, restored)
        entropy = functional.cross_entropy(logits, classes, label_smoothing=recipe.smoothing)
        loss = entropy
        if side is not None:
            log_side = torch.log(torch.from_numpy(side[pick]).clamp_min(1e-5)).to(device)
            fused = network.fuse(logits, received, log_side, torch.ones(count, device=device))
            loss = loss + 0.5 * functional.cross_entropy(fused, classes)
        loss = loss_with_teacher(loss, logits, pooled, target, target_pooled, recipe)
        if network.restoration is not None and recipe.restore_weight:
            loss = loss + recipe.restore_weight * restoration_error(
                restored, decoded, original.repeat_interleave(recipe.repeat, 0)
            )
        run.learn(loss, entropy=entropy, right=(logits.argmax(1) == classes).float().mean())
    return average.module, run
