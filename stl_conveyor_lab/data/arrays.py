# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Files of arrays (.npz) that are there whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def save_arrays(path: Path, **arrays: Any) -> None:
    """Write arrays so that a reader sees all of them or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.part')
    with open(partial, 'wb') as stream:
        np.savez(stream, **arrays)
    partial.replace(path)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return what `save_arrays` wrote, or nothing."""
    if not path.exists():
        return {}
    with np.load(path) as file:
        return {name: file[name] for name in file.files}
