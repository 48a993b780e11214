# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
r"""Train LimitNet, the published content-aware progressive codec, to compare with.

    python -m stl_conveyor_lab.train.references.limitnet --data FOLDER --models FOLDER \\
        --work FOLDER --references FOLDER [--minutes 25] [--threads 1]

After Hojjat et al., "LimitNet: Progressive, Content-Aware Image Offloading for Extremely Weak
Devices & Networks" (MobiSys 2024), whose layers and score these are: three convolutions on the
device, twelve channels of 1/8 of the side, five small convolutions that predict a saliency map
from them, and a decoder of five (transposed) convolutions in front of a classifier that stays as
it is. In each step and for each image a share from 0 to 1 of the latents is kept at random. The
published trainings follow one another, each for a part of the time:

1. Squared error on crops; the last channels are dropped.
2. Squared error and the saliency; the latents with the least scores are dropped. The device's
   part sees whole images, but the decoder only a window of each, since its error is local.
3. The same on whole images, and the divergence from the classifier's answer on the original.

The published saliency is that of a large teacher for salient objects. There is none here: the
teacher is the strong classifier, by the gradient of its first answer times the activations at
1/16 of the side. What is dropped is chosen with the map as it is sent. `--width` is the number
of channels of the decoder at full resolution, where nearly all of its cost is (published: 64).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.vision.image_folder import LabelledImages, load_pictures
from stl_conveyor_lab.references.limitnet import (
    CHANNELS,
    LEVELS,
    MAP_LEVELS,
    STRIDE,
    LimitNetCode,
    latent_order,
    latent_side,
    map_side,
)
from stl_conveyor_lab.references.trained import continued
from stl_conveyor_lab.train.augment import AUGMENT, Augmentation
from stl_conveyor_lab.train.codec.training import divergence_from
from stl_conveyor_lab.train.lite0 import FoldedTrunk, channels_last
from stl_conveyor_lab.train.manifest import write_card
from stl_conveyor_lab.train.onnx_export import count_macs
from stl_conveyor_lab.train.processor import set_up_processor
from stl_conveyor_lab.train.recipe_options import recipe_of
from stl_conveyor_lab.train.references.files import write_reference
from stl_conveyor_lab.train.references.options import add_teacher, load_teacher, reference_parser
from stl_conveyor_lab.train.references.pixels import answers, crops, trunk_pixels, unit
from stl_conveyor_lab.train.timed_run import TimedRun


@dataclass(frozen=True)
class LimitNetRecipe:
    """Everything that decides what comes out, apart from the data."""

    seed: int = 7
    minutes: float = 25.0  # of all three stages
    share_1: float = 0.2  # of the time, squared error on crops
    share_2: float = 0.3  # of the time, with the saliency; the rest is for stage 3
    crop: int = 56
    crops: int = 12  # per step of stage 1
    windows: int = 8  # images per step of stage 2
    window: int = 14  # positions along the side of what is decoded of each in stage 2
    batch: int = 2  # images per step of stage 3
    rate_1: float = 1e-3
    rate_2: float = 1e-3
    rate_3: float = 1e-4
    saliency_rate: float = 4.0  # times the rate, for the saliency branch, which is slow to learn
    noise: float = 0.01  # at most, on latents in training, in place of rounding
    mse_weight: float = 10.0
    saliency_weight: float = 0.05
    width: int = 40  # channels of the decoder at full resolution


class LimitNetEncoder(nn.Module):
    """Three convolutions; a side of 8 n gives latents of side n."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 7, 2, 3)
        self.second = nn.Conv2d(16, 16, 5, 4, 1)
        self.third = nn.Conv2d(16, CHANNELS, 3, 1, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return latents f32[N, 12, n, n] of pixels [N, 3, 8 n, 8 n] in 0..1."""
        x = functional.relu(self.second(functional.relu(self.first(pixels))))
        return functional.relu(self.third(x))


class SaliencyBranch(nn.Module):
    """Five convolutions on the latents."""

    def __init__(self) -> None:
        super().__init__()
        widths = (CHANNELS, 16, 16, 8, 4, 1)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, 1, 1) for a, b in zip(widths, widths[1:]))

    def forward(self, latents: Tensor) -> Tensor:
        """Return the saliency f32[N, 1, n, n] in 0..1."""
        x = latents
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x))
        return torch.sigmoid(self.layers[-1](x))


class LimitNetDecoder(nn.Module):
    """Two transposed convolutions and three at full resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(CHANNELS, 64, 7, 2, 3, 1)
        self.enlarge_more = nn.ConvTranspose2d(64, width, 5, 4, 1, 1)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, 1, 1) for _ in range(2))
        self.last = nn.Conv2d(width, 3, 3, 1, 1)

    def forward(self, latents: Tensor) -> Tensor:
        """Return pixels [N, 3, 8 n, 8 n] in 0..1."""
        x = functional.relu(self.enlarge_more(functional.relu(self.enlarge(latents))))
        for layer in self.layers:
            x = functional.relu(layer(x))
        return torch.sigmoid(self.last(x))


class LimitNet(nn.Module):
    """The three networks."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder, self.saliency = LimitNetEncoder(), SaliencyBranch()
        self.decoder = LimitNetDecoder(width)


def sent_map(saliency: Tensor) -> Tensor:
    """Return the levels f32[N, M, M] of a saliency [N, 1, n, n]: means, stretched to 0..31."""
    grid = int(saliency.shape[-1])
    side = map_side(grid)
    edges = np.arange(side + 1) * grid / side
    cells = np.arange(grid)
    shares = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    means = torch.from_numpy(np.clip(shares, 0, None) * side / grid).float()
    small = torch.matmul(torch.matmul(means, saliency[:, 0]), means.T)
    low, high = small.amin((1, 2), keepdim=True), small.amax((1, 2), keepdim=True)
    return torch.round((small - low) / (high - low).clamp_min(1e-6) * (MAP_LEVELS - 1))


class LevelsOf(nn.Module):
    """The exported encoder: an image u8[N, S, S, 3] becomes levels and map."""

    scales: Tensor

    def __init__(self, network: LimitNet, scales: Tensor) -> None:
        super().__init__()
        self.encoder, self.saliency = network.encoder, network.saliency
        self.register_buffer('scales', scales[:, None, None])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return (round(latent / scale), at most 63, u8[N, 12, n, n]; map u8[N, M, M])."""
        latents = self.encoder(image.permute(0, 3, 1, 2).float() / 255)
        levels = torch.clamp(torch.round(latents / self.scales), 0, LEVELS - 1)
        return levels.to(torch.uint8), sent_map(self.saliency(latents)).to(torch.uint8)


class ImageOf(nn.Module):
    """The exported decoder: levels u8[N, 12, n, n] become an image u8[N, S, S, 3]."""

    scales: Tensor

    def __init__(self, decoder: LimitNetDecoder, scales: Tensor) -> None:
        super().__init__()
        self.decoder = decoder
        self.register_buffer('scales', scales[:, None, None])

    def forward(self, levels: Tensor) -> Tensor:
        """Return the pixels, rounded."""
        pixels = self.decoder(levels.float() * self.scales)
        return torch.round(pixels * 255).permute(0, 2, 3, 1).to(torch.uint8)


def teach(strong: FoldedTrunk, pixels: Tensor, grid: int) -> tuple[Tensor, Tensor]:
    """Return what the strong classifier says of images, and where it sees it.

    The saliency is the gradient of the first answer's logit times the activations at 1/16 of the
    side, summed over the channels; what speaks against the answer counts nothing. It is smoothed
    over 3 x 3 positions, divided by its maximum, and its square root taken, which makes areas of
    single peaks, as those of a teacher for salient objects are.

    Args:
        strong: The classifier.
        pixels: f32[N, 3, S, S] in 0..1.
        grid: Side of the saliency.

    Returns:
        (logits [N, C], saliency f32[N, 1, grid, grid] in 0..1), both without gradient.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[0]

    hook = strong.blocks[strong.join_block - 1].register_forward_hook(keep)
    try:
        logits, _ = strong(trunk_pixels(pixels), early_gradient=False)
    finally:
        hook.remove()
    (gradient,) = torch.autograd.grad(logits.amax(1).sum(), seen)
    with torch.no_grad():
        share = functional.relu((gradient * seen[0]).sum(1, keepdim=True))
        share = functional.avg_pool2d(share, 3, 1, 1)
        share = torch.sqrt(share / share.amax((2, 3), keepdim=True).clamp_min(1e-30))
        return logits.detach(), functional.interpolate(share, (grid, grid), mode='bilinear')


def noisy(latents: Tensor, kept: Tensor, noise: float) -> Tensor:
    """Return what arrives in training: latents that are kept, with noise, and zeros."""
    return (latents + noise * (2 * torch.rand_like(latents) - 1)) * kept


def first_channels(count: int, rng: np.random.Generator) -> Tensor:
    """Return what is kept, [count, 12, 1, 1] of 0 and 1: some first channels of each image."""
    ends = torch.from_numpy(rng.integers(1, CHANNELS + 1, count))
    return (torch.arange(CHANNELS) < ends[:, None]).float()[:, :, None, None]


def highest_scores(saliency: Tensor, rng: np.random.Generator) -> Tensor:
    """Return what is kept, [N, 12, n, n] of 0 and 1: some first latents in the order sent."""
    count, _, grid, _ = saliency.shape
    kept = np.zeros((count, CHANNELS * grid * grid), np.float32)
    with torch.no_grad():
        maps = sent_map(saliency).numpy()
    for row, levels in zip(kept, maps):
        row[latent_order(levels, grid)[: 1 + int(rng.uniform() * len(row))]] = 1
    return torch.from_numpy(kept).view(count, CHANNELS, grid, grid)


def window_of(
    latents: Tensor, pixels: Tensor, side: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return a random square of each image's latents, `side` positions, and its pixels."""
    grid = latents.shape[-1]
    side = min(side, grid)
    corners = rng.integers(0, grid - side + 1, (len(latents), 2)).tolist()

    def cut(values: Tensor, stride: int) -> Tensor:
        return torch.stack(
            [
                row[:, y * stride : (y + side) * stride, x * stride : (x + side) * stride]
                for row, (y, x) in zip(values, corners)
            ]
        )

    return cut(latents, 1), cut(pixels, STRIDE)


def train_limitnet(
    network: LimitNet,
    train: LabelledImages,
    strong: FoldedTrunk,
    recipe: LimitNetRecipe,
    work: Path,
    augment: Augmentation,
) -> dict[str, list[tuple[float, ...]]]:
    """Run the three stages; returns their curves. Each goes on from its checkpoint in `work`."""
    channels_last(network)
    grid, size = latent_side(train.images.shape[1]), train.images.shape[1]
    curves = {}

    def stage(number: int, rate: float, share: float) -> TimedRun:
        groups: list[dict[str, Any]] = [
            {'params': [*network.encoder.parameters(), *network.decoder.parameters()]},
            {'params': network.saliency.parameters(), 'lr': recipe.saliency_rate * rate},
        ]
        run = TimedRun(
            Path(work) / f'limitnet_{number}.pt',
            {'network': network},
            torch.optim.Adam(groups, lr=rate),
            recipe.minutes * share,
            recipe.seed + number,
            lambda step, done: min((step + 1) / 20, 1 - 0.98 * done),
        )
        curves[f'stage_{number}'] = run.curve
        return run

    def originals(count: int, rng: np.random.Generator) -> np.ndarray:
        return augment(train.images[rng.integers(0, len(train.images), count)], rng)

    def transmit(pixels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        latents = network.encoder(pixels)
        saliency = network.saliency(latents)
        return noisy(latents, highest_scores(saliency, rng), recipe.noise), saliency

    run = stage(1, recipe.rate_1, recipe.share_1)
    while run.goes_on():
        pixels = unit(crops(train.images, recipe.crops, recipe.crop, run.rng))
        kept = first_channels(recipe.crops, run.rng)
        made = network.decoder(noisy(network.encoder(pixels), kept, recipe.noise))
        run.learn(functional.mse_loss(made, pixels))
    run = stage(2, recipe.rate_2, recipe.share_2)
    while run.goes_on():
        images = originals(recipe.windows, run.rng)
        pixels = unit(continued(images, STRIDE))
        _, target = teach(strong, unit(images), grid)
        sent, found = transmit(pixels, run.rng)
        sent, pixels = window_of(sent, pixels, recipe.window, run.rng)
        error = functional.mse_loss(network.decoder(sent), pixels)
        saliency = functional.binary_cross_entropy(found, target)
        run.learn(
            recipe.mse_weight * error + recipe.saliency_weight * saliency,
            error=error,
            saliency=saliency,
        )
    run = stage(3, recipe.rate_3, 1 - recipe.share_1 - recipe.share_2)
    while run.goes_on():
        images = originals(recipe.batch, run.rng)
        pixels = unit(images)
        answer, target = teach(strong, pixels, grid)
        sent, found = transmit(unit(continued(images, STRIDE)), run.rng)
        made = network.decoder(sent)[:, :, :size, :size]
        error = functional.mse_loss(made, pixels)
        saliency = functional.binary_cross_entropy(found, target)
        divergence = divergence_from(answer, answers(strong, made))
        run.learn(
            recipe.mse_weight * error + recipe.saliency_weight * saliency + divergence,
            error=error,
            saliency=saliency,
            divergence=divergence,
        )
    return curves


def fit_code(
    network: LimitNet, images: np.ndarray, name: str, part: float = 0.9999
) -> tuple[LimitNetCode, Tensor]:
    """Return the code and the value of one level of each channel, f32[12].

    The 64 levels of a channel cover all but its rarest values. Each count is one more than what
    was seen, so that every level has a code.

    Args:
        network: Gives latents and saliency.
        images: u8[N, S, S, 3] of the training split.
        name: Of the codec, for tables.
        part: Share of the values that the levels cover.
    """
    size = images.shape[1]
    batches = [continued(images[k : k + 16], STRIDE) for k in range(0, len(images), 16)]
    with torch.no_grad():
        latents = np.concatenate([network.encoder(unit(batch)).numpy() for batch in batches])
        highest = np.quantile(latents, part, (0, 2, 3))
        scales = torch.from_numpy(np.maximum(highest, 1e-6) / (LEVELS - 1)).float()
        levels_of = LevelsOf(network, scales)
        found = [levels_of(torch.from_numpy(batch)) for batch in batches]
    levels = np.concatenate([levels.numpy() for levels, _ in found])
    maps = np.concatenate([saliency.numpy() for _, saliency in found])
    counts = [
        (np.bincount(levels[:, k].ravel(), minlength=LEVELS) + 1).tolist() for k in range(CHANNELS)
    ]
    map_counts = (np.bincount(maps.ravel(), minlength=MAP_LEVELS) + 1).tolist()
    return LimitNetCode(name, size, latent_side(size), counts, map_counts), scales


def export_limitnet(
    network: LimitNet, code: LimitNetCode, scales: Tensor, references: Path, labels: Sequence[str]
) -> None:
    """Write the files of the codec and enter them into the reference folder."""
    side = code.grid * STRIDE
    image = torch.zeros(1, side, side, 3, dtype=torch.uint8)
    levels = torch.zeros(1, CHANNELS, code.grid, code.grid, dtype=torch.uint8)
    write_reference(
        references,
        'limitnet',
        (LevelsOf(network, scales), [image], ['image'], ['levels', 'saliency']),
        (ImageOf(network.decoder, scales), [levels], ['levels'], ['image']),
        code,
        labels,
    )


def size_of(network: LimitNet, grid: int) -> dict[str, int]:
    """Return parameters and multiply-accumulates of both sides, for the card."""
    pixels = torch.zeros(1, 3, grid * STRIDE, grid * STRIDE)
    latents = torch.zeros(1, CHANNELS, grid, grid)
    device: list[nn.Module] = [network.encoder, network.saliency]
    return {
        'encoder_parameters': sum(p.numel() for part in device for p in part.parameters()),
        'decoder_parameters': sum(p.numel() for p in network.decoder.parameters()),
        'encoder_macs': count_macs(nn.Sequential(*device), [pixels]),
        'decoder_macs': count_macs(network.decoder, [latents]),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = reference_parser(
        __doc__.split('\n')[1], LimitNetRecipe(), work='checkpoints and curves'
    )
    add_teacher(parser)
    options = parser.parse_args(arguments)
    set_up_processor(options.threads)
    recipe = recipe_of(options, LimitNetRecipe)
    torch.manual_seed(recipe.seed)
    folder = ModelFolder(options.models)
    train = load_pictures(options.data, folder.labels, folder.image_size)
    options.work.mkdir(parents=True, exist_ok=True)
    network = LimitNet(recipe.width)
    strong = load_teacher(options, folder)
    curves = train_limitnet(network, train, strong, recipe, options.work, AUGMENT[options.augment])
    code, scales = fit_code(network, train.sample(400, recipe.seed).images, 'LimitNet')
    export_limitnet(network, code, scales, options.references, folder.labels)
    write_card(
        options.references,
        'limitnet',
        {
            'role': 'limitnet',
            'recipe': asdict(recipe),
            'training_images': len(train.classes),
            **{name: curve[-1:] for name, curve in curves.items()},
            **size_of(network, code.grid),
        },
    )
    (options.work / 'limitnet.curves.json').write_text(json.dumps(curves, indent=1))


if __name__ == '__main__':
    main()
