# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the node tests: a tiny model folder with the classes of the shipped cell."""

from __future__ import annotations

from pathlib import Path

import pytest

from stl_conveyor.cell.description import CellDescription

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def tiny_models(tmp_path_factory):
    """Return a model folder for the classes of config/cell.yaml."""
    from stl_conveyor_lab.train.tiny import make_tiny_model_folder

    cell = CellDescription.load(ROOT / 'config' / 'cell.yaml')
    folder = tmp_path_factory.mktemp('models')
    make_tiny_model_folder(folder, cell.classes)
    return folder
