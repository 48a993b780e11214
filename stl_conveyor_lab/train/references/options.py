# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Options that the trainings of references share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor_lab.train.augment import AUGMENT
from stl_conveyor_lab.train.lite0 import FoldedTrunk, channels_last, load_strong
from stl_conveyor_lab.train.recipe_options import add_recipe


def reference_parser(description: str, recipe: Any, work: str) -> argparse.ArgumentParser:
    """Return a parser with what every reference needs, and the fields of its recipe.

    Args:
        description: Of the command.
        recipe: A dataclass; its values are the defaults.
        work: What the work folder holds.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--data', type=Path, required=True, help='folder of images')
    parser.add_argument(
        '--models',
        type=Path,
        required=True,
        help='the model folder to compare with: its labels and image size',
    )
    parser.add_argument('--work', type=Path, required=True, help=work)
    parser.add_argument('--references', type=Path, required=True, help='folder to write')
    parser.add_argument('--threads', type=int, default=2)
    add_recipe(parser, recipe)
    return parser


def add_teacher(parser: argparse.ArgumentParser) -> None:
    """Add the options of a training with the strong classifier on augmented images."""
    parser.add_argument(
        '--strong',
        type=Path,
        help='checkpoint of the strong classifier (default: the one of the model folder)',
    )
    parser.add_argument('--augment', choices=sorted(AUGMENT), default='photos')


def strong_path(options: argparse.Namespace, folder: ModelFolder) -> Path:
    """Return the strong classifier that `--strong` names, or that of the model folder."""
    return options.strong or folder.path('strong')


def load_teacher(options: argparse.Namespace, folder: ModelFolder) -> FoldedTrunk:
    """Return that classifier for a training that leaves it as it is."""
    strong = load_strong(strong_path(options, folder), len(folder.labels), folder.image_size)
    return channels_last(strong.eval().requires_grad_(False))
