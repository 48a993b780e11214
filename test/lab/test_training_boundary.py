# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The boundary between own items and what does not belong, and the decoys that teach it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('torch', reason='training needs the laboratory: make setup-lab')

from stl_conveyor.decision.stranger_detector import beyond  # noqa: E402
from stl_conveyor_lab.train import boundary  # noqa: E402
from stl_conveyor_lab.train.boundary import Boundary, belts_apart, fit_boundary  # noqa: E402


def clusters(rng, count, width=6):
    """Return items [N, width] in two clusters."""
    ends = np.where(rng.random(count) < 0.5, -2.0, 2.0)
    return (ends[:, None] * np.eye(width)[0] + rng.normal(0, 0.3, (count, width))).astype(
        np.float32
    )


def around(rng, count, width=6):
    """Return what lies anywhere around them [N, width]."""
    points = rng.normal(size=(count, width))
    return (4 * points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def sides(found: Boundary, features):
    return beyond(features, found.hidden, found.bias, found.outward)


def test_what_lies_around_the_items_is_beyond_the_boundary():
    rng = np.random.default_rng(3)
    found = fit_boundary(clusters(rng, 2000), around(rng, 1000), seed=1)
    limit = np.quantile(sides(found, clusters(rng, 400)), 0.98)
    assert (sides(found, around(rng, 400)) > limit).mean() > 0.9
    # What is far from all of both moves it no further than it can.
    far = np.full((1, 6), 1e6, np.float32)
    assert abs(sides(found, far)[0]) <= np.abs(found.outward).sum() + 1e-5


def test_the_same_seed_learns_the_same_boundary_and_both_sides_count_alike(monkeypatch):
    monkeypatch.setattr(boundary, 'STEPS', 9)
    rng = np.random.default_rng(3)
    own, decoys = clusters(rng, 300), around(rng, 40)
    first, again = (fit_boundary(own, decoys, seed=4) for _ in range(2))
    assert (first.hidden == again.hidden).all() and (first.outward == again.outward).all()
    assert not (fit_boundary(own, decoys, seed=5).hidden == first.hidden).all()


def test_a_channel_that_never_answers_does_not_decide():
    rng = np.random.default_rng(3)
    own, decoys = (np.pad(x, ((0, 0), (0, 1))) for x in (clusters(rng, 200), around(rng, 100)))
    found = fit_boundary(own, decoys, seed=1)
    assert np.isfinite(found.hidden).all()
    slightly = own.copy()
    slightly[:, -1] = 1e-4
    assert np.abs(sides(found, slightly) - sides(found, own)).max() < 0.05


def test_each_belt_is_in_one_part():
    belts = np.repeat(np.arange(10), 3)
    parts = belts_apart(belts, seed=0)
    assert (np.sum(parts, axis=0) == 1).all()
    assert all(len(set(belts[part]) & set(belts[~part])) == 0 for part in parts)
    assert len(belts_apart(np.zeros(4, np.int64), seed=0)) == 1
