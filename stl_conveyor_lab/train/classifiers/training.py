# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The training of a classifier: its last layer, then the whole."""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from stl_conveyor_lab.train.augment import AUGMENT, augment_parts
from stl_conveyor_lab.train.averaging import running_average
from stl_conveyor_lab.train.classifiers.recipe import SEED


def augment(images, recipe, rng):
    """Return altered copies of uint8 images [N, S, S, 3], as the recipe says."""
    if recipe.augmentation == 'parts':
        return augment_parts(images, rng, recipe.shift)
    return AUGMENT[recipe.augmentation](images, rng)


def predict(network, pixels, batch=64):
    """Return logits float32 [N, C] of uint8 images."""
    network.eval()
    device = next(network.parameters()).device
    with torch.no_grad():
        return np.concatenate(
            [
                network(torch.from_numpy(pixels[i : i + batch]).to(device)).cpu().numpy()
                for i in range(0, len(pixels), batch)
            ]
        )


def fit_last_layer(network, images, seed=SEED, decay=0.1):
    """Fit the last layer of a pretrained network before anything else of it is changed.

    A pass over LabelledImages and a logistic regression on what it finds: most of what a
    fine-tuning wins, in a fraction of the time, and it then need not undo what a random layer
    would do to the features (Kumar et al., ICLR 2022).
    """
    network.eval()
    device = next(network.parameters()).device
    found = []
    with torch.no_grad():
        for at in range(0, len(images.classes), 64):
            found.append(
                network.pooled(torch.from_numpy(images.images[at : at + 64]).to(device)).cpu()
            )
            if at % 1024 == 960:
                print(f'features of {at + 64} of {len(images.classes)} images', flush=True)
    features, classes = torch.cat(found), torch.from_numpy(images.classes)
    mean, spread = features.mean(0), features.std(0).mean().clamp_min(1e-6)
    features = (features - mean) / spread
    torch.manual_seed(seed)
    layer = nn.Linear(features.shape[1], network.trunk.classifier.out_features)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=60, line_search_fn='strong_wolfe')

    def closure():
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
    print(f'last layer fitted: right on {float(right):.3f} of the training images', flush=True)


def _parameter_groups(network, recipe):
    new = {id(p) for layer in getattr(network, 'new_layers', ()) for p in layer.parameters()}
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        ([p for p in parameters if id(p) not in new], recipe.rate),
        ([p for p in parameters if id(p) in new], recipe.rate * recipe.new_rate),
    ]
    return [{'params': part, 'lr': rate} for part, rate in groups if part]


def train(network, recipe, train_images, val_images, checkpoint, seed=SEED):
    """Fit a network where it lies, with progress and a checkpoint a minute.

    checkpoint: path of the file to resume from and to write. Returns the network (the average of
    its weights, if the recipe says so), the curve as a list of (step, loss, validation accuracy),
    and the minutes spent.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    device = next(network.parameters()).device
    count = len(train_images.classes)
    batch = min(recipe.batch, count)
    steps = max(1, int(recipe.epochs * count / batch))
    groups = _parameter_groups(network, recipe)
    weights = [p for group in groups for p in group['params']]
    optimiser = torch.optim.AdamW(groups, weight_decay=recipe.decay)
    rates = [group['lr'] for group in groups]
    average = running_average(network, recipe.average) if recipe.average else None
    warm_up = max(1, min(steps // 20, 100))
    state = {'step': 0, 'curve': [], 'seconds': 0.0}
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location='cpu', weights_only=False)
        network.load_state_dict(saved['network'])
        optimiser.load_state_dict(saved['optimiser'])
        if average is not None:
            average.load_state_dict(saved['average'])
        rng.bit_generator.state = saved['rng']
        state = {key: saved[key] for key in state}
        print(f'resumed at step {state["step"]}', flush=True)

    def save():
        state['seconds'] = spent + time.monotonic() - begun
        partial = checkpoint.with_suffix('.part')
        torch.save(
            {
                'network': network.state_dict(),
                'optimiser': optimiser.state_dict(),
                'average': average.state_dict() if average is not None else None,
                'rng': rng.bit_generator.state,
                **state,
            },
            partial,
        )
        partial.rename(checkpoint)

    def progress():
        part = state['step'] / steps
        seconds = spent + time.monotonic() - begun
        return max(part, seconds / (60 * recipe.minutes)) if recipe.minutes else part

    begun, saved_at, shown_at, losses = time.monotonic(), time.monotonic(), 0.0, []
    spent = state['seconds']
    first = state['step']
    stride = max(1, len(val_images.classes) // 250)
    order = np.random.default_rng(seed + 1)
    queue = np.array([], np.int64)
    while (done := progress()) < 1:
        while len(queue) < batch:
            queue = np.concatenate([queue, order.permutation(count)])
        pick, queue = queue[:batch], queue[batch:]
        pixels = torch.from_numpy(augment(train_images.images[pick], recipe, rng)).to(device)
        classes = torch.from_numpy(train_images.classes[pick]).to(device)
        factor = min((state['step'] + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * done)))
        for group, rate in zip(optimiser.param_groups, rates):
            group['lr'] = rate * factor
        network.train()
        loss = functional.cross_entropy(network(pixels), classes, label_smoothing=recipe.smoothing)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 2.0)
        optimiser.step()
        if average is not None:
            average.update_parameters(network)
        state['step'] += 1
        losses.append(float(loss.detach()))
        now = time.monotonic()
        if now - shown_at > 20:
            accuracy = float(
                (
                    predict(network, val_images.images[::stride]).argmax(1)
                    == val_images.classes[::stride]
                ).mean()
            )
            shown_at = time.monotonic()
            state['curve'].append((state['step'], float(np.mean(losses)), accuracy))
            left = (
                (now - begun) * (1 / max(progress(), 1e-6) - 1)
                if not first
                else (now - begun) / (state['step'] - first) * (steps - state['step'])
            )
            if recipe.minutes:
                left = min(left, 60 * recipe.minutes - spent - now + begun)
            print(
                f'step {state["step"]} of {steps}, {progress():.0%}  '
                f'loss {np.mean(losses):.3f}  validation {accuracy:.3f}  '
                f'{max(0, left) / 60:.1f} min left',
                flush=True,
            )
            losses = []
        if now - saved_at > 60:
            saved_at = now
            save()
    if losses:
        accuracy = float(
            (predict(network, val_images.images).argmax(1) == val_images.classes).mean()
        )
        state['curve'].append((state['step'], float(np.mean(losses)), accuracy))
    passes = state['step'] * batch / count
    print(
        f'{passes:.1f} passes over the images'
        + ('; that is little, give it more minutes' if passes < 2 else ''),
        flush=True,
    )
    save()
    return (network if average is None else average.module), state['curve'], state['seconds'] / 60
