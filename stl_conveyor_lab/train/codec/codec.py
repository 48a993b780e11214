# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
r"""Train the progressive codec: from images and a strong classifier to shipped files.

    python -m stl_conveyor_lab.train.codec.codec --data FOLDER --strong strong.pt --work FOLDER \\
        --models FOLDER

The transform is a PCA of image patches; groups are ordered by what they tell the strong
classifier per bit; the strong classifier is then fine-tuned, as the edge's network, on prefixes
of random length. The recipe of the second part: what restores the decoded image is trained alone
first, by its squared error; then everything by the cross-entropy of the answer with and without
the device's own probabilities, and distillation from the strong classifier on the original image.
Training resumes from its last checkpoint; the same seed gives the same files on the same machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor.codec.wire import side_levels, side_probabilities
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.vision.image_folder import LabelledImages, load_images
from stl_conveyor_lab.train.augment import AUGMENT
from stl_conveyor_lab.train.averaging import blend
from stl_conveyor_lab.train.codec.edge_network import EdgeNetwork
from stl_conveyor_lab.train.codec.export import export_codec
from stl_conveyor_lab.train.codec.fit import fit_side_table
from stl_conveyor_lab.train.codec.importance import fit_codec
from stl_conveyor_lab.train.codec.measuring import measure_codec
from stl_conveyor_lab.train.codec.prefixes import prefix_sampler
from stl_conveyor_lab.train.codec.recipe import CodecRecipe
from stl_conveyor_lab.train.codec.running_start import RunningStart
from stl_conveyor_lab.train.codec.temperature import fit_temperatures
from stl_conveyor_lab.train.codec.training import train_edge, train_restoration
from stl_conveyor_lab.train.codec.trunk_share import give_best_share
from stl_conveyor_lab.train.lite0 import channels_last, load_strong, title
from stl_conveyor_lab.train.manifest import write_card
from stl_conveyor_lab.train.processor import set_up_processor
from stl_conveyor_lab.train.recipe_options import add_recipe, recipe_of
from stl_conveyor_lab.train.splits import training_and_validation
from stl_conveyor_lab.train.time_plan import UNLIMITED, Allowance

#: Parts of a limited time: what the device says to the images, the fit of the codec; then, of the
#: whole, what is kept for temperatures and measuring. The gradients have the rest.
SIDE_SHARE, FIT_SHARE, TEMPERATURE_SHARE, MEASURE_SHARE = 0.08, 0.25, 0.06, 0.14
#: Of the gradients, what trains the restoration alone.
RESTORE_SHARE = 0.12
#: Seconds for the export of the network, about, on two cores.
EXPORT_SECONDS = 6.0
#: Fewest images that are learned from, and a training's shortest time in minutes.
LEAST_IMAGES, LEAST_MINUTES = 200, 1e-3


def local_probabilities(
    models: Path, images: np.ndarray, allowance: Allowance = UNLIMITED
) -> np.ndarray | None:
    """Return the weak model's probabilities, or None if the folder has none.

    f32[N, C], of the first images only where the time does not allow all.
    """
    folder = ModelFolder(models) if (Path(models) / 'manifest.json').exists() else None
    if folder is None or 'weak' not in folder.roles:
        return None
    weak = Classifier(folder.path('weak'), threads=1)
    found = np.concatenate(
        [
            weak.classify_batch(images[part])
            for part in allowance.blocks(len(images), 64, LEAST_IMAGES)
        ]
    )
    return np.stack([side_probabilities(side_levels(row, 16)) for row in found])


def train_codec(
    data: Path,
    strong_path: Path,
    work: Path,
    models: Path,
    labels: Sequence[str],
    size: int,
    recipe: CodecRecipe,
    augment: str = 'parts',
    test_images: int = 600,
    name: str | None = None,
    device: str = 'cpu',
    allowance: Allowance = UNLIMITED,
    start: RunningStart | None = None,
) -> dict[str, Any]:
    """Run the whole recipe and enter `encoder` and `edge` into a model folder.

    Args:
        data: Folder with train, and val and test if there are such images.
        strong_path: The strong classifier, a checkpoint or an exported file.
        work: Folder for checkpoints and curves.
        models: The model folder to write.
        labels: The classes.
        size: Side of the images in pixels.
        recipe: Everything else that decides on the result.
        augment: A key of AUGMENT.
        test_images: Most images to measure on.
        name: Of the set of models; None keeps the one that the manifest has.
        device: Does the gradients ('cpu', 'cuda'); all else runs on the processor.
        allowance: Time for all of it; where it is limited, the recipe's minutes are not looked
            at.
        start: What the training starts from; its patches and the width of its restoration are
            taken instead of the recipe's. None starts from nothing.

    Returns:
        The edge's model card.

    Raises:
        FileNotFoundError: When there are no images.
    """
    work.mkdir(parents=True, exist_ok=True)
    models.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    if start is not None:
        recipe = replace(recipe, patch=start.patch, restore=start.restore)
    train, validation = training_and_validation(data, labels, size, recipe.seed)
    # In no order: where the time ends early, what it reached is of all classes.
    train = train.sample(len(train.classes), recipe.seed)
    keep = (TEMPERATURE_SHARE + MEASURE_SHARE) * allowance.seconds_left + EXPORT_SECONDS
    test = (
        load_images(data, 'test', labels, size)
        or load_images(data, 'validation', labels, size)
        or validation
    )
    print(
        f'{len(train.classes)} training, {len(validation.classes)} validation, '
        f'{len(test.classes)} test images',
        flush=True,
    )
    strong = load_strong(strong_path, len(labels), size).eval().to(device)
    channels_last(strong)
    side = local_probabilities(models, train.images, allowance.part(SIDE_SHARE))
    if side is not None and len(side) < len(train.classes):
        print(f'learned from {len(side)} of the training images', flush=True)
        train = LabelledImages(train.images[: len(side)], train.classes[: len(side)])
    codec_path = work / 'encoder.npz'
    spec = (
        CodecSpec.load(codec_path)
        if codec_path.exists()
        else fit_codec(
            train,
            strong,
            len(labels),
            side,
            recipe,
            codec_path,
            allowance.but(keep).part(FIT_SHARE),
        )
    )
    sampler = prefix_sampler(spec, train.images)
    trained_from = load_strong(strong_path, len(labels), size)
    network = EdgeNetwork(trained_from, spec, mirror=bool(recipe.mirror), restore=recipe.restore)
    network = channels_last(network.to(device))
    sampler.to(device)
    share = None
    if start is not None:
        share = give_best_share(
            start, network, sampler, validation, recipe.seed, work / 'trunk_share.json'
        )
    trunk_before = deepcopy(network.trunk).cpu()
    if allowance.limited:
        minutes = max(allowance.but(keep).seconds_left / 60, LEAST_MINUTES)
        alone = RESTORE_SHARE * minutes if recipe.restore and start is None else 0.0
        recipe = replace(recipe, minutes=minutes - alone, restore_minutes=alone)
    if recipe.restore and start is None:
        train_restoration(
            network, sampler, train, recipe, AUGMENT[augment], work / 'restoration.checkpoint.pt'
        )
    network, run = train_edge(
        network,
        sampler,
        strong,
        train,
        side,
        recipe,
        AUGMENT[augment],
        work / 'edge.checkpoint.pt',
    )
    network, sampler, strong = network.cpu(), sampler.cpu(), strong.cpu()
    blend(network.trunk, trunk_before, recipe.strong_share)
    limited = validation.sample(1200, recipe.seed)
    local_validation = local_probabilities(models, limited.images)
    fit_temperatures(
        network,
        sampler,
        limited,
        local_validation,
        recipe,
        allowance=allowance.part(TEMPERATURE_SHARE / (TEMPERATURE_SHARE + MEASURE_SHARE)),
    )

    if local_validation is not None:
        spec = replace(spec, side_table=fit_side_table(local_validation))
    export_codec(spec, network, models, labels, name)
    minutes = (time.monotonic() - begun) / 60

    measured = test.sample(test_images, seed=1)
    facts = measure_codec(
        network, spec, strong, measured, models, run.curve, work / 'codec.png', allowance
    )
    card = {
        'role': 'edge',
        'trunk': title(strong.name),
        'recipe': asdict(recipe),
        'augmentation': augment,
        'running_start': start is not None,
        'running_start_share_of_trunk': share,
        'training_images': len(train.classes),
        'training_minutes': round(minutes, 1),
        'steps': run.step,
        **facts,
    }
    write_card(models, 'edge', card)
    write_card(
        models,
        'encoder',
        {
            'role': 'encoder',
            'recipe': asdict(recipe),
            'training_images': len(train.classes),
            **_encoder_facts(spec, models),
            'milliseconds': facts['milliseconds']['encode_1024'],
            'measured_on': facts['measured_on'],
        },
    )
    print(json.dumps(card, indent=1))
    return card


def _encoder_facts(spec: CodecSpec, models: Path) -> dict[str, Any]:
    return {
        'channels': spec.channels,
        'groups': spec.groups,
        'bytes': (models / 'encoder.npz').stat().st_size,
        'parameters': int(spec.analysis.size),
        'macs': int(spec.analysis.size) * spec.grid**2,
    }


def _labels(data: Path, models: Path) -> tuple[list[str], int]:
    if (Path(models) / 'manifest.json').exists():
        folder = ModelFolder(models)
        return list(folder.labels), folder.image_size
    return sorted(p.name for p in (Path(data) / 'train').iterdir() if p.is_dir()), 160


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument(
        '--data',
        type=Path,
        required=True,
        help='folder with train/ (val/, test/): .npz shards, a folder per label, or train.csv',
    )
    parser.add_argument(
        '--strong',
        type=Path,
        required=True,
        help='EfficientNet-Lite of these labels: checkpoint or strong.onnx',
    )
    parser.add_argument('--work', type=Path, required=True, help='checkpoints and curves')
    parser.add_argument('--models', type=Path, required=True, help='the model folder to write')
    parser.add_argument('--augment', choices=sorted(AUGMENT), default='parts')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--test-images', type=int, default=600)
    parser.add_argument(
        '--start',
        type=Path,
        help='a running start, such as shipped/photos.npz here; default: from nothing',
    )
    add_recipe(parser, CodecRecipe())
    options = parser.parse_args(arguments)
    set_up_processor(options.threads)
    recipe = recipe_of(options, CodecRecipe)
    labels, size = _labels(options.data, options.models)
    train_codec(
        options.data,
        options.strong,
        options.work,
        options.models,
        labels,
        size,
        recipe,
        options.augment,
        options.test_images,
        device=options.device,
        start=None if options.start is None else RunningStart.load(options.start),
    )


if __name__ == '__main__':
    main()
