# Copyright 2026 The stl_conveyor maintainers
# SPDX-License-Identifier: Apache-2.0
"""Quantising a classifier: it runs, it is compared fairly, and it is kept only if it pays."""

from __future__ import annotations

import pytest

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime.quantization')

import numpy as np  # noqa: E402

from stl_conveyor.codec.decoder import EDGE_INPUTS  # noqa: E402
from stl_conveyor.models.classifier import Classifier  # noqa: E402
from stl_conveyor.models.model_folder import ModelFolder  # noqa: E402
from stl_conveyor.resources import share_path  # noqa: E402
from stl_conveyor.vision.image import resize_square  # noqa: E402
from stl_conveyor.vision.image_folder import LabelledImages  # noqa: E402
from stl_conveyor_lab.bench.edge import quantise as edge  # noqa: E402
from stl_conveyor_lab.bench.edge.quantise import (  # noqa: E402
    LENGTHS,
    EdgeComparison,
    LengthComparison,
    compare_edges,
    prefix_feeds,
)
from stl_conveyor_lab.train.classifiers import quantise as module  # noqa: E402
from stl_conveyor_lab.train.classifiers.quantise import (
    ModelComparison,
    main,
    quantise_model,
    quantise_network,
    read_labelled,
)  # noqa: E402
from stl_conveyor_lab.train.tiny import tiny_images, tiny_pictures  # noqa: E402


@pytest.fixture(scope='module')
def pictures(tiny_models, tmp_path_factory):
    """Return a folder of pictures, in a folder for each class."""
    folder = tmp_path_factory.mktemp('pictures')
    return tiny_pictures(folder, ModelFolder(tiny_models).labels, 120, seed=5)


def test_quantised_model_is_a_classifier_of_8_bit_that_agrees(tmp_path):
    import onnx

    folder = ModelFolder(share_path('models/items'))
    images, labels = tiny_images(120, len(folder.labels), seed=5)
    images = np.stack([resize_square(image, folder.image_size) for image in images])
    target = tmp_path / 'weak_int8.onnx'
    quantise_model(folder.path('weak'), target, images[:40])
    kinds = {node.op_type for node in onnx.load(target).graph.node}
    assert {'QuantizeLinear', 'DequantizeLinear'} <= kinds
    probabilities = Classifier(target).classify(images[0])
    assert probabilities.shape == (len(folder.labels),)
    seen = module.compare_models(folder.path('weak'), target, images[40:], labels[40:], repeats=1)
    assert seen.images == 80 and 0.8 < seen.agreement
    assert seen.seconds > 0 and seen.quantised_seconds > 0


def test_labelled_pictures_are_read(tiny_models, pictures):
    folder = ModelFolder(tiny_models)
    images, labels = read_labelled(pictures, folder.labels, folder.image_size)
    assert len(images) == len(labels) == 120 and len(set(labels.tolist())) > 5


@pytest.mark.parametrize(
    'loss, speedup, pays',
    [(0.0, 2.0, True), (0.004, 1.1, True), (0.006, 2.0, False), (0.0, 0.9, False)],
)
def test_it_pays_only_if_faster_and_no_worse(loss, speedup, pays):
    assert ModelComparison(0.9, 0.9 - loss, 0.99, 0.01, 0.01 / speedup, 100).pays is pays


@pytest.mark.parametrize('pays', [True, False])
def test_command_keeps_what_pays(tiny_models, pictures, tmp_path, monkeypatch, capsys, pays):
    monkeypatch.setattr(ModelComparison, 'pays', property(lambda self: pays))
    target = tmp_path / 'weak_int8.onnx'
    code = main(
        [
            str(tiny_models),
            '--images',
            str(pictures),
            '--out',
            str(target),
            '--ranges',
            '20',
            '--compare',
            '10',
        ]
    )
    assert (code, target.exists()) == ((0, True) if pays else (1, False))
    assert 'int8     accuracy' in capsys.readouterr().out


def test_folder_without_pictures_is_named(tiny_models, tmp_path, capsys):
    assert main([str(tiny_models), '--images', str(tmp_path), '--out', 'x']) == 2
    assert str(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize(
    'loss, speedup, pays',
    [(0.0, 2.0, True), (0.003, 1.1, True), (0.004, 2.0, False), (0.0, 0.9, False)],
)
def test_an_edge_pays_only_if_faster_and_no_worse_at_any_length(loss, speedup, pays):
    rows = (
        LengthComparison(64, False, 0.75, 0.875, 0.75),
        LengthComparison(512, True, 1.0, 1.0 - loss, 0.99),
    )
    assert EdgeComparison(rows, 0.01, 0.01 / speedup).pays is pays


def test_an_edge_is_compared_at_every_length_with_and_without_the_local_answer(
    tiny_models, tmp_path
):
    folder = ModelFolder(tiny_models)
    pixels, classes = tiny_images(24, len(folder.labels), seed=5)
    images = np.stack([resize_square(image, folder.image_size) for image in pixels])
    fed = list(prefix_feeds(folder, images[:2]))
    assert len(fed) == 2 * 2 * len(LENGTHS)
    assert all(set(feeds) == set(EDGE_INPUTS) for feeds in fed)
    assert {float(feeds['has_side'][0]) for feeds in fed} == {0.0, 1.0}
    target = tmp_path / 'edge_int8.onnx'
    quantise_network(folder.path('edge'), target, fed, reduced=True)
    seen = compare_edges(folder, target, LabelledImages(images, classes))
    assert [(row.fused, row.length) for row in seen.lengths] == [
        (fused, length) for fused in (False, True) for length in LENGTHS
    ]
    assert all(row.agreement > 0.8 for row in seen.lengths)
    # The network of the folder, against itself.
    same = compare_edges(folder, folder.path('edge'), LabelledImages(images, classes))
    assert all(row.agreement == 1.0 and row.accuracy == row.quantised for row in same.lengths)


@pytest.mark.parametrize('pays', [True, False])
def test_the_command_for_the_edge_keeps_what_pays(
    tiny_models, tmp_path, monkeypatch, capsys, pays
):
    folder = ModelFolder(tiny_models)
    pixels, classes = tiny_images(6, len(folder.labels), seed=5)
    images = np.stack([resize_square(image, folder.image_size) for image in pixels])
    monkeypatch.setattr(edge, 'load_test', lambda *_: LabelledImages(images, classes))
    monkeypatch.setattr(EdgeComparison, 'pays', property(lambda self: pays))
    target = tmp_path / 'edge_int8.onnx'
    code = edge.main([str(tiny_models), '--out', str(target), '--ranges', '2'])
    assert (code, target.exists()) == ((0, True) if pays else (1, False))
    said = capsys.readouterr().out
    assert '4 items; weights of 8 bits' in said
    assert said.count('codec alone') == said.count('with the local answer') == len(LENGTHS)
