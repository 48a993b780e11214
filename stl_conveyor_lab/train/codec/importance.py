# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Fit the codec to images, its groups ordered by what they tell the strong classifier."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from stl_conveyor.codec.spec import CodecSpec
from stl_conveyor.vision.image_folder import LabelledImages
from stl_conveyor_lab.train.codec.fit import (
    apply_spatial,
    band_regions,
    fit_spec,
    image_patches,
    pca_transform,
    project,
    ring_regions,
    spatial_transform,
    transform,
)
from stl_conveyor_lab.train.codec.recipe import CodecRecipe
from stl_conveyor_lab.train.lite0 import FoldedTrunk, normalised
from stl_conveyor_lab.train.time_plan import UNLIMITED, Allowance

#: Parts of the time that is left: the covariance of the patches; coefficients and order of the
#: groups; what each group tells. The tables have the rest.
COVARIANCE_SHARE, ORDER_SHARE, IMPORTANCE_SHARE = 0.25, 0.4, 0.3
#: Images that the transform is timed on, the fewest that the codec is fitted to, and how long
#: coefficients and order of an image take in transforms of it.
PROBED, LEAST_IMAGES, FIT_IN_TRANSFORMS = 48, 64, 6


def feature_importance(
    strong: FoldedTrunk,
    images: np.ndarray,
    analysis: np.ndarray,
    spatial: np.ndarray,
    recipe: CodecRecipe,
    allowance: Allowance = UNLIMITED,
) -> np.ndarray:
    """Return f32[K, regions and bands]: how much the strong classifier's features move with each.

    The mean square of the gradient of random projections of the pooled features with respect to
    the coefficients, relative to its mean; over as many of the images as the time allows.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    device = next(strong.parameters()).device
    grid = images.shape[1] // recipe.patch
    regions = ring_regions(grid, recipe.rings)
    rings = int(regions.max()) + 1
    bands = band_regions(grid**2, rings)
    inverse = spatial / np.square(spatial).sum(2, keepdims=True)
    total = np.zeros((len(analysis), int(bands.max()) + 1))
    for part in allowance.blocks(len(images), 16):
        pixels = normalised(torch.from_numpy(images[part]).to(device))
        pixels = pixels.requires_grad_(True)
        _, pooled = strong(pixels)
        direction = torch.randn(pooled.shape, generator=generator).to(device)
        (gradient,) = torch.autograd.grad((pooled * direction).sum(), pixels)
        patches = image_patches(gradient.permute(0, 2, 3, 1).cpu().numpy(), recipe.patch)
        moved = project(patches, analysis)
        square = np.square(apply_spatial(moved, np.float32(0), inverse)).sum(0)
        for region in range(total.shape[1]):
            total[:, region] += square[:, (bands if region >= rings else regions) == region].mean(
                1
            )
    used = total[len(spatial) :, :rings]
    return ((total / used.mean()) ** recipe.importance_power).astype(np.float32)


def fit_codec(
    train: LabelledImages,
    strong: FoldedTrunk,
    labels: int,
    side: np.ndarray | None,
    recipe: CodecRecipe,
    path: Path,
    allowance: Allowance = UNLIMITED,
) -> CodecSpec:
    """Fit the codec to training images and write it; returns the CodecSpec.

    Args:
        train: The images, of which `recipe.fit_images` are drawn at random.
        strong: Says what each coefficient tells.
        labels: Number of classes.
        side: The device's own probabilities f32[N, C] of the images; None: of nobody.
        recipe: How the codec is built.
        path: The file to write.
        allowance: Time for all of it; as many images are taken as it affords.
    """
    rng = np.random.default_rng(recipe.seed)
    pick = rng.permutation(len(train.images))[: recipe.fit_images]
    images = train.images[pick]
    begun = time.monotonic()
    mean, analysis = pca_transform(
        images,
        recipe.patch,
        recipe.coarse,
        recipe.fine,
        recipe.fine_patch,
        allowance.part(COVARIANCE_SHARE),
    )
    print(f'transform: {len(analysis)} channels in {time.monotonic() - begun:.0f} s', flush=True)
    if allowance.limited:
        few = images[:PROBED]
        spent = allowance.timed(lambda: transform(few, mean, analysis, recipe.patch))
        each = FIT_IN_TRANSFORMS * spent / len(few)
        images = images[: allowance.part(ORDER_SHARE).affords(each, len(images), LEAST_IMAGES)]
        pick = pick[: len(images)]
        print(f'fitted to {len(images)} images', flush=True)
    offset, spatial = spatial_transform(
        transform(images, mean, analysis, recipe.patch), recipe.banded
    )
    weight = (
        feature_importance(
            strong,
            images[: recipe.importance_images],
            analysis,
            spatial,
            recipe,
            allowance.part(IMPORTANCE_SHARE),
        )
        if recipe.importance_power
        else None
    )
    print(f'importance after {time.monotonic() - begun:.0f} s', flush=True)
    spec = fit_spec(
        images,
        mean,
        analysis,
        labels=labels,
        rings=recipe.rings,
        max_groups=recipe.groups,
        importance=weight,
        seed=recipe.seed,
        side=None if side is None else side[pick],
        offset=offset,
        spatial=spatial,
        allowance=allowance,
    )
    spec.save(path)
    print(f'codec: {spec.groups} groups in {time.monotonic() - begun:.0f} s', flush=True)
    return CodecSpec.load(path)
