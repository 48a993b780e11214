# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: tensors, numbers and texts alone, so that reading one runs no code of the file."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from stl_conveyor.errors import ConfigError


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint, the whole of it or nothing.

    Args:
        path: The file, which is replaced.
        content: Tensors, numbers, texts, and dictionaries, lists and tuples of these.
    """
    partial = path.with_suffix('.part')
    torch.save(dict(content), partial)
    partial.rename(path)


def load_checkpoint(path: Path, needs: Iterable[str]) -> dict[str, Any]:
    """Return what `save_checkpoint` wrote, its tensors in the processor's memory.

    Args:
        path: The file.
        needs: Keys that it must have.

    Raises:
        ConfigError: If the file is damaged, holds other things than tensors, numbers and texts,
            or lacks a key.
    """
    remedy = 'delete it to begin this training anew'
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).split('\n')[0]
        raise ConfigError(f'{path}: is no checkpoint of this version ({reason}); {remedy}') from (
            error
        )
    if not isinstance(content, dict):
        raise ConfigError(f'{path}: is no checkpoint of a training; {remedy}')
    lacking = sorted(set(needs) - content.keys())
    if lacking:
        raise ConfigError(
            f'{path}: lacks {", ".join(lacking)}, it is of another training or version; {remedy}'
        )
    return content
