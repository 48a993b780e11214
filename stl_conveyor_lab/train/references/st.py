# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
r"""Train ST, the published progressive codec, to compare with.

    python -m stl_conveyor_lab.train.references.st --data FOLDER --models FOLDER \\
        --work FOLDER --references FOLDER [--st-weights FOLDER] [--features 4]

"ST" is the model of Wang et al., "Progressive Neural Compression for Adaptive Image Offloading
under Timing Constraints" (RTSS 2023): two convolutions on the device, ten features of 1/7 of the
side, a decoder at full resolution in front of a classifier that stays as it is. Training draws
one tail length of 0 to 9 per batch and sets that many last features to zero. Stage 1 has the
squared error alone, on crops, since the error is local and the decoder costs 15.6 GMAC for a
whole image of 224 pixels; stage 2 has ten times the squared error and the divergence from the
classifier's answer on the original, on whole images. `--features K` trains for K features and
without tail drop instead. `--st-weights` names the folder `joint_ae` of the authors' repository,
to start from their weights; `--only-convert` takes them as they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.vision.image_folder import LabelledImages, load_pictures
from stl_conveyor_lab.references.st import ST_FEATURES, StCode, padded, padded_side
from stl_conveyor_lab.train.augment import AUGMENT, Augmentation
from stl_conveyor_lab.train.codec.training import divergence_from
from stl_conveyor_lab.train.lite0 import FoldedTrunk, channels_last
from stl_conveyor_lab.train.manifest import write_card
from stl_conveyor_lab.train.onnx_export import count_macs
from stl_conveyor_lab.train.processor import set_up_processor
from stl_conveyor_lab.train.recipe_options import recipe_of
from stl_conveyor_lab.train.references.files import write_reference
from stl_conveyor_lab.train.references.options import add_teacher, load_teacher, reference_parser
from stl_conveyor_lab.train.references.pixels import answers, crops, unit
from stl_conveyor_lab.train.references.tensor_bundle import read_tensor_bundle
from stl_conveyor_lab.train.timed_run import TimedRun

LEVELS = 64


@dataclass(frozen=True)
class StRecipe:
    """Everything that decides what comes out, apart from the data."""

    seed: int = 7
    minutes_1: float = 3.0  # stage 1, squared error on crops
    minutes_2: float = 4.0  # stage 2, with the classifier, on whole images
    crop: int = 56
    crops: int = 12  # per step of stage 1
    batch: int = 2  # images per step of stage 2
    rate_1: float = 5e-4
    rate_2: float = 1e-4
    mse_weight: float = 10.0
    features: int = 0  # 0: tail drop over all ten; K: always the first K


class StEncoder(nn.Module):
    """Two convolutions; a side of 7 n gives features of side n."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 9, 7, 1)
        self.second = nn.Conv2d(16, ST_FEATURES, 3, 1, 1)
        nn.init.orthogonal_(self.first.weight)
        nn.init.orthogonal_(self.second.weight)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features f32[N, 10, n, n] of pixels [N, 3, 7 n, 7 n] in 0..1."""
        return functional.relu(self.second(functional.relu(self.first(pixels))))


class StDecoder(nn.Module):
    """One transposed convolution and four at full resolution, two of them residual."""

    def __init__(self):
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(ST_FEATURES, 64, 9, 7, 1)
        self.layers = nn.ModuleList(nn.Conv2d(64, 64, 5, 1, 2) for _ in range(3))
        self.last = nn.Conv2d(64, 3, 3, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return pixels [N, 3, 7 n, 7 n], not yet clipped to 0..1."""
        x = functional.relu(self.enlarge(features))
        x = functional.relu(self.layers[0](x)) + x
        x = functional.relu(self.layers[2](functional.relu(self.layers[1](x)))) + x
        return self.last(x)


class LevelsOf(nn.Module):
    """The exported encoder: an image u8[N, S, S, 3] becomes levels u8[N, 10, n, n]."""

    def __init__(self, encoder: StEncoder, scale: float) -> None:
        super().__init__()
        self.encoder, self.scale = encoder, float(scale)

    def forward(self, image: Tensor) -> Tensor:
        """Return round(feature / scale), at most 63."""
        features = self.encoder(image.permute(0, 3, 1, 2).float() / 255)
        return torch.clamp(torch.round(features / self.scale), 0, LEVELS - 1).to(torch.uint8)


class ImageOf(nn.Module):
    """The exported decoder: levels u8[N, 10, n, n] become an image u8[N, S, S, 3]."""

    def __init__(self, decoder: StDecoder, scale: float) -> None:
        super().__init__()
        self.decoder, self.scale = decoder, float(scale)

    def forward(self, levels: Tensor) -> Tensor:
        """Return the pixels, clipped and rounded."""
        pixels = self.decoder(levels.float() * self.scale).clamp(0, 1)
        return torch.round(pixels * 255).permute(0, 2, 3, 1).to(torch.uint8)


def load_published(folder: Path, encoder: StEncoder, decoder: StDecoder) -> None:
    """Put the weights of the authors' `joint_ae` folder into the two networks."""
    folder = Path(folder)
    for part, layers in (
        ('encoder', [encoder.first, encoder.second]),
        ('decoder', [decoder.enlarge, *decoder.layers, decoder.last]),
    ):
        values = read_tensor_bundle(folder / f'best_model_save_{part}' / 'variables' / 'variables')
        for k, layer in enumerate(layers):
            for which, target in enumerate((layer.weight, layer.bias)):
                value = values[f'variables/{2 * k + which}/.ATTRIBUTES/VARIABLE_VALUE']
                if value.ndim == 4:
                    value = value.transpose(3, 2, 0, 1)
                if value.shape != tuple(target.shape):
                    raise ValueError(
                        f'{folder}: layer {k} of the {part} has shape '
                        f'{value.shape}, not {tuple(target.shape)}'
                    )
                target.data.copy_(torch.from_numpy(np.array(value)))


def drop_tail(features: Tensor, keep: int) -> Tensor:
    """Return features with all but the first `keep` set to zero."""
    return torch.cat([features[:, :keep], torch.zeros_like(features[:, keep:])], 1)


def train_st(
    encoder: StEncoder,
    decoder: StDecoder,
    train: LabelledImages,
    strong: FoldedTrunk,
    recipe: StRecipe,
    work: Path,
    augment: Augmentation,
) -> dict[str, list[tuple[float, ...]]]:
    """Run both stages; returns their curves. Each goes on from its checkpoint in `work`."""
    networks: dict[str, nn.Module] = {'encoder': encoder, 'decoder': decoder}
    for network in networks.values():
        channels_last(network)

    def stage(name: str, rate: float, minutes: float, seed: int) -> TimedRun:
        weights = [p for network in networks.values() for p in network.parameters()]
        return TimedRun(
            Path(work) / f'{name}.pt',
            networks,
            torch.optim.Adam(weights, lr=rate),
            minutes,
            seed,
            lambda step, done: min((step + 1) / 20, 1 - 0.98 * done),
        )

    def keep(rng: np.random.Generator) -> int:
        return recipe.features or ST_FEATURES - int(rng.integers(0, ST_FEATURES))

    run = stage('stage_1', recipe.rate_1, recipe.minutes_1, recipe.seed)
    while run.goes_on():
        pixels = unit(crops(train.images, recipe.crops, recipe.crop, run.rng))
        made = decoder(drop_tail(encoder(pixels), keep(run.rng))).clamp(-0.1, 1.1)
        run.learn(functional.mse_loss(made, pixels))
    curves = {'stage_1': run.curve}
    run = stage('stage_2', recipe.rate_2, recipe.minutes_2, recipe.seed + 1)
    size = train.images.shape[1]
    while run.goes_on():
        pick = run.rng.integers(0, len(train.images), recipe.batch)
        images = augment(train.images[pick], run.rng)
        pixels = unit(images)
        made = decoder(drop_tail(encoder(unit(padded(images))), keep(run.rng)))
        made = made[:, :, :size, :size]
        error = functional.mse_loss(made.clamp(-0.1, 1.1), pixels)
        with torch.no_grad():
            target = answers(strong, pixels)
        divergence = divergence_from(target, answers(strong, made.clamp(0, 1)))
        run.learn(recipe.mse_weight * error + divergence, error=error, divergence=divergence)
    curves['stage_2'] = run.curve
    return curves


def fit_code(
    encoder: StEncoder, images: np.ndarray, name: str, features: int, part: float = 0.9999
) -> StCode:
    """Return the StCode: 64 levels over all but the rarest values, and each feature's counts.

    Each count is one more than what was seen, so that every level has a code.

    Args:
        encoder: Gives the features.
        images: u8[N, S, S, 3] of the training split.
        name: Of the codec, for tables.
        features: K of a codec for the first K features; 0 is any number of them.
        part: Share of the values that the levels cover.
    """
    with torch.no_grad():
        values = np.concatenate(
            [encoder(unit(padded(images[k : k + 16]))).numpy() for k in range(0, len(images), 16)]
        )
    kept = values[:, :features] if features else values
    scale = float(np.quantile(kept, part)) / (LEVELS - 1)
    levels = np.clip(np.rint(values / scale), 0, LEVELS - 1).astype(np.int64)
    counts = np.stack(
        [np.bincount(levels[:, k].ravel(), minlength=LEVELS) + 1 for k in range(ST_FEATURES)]
    )
    size = images.shape[1]
    return StCode(name, size, padded_side(size) // 7, scale, counts.tolist(), features)


def export_st(
    encoder: StEncoder,
    decoder: StDecoder,
    code: StCode,
    references: Path,
    role: str,
    labels: Sequence[str],
) -> None:
    """Write the files of one ST codec and enter them into the reference folder."""
    side = padded_side(code.image_size)
    image = torch.zeros(1, side, side, 3, dtype=torch.uint8)
    levels = torch.zeros(1, ST_FEATURES, code.grid, code.grid, dtype=torch.uint8)
    write_reference(
        references,
        role,
        (LevelsOf(encoder, code.scale), [image], ['image'], ['levels']),
        (ImageOf(decoder, code.scale), [levels], ['levels'], ['image']),
        code,
        labels,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = reference_parser(__doc__.split('\n')[1], StRecipe(), work='checkpoints and curves')
    add_teacher(parser)
    parser.add_argument('--st-weights', type=Path, help='joint_ae folder of published weights')
    parser.add_argument(
        '--only-convert', action='store_true', help='take the published weights as they are'
    )
    options = parser.parse_args(arguments)
    if options.only_convert and not options.st_weights:
        parser.error('--only-convert needs --st-weights')
    set_up_processor(options.threads)
    recipe = recipe_of(options, StRecipe)
    torch.manual_seed(recipe.seed)
    folder = ModelFolder(options.models)
    train = load_pictures(options.data, folder.labels, folder.image_size)
    options.work.mkdir(parents=True, exist_ok=True)
    encoder, decoder = StEncoder(), StDecoder()
    if options.st_weights:
        load_published(options.st_weights, encoder, decoder)
    role, name, curves = 'st', 'ST', {}
    if options.only_convert:
        role, name = 'st_published', 'ST, published weights'
    elif recipe.features:
        role, name = f'st_fixed_{recipe.features}', f'ST, no tail drop, K = {recipe.features}'
    if not options.only_convert:
        strong = load_teacher(options, folder)
        curves = train_st(
            encoder, decoder, train, strong, recipe, options.work, AUGMENT[options.augment]
        )
    code = fit_code(encoder, train.sample(400, recipe.seed).images, name, recipe.features)
    export_st(encoder, decoder, code, options.references, role, folder.labels)
    side = padded_side(folder.image_size)
    write_card(
        options.references,
        role,
        {
            'role': role,
            'recipe': None if options.only_convert else asdict(recipe),
            'training_images': 0 if options.only_convert else len(train.classes),
            'starts_from': 'published weights (Wang et al., RTSS 2023)'
            if options.st_weights
            else 'random weights',
            'stage_1': curves.get('stage_1', [])[-1:],
            'stage_2': curves.get('stage_2', [])[-1:],
            'encoder_parameters': sum(p.numel() for p in encoder.parameters()),
            'decoder_parameters': sum(p.numel() for p in decoder.parameters()),
            'encoder_macs': count_macs(encoder, [torch.zeros(1, 3, side, side)]),
            'decoder_macs': count_macs(
                decoder, [torch.zeros(1, ST_FEATURES, side // 7, side // 7)]
            ),
        },
    )
    (options.work / f'{role}.curves.json').write_text(json.dumps(curves, indent=1))


if __name__ == '__main__':
    main()
