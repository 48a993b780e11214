# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Every field of a recipe as an option of the command line."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any, TypeVar

R = TypeVar('R')


def add_recipe(parser: argparse.ArgumentParser, recipe: Any) -> None:
    """Add an option for each field of a recipe (a dataclass), whose values are the defaults."""
    group = parser.add_argument_group('recipe')
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        group.add_argument(
            f'--{field.name.replace("_", "-")}',
            type=type(value),
            default=value,
            metavar=type(value).__name__.upper(),
            help=f'default: {value}',
        )


def recipe_of(options: argparse.Namespace, kind: type[R]) -> R:
    """Return the recipe of the options that `add_recipe` added."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: getattr(options, name) for name in names})
