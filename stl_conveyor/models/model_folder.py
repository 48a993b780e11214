# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The folder that holds the models, and the check that each file is the one it claims to be."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stl_conveyor.errors import ModelFileError
from stl_conveyor.outside_files import UnusableFile, read_bytes, read_json

FORMAT = 1
_SHA256 = re.compile(r'[0-9a-f]{64}')


@dataclass(frozen=True)
class ModelFile:
    """A file of the folder with the SHA-256 (hex) that it must have."""

    path: Path
    sha256: str


class ModelFolder:
    """A models folder, described by its `manifest.json` (docs/architecture.md).

    Examples:
        >>> from stl_conveyor import ModelFolder, share_path
        >>> folder = ModelFolder(share_path('models/items'))
        >>> folder.name, len(folder.labels), folder.image_size
        ('items', 16, 160)
        >>> folder.path('weak').name  # the file is what the manifest says, or this raises
        'weak.onnx'

    The manifest is checked when the folder is opened, a file when its path is asked for.
    """

    def __init__(self, path: str | Path) -> None:
        """Read the manifest.

        Raises:
            ModelFileError: If it is missing or cannot be used; the message has the remedy.
        """
        self._folder = Path(path)
        manifest = self._folder / 'manifest.json'
        try:
            content = read_json(manifest)
        except UnusableFile as error:
            raise ModelFileError(
                f'{manifest}: cannot be read ({error}); set models_dir to a folder of '
                'models, such as the one this package ships'
            ) from error
        self._read_manifest(content, manifest)

    def _read_manifest(self, content: Any, manifest: Path) -> None:
        if not isinstance(content, Mapping) or content.get('format') != FORMAT:
            raise ModelFileError(
                f'{manifest}: format is not {FORMAT}; export the models again with this version'
            )
        name, labels = content.get('name'), content.get('labels')
        size, files = content.get('image_size'), content.get('files')
        if not isinstance(name, str) or not name:
            raise ModelFileError(f'{manifest}: name must be a text')
        if (
            not isinstance(labels, list)
            or len(labels) < 2
            or len(set(map(str, labels))) != len(labels)
            or not all(isinstance(x, str) and x for x in labels)
        ):
            raise ModelFileError(f'{manifest}: labels must be two or more different names')
        if isinstance(size, bool) or not isinstance(size, int) or not 8 <= size <= 4096:
            raise ModelFileError(f'{manifest}: image_size must be a whole number of 8..4096')
        if not isinstance(files, Mapping):
            raise ModelFileError(f'{manifest}: files must map roles to files')
        self._name = name
        self._labels = tuple(labels)
        self._image_size = size
        self._files: dict[str, ModelFile] = {}
        for role, entry in files.items():
            file_name = entry.get('path') if isinstance(entry, Mapping) else None
            sha256 = entry.get('sha256') if isinstance(entry, Mapping) else None
            if (
                not isinstance(file_name, str)
                or not isinstance(sha256, str)
                or not _SHA256.fullmatch(sha256)
            ):
                raise ModelFileError(
                    f'{manifest}: files.{role} must have a path and a sha256 of 64 hex digits'
                )
            self._files[role] = ModelFile(self._inside(file_name, role, manifest), sha256)

    def _inside(self, file_name: str, role: str, manifest: Path) -> Path:
        """Return the path of a file of the folder, whose name comes from the manifest."""
        try:
            path = (self._folder / file_name).resolve()
            inside = path.is_relative_to(self._folder.resolve())
        except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, links in a circle
            raise ModelFileError(
                f'{manifest}: files.{role} has no usable path ({error}); export the models again'
            ) from error
        if not inside:
            raise ModelFileError(f'{manifest}: files.{role} lies outside the folder')
        return path

    @property
    def name(self) -> str:
        """Return the name of the set of models."""
        return self._name

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the classes, in the order of every model's probabilities."""
        return self._labels

    @property
    def image_size(self) -> int:
        """Return the side (pixels) of the square images that the models take."""
        return self._image_size

    @property
    def roles(self) -> tuple[str, ...]:
        """Return what the folder has files for, such as weak, strong, encoder, edge, reward."""
        return tuple(self._files)

    def path(self, role: str) -> Path:
        """Return the path of a role's file after checking the file's SHA-256.

        Raises:
            ModelFileError: If the file is missing or is another than the manifest says.
        """
        file = self._file(role)
        try:
            digest = hashlib.sha256(read_bytes(file.path)).hexdigest()
        except UnusableFile as error:
            raise ModelFileError(
                f'{file.path}: cannot be read ({error}); restore the {role} model'
            ) from error
        if digest != file.sha256:
            raise ModelFileError(
                f'{file.path}: SHA-256 is {digest[:12]}…, the manifest says '
                f'{file.sha256[:12]}…; restore the {role} model or export the folder again'
            )
        return file.path

    def model_id(self, role: str) -> int:
        """Return the first 8 bytes, big endian, of the SHA-256 of a role's file."""
        return int(self._file(role).sha256[:16], 16)

    def _file(self, role: str) -> ModelFile:
        try:
            return self._files[role]
        except KeyError:
            known = ', '.join(self._files) or 'nothing'
            raise ModelFileError(
                f'{self._folder}: has no {role} model, only {known}; use a folder that was '
                f'exported with {role}'
            ) from None
