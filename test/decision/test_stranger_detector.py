# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""The detector on made-up layers, its file, and the outputs that a graph is given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stl_conveyor.decision.stranger_detector import (
    EDGE,
    FORMAT,
    LOCAL,
    TERMS,
    StrangerDetector,
    nearest,
    nearest_class,
    neighbour_features,
    pooled,
)
from stl_conveyor.errors import ModelFileError
from stl_conveyor.models.classifier import Classifier
from stl_conveyor.models.graph_outputs import with_outputs
from stl_conveyor.models.model_folder import ModelFolder
from stl_conveyor.resources import share_path

CLASSES, WIDTH = 4, 12


def items(rng, count, shift=0.0):
    """Return a last layer [N, WIDTH] and a map [N, 3, 5, 5] of items in CLASSES clusters."""
    classes = rng.integers(0, CLASSES, count)
    last = np.eye(CLASSES, WIDTH)[classes] * 6 + rng.normal(0, 1, (count, WIDTH)) + shift
    maps = rng.normal(2 + classes[:, None, None, None], 1 + shift, (count, 3, 5, 5))
    return last.astype(np.float32), maps.astype(np.float32)


def make_detector(places=2, hidden=0):
    rng = np.random.default_rng(1)
    last, maps = items(rng, 300)
    features = pooled(maps)
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    fresh, fresh_maps = items(rng, 500)
    means = np.eye(CLASSES, WIDTH, dtype=np.float32)[None].repeat(places, 0) * 6
    bare = StrangerDetector(
        tensors=('last', 'map'),
        last=True,
        unit=True,
        offset=np.zeros(9, np.float32),
        scale=np.ones(9, np.float32),
        lengths=np.array([100, 400][:places]),
        references=np.stack([features] * places).astype(np.float16).astype(np.float32),
        stretch=np.ones((places, WIDTH), np.float32),
        means=means,
        axes=np.zeros((places, WIDTH, 1), np.float32),
        hidden=np.zeros((places, 9, hidden), np.float32),
        bias=np.zeros((places, hidden), np.float32),
        outward=np.zeros((places, hidden), np.float32),
        centre=np.zeros((places, 3), np.float32),
        spread=np.ones((places, 3), np.float32),
        own_lengths=np.array([50, 200]),
        own=np.zeros((2, 1), np.float32),
    )
    own = np.sort(bare.distances([fresh, fresh_maps])).astype(np.float32)
    return replace(bare, own=np.stack([own, own]))


def test_own_items_are_uniform_and_strangers_high():
    detector = make_detector()
    rng = np.random.default_rng(7)
    own = detector.unknown(list(items(rng, 800)), [300] * 800)
    assert own.mean() == pytest.approx(0.5, abs=0.06)
    assert (own > 0.95).mean() < 0.09
    strange = detector.unknown(list(items(rng, 200, shift=4.0)), [300] * 200)
    assert (strange > 0.95).mean() > 0.95


def test_lengths_far_below_and_above_have_a_place():
    detector = make_detector()
    layers = list(items(np.random.default_rng(8), 3))
    scores = detector.unknown(layers, [0, 199, 10**6])
    assert scores.shape == (3,) and ((0 <= scores) & (scores < 1)).all()


def test_distance_to_classes_is_that_of_mahalanobis():
    rng = np.random.default_rng(3)
    basis, _ = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))
    wide = 9.0  # variance along the first two directions, 1 along the others
    axes = (basis[:, :2] * np.sqrt(1 - 1 / wide)).astype(np.float32)
    points, means = (rng.normal(size=(n, WIDTH)).astype(np.float32) for n in (6, 3))
    inverse = np.eye(WIDTH) - basis[:, :2] @ basis[:, :2].T * (1 - 1 / wide)
    expected = [min((p - m) @ inverse @ (p - m) for m in means) for p in points]
    found = nearest_class(points, np.ones(WIDTH, np.float32), means, axes)
    assert found == pytest.approx(np.array(expected), rel=1e-4)


def test_second_nearest_counts():
    references = np.array([[0.0, 0], [1, 0], [5, 0]], np.float32)
    assert nearest(np.array([[0.0, 0]], np.float32), references) == pytest.approx([1.0])


def test_a_learned_boundary_counts_by_how_far_beyond_it_an_item_lies():
    detector = make_detector(hidden=1)
    layers = list(items(np.random.default_rng(9), 20))
    assert set(detector.terms(layers)) == set(TERMS)
    before = detector.distances(layers)
    side = neighbour_features(layers, True, detector.offset, detector.scale, True)[:, 0]
    hidden = detector.hidden.copy()
    hidden[:, 0] = 1e6  # on one side of the boundary, or on the other
    learned = replace(
        detector,
        hidden=hidden,
        bias=np.full((2, 1), -1e6 * np.median(side), np.float32),
        outward=np.full((2, 1), 3.0, np.float32),
    )
    moved = learned.distances(layers) - before
    assert moved == pytest.approx(3.0 * np.sign(side - np.median(side)), abs=0.05)


def test_a_file_without_a_boundary_is_read(tmp_path):
    detector, path = make_detector(), tmp_path / 'strangers.npz'
    arrays = detector.arrays(EDGE)
    for name in ('centre', 'spread'):
        arrays[f'edge_{name}'] = arrays[f'edge_{name}'][:, :2]
    for name in ('hidden', 'bias', 'outward'):
        del arrays[f'edge_{name}']
    np.savez(path, format=np.int64(1), **arrays)
    layers = list(items(np.random.default_rng(9), 20))
    again = StrangerDetector.load(path, EDGE)
    assert again.unknown(layers, [90] * 20) == pytest.approx(detector.unknown(layers, [90] * 20))
    np.savez(path, format=np.int64(3), **arrays)
    with pytest.raises(ModelFileError, match='format is neither 1 nor 2'):
        StrangerDetector.load(path, EDGE)


@pytest.mark.parametrize('hidden', [0, 3])
def test_file_gives_the_same_scores(tmp_path, hidden):
    detector, path = make_detector(hidden=hidden), tmp_path / 'strangers.npz'
    np.savez(path, format=np.int64(FORMAT), **detector.arrays(EDGE))
    layers = list(items(np.random.default_rng(9), 20))
    again = StrangerDetector.load(path, EDGE)
    assert again.unknown(layers, [90] * 20) == pytest.approx(detector.unknown(layers, [90] * 20))
    with pytest.raises(ModelFileError, match='strangers.npz tells no strangers of local'):
        StrangerDetector.load(path, LOCAL)


@pytest.mark.parametrize('field', ['references', 'scale', 'own', 'means', 'spread', 'hidden'])
def test_damaged_file_is_refused_by_name(tmp_path, field):
    arrays = make_detector(hidden=2).arrays(EDGE)
    damaged = arrays[f'edge_{field}'].copy()
    damaged.flat[0] = np.nan
    path = tmp_path / 'strangers.npz'
    np.savez(path, format=np.int64(FORMAT), **{**arrays, f'edge_{field}': damaged})
    with pytest.raises(ModelFileError, match=field):
        StrangerDetector.load(path, EDGE)


def test_graph_tells_what_it_computes_inside_and_answers_as_before():
    folder = ModelFolder(share_path('models/items'))
    image = np.random.default_rng(0).integers(0, 255, (2, 160, 160, 3), np.uint8)
    plain = Classifier(folder.path('weak')).classify_batch(image)
    looking = Classifier(folder.path('weak'), inside=['posterior/features'])
    probabilities, posterior, inside = looking.look_inside(image)
    assert (probabilities == plain).all() and posterior is not None
    assert [tensor.shape for tensor in inside] == [(2, 416)]
    assert (looking.classify_batch(image) == plain).all()


def test_tensor_that_the_graph_does_not_compute_is_refused():
    folder = ModelFolder(share_path('models/items'))
    with pytest.raises(ModelFileError, match='teapot|cannot load'):
        Classifier(folder.path('weak'), inside=['teapot'])
    assert with_outputs(b'', ['ab' * 100]).count(b'ab') == 100
