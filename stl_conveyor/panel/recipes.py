# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Recipes: cell descriptions and model folders that belong together, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stl_conveyor.cell.description import CellDescription
from stl_conveyor.errors import ConfigError, ConveyorError
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.outside_files import UnusableFile, read_yaml


@dataclass(frozen=True)
class Recipe:
    """A cell description and a model folder; an empty text is what ships."""

    cell_file: str = ''
    models_dir: str = ''

    def name_among(self, recipes: Mapping[str, Recipe]) -> str:
        """Return its name; that of its cell description where it has none.

        Examples:
            >>> Recipe('/lines/nuts.yaml').name_among({}), Recipe().name_among({'usual': Recipe()})
            ('nuts', 'usual')
        """
        named = (name for name, known in recipes.items() if known == self)
        return next(named, Path(self.cell_file or 'cell.yaml').stem)


def load_recipes(path: Path) -> dict[str, Recipe]:
    """Return the recipes of a file: names, and below each `cell_file` and `models_dir`.

    Relative paths begin at the folder of the file. Each recipe is looked at: what is named must be
    there, and the models must know the classes of the cell.

    Raises:
        ConfigError: Naming file and recipe, and what is wrong.
    """
    try:
        content = read_yaml(path)
    except UnusableFile as error:
        raise ConfigError(f'{path}: the recipes cannot be read: {error}') from error
    if not isinstance(content, Mapping):
        raise ConfigError(f'{path}: write the name of each recipe, and below it cell_file')
    found: dict[str, Recipe] = {}
    for name, entry in content.items():
        if not isinstance(entry, Mapping) or set(entry) - {'cell_file', 'models_dir'}:
            raise ConfigError(f'{path}: recipe {name} takes cell_file and models_dir')
        recipe = Recipe(
            *(
                str((path.parent / str(entry[key])).resolve()) if entry.get(key) else ''
                for key in ('cell_file', 'models_dir')
            )
        )
        try:
            check_recipe(recipe)
        except ConveyorError as error:
            raise ConfigError(f'{path}: recipe {name}: {error}') from error
        found[str(name)] = recipe
    return found


def check_recipe(recipe: Recipe) -> None:
    """Check that a recipe can be used.

    Raises:
        ConfigError: If the cell cannot be used, or cell and models do not belong together.
        ModelFileError: If the model folder cannot be used.
    """
    cell = CellDescription.load(recipe.cell_file) if recipe.cell_file else None
    if recipe.models_dir:
        labels = set(ModelFolder(recipe.models_dir).labels)
        unknown = labels - set(cell.classes) if cell is not None else set()
        if unknown:
            raise ConfigError(
                f'the models know {", ".join(sorted(unknown))}, for which {recipe.cell_file} has '
                'no lane'
            )
