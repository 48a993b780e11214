# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Decoys are of all shapes, fit into a picture, and are no strangers on which is judged."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('stl_conveyor.sim.mujoco_cell', reason='MuJoCo is missing')

from stl_conveyor.cell.description import CellDescription  # noqa: E402
from stl_conveyor.resources import share_path  # noqa: E402
from stl_conveyor.sim.strangers import strangers_by_name  # noqa: E402
from stl_conveyor_lab.data import decoys, render  # noqa: E402


def test_a_belt_has_decoys_of_its_own_that_fit_into_a_picture():
    first, again, other = (decoys.decoys_of(seed) for seed in (1, 1, 2))
    meshes = [[stranger.make() for stranger in belt] for belt in (first, again, other)]
    assert len(first) == decoys.DECOYS
    assert all((a == b).all() for a, b in zip(meshes[0], meshes[1]))
    assert not any(a.shape == b.shape and (a == b).all() for a, b in zip(meshes[0], meshes[2]))
    for mesh in (*meshes[0], *meshes[2]):
        points = mesh.reshape(-1, 3)
        assert np.isfinite(points).all()
        assert 0.001 < np.ptp(points, axis=0).max() <= decoys.LARGEST + 1e-9
    assert not {stranger.name for stranger in first} & set(strangers_by_name())


@pytest.mark.parametrize('solid', decoys.SOLIDS, ids=lambda solid: solid.__name__)
def test_every_solid_is_one(solid):
    rng = np.random.default_rng(5)
    for _ in range(20):
        mesh = solid(rng)
        assert mesh.ndim == 3 and mesh.shape[1:] == (3, 3) and np.isfinite(mesh).all()
        assert (np.ptp(mesh.reshape(-1, 3), axis=0) > 0).all()


def test_decoys_pass_the_camera_and_are_rendered_once(tmp_path, capsys):
    (shard,) = decoys.decoy_shards(tmp_path, 1, count=2, looks=2, jobs=1)
    assert '4 images' in capsys.readouterr().out
    with np.load(shard) as data:
        assert sorted(data['names']) == ['decoy_0', 'decoy_0', 'decoy_1', 'decoy_1']
        images = data['pixels']
    size = CellDescription.load(share_path('config/cell.yaml')).camera.crop_size
    assert images.shape == (4, size, size, 3) and images.std() > 1
    assert decoys.decoy_shards(tmp_path, 1) == [shard]
    assert capsys.readouterr().out == ''


def test_a_training_camera_is_not_mounted_as_the_file_says():
    cell = CellDescription.load(share_path('config/cell.yaml'))
    view = cell.camera.field_of_view
    views = [render.camera_on_belt(cell, 'train', s).camera.field_of_view for s in range(40)]
    assert np.abs(np.array(views) / view - 1).max() <= render.CAMERA_SPREAD
    assert len(set(views)) == 40
    assert render.camera_on_belt(cell, 'test', 1) is cell
