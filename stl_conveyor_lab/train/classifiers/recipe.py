# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""How the weak and the strong classifier are trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stl_conveyor.errors import ConfigError
from stl_conveyor_lab.train.lite0 import TRUNKS, early_blocks

SEED = 7

ROLES = ('weak', 'strong')

#: Image sides that the networks halve five times without a remainder.
SIZE_STEP, LEAST_SIZE, LARGEST_SIZE = 32, 96, 320


@dataclass(frozen=True)
class ClassifierRecipe:
    """How long and how hard to train."""

    network: str  # 'small' or a key of NETWORKS
    epochs: float
    batch: int
    rate: float
    decay: float
    smoothing: float
    augmentation: str
    shift: int = 0  # pixels of random translation, of parts
    frozen: int = 0  # blocks at the front that are left as they are
    new_rate: float = 1.0  # of layers that start at random, times `rate`
    average: float = 0.0  # of the weights, per step; 0 takes the last ones
    minutes: float = 0.0  # if not 0, training ends after this time at the latest


RECIPES = {
    'parts': {
        'weak': ClassifierRecipe(
            'small',
            epochs=14,
            batch=64,
            rate=4e-3,
            decay=1e-4,
            smoothing=0.0,
            augmentation='parts',
            shift=6,
        ),
        # The front of the pretrained network holds half of the work of a step and little of what
        # there is to learn.
        'strong': ClassifierRecipe(
            'lite0',
            epochs=2.5,
            batch=32,
            rate=1e-3,
            decay=1e-4,
            smoothing=0.02,
            augmentation='parts',
            shift=8,
            frozen=5,
        ),
    },
    'photos': {
        'weak': ClassifierRecipe(
            'lite0_front',
            epochs=24,
            batch=32,
            rate=4e-4,
            decay=1e-4,
            smoothing=0.05,
            augmentation='photos',
            new_rate=7.5,
            average=0.99,
        ),
        'strong': ClassifierRecipe(
            'lite0_folded',
            epochs=12,
            batch=32,
            rate=3e-4,
            decay=1e-4,
            smoothing=0.05,
            augmentation='photos',
            frozen=5,  # of Lite0; recipe_for counts them
            new_rate=7.0,
            average=0.99,
        ),
    },
}


def recipe_for(
    kind: str, role: str, device: str = 'cpu', minutes: float = 0.0, strong: str = 'lite0'
) -> ClassifierRecipe:
    """Return the recipe of one classifier.

    On a GPU the front of the strong network is trained too, for twice as long: what freezing
    saves is no longer scarce.

    Args:
        kind: 'parts' or 'photos'.
        role: 'weak' or 'strong'.
        device: 'cpu' or 'cuda'.
        minutes: After which training ends at the latest; 0 is no limit.
        strong: The trunk of the strong network, a key of TRUNKS; the weak one's stays.
    """
    recipe = replace(RECIPES[kind][role], minutes=minutes)
    if role == 'strong':
        network = recipe.network.replace('lite0', check_trunk(strong))
        recipe = replace(recipe, network=network, frozen=early_blocks(strong))
    if device != 'cpu' and recipe.frozen:
        recipe = replace(recipe, frozen=0, epochs=2 * recipe.epochs)
    return recipe


def check_trunk(trunk: str) -> str:
    """Return a key of TRUNKS; raises ConfigError for anything else."""
    if trunk not in TRUNKS:
        raise ConfigError(f'strong {trunk!r}: use {", ".join(TRUNKS)}')
    return trunk


def check_size(size: int) -> int:
    """Return an image side that the networks can take; raises ConfigError for another."""
    if size % SIZE_STEP or not LEAST_SIZE <= size <= LARGEST_SIZE:
        raise ConfigError(
            f'size {size}: give a multiple of {SIZE_STEP} from {LEAST_SIZE} to {LARGEST_SIZE}'
        )
    return size
